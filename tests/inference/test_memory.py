from tvt_jax.inference.memory import free_host_bytes

MEMINFO = "MemTotal:       24000000 kB\nMemAvailable:   19000000 kB\nHugePages_Total:       0\n"


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_what_the_system_has_available(tmp_path):
    write(tmp_path, meminfo=MEMINFO)
    assert free_host_bytes(tmp_path / "meminfo", tmp_path / "none") == 19_000_000 * 1024
    assert free_host_bytes(tmp_path / "none", tmp_path / "none") is None


def test_what_a_container_s_limit_leaves(tmp_path):
    write(tmp_path, meminfo=MEMINFO)
    files = {"memory__max": "8000000000\n", "memory__current": "3000000000\n"}
    second = write(tmp_path / "v2", **files, memory__stat="anon 1\ninactive_file 500000000\n")
    assert free_host_bytes(tmp_path / "meminfo", second) == 5_500_000_000
    first = {"memory__limit_in_bytes": "4000000000\n", "memory__usage_in_bytes": "1000000000\n"}
    write(tmp_path / "v1" / "memory", **first, memory__stat="total_inactive_file 200000000\n")
    assert free_host_bytes(tmp_path / "meminfo", tmp_path / "v1") == 3_200_000_000


def test_a_container_without_a_limit_has_what_the_system_has(tmp_path):
    write(tmp_path, meminfo=MEMINFO)
    folder = write(tmp_path / "v2", memory__max="max\n", memory__current="3000000000\n")
    assert free_host_bytes(tmp_path / "meminfo", folder) == 19_000_000 * 1024
