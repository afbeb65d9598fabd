"""RAM and DAPE in files of torch.save, small and with the published names, into tagger folders."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from convert import ram as release
from convert.__main__ import main
from convert.ram import read_dape, read_ram, read_tags
from tests.convert.adapted import osediff
from tests.models.torch_tagger import SMALL, random_ram
from tvt_jax.model_folder import read_model
from tvt_jax.models.keys import tree_to_torch
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.tagger import TaggerConfig
from tvt_jax.tagger_folder import read_tagger

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
HEAD = "tagging_head.encoder.layer.{}.crossattention.self.{}"
TWIN = HEAD.replace("tagging_head", "tag_encoder")
QKV = "visual_encoder.layers.2.blocks.1.attn.qkv"
TAGS = [f"tag {i}" for i in range(SMALL.num_tags)]


def unneeded():
    """What the published file holds besides."""
    names = [
        "visual_encoder.layers.0.blocks.1.attn_mask",
        "visual_encoder.layers.0.blocks.0.attn.relative_position_index",
        "tag_encoder.embeddings.position_ids",
        "tag_encoder.encoder.layer.0.crossattention.self.query.weight",
        "text_decoder.cls.predictions.bias",
        "tagging_head.embeddings.word_embeddings.weight",
        "tagging_head.encoder.layer.0.attention.self.query.weight",
    ]
    return {name: torch.arange(3) for name in names}


def lora_layers():
    """Name every layer that DAPE has a branch on, and give its shape."""
    shapes = {name.removesuffix(".weight"): shape for name, shape in tensor_shapes(SMALL).items()}
    swin = {name: shape for name, shape in shapes.items() if name.endswith("attn.qkv")}
    layers = [(i, part) for i in range(SMALL.num_hidden_layers) for part in ("query", "key")]
    head = {HEAD.format(*layer): shapes[HEAD.format(*layer)] for layer in layers}
    return swin, head


def random_dape(seed=3, twins=0.0):
    """Draw DAPE's tensors, those on the captioner's shared layers `twins` times as large."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: 0.3 * torch.randn(shape, generator=generator)  # noqa: E731
    tensors = {}
    swin, head = lora_layers()
    for name, (rows, columns) in swin.items():
        tensors |= {f"{name}.lora_A": draw(16, columns), f"{name}.lora_B": draw(rows * 2 // 3, 8)}
    for name, (rows, columns) in head.items():
        tensors |= {f"{name}.lora_A": draw(8, columns), f"{name}.lora_B": draw(rows, 8)}
        twin = name.replace("tagging_head", "tag_encoder")
        tensors |= {f"{twin}.lora_A": draw(8, columns), f"{twin}.lora_B": twins * draw(rows, 8)}
    other = "text_decoder.bert.encoder.layer.9.attention.self.key"
    return tensors | {f"{other}.lora_A": draw(8, 5), f"{other}.lora_B": torch.zeros(5, 8)}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """RAM with an optimizer beside it, DAPE, and the two lists."""
    files = SimpleNamespace(**{name: tmp_path / f"{name}.pth" for name in ("ram", "dape")}, out=tmp_path / "tagger")
    files.tags, files.thresholds = tmp_path / "tags.txt", tmp_path / "thresholds.txt"
    files.tags.write_text("\n".join(TAGS))
    files.thresholds.write_text("\n".join(["0.65"] * 19 + ["1.0"]))
    monkeypatch.setattr(release, "CONFIG", SMALL)
    monkeypatch.setattr(release, "TAGS_SHA256", sha256(files.tags.read_bytes()).hexdigest())
    monkeypatch.setattr(release, "THRESHOLDS_SHA256", sha256(files.thresholds.read_bytes()).hexdigest())
    files.model = {name: torch.tensor(x) for name, x in random_ram(SMALL).items()} | unneeded()
    optimizer = {"state": {0: {"step": 1, "exp_avg": torch.zeros(9)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save({"model": files.model, "optimizer": optimizer, "config": {"lr": 1e-4}, "epoch": 4}, files.ram)
    torch.save(random_dape(), files.dape)
    return files


@pytest.fixture
def run(capsys):
    def run(*words, expected=0):
        status = main([*map(str, words)])
        printed = capsys.readouterr()
        assert status == expected, printed.err
        return printed.out or printed.err

    return run


def words(files, *names):
    return [word for name in names for word in (f"--{name}", getattr(files, name))]


def test_ram_comes_to_the_bit(run, files):
    said = run("import", *words(files, "ram", "tags", "thresholds", "out"))
    count = len(tensor_shapes(SMALL))
    assert said == f"RAM, ram.pth: {count} tensors, 0 of them with LoRA, 20 tags\nwrote {files.out}\n"
    folder = read_tagger(files.out)
    assert folder.config == SMALL
    assert folder.card.tags == dict.fromkeys(TAGS[:19], 0.65) | {"tag 19": 1.0}
    assert folder.card.source == "RAM, ram.pth"
    found, expected = tree_to_torch(folder.params), random_ram(SMALL)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def merged(ram, dape, layer):
    """Add up by hand, in float64: query and value of the image encoder apart, an eighth of B A each."""
    weight = ram[f"{layer}.weight"].double().clone()
    for name in {layer, layer.replace("tagging_head", "tag_encoder")}:
        a, b = dape[f"{name}.lora_A"].double(), dape[f"{name}.lora_B"].double()
        if name.endswith("qkv"):
            c = weight.shape[1]
            weight[:c] += b[:c] @ a[:8] / 8
            weight[2 * c :] += b[c:] @ a[8:] / 8
        else:
            weight += b @ a / 8
    return weight.numpy()


@pytest.mark.parametrize("twins", [0.0, 1.0], ids=["as it was trained", "with branches on the shared layers"])
def test_dape_is_added(run, files, twins):
    dape = random_dape(twins=twins)
    torch.save(dape, files.dape)
    assert "12 of them with LoRA" in run("import", *words(files, "ram", "dape", "tags", "thresholds", "out"))
    found = tree_to_torch(read_tagger(files.out).params)
    swin, head = lora_layers()
    assert len(swin) + len(head) == 12
    for name, tensor in random_ram(SMALL).items():
        layer = name.removesuffix(".weight")
        if layer in swin | head:
            expected = merged(files.model, dape, layer)
            assert np.abs(expected - tensor).max() > 0.1
            np.testing.assert_allclose(found[name], expected, atol=1e-6)  # float32's rounding of numbers about 1
        else:
            np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_a_dape_of_the_image_encoder_alone_is_read(files):
    torch.save({name: x for name, x in random_dape().items() if name.startswith("visual_encoder.")}, files.dape)
    assert read_dape(files.dape).keys() == lora_layers()[0].keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{QKV}.lora_B": None}, rf"1 missing: {QKV}\.lora_B"),
        ({HEAD.format(1, "key") + ".lora_A": None}, "1 missing: tagging_head"),
        ({TWIN.format(0, "query") + ".lora_A": None}, "1 missing: tag_encoder"),
        ({HEAD.format(1, "value") + ".lora_A": torch.zeros(8, 16)}, "1 unknown: tagging_head.*value"),
        ({f"{QKV}.lora_A": torch.zeros(8, 96)}, r"of another shape: .*\(8, 96\), not \(16, 96\)"),
    ],
)
def test_another_dape_is_refused(files, change, message):
    torch.save({name: x for name, x in (random_dape() | change).items() if x is not None}, files.dape)
    with pytest.raises(ValueError, match=message):
        read_dape(files.dape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, r"1 missing: fc\.bias"),
        ({"image_proj.weight": torch.zeros(16, 100)}, r"of another shape: image_proj\.weight \(16, 100\)"),
        ({"visual_encoder.head.weight": torch.zeros(3)}, r"1 unknown: visual_encoder\.head\.weight"),
    ],
)
def test_another_ram_is_refused(run, files, change, message):
    model = {name: x for name, x in (files.model | change).items() if x is not None}
    torch.save({"model": model}, files.ram)
    with pytest.raises(ValueError, match=message):
        read_ram(files.ram)
    run("import", *words(files, "ram", "tags", "thresholds", "out"), expected=1)
    assert not files.out.exists()


def test_broken_weights_are_refused_by_their_name(run, files):
    files.model["fc.bias"][0] = torch.nan
    torch.save({"model": files.model}, files.ram)
    said = run("import", *words(files, "ram", "tags", "thresholds", "out"), expected=1)
    assert said == "error: RAM: fc.bias holds NaN or infinite numbers: these weights are broken\n"
    assert not files.out.exists()


def test_the_heads_old_name_is_read(files):
    old = {name.replace("tagging_head.", "vision_multi."): x for name, x in files.model.items()}
    torch.save({"model": old}, files.ram)
    assert read_ram(files.ram).keys() == tensor_shapes(SMALL).keys()


def test_other_lists_are_refused(files):
    files.tags.write_text("\n".join(TAGS) + "\n")
    with pytest.raises(ValueError, match=r"tags\.txt is not RAM's list of tags: its SHA-256 is [0-9a-f]{64}, not "):
        read_tags(files.tags, files.thresholds)


def test_a_look_inside_both(run, files):
    assert f"label_embed  {SMALL.num_tags}x16  float32" in (listed := run("inspect", files.ram).splitlines())
    assert listed[-2].startswith(f"{len(files.model)} tensors, ")
    assert listed[-1] == "this is RAM's file: import it with --ram, --tags and --thresholds"
    assert f"{QKV}.lora_A  16x96  float32" in (listed := run("inspect", files.dape).splitlines())
    assert listed[-1] == "this is DAPE's file: import it with --dape, beside --ram"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ram", "tags"), "a tagger is imported from three files, and --thresholds is missing"),
        (("dape",), "a tagger is imported from three files, and --ram and --tags and --thresholds is missing"),
        (("ram", "sd"), "--sd is not for taggers, and --ram goes with --sd and --tvt or --osediff"),
        (("ram", "tags", "sd", "tvt"), "a tagger is imported from three files, and --thresholds is missing"),
        ((), "give --sd for a model, or --ram, --tags and --thresholds for a tagger"),
    ],
)
def test_what_belongs_together_is_asked_for(run, files, names, message):
    files.sd = files.tvt = files.ram
    assert run("import", *words(files, *names, "out"), expected=1) == f"error: {message}\n"


