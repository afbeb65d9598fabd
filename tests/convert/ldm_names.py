"""Names of Stable Diffusion 2.1's original single file, by the layout of its networks."""

from itertools import chain

RESNET = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
TRANSFORMER = ("norm", "proj_in", "proj_out")
BLOCK = ("norm1", "norm2", "norm3", "attn1.to_out.0", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2")


def both(*modules):
    return [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]


def resnet(prefix, shortcut):
    return both(*(f"{prefix}.{part}" for part in (*RESNET, *(["skip_connection"] if shortcut else []))))


def transformer(prefix):
    block = f"{prefix}.transformer_blocks.0"
    queries = [f"{block}.{attention}.to_{x}.weight" for attention in ("attn1", "attn2") for x in "qkv"]
    return both(*(f"{prefix}.{x}" for x in TRANSFORMER), *(f"{block}.{x}" for x in BLOCK)) + queries


def unet():
    names = both("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2")
    names += resnet("middle_block.0", False) + transformer("middle_block.1") + resnet("middle_block.2", False)
    for index in range(1, 12):
        level, layer = divmod(index - 1, 3)
        if layer == 2:
            names += both(f"input_blocks.{index}.0.op")
            continue
        names += resnet(f"input_blocks.{index}.0", layer == 0 and level in (1, 2))
        names += transformer(f"input_blocks.{index}.1") if level < 3 else []
    for index in range(12):
        level, layer = divmod(index, 3)
        names += resnet(f"output_blocks.{index}.0", True)
        names += transformer(f"output_blocks.{index}.1") if level else []
        names += both(f"output_blocks.{index}.{2 if level else 1}.conv") if layer == 2 and level < 3 else []
    return names


def vae():
    def block(prefix, shortcut):
        parts = ("norm1", "conv1", "norm2", "conv2", *(["nin_shortcut"] if shortcut else []))
        return both(*(f"{prefix}.{part}" for part in parts))

    names = both("quant_conv", "post_quant_conv")
    for side in ("encoder", "decoder"):
        names += both(*(f"{side}.{part}" for part in ("conv_in", "norm_out", "conv_out")))
        names += block(f"{side}.mid.block_1", False) + block(f"{side}.mid.block_2", False)
        names += both(*(f"{side}.mid.attn_1.{part}" for part in ("norm", "q", "k", "v", "proj_out")))
    for level in range(4):
        names += chain(*(block(f"encoder.down.{level}.block.{i}", i == 0 and level in (1, 2)) for i in range(2)))
        names += chain(*(block(f"decoder.up.{level}.block.{i}", i == 0 and level in (0, 1)) for i in range(3)))
        names += both(f"encoder.down.{level}.downsample.conv") if level < 3 else []
        names += both(f"decoder.up.{level}.upsample.conv") if level > 0 else []
    return names


def text_encoder():
    layer = both("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    layer += ["attn.in_proj_weight", "attn.in_proj_bias"]
    names = [f"transformer.resblocks.{i}.{name}" for i in range(24) for name in layer]
    others = ["positional_embedding", "token_embedding.weight", "text_projection", "logit_scale"]
    return names + both("ln_final") + others
