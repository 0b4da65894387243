"""Batches and state on a mesh, and training on it against training on one device."""

import pathlib
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import jaxswap
from jaxswap.medical.data.label_maps import LABEL_MAPS
from jaxswap.medical.networks.layers import CPU, LEAN
from jaxswap.medical.networks.residual_unet import ResidualUNet3D
from jaxswap.medical.networks.unet import UNet3D
from jaxswap.medical.prediction.mesh_prediction import MeshPredictor
from jaxswap.medical.prediction.prediction import Predictor
from jaxswap.medical.preparing.augmentation import AugmentConfig, make_augment
from jaxswap.medical.preparing.mesh import RunMesh, make_run_mesh
from jaxswap.medical.preparing.mesh_shape import MeshShape
from jaxswap.medical.preparing.patches import Part
from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.training.run_devices import out_shardings, place_state
from jaxswap.medical.training.training_step import (
    State,
    initialize,
    make_loss,
    make_step,
)

TUMOUR = LABEL_MAPS["brats2021"]
SHAPE = (8, 16, 16, 4, 2)
THIN = (8, 16, 16, 2, 2)
"""Meshes do not split the width; convolutions over it take most of a step's time."""
ADAM: Any = optax.adam(1e-2)
ON_HOST: Any = jaxswap.host_state(ADAM, min_bytes=0)

pytestmark = [
    pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices"),
]


@pytest.fixture(autouse=True)
def _lenient_promotion():
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def meshes(count: int) -> list[MeshShape]:
    sides = [n for n in (1, 2, 4, 8) if n <= count]
    return [
        MeshShape(data, depth, height)
        for data in sides
        for depth in sides
        for height in sides
        if data * depth * height == count
    ]


def run_mesh(**axes: int) -> RunMesh:
    mesh = make_run_mesh(MeshShape(**axes))
    assert mesh is not None
    return mesh


def unet(layers: Any = LEAN, **options: Any) -> UNet3D:
    return UNet3D(
        base_filters=2,
        depth=2,
        segmentation_levels=1,
        dtype=jnp.float32,
        layers=layers,
        **options,
    )


def batch(number: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    image = np.asarray(jax.random.normal(jax.random.key(number), shape))
    labels = np.where(image[..., 0] > 0.5, 4, np.where(image[..., 1] > 0, 2, 0))
    return image, labels.astype(np.uint8)


@cache
def first_state(network: Any, optimizer: Any) -> State:
    """The state that training begins with, drawn once for all meshes."""
    return initialize(network, optimizer, THIN, average_decay=0.9)


def trained(
    network: Any, mesh: RunMesh | None, steps: int, *, is_on_host: bool = False
) -> tuple[list[float], State]:
    """Losses and state of training steps in which everything is swapped."""
    optimizer = ON_HOST if is_on_host else ADAM
    shardings = None
    if mesh is not None:
        shardings = (mesh.replicated, mesh.split, mesh.split, mesh.replicated)
    loss = jaxswap.offload(
        make_loss(network, TUMOUR), policy=jaxswap.OFFLOAD, in_shardings=shardings
    )
    # A step takes the memory of the state it is given.
    state = jax.tree.map(jnp.copy, first_state(network, optimizer))
    state = place_state(state, mesh)
    step = make_step(
        loss, optimizer, average_decay=0.9, out_shardings=out_shardings(state, mesh)
    )
    found = []
    for number in range(steps):
        images, labels = map(jnp.asarray, batch(number % 4, THIN))
        if mesh is not None:
            images, labels = jax.device_put((images, labels), mesh.split)
        state, outcome = step(state, images, labels)
        found.append(float(outcome.loss))
    return found, state


@cache
def on_one_device() -> list[float]:
    return trained(unet(), None, 20)[0]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4, 8])
def test_twenty_steps_on_every_mesh_equal_one_device(count: int) -> None:
    plain = on_one_device()
    assert plain[-1] < plain[0] - 0.1
    for shape in meshes(count):
        mesh = make_run_mesh(shape)
        found, state = trained(unet(), mesh, 20)
        np.testing.assert_allclose(found, plain, rtol=0, atol=1e-4, err_msg=str(shape))
        np.testing.assert_allclose(found[:5], plain[:5], rtol=0, atol=3e-6)
        shardings = {x.sharding.is_fully_replicated for x in jax.tree.leaves(state)}
        assert shardings == {True}


