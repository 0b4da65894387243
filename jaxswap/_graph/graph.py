"""A traced program as plain data: values, equations and what becomes of them.

The policies and the scheduler work on a `Graph` alone. It holds numbers, names and
indices, but no array and no tracer. So they can be tested on programs written by hand.

Terms used throughout jaxswap:

    residual    a forward value that the backward pass reads
    heavy       an equation that keeps the device busy long enough to hide a copy
                behind it: a matrix product, a convolution, a kernel, what takes as
                long as a copy of its operands, or a call that holds one of these
    late        a forward value that only the backward pass reads
    large       a value of at least a policy's `min_bytes`
"""

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxswap._gpu.work import Work
from jaxswap._graph.pieces import Pieces
from jaxswap._slabs.facts import SlabFacts
from jaxswap._slabs.slabs import Slabs


class Action(enum.Enum):
    """What becomes of a forward value between the forward and the backward pass.

    `jaxswap.KEEP`, `jaxswap.OFFLOAD` and `jaxswap.RECOMPUTE` are its members.

    Example:
        >>> import jaxswap
        >>> jaxswap.OFFLOAD
        <Action.OFFLOAD: 'offload'>
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=jaxswap.RECOMPUTE)
    """

    # A search looks up millions of them. Hashing the name would take ten times as long.
    __hash__ = object.__hash__

    KEEP = "keep"
    """Stays in device memory."""
    OFFLOAD = "offload"
    """Is copied to pinned host memory, and back before the backward pass needs it."""
    RECOMPUTE = "recompute"
    """Is dropped, and recomputed from values that were stored."""


class Inside(enum.Enum):
    """How the values in a user's `jax.checkpoint`, and in branches, are treated."""

    AS_WRITTEN = "as written"
    """As in JAX: a `jax.checkpoint` recomputes, a branch stores what it needs."""
    OPEN = "open"
    """The values in a `jax.checkpoint` are decided on like all others."""
    OPEN_STORING_PRODUCTS = "open, storing products"
    """Besides, branches store the results of products and convolutions alone."""
    OPEN_STORING_NOTHING = "open, storing nothing"
    """Besides, branches recompute everything."""


@dataclasses.dataclass(frozen=True)
class Value:
    """One array of the traced program, as a policy sees it.

    Attributes:
        index: Position in `Graph.values`; unique within one traced program.
        nbytes: Size in device memory. 0 for values without a byte size (PRNG keys,
            tokens) and for values in host memory.
        shape: Shape of the array.
        dtype: NumPy dtype; `None` for extended types such as PRNG keys.
        primitive: Name of the JAX primitive that makes it; `"argument"` for inputs.
        source: The line of the user's program that makes it, `file.py:12 (function)`.
        name: The name given with `jax.ad_checkpoint.checkpoint_name`, else `None`.
        scope: `jax.named_scope` path. For Flax modules, the module path.
        is_argument: Whether it is an input of the function, or a captured array.
        host_nbytes: Size in host memory, of what loops swap inside their bodies.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def policy(value):
        ...     is_product = value.primitive == "dot_general"
        ...     return jaxswap.KEEP if is_product else jaxswap.RECOMPUTE
        >>> loss = jaxswap.offload(lambda w: jnp.sum(jnp.tanh(w @ w)), policy=policy)
        >>> jax.grad(loss)(jnp.zeros((2, 2))).shape
        (2, 2)
    """

    index: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: np.dtype | None
    primitive: str
    source: str = ""
    name: str | None = None
    scope: str = ""
    is_argument: bool = False
    host_nbytes: int = 0

    @property
    def label(self) -> str:
        """A short name for reports: `checkpoint_name`, else scope, primitive, line."""
        place = self.name or "/".join(
            part for part in (self.scope, self.primitive) if part
        )
        line = self.source.rsplit("/", 1)[-1].split(" ")[0]
        return f"{place} {line}".strip()

    @property
    def scope_label(self) -> str:
        """The label in characters that names in compiled programs may have."""
        return self.label.replace("/", ".").replace(" ", ":")


