import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.train import checkpoint
from tvt_jax.train.checkpoint import Checkpoints, newest, restore, restore_best
from tvt_jax.train.state import State


def make_state(step, width=1000):
    """Types and gaps as the stages have them."""
    params = {"model": {"a": jnp.arange(width) * 0.1 * step, "b": jnp.ones((3, 5), jnp.bfloat16)}}
    return State(step=jnp.int32(step), params=params, opt_state={"model": (None, {"count": jnp.int32(7)})}, ema=None)


def abstract(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


# What Orbax had begun to read of a damaged checkpoint it drops, and Python says so whenever it collects it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def dropped_reads_are_collected_here():
    yield
    gc.collect()


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 1, 2 and 3, of which two are kept."""
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), {"data": {"batches": step, "names": ["a"]}, "seconds": 1.5})
    return tmp_path / "checkpoints"


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.structure(a) == jax.tree.structure(b)


def largest_file(path):
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def damage(path, how):
    """Spoils the file that holds the numbers."""
    file = largest_file(path / "state")
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    file.unlink()
    if how != "missing":
        file.write_bytes(content if how == "flipped" else content[: len(content) // 2])


def test_what_was_saved_comes_back_with_its_json(folder):
    state, host = restore(folder, abstract(make_state(0)))
    assert_same(state, make_state(3))
    assert host == {"data": {"batches": 3, "names": ["a"]}, "seconds": 1.5}


def test_only_the_newest_are_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    assert newest(folder) == folder / "3"


PSNR = {1: 20.0, 2: 30.0, 3: 25.0, 4: 10.0}


def save_evaluated(folder, steps, **options):
    """Each with its PSNR, and an LPIPS that says the opposite."""
    with Checkpoints(folder, **options) as checkpoints:
        for step in steps:
            metrics = {"psnr-rgb": PSNR[step], "lpips-alex": PSNR[step] / 100} if step in PSNR else None
            checkpoints.save(make_state(step), {}, metrics)


@pytest.mark.parametrize(("best", "kept"), [("psnr-rgb", 2), ("lpips-alex", 4)])
def test_the_best_stays_beside_the_newest_over_restarts(tmp_path, best, kept):
    for steps in ([1, 2], [3], [4, 5], [6, 7]):
        save_evaluated(tmp_path, steps, keep=1, best=best)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(kept), "7"]
    assert_same(restore_best(tmp_path, abstract(make_state(0)), best)[0], make_state(kept))
    assert_same(restore(tmp_path, abstract(make_state(0)))[0], make_state(7))


def test_the_best_by_another_metric_than_before(tmp_path):
    save_evaluated(tmp_path, [1, 2, 3], keep=1, best="psnr-rgb")
    save_evaluated(tmp_path, [4, 5], keep=1, best="lpips-alex")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


def test_a_metric_that_is_not_finite_is_never_the_best(tmp_path, monkeypatch):
    monkeypatch.setitem(PSNR, 3, float("nan"))
    save_evaluated(tmp_path, [2, 3, 5, 6], keep=1, best="psnr-rgb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "6"]


def test_none_was_evaluated(folder, tmp_path):
    for where in (folder, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint in .* was evaluated by psnr"):
            restore_best(where, abstract(make_state(0)), "psnr-rgb")
    assert not (tmp_path / "nowhere").exists()


def test_the_best_cannot_be_read(tmp_path):
    save_evaluated(tmp_path, [2, 5, 6], keep=1, best="psnr-rgb")
    damage(tmp_path / "2", "cut")
    with pytest.raises(OSError, match="the checkpoint of step 2 cannot be read"):
        restore_best(tmp_path, abstract(make_state(0)), "psnr-rgb")


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "checkpoints", abstract(make_state(0))) is None
    assert newest(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_the_one_before_a_damaged_checkpoint_is_taken(folder, how, capsys):
    damage(folder / "3", how)
    with Checkpoints(folder, keep=2) as checkpoints:
        state, host = checkpoints.restore(abstract(make_state(0)))
        assert_same(state, make_state(2))
        assert host["data"]["batches"] == 2
        assert "the checkpoint of step 3 cannot be read" in capsys.readouterr().err
        checkpoints.save(make_state(3), {})
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3", "3.corrupt"]
    assert_same(restore(folder, abstract(make_state(0)))[0], make_state(3))


def test_a_change_that_the_storage_does_not_notice(tmp_path, capsys):
    state = make_state(4, width=300_000)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(make_state(3, width=300_000), {})
        checkpoints.save(state, {})
    damage(tmp_path / "4", "flipped")
    assert restore(tmp_path, abstract(state))[0].step == 3
    assert "its checksum differs" in capsys.readouterr().err


def test_none_can_be_read(folder):
    damage(folder / "2", "cut")
    damage(folder / "3", "cut")
    with pytest.raises(OSError, match="can be read; to start again, use another workdir"):
        restore(folder, abstract(make_state(0)))


def test_a_checkpoint_of_another_model_is_not_taken_for_a_damaged_one(folder):
    with pytest.raises(ValueError, match=r"1 arrays differ, among them .*'a'.*float32\[1000\] there, float32\[4\]"):
        restore(folder, abstract(make_state(0, width=4)))


def test_a_save_that_was_cut_off_is_removed(folder):
    leftover = folder / "4.orbax-checkpoint-tmp"
    leftover.mkdir()
    assert newest(folder) == folder / "3"
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(make_state(4), {})  # Orbax removes leftovers in the background, but before the next save
    assert not leftover.exists()
    assert newest(folder) == folder / "4"


def test_a_state_that_is_not_finite_is_not_saved(folder):
    state = make_state(4)
    state.params["model"]["a"] = state.params["model"]["a"].at[5].set(jnp.nan)
    with Checkpoints(folder, keep=2) as checkpoints, pytest.raises(FloatingPointError, match="not finite at step 4"):
        checkpoints.save(state, {})
    assert newest(folder) == folder / "3"


def test_a_failed_save_says_so_and_leaves_the_others(folder, monkeypatch):
    with Checkpoints(folder, keep=2) as checkpoints:

        def full(*_, **__):
            raise ValueError("No space left on device")

        monkeypatch.setattr(checkpoints._writer, "save_checkpointables_async", full)
        with pytest.raises(OSError, match="step 4: No space left on device; earlier checkpoints are untouched"):
            checkpoints.save(make_state(4), {})
    assert_same(restore(folder, abstract(make_state(0)))[0], make_state(3))


def test_states_of_many_arrays_need_no_large_program(folder):
    """One program over all of a LoRA's arrays took minutes to compile, at the first save."""
    before = checkpoint._inspect_array._cache_size()
    state = make_state(4)
    state.params["model"] |= {f"lora_{i}": jnp.full((7, 3), i) for i in range(50)}
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(state, {})
    assert checkpoint._inspect_array._cache_size() <= before + 5  # at most one for each shape
