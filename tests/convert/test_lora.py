"""LoRA by PEFT's names, against PEFT."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from safetensors.numpy import load_file, save_file
from torch import nn

from convert.lora import FusedTensor, LoRA, check_lora, read_branches, split_lora
from convert.to_model import import_sd, import_tvt
from convert.to_torch import export_diffusers, export_tvt
from tvt_jax.model_folder import read_model
from tvt_jax.unet_lora import read_lora


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.point = nn.Conv2d(5, 4, 1)
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        return self.linear(self.point(self.conv(x)).mean((2, 3)))


@pytest.fixture
def adapted():
    """A PEFT model with its default alpha of 8 and rank 4, and LoRA that is not at its start."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["conv", "point", "linear"])
    model = inject_adapter_in_model(config, Layers(), adapter_name="default_encoder")
    return model.double()


def test_fused_layers_give_what_peft_gives(adapted):
    state = {name: tensor.numpy() for name, tensor in adapted.state_dict().items()}
    plain, lora = split_lora(state)
    assert set(lora) == {"conv", "point", "linear"}
    assert {branch.scale for branch in lora.values()} == {2.0}
    fused = {
        name: np.asarray(FusedTensor(tensor, lora[name.removesuffix(".weight")])) if name.endswith("weight") else tensor
        for name, tensor in plain.items()
    }
    model = Layers().double()
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in fused.items()})
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    # The sum is float32.
    np.testing.assert_allclose(model(x).detach(), adapted(x).detach(), atol=1e-6)


def test_fusing_waits_until_it_is_asked_for():
    lora = LoRA(np.ones((4, 3)), np.ones((5, 4)))
    fused = FusedTensor(np.zeros((5, 3), np.float16), lora)
    assert fused.shape == (5, 3)
    np.testing.assert_array_equal(np.ascontiguousarray(fused, np.float32), np.full((5, 3), 8.0))


def test_halves_without_each_other_are_named():
    a, b = np.ones((4, 3)), np.ones((5, 4))
    with pytest.raises(ValueError, match="has LoRA of x, y that is not one A and one B"):
        split_lora({"x.lora_A.e.weight": a, "y.lora_B.e.weight": b, "z.lora_A.e.weight": a, "z.lora_B.e.weight": b})


def test_branches_that_fit_no_weight_are_named():
    branch = LoRA(np.ones((4, 3)), np.ones((5, 4)))
    shapes = {"x.weight": (5, 3), "y.weight": (5, 2)}
    check_lora({"x": branch}, shapes, "a.pkl")
    with pytest.raises(ValueError, match=r"a\.pkl has LoRA that fits no weight .*: y \(A \(4, 3\), B \(5, 4\)\), z"):
        check_lora({"x": branch, "y": branch, "z": branch}, shapes, "a.pkl")


def test_dora_is_refused():
    halves = {"x.lora_A.e.weight": np.ones((4, 3)), "x.lora_B.e.weight": np.ones((5, 4))}
    with pytest.raises(ValueError, match=r"has x\.lora_magnitude_vector\.e\.weight of DoRA, .*: merge it"):
        split_lora({**halves, "x.lora_magnitude_vector.e.weight": np.ones(5)})


def saved_by_peft(folder, **settings):
    torch.manual_seed(0)
    config = LoraConfig(init_lora_weights=False, target_modules=["conv", "linear"], **settings)
    model = get_peft_model(Layers(), config)
    model.save_pretrained(folder / "unet_lora")
    return model


@pytest.mark.parametrize("settings", [{"r": 4, "lora_alpha": 6}, {"r": 4, "lora_alpha": 6, "use_rslora": True}])
def test_pefts_own_folder_beside_the_unet_is_read(tmp_path, settings):
    model = saved_by_peft(tmp_path, **settings)
    branches = read_branches(tmp_path)
    assert set(branches) == {"conv", "linear"}
    for name, branch in branches.items():
        layer = model.get_submodule(f"base_model.model.{name}")
        expected = layer.get_delta_weight("default").detach().numpy()
        # float32 in both; values are about 1.
        np.testing.assert_allclose(branch.delta(), expected.reshape(branch.delta().shape), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"rank_pattern": {"linear": 2}},
        {"alpha_pattern": {"linear": 16}},
        {"use_dora": True},
    ],
)
def test_pefts_other_kinds_are_refused(tmp_path, settings):
    saved_by_peft(tmp_path, r=4, **settings)
    with pytest.raises(ValueError, match=f"LoRA with {next(iter(settings))}|of DoRA, which|is not one A and one B"):
        read_branches(tmp_path)


def change_settings(folder, **changes):
    file = folder / "unet_lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "pissa"},  # of which the weights beside it lack the largest part
        {"init_lora_weights": "olora"},
        {"peft_type": "LOHA"},
        {"bias": "all"},
        {"use_qalora": True},
        {"modules_to_save": ["conv"]},
        {"alora_invocation_tokens": [1]},
        {"use_bdlora": {"nblocks": 2}},
        {"of_a_later_peft": 0.5},
    ],
)
def test_settings_that_one_factor_does_not_tell_are_refused(tmp_path, settings):
    saved_by_peft(tmp_path, r=4)
    change_settings(tmp_path, **settings)
    with pytest.raises(ValueError, match=f"unet_lora has LoRA with {next(iter(settings))}, which is not read"):
        read_branches(tmp_path)


def test_lora_of_a_layer_that_is_not_there_is_refused(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    file = tmp_path / "model" / "unet_lora" / "adapter_model.safetensors"
    save_file({name.replace("conv_in", "conv_nowhere"): x for name, x in load_file(file).items()}, file)
    for use in (export_diffusers, export_tvt, import_sd, lambda model, out: read_model(model)):
        with pytest.raises(ValueError, match=r"LoRA (that fits no weight of the network: |of )conv_nowhere"):
            use(tmp_path / "model", tmp_path / "out")


@pytest.mark.parametrize("settings", [{"r": 8}, {"r": 0}, {"r": "4"}, {"lora_alpha": None}, {"lora_alpha": -1}])
def test_settings_that_are_not_the_tensors_are_refused(tmp_path, settings):
    saved_by_peft(tmp_path, r=4, lora_alpha=6)
    change_settings(tmp_path, **settings)
    says = r"adapter_config\.json says rank .* and lora_alpha .*, and the tensors have ranks \[4\]"
    for read in (read_branches, read_lora):
        with pytest.raises(ValueError, match=says):
            read(tmp_path)


@pytest.mark.parametrize(("text", "says"), [("{", "does not hold sound JSON"), ("[]", "is not an object")])
def test_damaged_settings_are_named(tmp_path, text, says):
    saved_by_peft(tmp_path, r=4)
    (tmp_path / "unet_lora" / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"adapter_config\.json .*{says}"):
        read_branches(tmp_path)
