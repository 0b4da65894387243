"""What a function captures: equal while nothing changed, different afterwards."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap._trace import captured as module
from jaxswap._trace.captured import captured

SCALE = 2.0


def scaled(x: Any) -> Any:
    return x * SCALE


class Slotted:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 1.0


@dataclasses.dataclass
class Layer:
    weights: jax.Array
    scale: float = 1.0
    shared: ClassVar = [1.0]

    def __call__(self, x: Any) -> Any:
        return scaled(x) * self.scale * self.shared[0]


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda held: setattr(held, name, value)


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "an entry of a list": (lambda: [1.0, [2.0]], lambda x: x[1].append(3.0)),
    "an entry of a dictionary": (lambda: {"a": 1}, lambda x: x.update(a=2)),
    "a member of a set": (lambda: {1}, lambda x: x.add(2)),
    "an attribute": (lambda: Layer(jnp.ones(2)), _set("scale", 2.0)),
    "an array as attribute": (
        lambda: Layer(jnp.ones(2)),
        _set("weights", jnp.ones(2)),
    ),
    "an attribute in a slot": (Slotted, _set("scale", 2.0)),
    "a NumPy array's entry": (lambda: np.zeros(2), lambda x: x.fill(1)),
    "the sign of zero": (lambda: [0.0], lambda x: x.__setitem__(0, -0.0)),
    "the type of a number": (lambda: [1], lambda x: x.__setitem__(0, True)),
    "a partial's keyword": (
        lambda: functools.partial(dict, y=[1]),
        lambda x: x.keywords["y"].append(2),
    ),
    "a default of a function": (
        lambda: types.FunctionType(scaled.__code__, globals(), argdefs=([1],)),
        lambda x: x.__defaults__[0].append(2),
    ),
    "an attribute of a function": (
        lambda: types.FunctionType(scaled.__code__, globals()),
        _set("scale", 2.0),
    ),
    "the object of a method": (
        lambda: Layer(jnp.ones(2)).__call__,
        lambda x: setattr(x.__self__, "scale", 3.0),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_and_no_change_is_none(name: str) -> None:
    make, change = CHANGES[name]
    held = make()

    def fn(x: Any) -> Any:
        return held, x

    before = captured(fn)
    assert before is not None
    assert captured(fn) == before
    change(held)
    assert captured(fn) != before


def test_a_variable_that_is_bound_anew_is_seen(monkeypatch: Any) -> None:
    weights = jnp.ones(2)

    def fn(x: Any) -> Any:
        return (lambda y: scaled(y) * weights)(x)

    before = captured(fn)
    weights = jnp.ones(2)
    assert captured(fn) != before
    before = captured(fn)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert captured(fn) != before


def test_classes_and_modules_of_the_project_are_looked_into(monkeypatch: Any) -> None:
    layer, settings = Layer(jnp.ones(2)), types.ModuleType("settings")
    vars(settings).update(__file__="settings.py", scale=1.0)
    monkeypatch.setitem(globals(), "settings", settings)
    fn = eval("lambda x: layer(x) * settings.scale", globals() | {"layer": layer})
    before = captured(fn)
    monkeypatch.setattr(Layer, "shared", [2.0])
    assert captured(fn) != before
    before = captured(fn)
    vars(settings).update(scale=2.0)
    assert captured(fn) != before


def test_functions_of_equal_code_and_variables_are_equal() -> None:
    def make(scale: float) -> Callable[..., Any]:
        return lambda x: scaled(x) * scale

    assert captured(make(1.0)) == captured(make(1.0)) != captured(make(2.0))


def test_installed_packages_and_jax_functions_can_be_compared() -> None:
    optax = pytest.importorskip("optax")
    update = optax.adam(1e-3).update
    inner = jax.jit(lambda x: jnp.sin(x) * SCALE)

    def fn(x: Any) -> Any:
        return inner(update(x)), np.add, jax.nn.relu, object, len

    assert captured(fn) == captured(fn) is not None


def test_cycles_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert captured(loop) == captured(loop) is not None


@pytest.mark.parametrize(
    "held",
    [
        iter([1]),
        np.random.default_rng(0),
        np.zeros(2**18),
        np.array([object()]),
        list(range(3)) + [[i] for i in range(module.MOST_OBJECTS)],
    ],
    ids=["iterator", "generator", "large", "objects", "many"],
)
def test_what_cannot_be_compared_has_no_state(held: Any) -> None:
    assert captured(lambda: held) is None


def test_a_tracer_has_no_state() -> None:
    def fn(x: jax.Array) -> jax.Array:
        assert captured(lambda: x) is None
        return x

    jax.grad(fn)(1.0)
    jax.make_jaxpr(fn)(1.0)
