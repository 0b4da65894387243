"""Is the gradient right? An offloaded function is compared with the plain one."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxswap._gpu.target import Target
from jaxswap._graph.graph import Action, Value
from jaxswap._offload import offload
from jaxswap._plans.plan import Plan
from jaxswap._run.loss import checked_argnums
from jaxswap._run.reference import ComparedPolicy, Difference, Reference
from jaxswap._schedule.decision import Policy
from jaxswap._trace.tangents import has_tangent
from jaxswap._view.table import table_lines

INFORMATIVE = 0.1
"""If rounding explains more than this share of an array, the check showed little."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What `jaxswap.check` compared, and how well it agreed.

    Attributes:
        function: Name of the function.
        rows: One row for each policy.
        arrays: How many arrays have a gradient.
        numbers: How many numbers these arrays hold.
        nonzero: How many of the numbers are finite and not zero. If there are none, the
            check shows nothing.
        without_float32: Why a function that computes in 16 bits was compared with plain
            JAX alone, and not with itself in float32. Else empty.
        compress: The type to which values were rounded as they left, or empty.
        moved: How far this moved a result, as a share of its largest entry, where it
            moved most. `None` if nothing was rounded.

    Example:
        >>> import jax.numpy as jnp, jaxswap
        >>> report = jaxswap.check(lambda x: jnp.sum(jnp.tanh(x)), jnp.ones(3), mixes=0)
        >>> report.arrays, report.numbers, [row.policy for row in report.rows]
        (1, 3, ['default', 'OFFLOAD', 'RECOMPUTE'])
    """

    function: str
    rows: tuple[ComparedPolicy, ...]
    arrays: int
    numbers: int
    nonzero: int
    without_float32: str = ""
    compress: str = ""
    moved: Difference | None = None

    def __str__(self) -> str:
        """Write a table."""
        is_wide = any(row.worst.plain_error is not None for row in self.rows)
        measured = ("from float32", "plain's") if is_wide else ("largest difference",)
        cells: list[tuple[str, ...]]
        cells = [("policy", "swaps", *measured, "allowed", "where")]
        for row in self.rows:
            worst, errors = row.worst, [f"{row.worst.error:.1e}"]
            if is_wide:
                plain = worst.plain_error
                errors.append("" if plain is None else f"{plain:.1e}")
            errors.append(f"{worst.allowed:.1e}")
            cells.append((row.policy, str(row.swaps), *errors, worst.leaf))
        agreement = "as near to float32 as" if is_wide else "those of"
        lines = [
            f"`{self.function}`: value and gradient are {agreement} plain JAX "
            f"({self.nonzero:,} of {self.numbers:,} numbers in {self.arrays} arrays "
            "are finite and not zero)"
        ]
        lines += table_lines(cells, right=range(1, len(cells[0]) - 1))
        if self.without_float32:
            lines.append(
                "compared with plain JAX alone: the function cannot be computed in "
                f"float32 ({self.without_float32})"
            )
        if self.moved is not None:
            lines.append(
                f"values that are rounded to {self.compress} as they leave move the "
                f"results by up to {self.moved.error:.1e} of the largest entry "
                f"({self.moved.leaf})"
            )
        loose = [r.policy for r in self.rows if r.widest > INFORMATIVE]
        if loose:
            lines.append(
                "rounding alone moves this gradient so far that little was shown "
                f"for {', '.join(loose)}: give arguments of a wider type"
            )
        return "\n".join(lines)


def check(
    fn: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
    plan: Plan | None = None,
    budget: int | str | None = None,
    target: str | Target | None = None,
    compress: str | None = None,
    mixes: int = 3,
    rtol: float | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> Check:
    """Compare value and gradient of `jaxswap.offload(fn)` with those of `fn`.

    They are computed in several ways: under `policy` (or `plan`, or `budget`), with
    every value swapped, with every value recomputed, and with random actions for the
    values. All are compiled by `jax.jit` for the default device. For a scalar loss the
    gradient is that of `jax.grad`. Other results get cotangents that differ from entry
    to entry.

    Numbers may differ by `rtol` of the largest entry of their array. If they differ by
    more, plain JAX is run again without `jax.jit`, or on arguments that are changed by
    one rounding error. Four times the largest change of its results is then allowed.
    NaN and infinity must be where plain JAX has them.

    If bfloat16 or float16 takes part, `fn` is also computed in float32, with products
    of the highest precision, and all results are compared with that. `fn` need not be
    written anew. Numbers may be further away from float32 than those of plain JAX by
    `rtol`. If they are further, twice the largest distance of plain JAX is allowed, on
    changed arguments too, whose results are compared with float32 on these. How far
    numbers are from plain JAX does not matter. If `fn` cannot be computed in float32,
    the report says why, and it is compared with plain JAX.

    Args:
        fn: A function as `jaxswap.offload` takes it.
        *args: Its arguments. Arrays are traced, everything else is static.
        argnums: Positional arguments to differentiate. `None`: every array of
            floating point or complex numbers, keyword arguments included. With a
            `plan`, the first argument, as in `jaxswap.plan`.
        has_aux: Whether `fn` returns a pair whose second part has no gradient.
        policy: As in `jaxswap.offload`. It is compared first.
        plan: As in `jaxswap.offload`.
        budget: As in `jaxswap.offload`.
        target: As in `jaxswap.offload`.
        compress: As in `jaxswap.offload`. All comparisons are made without it. Then the
            report says how far it moves the results. A `plan` that was made with it is
            not compared, but only measured. Without a policy, all values are swapped.
        mixes: How many random mixes of actions are tried.
        rtol: The difference, or the further distance from float32, that needs no
            explanation. `None`: 1e-12 for float64, 1e-5 for float32, 4e-3 or 3e-2 if
            float16 or bfloat16 takes part.
        seed: A number that selects the random mixes.
        **kwargs: Keyword arguments of `fn`.

    Returns:
        The report. Print it to read it.

    Raises:
        jaxswap.GradientError: If something differs. It names the array, the policy and
            the difference, and holds the options to repeat it.
        TypeError: If `fn` is not callable, or there is nothing to differentiate.
        ValueError: If `argnums` names no argument, or `mixes` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxswap
        >>> def loss(w, x):
        ...     return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)
        >>> report = jaxswap.check(loss, jnp.eye(4), jnp.ones((2, 4)))
        >>> [row.policy for row in report.rows][:3]
        ['default', 'OFFLOAD', 'RECOMPUTE']

    References:
        Griewank, Walther 2008, "Evaluating Derivatives", chapter 12 (checkpointing
        leaves derivatives as they are, rounding included).
    """
    if not callable(fn):
        raise TypeError(f"`fn` is {fn!r}; jaxswap.check needs a function.")
    if mixes < 0:
        raise ValueError(f"`mixes` is {mixes}; it must not be negative.")
    if argnums is None and plan is not None:
        argnums = 0
    given = {"policy": policy, "plan": plan, "budget": budget, "target": target}
    given = {name: value for name, value in given.items() if value is not None}
    narrow: dict[str, Any] = {} if compress is None else {"compress": compress}
    offload(fn, **given, **narrow)  # It refuses what does not fit together.
    rounded = compress or (plan.graph.compress if plan is not None else "")
    problem = Problem(args, kwargs, argnums, has_aux)
    try:
        step = problem.step(fn)
        reference = Reference(step, problem.operands, rtol, is_judged_in_float32=True)
    except Exception as error:
        error.add_note("jaxswap.check: this is `fn` itself, in plain JAX.")
        raise
    is_lossy_plan = plan is not None and bool(rounded)
    choices = _choices({} if is_lossy_plan else {_name(given): given}, mixes, seed)
    rows = []
    for name, options in choices.items():
        step = problem.step(offload(fn, **options))
        rows.append(reference.compare(name, step, options))
    moved = None
    if rounded:
        lossy = given or {"policy": Action.OFFLOAD}
        step = problem.step(offload(fn, **lossy, **narrow))
        moved = reference.moved_by(step)
    gradient = [np.asarray(leaf) for leaf in reference.expected["gradient"].values()]
    return Check(
        function=getattr(fn, "__name__", type(fn).__name__),
        rows=tuple(rows),
        arrays=len(gradient),
        numbers=sum(leaf.size for leaf in gradient),
        nonzero=sum(int(np.sum(np.isfinite(g) & (g != 0))) for g in gradient),
        without_float32=reference.without_float32,
        compress=rounded,
        moved=moved,
    )


def _choices(
    first: dict[str, dict[str, Any]], mixes: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the options to compare, by name."""
    choices = dict(first)
    choices |= {a.name: {"policy": a} for a in (Action.OFFLOAD, Action.RECOMPUTE)}
    for i in range(mixes):
        choices[f"random mix {i} of seed {seed}"] = {"policy": random_mix(seed, i)}
    return choices