@dataclasses.dataclass(frozen=True)
class Equation:
    """One equation of the traced program.

    Attributes:
        index: Position in `Graph.equations`.
        primitive: Name of the JAX primitive.
        inputs: Indices of the values it reads.
        outputs: Indices of the values it makes.
        flops: Floating point operations.
        tile_flops: Operations that matrix units execute, since they compute in whole
            tiles.
        tile_count: Tiles of a matrix product's result; 0 if that says nothing.
        is_backward: Whether it belongs to the backward pass.
        is_heavy: Whether it takes long enough to hide a copy (see the module's text).
        is_view: Whether XLA can avoid moving data for it (reshape, transpose,
            broadcast).
        is_cheap: Whether it works element by element. XLA fuses it into its reader.
        is_pure: Whether it may be executed twice.
        is_reduction: Whether it reads much and writes little (sums, maxima).
        is_known: Whether its cost is better than a guess from its bytes.
        work: The arithmetic that limits a heavy equation. `None` if bytes limit it.
        operation: Name of a heavy operation whose time may have been measured, or "".
        workspace_bytes: Device memory that a convolution takes while it runs, for
            operands and result in another layout. Of a grouped product, what it takes
            for operands that are filled with zeros for each group. Of the gradient of a
            pooled maximum, what it takes for the maxima and their indices.
        inner_bytes: Bytes that move inside a call, such as a loop, or a kernel, if
            they are more than its operands and results.
        body: The program that a loop executes in each iteration, or that a
            `jax.checkpoint` executes once.
        trip_count: How often the body is executed.
        is_deferred: Whether it is made of sums over a mesh. Such an equation waits for
            other devices, so nothing else should wait for it.
        overwritten: The operands whose place in memory results take, if nothing reads
            these operands later: what a loop carries, and what is updated.
        is_in_parts: Whether each part of its result follows from the same parts of its
            operands. See `parts`.
        is_cut: Whether it cuts a piece off a value. It is executed where the piece is
            stored, and not again. See `pieces`.
        is_join: Whether it makes a value again, of its pieces. It is executed where the
            value would be recomputed otherwise.
    """

    index: int
    primitive: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    flops: float = 0.0
    tile_flops: float = 0.0
    tile_count: int = 0
    is_backward: bool = False
    is_heavy: bool = False
    is_view: bool = False
    is_cheap: bool = False
    is_pure: bool = True
    is_reduction: bool = False
    is_known: bool = True
    work: Work | None = None
    operation: str = ""
    workspace_bytes: int = 0
    inner_bytes: float = 0.0
    body: "Graph | None" = None
    trip_count: int = 1
    is_deferred: bool = False
    overwritten: tuple[int, ...] = ()
    is_in_parts: bool = False
    is_cut: bool = False
    is_join: bool = False


