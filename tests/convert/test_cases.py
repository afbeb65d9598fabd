"""Files that went wrong elsewhere, and small copies of their kinds: called what they are, in one line."""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from convert.__main__ import main

CASES = Path(__file__).parents[3] / "shared" / "cases" / "weights"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3470\n"
PLAIN = save({"a": np.zeros(2, np.float32)})


def safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(16)


def named(name: str) -> bytes:
    return safetensors(json.dumps({name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode())


ESCAPES = named("\x1b]0;pwn\x07\x1b[2Jx\ny\x9b31m\u202eabc\u2028")
SURROGATE = named("\ud800")
KINDS = {
    "an LFS pointer": (POINTER, "is a Git LFS pointer, not the file"),
    "a page": (b"\n<!doctype HTML><html>Sign in</html>", "is a web page, not the file"),
    "a page of XML": (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "is a web page, not the file"),
    "a page with a mark of its text": (b"\xef\xbb\xbf<!DOCTYPE html><html>", "is a web page, not the file"),
    "an error of a store": (b"<Error><Code>AccessDenied</Code></Error>", "is a web page, not the file"),
    "an answer in words": (b"Entry not found", "is text, not weights"),
    "a long answer in words": (b"Access to model x/y is restricted.\n" * 9, "is text, not weights"),
    "an answer in JSON": (b'{"error":"Repository not found"}', "is JSON, not weights"),
    "a plain pickle": (b"\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x94.", "is a plain pickle, not a file of torch.save"),
    "a packed file": (gzip.compress(PLAIN), "is packed: unpack it first"),
    "a GGUF": (b"GGUF\3\0\0\0" + bytes(50), "is a GGUF file"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a picture"),
    "an array": (b"\x93NUMPY\1\0" + bytes(50), "is an array of numpy"),
    "of Keras": (b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file"),
    "a tar": (b"storages" + bytes(249) + b"ustar\x0000" + bytes(300), "is a tar archive"),
    "nothing": (b"", "is empty"),
    "half a character as a name": (SURROGATE, "has the name '\\ud800', which is not text"),
    "too long a header": (safetensors(b'{"a":[' + b"{}," * 1_400_000 + b"{}]}"), "are the most that is read"),
}


@pytest.fixture
def refused(capsys):
    def refused(file, says):
        for words in (["inspect", file], ["import", "--sd", file, "--out", file.parent / "model"]):
            assert main([*map(str, words)]) == 1
            said = capsys.readouterr().err
            assert said.startswith(f"error: {file} ") and says in said
            assert len(said.splitlines()) == 1 and len(said) < len(str(file)) + 300
            assert said.encode().decode() == said

    return refused


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "bin"])
@pytest.mark.parametrize(("content", "says"), KINDS.values(), ids=KINDS)
def test_a_file_is_called_what_it_is(tmp_path, refused, content, says, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    refused(tmp_path / f"a.{suffix}", says)


@pytest.mark.parametrize("length", [ord("{"), ord("["), ord("<"), 0x0280, 0x8B1F, ord(" ")])
def test_a_header_as_long_as_another_files_mark_is_read(tmp_path, capsys, length):
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    if length < len(header):
        header = json.dumps({"__metadata__": {}}).replace(" ", "") if length >= 19 else "{}"
        content = length.to_bytes(8, "little") + header.ljust(length).encode()
    else:
        content = safetensors(header.ljust(length).encode())
    (tmp_path / "a.safetensors").write_bytes(content)
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    assert "tensors, " in capsys.readouterr().out


def test_names_are_printed_without_escapes(tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(ESCAPES)
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == r"\x1b]0;pwn\x07\x1b[2Jx\ny\x9b31m\u202eabc\u2028  4  float32"
    assert all(line.isprintable() for line in lines)


SHARED = {"lfs_pointer.ckpt": "is a Git LFS pointer", "s_name_surrogate.safetensors": "which is not text"}


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
@pytest.mark.parametrize(("name", "says"), SHARED.items(), ids=SHARED)
def test_the_cases_are_called_what_they_are(capsys, name, says):
    assert main(["inspect", str(CASES / name)]) == 1
    said = capsys.readouterr().err
    assert str(CASES / name) in said and says in said


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_cases_names_are_printed_without_escapes(capsys):
    assert main(["inspect", str(CASES / "s_name_esc.safetensors")]) == 0
    assert capsys.readouterr().out.startswith(r"\x1b]0;pwn\x07\x1b[2Jx\ny  4  float32")


# Half of the address space's limit is numpy's and ml_dtypes' own; parsed, the header would take 1.8 GB.
READ = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from convert.tensors import read_tensors
read_tensors(Path(sys.argv[1]))
"""


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_cases_header_takes_no_memory(tmp_path):
    with gzip.open(CASES / "s_json_dict.safetensors.gz") as packed:
        (tmp_path / "a.safetensors").write_bytes(packed.read())
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "a.safetensors"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert "has a header of 75000009 bytes" in done.stderr.splitlines()[-1]


def test_a_zip_of_other_things_is_called_so(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("holiday/photo.jpg", b"")
    refused(tmp_path / "a.ckpt", "is a zip, and not one of torch.save")
