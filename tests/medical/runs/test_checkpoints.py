import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding

from jaxswap import JaxswapError
from jaxswap.medical.runs.checkpoints import Checkpoints, restore_parameters
from jaxswap.medical.runs.state import State

OPTIMIZER = optax.MultiSteps(
    optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), 2
)


def make_state(seed: int = 0, width: int = 3, *, has_average: bool = True) -> State:
    key = jax.random.key(seed)
    kernel = jax.random.normal(key, (2, width))
    layer = {"kernel": kernel, "bias": jnp.arange(3.0).astype(jnp.bfloat16)}
    parameters = {"params": {"first": layer, "second": {"scale": kernel + 1}}}
    average = jax.tree.map(lambda x: x + 1, parameters) if has_average else ()
    return State(parameters, OPTIMIZER.init(parameters), average, jnp.int32(seed))


def assert_same(one: State, other: State) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    state = make_state(5)
    extra = {"step": 5, "best": 0.1 + 0.2, "history": [[1, 0.5]], "worst": float("inf")}
    checkpoints.save_latest(state, extra)
    restored = checkpoints.restore_latest(make_state(0))
    assert restored is not None
    assert_same(restored[0], state)
    assert restored[1] == extra


def test_nothing_saved_is_nothing_restored_and_nothing_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.restore_latest(make_state()) is None
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match=r"run.best: holds no checkpoint"):
        restore_parameters(tmp_path / "run")


def test_latest_and_best_are_apart_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in range(4):
        checkpoints.save_latest(make_state(step), {"step": step})
    checkpoints.save_best(make_state(1), {"step": 1})
    assert _extra(checkpoints.restore_latest(make_state())) == {"step": 3}
    assert restore_parameters(tmp_path, "best")[1] == {"step": 1}
    assert sorted(p.name for p in (tmp_path / "latest").iterdir()) == ["2", "3"]


def _extra(restored: tuple[State, Any] | None) -> Any:
    assert restored is not None
    return restored[1]


def test_arrays_go_back_to_host_memory(tmp_path: Path) -> None:
    host = SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    state = make_state(2)
    optimizer_state = jax.device_put(state.optimizer_state, host)
    state = state._replace(optimizer_state=optimizer_state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(state, {})
    restored = checkpoints.restore_latest(state)
    assert restored is not None
    kinds = [
        {x.sharding.memory_kind for x in jax.tree.leaves(part)} for part in restored[0]
    ]
    assert kinds == [{"device"}, {"pinned_host"}, {"device"}, {"device"}]
    assert_same(restored[0], state)


def test_shapes_will_do_to_say_what_is_wanted(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(make_state(3), {})
    restored = checkpoints.restore_latest(jax.eval_shape(make_state))
    assert restored is not None
    assert_same(restored[0], make_state(3))


def test_parameters_come_without_the_optimizer(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    plain, averaged = make_state(1, has_average=False), make_state(2)
    checkpoints.save_best(plain, {"step": 1})
    checkpoints.save_latest(averaged, {"step": 2})
    for which, state in [("best", plain), ("latest", averaged)]:
        parameters, extra = restore_parameters(tmp_path, which)  # pyright: ignore[reportArgumentType]
        assert extra == {"step": int(state.step)}
        assert jax.tree.all(jax.tree.map(np.array_equal, parameters, state.evaluated))
        assert jax.tree.structure(parameters) == jax.tree.structure(state.parameters)
        assert parameters["params"]["first"]["bias"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="`which` is 'newest'; choose best or latest"):
        restore_parameters(tmp_path, "newest")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            make_state(width=4),
            r"latest.0: parameters/params/first/kernel has shape \(2, 3\), but this "
            r"run needs \(2, 4\)",
        ),
        (make_state(has_average=False), "has average/params/first/bias, for which"),
        (
            jax.tree.map(lambda x: x.astype(jnp.float32), make_state()),
            "parameters/params/first/bias is bfloat16, but this run needs float32",
        ),
        (
            make_state()._replace(
                optimizer_state=optax.sgd(0.1, 0.9).init(jnp.ones(3))
            ),
            "has no optimizer_state/0/trace, which this run needs",
        ),
    ],
)
def test_another_run_s_checkpoint_is_refused(
    tmp_path: Path, like: State, message: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(make_state(), {})
    with pytest.raises(ValueError, match=message):
        checkpoints.restore_latest(like)


def test_extra_that_is_no_json_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`extra` cannot be saved as JSON: .*float32"):
        Checkpoints(tmp_path / "run").save_latest(make_state(), {"a": np.float32(1)})
    assert not (tmp_path / "run").exists()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 1]) if content else b""
    match how:
        case "missing":
            path.unlink()
        case "half":
            path.write_bytes(content[:middle])
        case "zeros":
            path.write_bytes(bytes(len(content)))
        case "flipped":
            path.write_bytes(content[:middle] + flipped + content[middle + 1 :])