@dataclasses.dataclass(frozen=True)
class Graph:
    """Forward and backward pass of one function as one list of equations.

    Attributes:
        values: Every value, by index.
        equations: Every equation, by index, in an order that can be executed.
        arguments: Values that exist before the forward pass.
        outputs: Values that the forward pass returns.
        cotangents: Values that exist before the backward pass, given by the caller.
        gradients: Values that the backward pass returns.
        carried: For a loop's body: the arguments that one iteration hands to the next.
            They are gone when the iteration ends, so they are stored like results.
        handed_on: For a loop's body: what becomes each of these arguments in the next
            iteration; -1 for a constant.
        sliced: For a loop's body: the arguments that are slices of scanned arrays.
        trip_count: How often the program is executed, if it is a loop's body.
        loops: The bodies of the function's loops, and how their iterations run.
        inside: How values in a user's `jax.checkpoint` and in branches are treated.
        slabs: How the finest values are cut into slabs. `None` if they are not.
        slab_facts: What the sweeps over these slabs are.
        compress: The type to which values are rounded when they leave. `""`: their own.
        pieces: The values that can be stored in pieces.
    """

    values: tuple[Value, ...]
    equations: tuple[Equation, ...]
    arguments: tuple[int, ...]
    outputs: tuple[int, ...]
    cotangents: tuple[int, ...] = ()
    gradients: tuple[int, ...] = ()
    carried: tuple[int, ...] = ()
    handed_on: tuple[int, ...] = ()
    sliced: tuple[int, ...] = ()
    trip_count: int = 1
    loops: "tuple[Loop, ...]" = ()
    inside: Inside = Inside.AS_WRITTEN
    slabs: Slabs | None = None
    slab_facts: SlabFacts | None = None
    compress: str = ""
    pieces: tuple[Pieces, ...] = ()

    @property
    def is_body(self) -> bool:
        """Whether this is the body of a loop."""
        return bool(self.carried or self.sliced) or self.trip_count > 1

    def producers(self) -> Mapping[int, Equation]:
        """Map each value to the equation that makes it. Arguments are absent."""
        return self._producers

    @functools.cached_property
    def _producers(self) -> Mapping[int, Equation]:
        return {v: e for e in self.equations if not e.is_join for v in e.outputs}

    def remakers(self) -> Mapping[int, Equation]:
        """Map each value to the equation that makes it again, in the backward pass."""
        return self._remakers

    @functools.cached_property
    def _remakers(self) -> Mapping[int, Equation]:
        joins = {v: eqn for eqn in self.equations if eqn.is_join for v in eqn.outputs}
        return {**self._producers, **joins} if joins else self._producers

    def ancestors(self, values: tuple[int, ...]) -> frozenset[int]:
        """Return the equations that make `values`, directly or through others."""
        known = self._result_ancestors.get(values)
        return self._ancestors(values) if known is None else known

    @functools.cached_property
    def _result_ancestors(self) -> Mapping[tuple[int, ...], frozenset[int]]:
        """Those that are asked for again and again."""
        return {v: self._ancestors(v) for v in (self.outputs, self.gradients)}

    def _ancestors(self, values: tuple[int, ...]) -> frozenset[int]:
        producers = self.producers()
        found: set[int] = set()
        stack = [producers[v] for v in values if v in producers]
        while stack:
            eqn = stack.pop()
            if eqn.index not in found:
                found.add(eqn.index)
                stack.extend(producers[v] for v in eqn.inputs if v in producers)
        return frozenset(found)

    def residuals(self) -> tuple[int, ...]:
        """Return the forward values that the backward pass reads, in order."""
        backward = {v for eqn in self.equations if eqn.is_backward for v in eqn.outputs}
        backward.update(self.cotangents)
        read = {v for eqn in self.equations if eqn.is_backward for v in eqn.inputs}
        return tuple(sorted((read | set(self.gradients)) - backward))


@dataclasses.dataclass(frozen=True)
class Segment:
    """Iterations of a loop, one after the other, that run in one way.

    Attributes:
        count: How many iterations these are.
        actions: One for each value of the body.
        block: How many iterations are recomputed together; `count` is a multiple. 1:
            each iteration stores what its actions say. More: of each block only the
            carry that it begins with is stored, as its action says. When the backward
            pass comes to a block, it runs the block again, as a loop of its own.
    """

    count: int
    actions: tuple[Action, ...]
    block: int = 1


@dataclasses.dataclass(frozen=True)
class Loop:
    """The body of a loop, and how its iterations run.

    Attributes:
        graph: Forward and backward pass of one iteration.
        segments: All iterations, in the order in which they are executed.
        blocks: The loops that blocks of iterations are, when they are run again.
    """

    graph: Graph
    segments: tuple[Segment, ...]
    blocks: "tuple[Loop, ...]" = ()

    @property
    def inner(self) -> "tuple[Loop, ...]":
        """The loops that run inside of this one."""
        return (*self.blocks, *self.graph.loops)


DecideLoop = Callable[[Graph], tuple[Segment, ...]]
"""Returns how the iterations of a loop run, which has this body."""


def alike(body: Graph, actions: Sequence[Action]) -> tuple[Segment, ...]:
    """Return the one segment in which all iterations of a loop do the same."""
    return (Segment(body.trip_count, tuple(actions)),)
