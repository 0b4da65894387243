"""Two programs that should compute the same: how much do they differ?

They rarely agree to the last bit. XLA fuses them differently, so they round at
different places. A difference counts as wrong only if it is larger than what rounding
does to the first program alone. See `Reference`.

In 16 bits that is much. Two right programs may differ by a tenth, and neither is the
truth. There both are compared with the program in float32 (see `in_float32`), and
being further away from it than the first one counts as wrong.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxswap._base.errors import GradientError
from jaxswap._trace.float32 import in_float32
from jaxswap._trace.tangents import has_tangent

RTOL = {"bfloat16": 3e-2, "float16": 4e-3, "float32": 1e-5, "float64": 1e-12}
"""Differences that need no explanation, by the least precise type in the program."""
NUDGES = 4
"""How often plain JAX is run on arguments that are changed by one rounding error."""
SAFETY = 4.0
"""Allowed difference, in multiples of what rounding did to plain JAX."""
MARGIN = 2.0
"""Allowed distance from float32, in multiples of plain JAX's own largest one.

Plain JAX and the other program round the same numbers at other places. So their
distances from float32 are two draws of one kind, as is that of plain JAX on nudged
arguments. The largest of many rounding errors varies little. Twice leaves room for
arrays of few numbers. A gradient that is 1.5 times too large is 0.5 away, one that is
missing 1.0. Both are found where 16 bits keep the gradient within a fourth.
"""
UNDER_POLICY = "jaxswap.check: the offloaded function raises this under the policy"
"""A note that is added to errors."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far one array of a result is from that of plain JAX, or from float32.

    Attributes:
        leaf: Name of the array.
        error: Largest difference, as a share of the array's largest entry.
        allowed: The largest difference that is not wrong.
        plain_error: How far plain JAX is from float32, if `error` is the difference
            from float32. `None` if it is that from plain JAX.
    """

    leaf: str
    error: float
    allowed: float
    plain_error: float | None = None

    @property
    def share(self) -> float:
        """The difference, as a share of what is allowed. Above one it is wrong."""
        if self.error <= self.allowed:
            is_plain = 0 < self.allowed < np.inf
            return self.error / self.allowed if is_plain else float(self.error > 0)
        return self.error / self.allowed if self.allowed else np.inf


@dataclasses.dataclass(frozen=True)
class ComparedPolicy:
    """One policy that was compared with plain JAX.

    Attributes:
        policy: Name of the policy.
        swaps: Copies to the host in the program, each counted once.
        worst: The array that is nearest to what is allowed.
        widest: The largest difference that was allowed for any array.
    """

    policy: str
    swaps: int
    worst: Difference
    widest: float


class Reference:
    """The results of plain JAX, and how far rounding alone changes them.

    Args:
        function: The plain function.
        operands: The operands that it is called with.
        rtol: A difference that needs no explanation. `None`: by the least precise
            floating point type in the program.
        is_jitted: Whether the functions are compiled as a whole. If not, they run
            operation by operation.
        is_judged_in_float32: Whether results of a program in 16 bits are compared with
            those of the same program in float32. If not, with plain JAX.

    Attributes:
        expected: The plain result.
        without_float32: Why there is no result in float32, if there should be one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        operands: Sequence[Any],
        rtol: float | None = None,
        is_jitted: bool = True,
        is_judged_in_float32: bool = False,
    ) -> None:
        self._function = function
        self._operands = operands
        self._is_jitted = is_jitted
        traced = jax.jit(function).trace(*operands)
        types = _types(traced.jaxpr)
        coarsest = max(types & RTOL.keys(), key=RTOL.__getitem__, default="float32")
        self._rtol = RTOL[coarsest] if rtol is None else rtol
        self._epsilon = float(jnp.finfo(coarsest).eps)
        self._run = traced.lower().compile() if is_jitted else function
        self.expected = self._run(*operands)
        self.without_float32 = ""
        self._wide: list[Any] | None = None
        if is_judged_in_float32 and coarsest in ("bfloat16", "float16"):
            # JAX may refuse wider types, and the device may be too small for them.
            try:
                self._run_wide = jax.jit(in_float32(function))
                self._wide = jax.tree.leaves(self._run_wide(*operands))
                jax.block_until_ready(self._wide)
            except Exception as error:
                self.without_float32 = first_line(error)

    def compare(
        self, policy: str, function: Callable[..., Any], options: dict[str, Any]
    ) -> ComparedPolicy:
        """Run another function on the operands, and compare the results.

        Args:
            policy: The name of the policy, for the report.
            function: The function that should have the plain result.
            options: The options of `offload`, for the error.

        Raises:
            GradientError: If a difference is too large for rounding.
        """
        try:
            traced = jax.jit(function).trace(*self._operands)
            run = traced.lower().compile() if self._is_jitted else function
            actual = run(*self._operands)
        except Exception as error:
            error.add_note(f"{UNDER_POLICY} `{policy}`.")
            raise
        found = self.differences(actual)
        worst = max(found, key=lambda difference: difference.share)
        if worst.share > 1:
            raise GradientError(
                worst.leaf,
                worst.error,
                worst.allowed,
                policy=policy,
                options=options,
                plain_difference=worst.plain_error,
            )
        widest = max(difference.allowed for difference in found)
        return ComparedPolicy(policy, _swaps(traced.jaxpr), worst, widest)

    def moved_by(self, function: Callable[..., Any]) -> Difference:
        """Return how far another function is from the plain result, where it is most.

        Args:
            function: A function whose result may differ from the plain one.
        """
        actual = jax.tree.leaves_with_path(jax.jit(function)(*self._operands))
        expected = jax.tree.leaves(self.expected)
        moved = [
            Difference(_leaf_name(path), distance(leaf, plain), 0.0)
            for (path, leaf), plain in zip(actual, expected, strict=True)
        ]
        return max(moved, key=lambda difference: difference.error)

    def differences(self, actual: Any) -> list[Difference]:
        """Compare each array of a result with the plain one."""
        found = jax.tree.leaves_with_path(actual)
        expected = jax.tree.leaves_with_path(self.expected)
        if [path for path, _ in found] != [path for path, _ in expected]:
            return [Difference("structure of the result", np.inf, 0.0)]
        return [
            self._difference(i, _leaf_name(path), leaf, expected[i][1])
            for i, (path, leaf) in enumerate(found)
        ]

    def _difference(self, i: int, name: str, actual: Any, expected: Any) -> Difference:
        truth = self._wide[i] if self._wide and has_tangent(expected) else None
        plain_error = None if truth is None else distance(expected, expected, truth)
        error = distance(actual, expected, truth)
        allowed = (plain_error or 0.0) + (self._rtol if has_tangent(expected) else 0.0)
        # Both ways show what rounding does. The second one takes longer.
        for way in ("_nudged", "_otherwise"):
            if error <= allowed:
                break
            if truth is None:
                moved = [distance(run[i], expected) for run, _ in getattr(self, way)]
                allowed = max(allowed, SAFETY * max(moved))
            else:
                moved = [
                    distance(run[i], run[i], t[i]) for run, t in getattr(self, way)
                ]
                allowed = max(allowed, MARGIN * max(plain_error or 0.0, *moved))
        return Difference(name, error, allowed, plain_error)

    @functools.cached_property
    def _nudged(self) -> list[tuple[list[Any], list[Any]]]:
        """Return flat results for operands that differ by a rounding error.

        Those of plain JAX, then those in float32 if there are such.
        """
        random = np.random.default_rng(0)

        def nudge(leaf: Any) -> Any:
            if not has_tangent(leaf):
                return leaf
            signs = random.choice([-self._epsilon, self._epsilon], jnp.shape(leaf))
            wide = np.complex128 if jnp.iscomplexobj(leaf) else np.float64
            return jnp.asarray(np.asarray(leaf, wide) * (1.0 + signs), leaf.dtype)

        moved = [jax.tree.map(nudge, self._operands) for _ in range(NUDGES)]
        wide = self._run_wide if self._wide else lambda *_: []
        return [
            (jax.tree.leaves(self._run(*operands)), jax.tree.leaves(wide(*operands)))
            for operands in moved
        ]

    @functools.cached_property
    def _otherwise(self) -> list[tuple[list[Any], list[Any]]]:
        """Return flat plain results, unfused if they were fused before; see above."""
        other = self._function if self._is_jitted else jax.jit(self._function)
        return [(jax.tree.leaves(other(*self._operands)), self._wide or [])]