def test_a_model_that_is_described_by_tags_takes_its_tagger_along(run, files, sd, tmp_path):
    osediff(sd, tmp_path / "osediff.pkl")
    model = ("import", "--sd", sd, "--osediff", tmp_path / "osediff.pkl", "--out", tmp_path / "model")
    tagger = words(files, "ram", "dape", "tags", "thresholds")
    assert "12 of them with LoRA, 20 tags\n" in run(*model, *tagger)
    assert read_tagger(tmp_path / "model" / "tagger").card.source == "RAM, ram.pth, with DAPE, dape.pth"
    read_model(tmp_path / "model")
    # Broken, it costs nothing that was there.
    files.model["fc.bias"][0] = torch.nan
    torch.save({"model": files.model}, files.ram)
    assert "fc.bias holds NaN" in run(*model, *tagger, expected=1)
    assert read_tagger(tmp_path / "model" / "tagger").card.tags.keys() == set(TAGS)


def test_the_release_takes_its_tagger_along(run, files, sd, release, tmp_path):
    model = ("import", "--sd", sd, "--tvt", release, "--out", tmp_path / "model")
    run(*model, *words(files, "ram", "tags", "thresholds"))
    assert read_tagger(tmp_path / "model" / "tagger").card.source == "RAM, ram.pth"
    read_model(tmp_path / "model")


