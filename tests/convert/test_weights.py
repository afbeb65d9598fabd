import pytest

from convert.weights import best_weights, find_weights, shards_of


@pytest.mark.parametrize(("stem", "bin_stem"), [("diffusion_pytorch_model",) * 2, ("model", "pytorch_model")])
def test_the_best_weights_of_a_folder_are_found(tmp_path, stem, bin_stem):
    order = [
        *(f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{bin_stem}.bin", f"{bin_stem}.bin.index.json"),
        *(f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"),
        *(f"{bin_stem}.fp16.bin", f"{bin_stem}.bin.index.fp16.json"),
        *(f"{stem}.bf16.safetensors", f"{stem}.safetensors.index.bf16.json"),
        *(f"{bin_stem}.bf16.bin", f"{bin_stem}.bin.index.bf16.json"),
    ]
    (tmp_path / f"{stem}.safetensors").mkdir()
    (tmp_path / f"{stem}.non_ema.safetensors").touch()
    with pytest.raises(FileNotFoundError) as caught:
        find_weights(tmp_path, stem)
    assert str(caught.value) == f"{tmp_path} has no weights: none of {', '.join(order)}"
    (tmp_path / f"{stem}.safetensors").rmdir()
    names: set[str] = set()
    for one, index in reversed(list(zip(order[::2], order[1::2], strict=True))):
        (tmp_path / index).touch()
        assert find_weights(tmp_path, stem) == tmp_path / index
        (tmp_path / index).unlink()
        (tmp_path / one).touch()
        names.add(one)
        assert find_weights(tmp_path, stem) == tmp_path / one
        assert best_weights(names, stem) == [one]


def test_a_file_and_shards_of_the_same_may_differ(tmp_path):
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).touch()
    sentence = r"has both model\.safetensors and model\.safetensors\.index\.json, which may differ: take one"
    with pytest.raises(ValueError, match=sentence):
        find_weights(tmp_path, "model")


def test_the_shards_of_an_index_are_told_by_their_names():
    of = {
        "model.safetensors.index.json": {"model-00001-of-00002.safetensors"},
        "model.safetensors.index.fp16.json": {
            *("model.fp16-00001-of-00002.safetensors", "model-00001-of-00002.fp16.safetensors"),
        },
        "pytorch_model.bin.index.json": {"pytorch_model-00001-of-00002.bin"},
        "model.safetensors": set(),
    }
    every = set().union(*of.values())
    for index, shards in of.items():
        assert set(shards_of(index, every)) == shards
