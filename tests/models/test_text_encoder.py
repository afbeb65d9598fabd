import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict

from tests.models.torch_reference import assert_agrees, assert_close, quick_jit, random_params, randomised
from tvt_jax.models.keys import to_torch, tree_from_torch
from tvt_jax.models.text_encoder import CLIPTextConfig, CLIPTextModel

NETWORK = 1e-5
PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "keys" / "sd21_text_encoder.json"
PADDING, START, END = 0, 48, 49
SMALL = CLIPTextConfig(vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3)
QUICK = CLIPTextConfig(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=9,
    hidden_act="quick_gelu",
)
SD15 = CLIPTextConfig(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu"
)
# The text encoder of stabilityai/stable-diffusion-2-1-base, as its file is written.
SD21_CONFIG = {
    "_name_or_path": "stabilityai/stable-diffusion-2",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "pad_token_id": 1,
    "projection_dim": 512,
    "torch_dtype": "float32",
    "transformers_version": "4.25.0.dev0",
    "vocab_size": 49408,
}


def reference_of(config: CLIPTextConfig) -> transformers.CLIPTextModel:
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config.to_json()))


def as_published(name: str) -> str:
    """Name a tensor as checkpoints do; transformers 5 leaves the prefix out in memory."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def prompts(lengths: list[int], total: int) -> np.ndarray:
    """Draw tokens of prompts this long, start and end included, padded to `total`."""
    tokens = np.full((len(lengths), total), PADDING, np.int32)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = [START, *np.random.default_rng(length).integers(1, START, length - 2), END]
    return tokens


def shapes_of(config: CLIPTextConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a checkpoint has; nothing is computed."""
    shapes = jax.eval_shape(CLIPTextModel(config).init, jax.random.key(0), jnp.zeros((1, 1), int))["params"]
    tensors = [
        to_torch(path, np.broadcast_to(np.float32(0), leaf.shape)) for path, leaf in flatten_dict(shapes).items()
    ]
    return {name: tensor.shape for name, tensor in tensors}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (SMALL, prompts([2, 31, 77], 77)),
        (SMALL, prompts([13], 13)),
        (QUICK, prompts([9, 5], 9)),
        (QUICK, prompts([3], 3)),
    ],
    ids=["gelu, padded", "gelu, not padded", "quick gelu, padded", "quick gelu, not padded"],
)
def test_text_encoder(config: CLIPTextConfig, tokens: np.ndarray):
    reference = randomised(reference_of(config))
    assert_agrees(
        lambda params, tokens: CLIPTextModel(config).apply({"params": params}, tokens),
        reference,
        tokens,
        tolerance=NETWORK,
        call=lambda tokens: reference(tokens).last_hidden_state,
        tree=lambda tensors: tree_from_torch({as_published(name): tensor for name, tensor in tensors.items()}),
    )


def test_the_full_size_network_has_the_published_tensors():
    shapes = shapes_of(CLIPTextConfig())
    assert sum(np.prod(shape) for shape in shapes.values()) == 340_387_840
    if not PUBLISHED.exists():
        pytest.skip("the list of published tensors is not here")
    published = {name: tuple(shape) for name, shape in json.loads(PUBLISHED.read_text()).items()}
    assert shapes == {name: shape for name, shape in published.items() if not name.endswith("position_ids")}


def test_sd15s_network_has_the_tensors_of_transformers():
    with torch.device("meta"):
        reference = reference_of(SD15)
    theirs = {as_published(name): tuple(parameter.shape) for name, parameter in reference.named_parameters()}
    assert shapes_of(SD15) == theirs


def test_bfloat16_computes_about_the_same_and_answers_in_float32():
    tokens = jnp.asarray(prompts([9, 5], 9))
    variables = {"params": random_params(CLIPTextModel(QUICK), tokens)}
    exact, rough = (
        quick_jit(CLIPTextModel(QUICK, dtype).apply)(variables, tokens) for dtype in ("float32", "bfloat16")
    )
    assert rough.dtype == jnp.float32
    assert_close(rough, np.asarray(exact), 0.1)  # 8 bits of mantissa, a dozen layers


def test_refuses_more_tokens_than_it_has_positions():
    with pytest.raises(ValueError, match="10 tokens are more than max_position_embeddings=9"):
        jax.eval_shape(CLIPTextModel(QUICK).init, jax.random.key(0), jnp.zeros((1, 10), int))


def test_reads_the_config_of_sd21():
    assert CLIPTextConfig.from_json(SD21_CONFIG) == CLIPTextConfig()


@pytest.mark.parametrize("config", [SMALL, QUICK, SD15, CLIPTextConfig()])
def test_reads_what_it_writes_and_what_transformers_writes(config: CLIPTextConfig, tmp_path: Path):
    assert CLIPTextConfig.from_json(config.to_json()) == config
    transformers.CLIPTextConfig(**config.to_json()).save_pretrained(tmp_path)
    assert CLIPTextConfig.from_json(json.loads((tmp_path / "config.json").read_text())) == config


def test_an_absent_activation_is_transformers_default():
    data = {name: value for name, value in SMALL.to_json().items() if name != "hidden_act"}
    assert CLIPTextConfig.from_json(data).hidden_act == "quick_gelu"


@pytest.mark.parametrize(
    "field",
    [
        {"model_type": "clip"}, {"layer_norm_eps": 1e-6}, {"attention_dropout": 0.1}, {"hidden_act": "relu"},
        {"hidden_size": None}, {"num_hidden_layers": [12]}, {"num_attention_heads": 5},
        {"num_attention_heads": 0}, {"vocab_size": 1e3},
    ],
    ids=lambda field: next(iter(field)),
)  # fmt: skip
def test_refuses_what_it_cannot_build(field: dict):
    with pytest.raises(ValueError, match=next(iter(field))):
        CLIPTextConfig.from_json({**SMALL.to_json(), **field})