def test_only_an_older_tagger_is_replaced(run, files):
    files.out.mkdir()
    (files.out / "tvt.json").write_text("{}")
    said = run("import", *words(files, "ram", "tags", "thresholds", "out"), expected=1)
    assert said == f"error: {files.out} is in the way: it has no tagger.json in it, and is not replaced\n"
    shutil.rmtree(files.out)
    for _ in range(2):
        run("import", *words(files, "ram", "tags", "thresholds", "out"))


def published(name):
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in json.loads(name.read_text()).items()}


def test_the_published_files_are_the_full_size_networks(monkeypatch, tmp_path):
    if not REFERENCE.exists():
        pytest.skip("the lists of published tensors are not here")
    whole = published(REFERENCE / "keys" / "ram_keys_lora.json")
    ram = {name: tensor for name, tensor in whole.items() if ".lora_" not in name}
    dape = published(REFERENCE / "keys" / "dape_keys.json")
    assert (len(ram), len(dape)) == (1042, 248)
    monkeypatch.setattr(release, "read_tensors", lambda file: {"ram": ram, "dape": dape}[file.name])
    assert {name: x.shape for name, x in read_ram(Path("ram")).items()} == tensor_shapes(TaggerConfig())
    branches = read_dape(Path("dape"))
    assert len(branches) == 28
    assert all(branch.scale == 1 / 8 for name, branch in branches.items())
    shapes = tensor_shapes(TaggerConfig())
    assert all(branch.delta().shape == shapes[f"{name}.weight"] for name, branch in branches.items())
    lists = REFERENCE / "ram_data"
    tags = read_tags(lists / "ram_tag_list.txt", lists / "ram_tag_list_threshold.txt")
    assert (len(tags), next(iter(tags)), sum(x == 1 for x in tags.values())) == (4585, "3D CG rendering", 10)