@pytest.mark.parametrize("how", ["missing", "half", "zeros", "flipped"])
def test_damage_is_noticed_or_does_no_harm(tmp_path: Path, how: str) -> None:
    whole = Checkpoints(tmp_path / "whole")
    for step in (1, 2):
        whole.save_latest(make_state(step), {"step": step})
    newest = tmp_path / "whole" / "latest" / "1"
    noticed = 0
    files = 0
    for path in [path for path in newest.rglob("*") if path.is_file()]:
        files += 1
        copy = tmp_path / "copy"
        shutil.copytree(whole.folder, copy)
        damage(copy / path.relative_to(whole.folder), how)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = Checkpoints(copy).restore_latest(make_state())
        assert restored is not None
        state, extra = restored
        assert extra == {"step": 1 if caught else 2}
        assert_same(state, make_state(extra["step"]))
        noticed += len(caught)
        shutil.rmtree(copy)
    # Every file but the empty ones, which stay what they are.
    assert noticed >= files - 1


def test_a_damaged_checkpoint_gives_way_with_a_warning(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save_latest(make_state(step), {"step": step})
    damage(tmp_path / "latest" / "1" / "arrays" / "manifest.ocdbt", "half")
    with pytest.warns(
        RuntimeWarning, match=r"latest.1 is damaged: arrays.manifest.ocdbt is"
    ):
        assert _extra(checkpoints.restore_latest(make_state())) == {"step": 1}
    checkpoints.save_latest(make_state(3), {"step": 3})
    assert _extra(checkpoints.restore_latest(make_state())) == {"step": 3}


def test_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(make_state(), {})
    damage(tmp_path / "latest" / "0" / "arrays" / "manifest.ocdbt", "half")
    with (
        pytest.warns(RuntimeWarning, match="damaged"),
        pytest.raises(
            JaxswapError, match=r"latest: no checkpoint can be read. The oldest, .*0 is"
        ),
    ):
        checkpoints.restore_latest(make_state())


SAVE_FOR_EVER = """
import itertools, sys
sys.path.insert(0, sys.argv[2])
from test_checkpoints import Checkpoints, make_state

checkpoints = Checkpoints(sys.argv[1])
for step in itertools.count():
    checkpoints.save_latest(make_state(step), {"step": step})
    print(step, flush=True)
"""


def test_killed_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", SAVE_FOR_EVER]
    folders = [tmp_path / str(k) for k in range(3)]
    processes = [
        subprocess.Popen(
            [*command, str(folder), here],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for folder in folders
    ]
    for k, (process, folder) in enumerate(zip(processes, folders, strict=True)):
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(0.05 * k + 0.01)
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        checkpoints = Checkpoints(folder)
        restored = checkpoints.restore_latest(make_state())
        assert restored is not None
        state, extra = restored
        assert extra["step"] >= max(told, default=2)
        assert_same(state, make_state(extra["step"]))
        # The next save clears away what the killed one left.
        checkpoints.save_latest(make_state(1), {"step": 1})
        assert _extra(checkpoints.restore_latest(make_state())) == {"step": 1}
        left = [path.name for path in (folder / "latest").iterdir()]
        assert len(left) == 2
        assert all(name.isdigit() for name in left)
    assert json.dumps([p.returncode for p in processes]) == "[-9, -9, -9]"
