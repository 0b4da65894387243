"""GPUs that are not there."""

import dataclasses
import importlib
import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import (
    AbstractMesh,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from jaxswap import _compat
from jaxswap._device.topology import memory_kind, place_on, target_mesh
from jaxswap._gpu.target import built_in_target, target_names

H100 = built_in_target("h100")
ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", target_names())
def test_every_built_in_target_compiles(name: str) -> None:
    x = place_on(built_in_target(name), jax.ShapeDtypeStruct((64, 64), jnp.bfloat16))
    compiled = jax.jit(lambda x: jnp.tanh(x @ x)).lower(x).compile()
    memory: Any = compiled.memory_analysis()
    assert memory.argument_size_in_bytes == 64 * 64 * 2


@pytest.mark.parametrize(
    "start", ["import jax", "import jax; jax.devices()", "import jaxswap"]
)
def test_no_environment_variable_is_needed(start: str) -> None:
    program = (
        f"{start}\n"
        "import os\n"
        "from jaxswap._gpu.target import built_in_target\n"
        "from jaxswap._device.topology import target_mesh\n"
        "target_mesh(built_in_target('h100'))\n"
        "assert 'JAX_SKIP_CUDA_CONSTRAINTS_CHECK' not in os.environ\n"
        "import jax.numpy as jnp\n"
        "assert jnp.ones(3).sum() == 3.0"
    )
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_", "XLA_"))
    }
    command = [sys.executable, "-c", program]
    subprocess.run(
        command, cwd=ROOT, env=variables, check=True, capture_output=True, timeout=120
    )


def test_environment_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
    fresh = dataclasses.replace(H100, device_name="another")
    monkeypatch.delenv(variable, raising=False)
    target_mesh(fresh)
    assert variable not in os.environ


def test_environment_is_touched_once_and_by_one_thread_at_a_time() -> None:
    program = """
        import concurrent.futures, dataclasses, os, threading
        from jaxswap import _compat
        from jaxswap._device.topology import target_mesh
        from jaxswap._gpu.target import built_in_target

        variable = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
        seen = []
        real = _compat.topologies.get_topology_desc

        def describe(**options):
            seen.append(variable in os.environ)
            return real(**options)

        _compat.topologies.get_topology_desc = describe
        h100 = built_in_target("h100")
        names = [f"GPU {i}" for i in range(6)]
        targets = [dataclasses.replace(h100, device_name=name) for name in names]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(target_mesh, targets[:4]))
        assert variable not in os.environ
        assert any(seen)
        seen.clear()
        target_mesh(targets[4])
        target_mesh(targets[5])
        assert seen == [False, False]
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)


def test_missing_plugin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise NotImplementedError("topology not implemented for cuda")

    def not_found(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(_compat.topologies, "get_topology_desc", refuse)
    monkeypatch.setattr(importlib, "import_module", not_found)
    fresh = dataclasses.replace(H100, device_name="not yet asked for")
    with pytest.raises(ImportError) as caught:
        target_mesh(fresh)
    text = str(caught.value)
    cuda = 12 if sys.version_info < (3, 12) else 13
    assert 'pip install "jaxswap[gpu-targets]"' in text
    assert f"jax-cuda{cuda}-plugin=={jax.__version__}" in text
    assert f"jax-cuda{cuda}-pjrt=={jax.__version__}" in text


def test_target_that_the_plugin_refuses_is_named() -> None:
    broken = dataclasses.replace(H100, name="broken", device_name='quote"')
    with pytest.raises(ValueError, match="cannot compile for `broken`"):
        target_mesh(broken)


def test_arrays_are_placed_and_other_leaves_kept() -> None:
    arguments = {"x": np.ones((2, 3), np.float32), "mode": "train", "k": None}
    placed = place_on(H100, arguments)
    assert placed["mode"] == "train"
    assert placed["k"] is None
    assert (placed["x"].shape, placed["x"].dtype) == ((2, 3), jnp.float32)
    (device,) = placed["x"].sharding.device_set
    assert device.device_kind == H100.device_name


def test_types_are_those_that_jit_would_see() -> None:
    arrays = (np.ones(2, np.float64), jnp.asarray(2.0), jax.random.key(0))
    wide, weak, key = place_on(H100, arrays)
    assert wide.dtype == jnp.float32
    assert weak.weak_type
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def test_shardings_are_carried_over() -> None:
    mesh = AbstractMesh((2, 2), ("data", "model"))
    spec = PartitionSpec("data", "model")
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=NamedSharding(mesh, spec))
    placed, other = place_on(H100, (x, jnp.ones(4)))
    assert placed.sharding.spec == spec
    assert placed.sharding.mesh.axis_names == mesh.axis_names
    assert len(placed.sharding.device_set) == 4
    assert other.sharding.device_set == placed.sharding.device_set
    assert other.sharding.spec == PartitionSpec()


def test_real_meshes_are_imitated() -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    x = jax.device_put(jnp.ones(4), NamedSharding(mesh, PartitionSpec("data")))
    placed = place_on(H100, x)
    assert placed.sharding.shard_shape((4,)) == (2,)


def test_pinned_arguments_stay_in_host_memory() -> None:
    pinned = SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=pinned)
    placed, other = place_on(H100, (x, jnp.ones(4)))
    assert (memory_kind(placed), memory_kind(other)) == ("pinned_host", None)
    spaces = [
        aval.memory_space for aval in jax.make_jaxpr(lambda x: x)(placed).in_avals
    ]
    assert spaces == [jax.memory.Space.Host]


def test_pinned_shardings_are_carried_over() -> None:
    mesh = AbstractMesh((2,), ("data",))
    spec = PartitionSpec("data")
    rows = NamedSharding(mesh, spec, memory_kind="pinned_host")
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=rows)
    placed, other = place_on(H100, (x, jnp.ones(4)))
    assert memory_kind(placed) == "pinned_host"
    assert placed.sharding.spec == spec
    assert placed.sharding.mesh == other.sharding.mesh.abstract_mesh


def test_pinned_arguments_are_recognized() -> None:
    cpu = jax.devices()[0]
    pinned = jax.sharding.SingleDeviceSharding(cpu, memory_kind="pinned_host")
    assert memory_kind(jax.device_put(jnp.ones(2), pinned)) == "pinned_host"
    assert memory_kind(jnp.ones(2)) is None
    assert memory_kind(np.ones(2)) is None
