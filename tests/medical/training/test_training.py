"""A few steps on tiny volumes, the pictures, and the comparison of methods."""

import io
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxswap
from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.experiment.comparison import Row, methods, tabulate
from jaxswap.medical.experiment.demo import to_labels
from jaxswap.medical.networks.layers import CPU, LEAN
from jaxswap.medical.networks.unet import UNet3D
from jaxswap.medical.scoring.overlay import save_curve, save_overlay
from jaxswap.medical.training.training import (
    Record,
    TrainConfig,
    TrainState,
    fit,
    initialize,
    make_optimizer,
    make_train_step,
)

_MODEL = UNet3D(
    base_filters=2,
    depth=2,
    segmentation_levels=1,
    dropout=0.0,
    dtype=jnp.float32,
    layers=CPU,
    head="bare",
)


@pytest.fixture(autouse=True, scope="module")
def _standard_promotion():
    """Optax's Adam raises a float to the power of an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def _case(seed=0):
    images = jax.random.normal(jax.random.key(seed), (1, 8, 8, 8, 1))
    return images, (images > jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 1, 1, 3)).astype(
        float
    )


def _train(offload):
    config = TrainConfig(steps=8, learning_rate=1e-2, evaluate_every=4)
    optimizer = make_optimizer(config)
    console = Console(file=io.StringIO())
    return fit(
        make_train_step(_MODEL, optimizer, offload=offload),
        initialize(_MODEL, optimizer, (1, 8, 8, 8, 1), seed=0),
        (_case() for _ in range(8)),
        lambda parameters: (float(jnp.sum(jax.tree.leaves(parameters)[0])),),
        config,
        console,
    )


@pytest.fixture(scope="module")
def trained():
    return _train(offload=True)


def test_the_loss_falls_and_scores_are_recorded(trained):
    _, records = trained
    assert [record.step for record in records] == [0, 4, 8]
    assert records[2].loss < records[1].loss < 0


def test_offload_changes_nothing_but_memory(trained):
    state, records = trained
    plain_state, plain_records = _train(offload=False)
    assert records[-1].loss == pytest.approx(plain_records[-1].loss, abs=1e-5)
    for leaf, expected in zip(
        jax.tree.leaves(state), jax.tree.leaves(plain_state), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, atol=2e-3)


def test_a_step_is_compiled_once():
    optimizer = make_optimizer(TrainConfig())
    step: Any = make_train_step(_MODEL, optimizer, policy=lambda value: jaxswap.OFFLOAD)
    state = initialize(_MODEL, optimizer, (1, 8, 8, 8, 1), seed=0)
    for seed in range(3):
        state, _ = step(state, *_case(seed))
    assert step._cache_size() == 1


def test_a_loss_that_is_not_finite_stops_training():
    def step(state, images, targets):
        return state, jnp.array(jnp.nan)

    with pytest.raises(FloatingPointError, match="nan at step 1"):
        fit(
            step,
            TrainState(None, ()),
            [_case()],
            lambda parameters: (0.0,),
            TrainConfig(steps=1),
            Console(file=io.StringIO()),
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "`steps` is 0"),
        ({"evaluate_every": 0}, "`evaluate_every` is 0"),
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` is nan"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_ill_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)


def test_voxels_without_a_positive_logit_are_background():
    logits = jnp.array([[-1.0, -2.0], [0.5, -1.0], [0.5, 0.7]])
    np.testing.assert_array_equal(to_labels(logits), [0, 1, 2])


def test_pictures_are_written_whole(tmp_path):
    labels = np.zeros((8, 10, 12), np.uint8)
    labels[2:6, 3:7, 4:9] = 2
    image = Volume.from_array(labels * 10.0, np.diag([1.0, 1.0, 3.0, 1.0]))
    overlay = save_overlay(
        tmp_path / "new" / "overlay.png", image, labels, labels, ("a", "b")
    )
    records = [Record(0, float("nan"), (0.1, 0.2)), Record(5, -0.5, (0.6, 0.7))]
    curve = save_curve(tmp_path / "new" / "dice.png", records, ("a", "b"))
    for path in (overlay, curve):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted((tmp_path / "new").iterdir()) == [curve, overlay]


def test_pictures_of_other_shapes_are_refused(tmp_path):
    labels = np.zeros((4, 4, 4), np.uint8)
    image = Volume.from_array(np.zeros((4, 4, 5)), np.eye(4))
    with pytest.raises(ValueError, match="differ in shape"):
        save_overlay(tmp_path / "a.png", image, labels, labels, ("a",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_all_methods_have_one_value_and_gradient():
    model = _MODEL.clone(layers=LEAN)
    images, targets = _case()
    parameters = jax.jit(model.init)(jax.random.key(0), images)
    found = {
        name: jax.jit(jax.value_and_grad(loss))(parameters, images, targets)
        for name, loss in methods(model).items()
    }
    expected = found.pop("plain")
    assert len(found) == 5
    for value, gradient in found.values():
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        for leaf, expected_leaf in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(expected[1]), strict=True
        ):
            np.testing.assert_allclose(leaf, expected_leaf, atol=1e-4)


def test_the_table_shows_shares_of_its_first_row():
    rows = [
        Row("plain", "h100", 192, 4 * 2**30, 0, 0, 0, 0, 0, 1.0),
        Row("swapped", "h100", 192, 2**30, 2**30, 8, 2, 1000, 100, 1.0),
    ]
    file = io.StringIO()
    Console(file=file, width=80).print(tabulate(rows))
    line = next(line for line in file.getvalue().splitlines() if "swapped" in line)
    assert line.rstrip().split(maxsplit=4) == [
        "swapped",
        "1,024",
        "0.25",
        "1,024",
        "2 of 8 (10%)",
    ]
    assert json.loads(rows[1].to_json())["temp_bytes"] == 2**30
