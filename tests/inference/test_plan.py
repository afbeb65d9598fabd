import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.inference import plan
from tvt_jax.inference.plan import Planner
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

VAE = AutoencoderKLConfig(block_out_channels=(16, 32, 64), norm_num_groups=4, mid_block=False)
UNET = UNet2DConditionConfig(
    block_out_channels=(64, 64, 80, 96),
    down_block_types=(*("DownBlock2D",) * 3, "CrossAttnDownBlock2D"),
    attention_heads=(2, 2, 2, 3),
    norm_num_groups=8,
)


def planner(unet=UNET, tile=None, rows=1):
    return Planner(VAE, unet, jnp.dtype("float32"), False, tile, rows)


@pytest.fixture(autouse=True)
def free(monkeypatch):
    """Sets how many bytes are free."""
    monkeypatch.setattr(plan, "SMALLEST_WHOLE", 128)

    def bytes_(count):
        monkeypatch.setattr(plan, "free_host_bytes", lambda: count)

    bytes_(None)
    return bytes_


def shape(plan):
    return "whole" if plan.whole else "tiles", plan.grid.rows.tile, plan.grid.columns.tile


def test_small_pictures_are_whole_in_few_sizes_and_large_ones_in_tiles():
    sizes = {side: shape(planner().plan(4 * side, 2 * side)) for side in (1, 128, 129, 256, 257, 512, 513, 4000)}
    assert set(list(sizes.values())[:2]) == {("whole", 160, 160)}
    assert sizes[129] == sizes[256] == ("whole", 288, 288)
    assert sizes[257] == sizes[512] == ("whole", 544, 544)
    assert sizes[513] == sizes[4000] == ("tiles", 288, 288)


def test_a_hundred_photos_of_a_hundred_sizes_compile_six_programs():
    rng = np.random.default_rng(0)
    planner_ = planner()
    shapes = {shape(planner_.plan(*map(int, size))) for size in 4 * rng.integers(50, 5000, (100, 2))}
    # One for a picture in one piece, one a network for tiles.
    assert sum(1 if kind == "whole" else 3 for kind, *_ in shapes) <= 6


def test_the_largest_tile_that_fits_is_chosen(free):
    size = (12000, 16000)
    tiles = []
    for gigabytes in (16, 2.9, 1.7):
        free(int(gigabytes * 1e9))
        tiles.append(planner().plan(*size).grid.rows.tile)
    assert tiles == [288, 160, 96]
    free(10**9)
    with pytest.raises(MemoryError, match=r"needs about \d\.\d GB of memory and 1\.0 are free"):
        planner().plan(*size)


def test_a_deeper_result_takes_more(free):
    """The smallest tiles take 1.3 GB for 192 megapixels of 8 bits, and .6 GB more for those of 16."""
    free(int(1.7e9))
    planner().plan(12000, 16000, np.uint8)
    for deeper, needed in ((np.uint16, "1.9"), (np.float32, "3.1")):
        with pytest.raises(MemoryError, match=rf"needs about {needed} GB"):
            planner().plan(12000, 16000, deeper)


def test_a_tile_asked_for_is_taken():
    assert shape(planner(tile=100).plan(4000, 4000)) == ("tiles", 104, 104)
    assert planner(tile=96).plan(4 * 128, 4).whole
    assert not planner(tile=96).plan(4 * 129, 4).whole


def test_tiles_are_smaller_where_attention_compares_every_latent_pixel():
    attends = UNet2DConditionConfig(block_out_channels=(320, 640, 1280, 1280))
    assert planner(attends).largest == 160


def test_tiles_hold_whole_windows_of_attention():
    windows = UNet2DConditionConfig(
        block_out_channels=(64, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        attention_heads=(2, 2),
        attention_windows=(24, None),
    )
    grid = planner(windows).plan(4000, 4000).grid
    assert grid.rows.tile % 24 == 0
    assert all(start % 24 == 0 for start in grid.rows.starts)


def test_half_the_tile_after_memory_ran_out():
    planner_ = planner()
    largest = []
    while planner_.halve():
        largest.append(planner_.largest)
    assert largest == [144, 96]


def test_rows_of_devices_hold_a_picture_whole():
    assert shape(planner(rows=4).plan(400, 400)) == ("whole", 160, 160)
    assert shape(planner(rows=3).plan(400, 400)) == ("whole", 168, 160)
    kind, rows, columns = shape(planner(rows=4).plan(4000, 2000))
    assert kind == "whole"
    assert (rows % 32, columns % 8) == (0, 0)
    assert 1032 <= rows <= 1.1 * 1032
    assert 532 <= columns <= 1.1 * 532