def _leaf_name(path: tuple[Any, ...]) -> str:
    """Return a name such as `"gradient of args[0]"` or `"value['loss']"`."""
    part, *rest = path
    if part.key == "gradient":
        return f"gradient of {rest[0].key}"
    return part.key + jax.tree_util.keystr(tuple(rest))


def distance(actual: Any, expected: Any, truth: Any = None) -> float:
    """Return the largest difference, as a share of the second array's largest entry.

    With `truth`, a more precise form of `expected`, it is the difference from that, as
    a share of the largest entry of both. Only finite numbers are compared.

    It is infinite if the first two arrays differ in type or shape, or if one has a NaN
    or an infinity where the other has none.
    """
    if jnp.shape(actual) != jnp.shape(expected) or (
        jnp.result_type(actual) != jnp.result_type(expected)
    ):
        return np.inf
    if jnp.issubdtype(jnp.result_type(expected), jax.dtypes.prng_key):
        actual, expected = jax.random.key_data(actual), jax.random.key_data(expected)
    if jnp.result_type(expected) == jax.dtypes.float0:
        return 0.0
    wide = np.complex128 if np.iscomplexobj(expected) else np.float64
    a, e = np.asarray(actual, wide), np.asarray(expected, wide)
    t = e if truth is None else np.asarray(truth, wide)
    if not np.array_equal(a[~np.isfinite(e)], e[~np.isfinite(e)], equal_nan=True):
        return np.inf
    is_finite = np.isfinite(e) & np.isfinite(t)
    a, e, t = a[is_finite], e[is_finite], t[is_finite]
    error = np.max(np.abs(a - t), initial=0.0)
    if not np.isfinite(error):
        return np.inf
    scale = max(np.max(np.abs(e), initial=0.0), np.max(np.abs(t), initial=0.0))
    return float(error / scale) if scale else float(np.inf if error else 0.0)


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of its text."""
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _types(jaxpr: Any) -> set[str]:
    """Return the names of the types that a traced function computes in."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    found = {str(v.aval.dtype) for v in jaxpr.invars if hasattr(v.aval, "dtype")}
    for eqn in jaxpr.eqns:
        avals = [v.aval for v in eqn.outvars]
        found.update(str(aval.dtype) for aval in avals if hasattr(aval, "dtype"))
        for inner in core.jaxprs_in_params(eqn.params):
            found |= _types(inner)
    return found


def _swaps(jaxpr: Any) -> int:
    """Return how many copies to the host a traced function holds, calls included."""
    found = 0
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        spaces = [getattr(v.aval, "memory_space", None) for v in eqn.outvars]
        is_copy = eqn.primitive.name == "device_put"
        found += is_copy and jax.memory.Space.Host in spaces
        for inner in core.jaxprs_in_params(eqn.params):
            found += _swaps(inner)
    return found
