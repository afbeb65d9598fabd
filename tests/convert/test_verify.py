import dataclasses

import pytest
import torch

from convert.__main__ import main
from convert.to_model import import_sd, import_tvt
from convert.verify import compare_outputs, compare_tensors, read_networks
from tvt_jax.model_folder import read_model, write_model


@pytest.fixture
def model(sd, tmp_path):
    import_sd(sd, tmp_path / "model")
    return tmp_path / "model"


def test_what_was_imported_is_the_same(sd, model):
    vae, unet = compare_tensors(model, read_networks(sd))
    assert (vae.largest, unet.largest) == (0, 0)
    assert vae.what.startswith("vae, ")


def test_a_changed_tensor_is_found(sd, model):
    folder = read_model(model)
    folder.unet["conv_in"]["bias"][1] += 0.25
    write_model(model, folder)
    vae, unet = compare_tensors(model, read_networks(sd))
    assert vae.largest == 0
    assert unet.largest == pytest.approx(0.25)
    assert unet.what.endswith("conv_in.bias")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_never_agrees(sd, model, number, capsys):
    folder = read_model(model)
    folder.unet["mid_block"]["resnets_0"]["conv1"]["bias"][1] = number
    write_model(model, folder)
    assert main(["verify", "--model", str(model), "--reference", str(sd)]) == 1
    said = capsys.readouterr().out
    assert "mid_block.resnets.0.conv1.bias: largest difference inf" in said and said.endswith("they differ\n")
    assert main(["verify", "--model", str(model), "--reference", str(model)]) == 1


def test_other_tensors_are_refused(sd, model):
    folder = read_model(model)
    del folder.unet["conv_in"]["bias"]
    write_model(model, folder)
    with pytest.raises(ValueError, match=r"do not hold the same tensors: conv_in\.bias"):
        list(compare_tensors(model, read_networks(sd)))


def test_results_agree_with_pytorchs_until_a_weight_is_changed(sd, model, photo):
    differences = {difference.what: difference for difference in compare_outputs(model, read_networks(sd), photo, 64)}
    assert list(differences) == ["encode", "unet", "decode", "restoration", "text encoder"]
    # float32 in both, sums in another order; the networks are of random weights.
    assert all(difference.relative < 1e-4 for difference in differences.values()), differences
    folder = read_model(model)
    folder.unet["conv_in"]["kernel"][:] *= 1.01
    write_model(model, dataclasses.replace(folder))
    changed = {difference.what: difference for difference in compare_outputs(model, read_networks(sd), photo, 64)}
    assert changed["encode"] == differences["encode"]
    assert min(changed[name].relative for name in ("unet", "restoration")) > 1e-3


@pytest.mark.parametrize("keep_lora", [False, True])
def test_a_release_agrees_with_pefts_arithmetic(sd, release, photo, tmp_path, keep_lora):
    import_tvt(release, sd, tmp_path / "model", keep_lora=keep_lora)
    networks = read_networks(release)
    parts = {difference.what.split(",")[0]: difference for difference in compare_tensors(tmp_path / "model", networks)}
    assert list(parts) == ["vae", "unet", "unet_lora"][: 2 + keep_lora]
    assert not any(difference.largest for difference in parts.values())
    for difference in compare_outputs(tmp_path / "model", networks, photo, 64):
        assert difference.relative < 1e-4, difference


def test_a_changed_lora_is_found(sd, release, photo, tmp_path):
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    content = torch.load(release / "model_TVT.pkl")
    content["state_dict_unet"]["conv_in.lora_B.default_encoder.weight"][1] += 0.25
    torch.save(content, release / "model_TVT.pkl")
    networks = read_networks(release)
    *_, lora = compare_tensors(tmp_path / "model", networks)
    assert lora.largest == pytest.approx(0.25)
    assert lora.what.endswith("conv_in.b")
    differences = {
        difference.what: difference for difference in compare_outputs(tmp_path / "model", networks, photo, 64)
    }
    assert differences["unet"].relative > 1e-3
