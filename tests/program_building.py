"""The function and the arguments of a random program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from program_context import Array
from program_generator import Program, Step
from program_operations import OPERATIONS, Context, small

from jaxswap._check import cotangent


class Arguments:
    """The arrays that a program's operations asked for, by name.

    The first run only notes what is asked for; then `draw` makes the arrays.
    """

    def __init__(self, arrays: dict[str, Any] | None = None) -> None:
        self.arrays = arrays
        self.wanted: dict[str, Callable[[np.random.Generator], Any]] = {}

    def weight(self, number: int, shape: tuple[int, ...]) -> Array:
        """Weights that keep the size of what they multiply."""
        scale = float(max(1, np.prod(shape[:-1]))) ** -0.5

        def draw(random: np.random.Generator) -> Array:
            # In double precision where JAX allows it; see `_is_rounding`.
            return jnp.asarray(random.normal(size=shape) * scale, float)

        return self._ask(f"weight{number}{list(shape)}", draw)

    def integers(self, number: int, shape: tuple[int, ...], high: int) -> Array:
        """Integers below `high`."""

        def draw(random: np.random.Generator) -> Array:
            return jnp.asarray(random.integers(high, size=shape), jnp.int32)

        return self._ask(f"integers{number}{list(shape)} below {high}", draw)

    def key(self, number: int) -> Array:
        """A key for random numbers; 0 is one of the kind that is slow to compile."""
        kind = "unsafe_rbg" if number else "threefry2x32"
        return self._ask(f"key{number}", lambda _: jax.random.key(number, impl=kind))

    def _ask(self, name: str, draw: Callable[[np.random.Generator], Any]) -> Array:
        self.wanted[name] = draw
        if self.arrays is None:
            return draw(np.random.default_rng(0))
        return self.arrays[name]

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """Make all that was asked for."""
        return {name: draw(random) for name, draw in sorted(self.wanted.items())}


def run(steps: Sequence[Step], values: Sequence[Array], leaves: Any) -> list[Array]:
    """Append the results of the steps to the values."""
    found = list(values)
    for step in steps:
        x, y = (found[-1 - index % len(found)] for index in (step.x, step.y))

        def body(values: Sequence[Array], step: Step = step) -> Array:
            return run(step.body, values, leaves)[-1]

        result = OPERATIONS[step.name](Context(leaves, step.choice, body), x, y)
        results = result if isinstance(result, tuple) else (result,)
        found += [small(array) for array in results]
    return found


def entering(x: Array) -> Array:
    """An argument as the real number that operations work with."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return jnp.real(x * jnp.conj(x)) / 2 + jnp.sin(jnp.imag(x))
    return jnp.cos(x.astype(jnp.float32)) if x.dtype == jnp.int32 else x


def summed(x: Array) -> Array:
    """A scalar to which each entry contributes in its own way."""
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    return jnp.mean(x.astype(wide) * cotangent(x).astype(wide))


def end(ending: str, inputs: Sequence[Array], values: Sequence[Array]) -> Any:
    """What a program returns."""
    last = values[-1]
    match ending:
        case "last":
            return summed(last)
        case "all":
            return sum(summed(v) * (i + 1) for i, v in enumerate(values)) / len(values)
        case "aux":
            count = jnp.sum(last > 0)
            return summed(last), {"count": count, "values": list(values[-3:])}
        case "tree":
            places = jnp.argsort(last.ravel())
            constants = (jnp.ones(2), jnp.arange(3))
            return {"twice": (last, last), "all": inputs, "rest": (places, constants)}
        case "vector":
            return last
    raise ValueError(f"no ending {ending!r}")


def build(program: Program) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the function and its arguments."""
    random = np.random.default_rng(program.seed)
    given = tuple(_draw(text, random) for text in program.inputs)

    def of(inputs: Sequence[Array], leaves: Arguments) -> Any:
        values = run(program.steps, [entering(x) for x in inputs], leaves)
        return end(program.ending, inputs, values)

    wanted = Arguments()
    jax.eval_shape(lambda inputs: of(inputs, wanted), given)

    def fn(inputs: Sequence[Array], arrays: dict[str, Any]) -> Any:
        return of(inputs, Arguments(arrays))

    return fn, (given, wanted.draw(random))


def _draw(text: str, random: np.random.Generator) -> Array:
    """Numbers of a type such as `float32[2,3]`."""
    dtype, _, sizes = text.rstrip("]").partition("[")
    shape = tuple(int(size) for size in sizes.split(",") if size)
    if dtype == "int32":
        return jnp.asarray(random.integers(5, size=shape), dtype)
    numbers = random.normal(size=shape)
    if dtype == "complex64":
        numbers = numbers + 1j * random.normal(size=shape)
    return jnp.asarray(numbers, dtype)