def _name(given: dict[str, Any]) -> str:
    """Return a short name for the options that a user gives."""
    return ", ".join(given) or "default"


def random_mix(seed: int, number: int = 0) -> Callable[[Value], Action]:
    """Return a policy that draws an action for each value, the same every time."""
    actions = list(Action)

    def policy(value: Value) -> Action:
        text = f"{seed} {number} {value.index} {value.shape} {value.primitive}"
        return actions[zlib.crc32(text.encode()) % len(actions)]

    return policy


class Problem:
    """Arguments of a function, divided into differentiated arrays and all others.

    Attributes:
        operands: The arrays to differentiate, by name, and the other arrays.
    """

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: int | Sequence[int] | None,
        has_aux: bool,
    ) -> None:
        self._has_aux = has_aux
        paths, self._structure = jax.tree.flatten_with_path((args, kwargs))
        self._leaves = [leaf for _, leaf in paths]
        wanted = None if argnums is None else checked_argnums(argnums, len(args))
        self._wanted: dict[str, int] = {}
        self._others: list[int] = []
        for i, (path, leaf) in enumerate(paths):
            is_named = wanted is not None and path[0].idx == 0 and path[1].idx in wanted
            is_array = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
            name = "kwargs" if path[0].idx else "args"
            name += jax.tree_util.keystr(path[1:])
            if isinstance(leaf, jax.ShapeDtypeStruct):
                raise TypeError(f"{name} is a type; jaxswap.check needs arrays.")
            if (is_named and (is_array or isinstance(leaf, (float, complex)))) or (
                wanted is None and is_array and has_tangent(leaf)
            ):
                self._wanted[name] = i
            elif is_array:
                self._others.append(i)
            if name in self._wanted and not has_tangent(leaf):
                raise TypeError(
                    f"`argnums` names {name}, which holds {jnp.asarray(leaf).dtype}; "
                    "only floating point and complex numbers have a gradient."
                )
        if not self._wanted:
            raise TypeError(
                "no argument to differentiate: jaxswap.check needs an array of "
                "floating point or complex numbers."
            )
        self.operands: tuple[dict[str, Any], list[Any]] = (
            {name: jnp.asarray(self._leaves[i]) for name, i in self._wanted.items()},
            [jnp.asarray(self._leaves[i]) for i in self._others],
        )

    def step(self, fn: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
        """Return the function of the operands that gives value and gradient of `fn`."""

        def step(wanted: dict[str, Any], others: list[Any]) -> dict[str, Any]:
            def of_wanted(wanted: dict[str, Any]) -> Any:
                leaves = list(self._leaves)
                for name, i in self._wanted.items():
                    leaves[i] = wanted[name]
                for i, leaf in zip(self._others, others, strict=True):
                    leaves[i] = leaf
                args, kwargs = jax.tree.unflatten(self._structure, leaves)
                return fn(*args, **kwargs)

            if self._has_aux:
                out, pullback, aux = jax.vjp(of_wanted, wanted, has_aux=True)
            else:
                (out, pullback), aux = jax.vjp(of_wanted, wanted), None
            if not any(map(has_tangent, jax.tree.leaves(out))):
                raise TypeError(
                    "`fn` returns nothing that can be differentiated: no floating "
                    "point or complex numbers."
                )
            (gradient,) = pullback(jax.tree.map(cotangent, out))
            return {"value": out, "auxiliary result": aux, "gradient": gradient}

        return step


def cotangent(leaf: Any) -> Any:
    """Return the start of the backward pass: one for a scalar, else various numbers.

    The numbers differ from entry to entry, so that swapped entries are noticed.
    """
    shape = jnp.shape(leaf)
    if not has_tangent(leaf):
        return np.zeros(shape, jax.dtypes.float0)
    numbers = np.cos(np.arange(np.prod(shape)).reshape(shape))
    return jnp.asarray(numbers, jnp.result_type(leaf))