@pytest.mark.slow
def test_other_networks_equal_one_device_too() -> None:
    residual = ResidualUNet3D(features=(2, 4), blocks=(1, 1), dtype=jnp.float32)
    for network in (residual, unet(CPU)):
        plain, _ = trained(network, None, 5)
        split, _ = trained(network, run_mesh(data=2, depth=2), 5)
        np.testing.assert_allclose(split, plain, rtol=0, atol=3e-6)


@pytest.mark.slow
def test_optimizer_state_stays_in_host_memory() -> None:
    mesh = run_mesh(data=2)
    found, state = trained(unet(), mesh, 3, is_on_host=True)
    kinds = {
        leaf.sharding.memory_kind
        for leaf in jax.tree.leaves(state.optimizer_state)
        if leaf.ndim
    }
    assert kinds == {"pinned_host"}
    np.testing.assert_allclose(found, trained(unet(), mesh, 3)[0], rtol=1e-6)


@pytest.mark.slow
def test_a_step_takes_the_memory_of_the_old_state() -> None:
    mesh = run_mesh(depth=2)
    optimizer = optax.adam(1e-2)
    state = place_state(initialize(unet(), optimizer, SHAPE), mesh)
    step = make_step(
        make_loss(unet(), TUMOUR), optimizer, out_shardings=out_shardings(state, mesh)
    )
    step(state, *jax.device_put(tuple(map(jnp.asarray, batch(0))), mesh.split))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.parameters))


def test_a_batch_is_put_together_from_the_part_of_a_process() -> None:
    mesh = run_mesh(data=2, depth=2, height=2)
    assert mesh.split.spec == PartitionSpec("data", "depth", "height")
    assert mesh.part(SHAPE) == Part((0, 8), (0, 16), (0, 16))
    image, labels = batch(0)
    for array in (image, labels):
        placed = mesh.place_batch(array, array.shape)
        assert placed.sharding == mesh.split
        assert placed.addressable_shards[0].data.shape[:3] == (4, 8, 8)
        np.testing.assert_array_equal(placed, array)


@pytest.mark.slow
def test_augmentation_is_the_same_bit_for_bit() -> None:
    config = AugmentConfig(
        rotation_probability=1.0, blur_probability=0.5, noise_probability=0.5
    )
    images, labels = (x[:2] for x in batch(3))
    key = jax.random.key(7)
    plain = make_augment(config)(key, jnp.asarray(images), jnp.asarray(labels))
    assert not np.array_equal(plain[0], images)
    for axes in ({"data": 2}, {"depth": 4}, {"data": 2, "depth": 2, "height": 2}):
        mesh = run_mesh(**axes)
        placed = [mesh.place_batch(x, x.shape) for x in (images, labels)]
        found = make_augment(config, mesh=mesh)(key, *placed)
        for ours, theirs in zip(found, plain, strict=True):
            assert ours.sharding.is_equivalent_to(mesh.split, ours.ndim)
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("is_whole", [True, False])
def test_labels_are_those_of_one_device(is_whole: bool) -> None:
    network = unet()
    parameters = initialize(network, optax.sgd(0.1), SHAPE).parameters
    images = [batch(number)[0][0, : 14 + number] for number in range(3)]
    shape = (16, 16, 4) if is_whole else (8, 8, 4)
    one = Predictor(network, TUMOUR, shape, is_whole=is_whole, mirror_axes=())
    mesh = run_mesh(data=2, depth=2, height=2)
    many = MeshPredictor(network, TUMOUR, shape, mesh, is_whole=is_whole)
    found = many.labels(mesh.replicate(parameters), images)
    assert sorted(found) == [0, 1, 2]
    for number, image in enumerate(images):
        wanted = one.labels(parameters, image)
        assert found[number].shape == image.shape[:3]
        assert len(np.unique(wanted)) > 1
        assert np.mean(found[number] == wanted) > 0.999


def test_a_checkpoint_is_read_on_another_mesh(tmp_path: pathlib.Path) -> None:
    optimizer = optax.adam(1e-2)
    state = initialize(unet(), optimizer, SHAPE)
    first, second = run_mesh(data=4), run_mesh(depth=2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(first.replicate(state), {"best": 0.5})
    for like in (state, second.replicate(state)):
        restored = checkpoints.restore_latest(like)
        assert restored is not None
        for ours, theirs in zip(
            jax.tree.leaves(restored[0]), jax.tree.leaves(like), strict=True
        ):
            assert ours.sharding == theirs.sharding
            np.testing.assert_array_equal(ours, theirs)


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`mesh` is data=3,depth=4: 12 devices, but"):
        make_run_mesh(MeshShape(data=3, depth=4))
    assert make_run_mesh(None) is None
