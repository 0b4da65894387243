"""The transform of optimizers: `host_state(tx)`.

An optimizer's update is a list of equations in which every leaf of the state is read
by a few and made by a few. Traced with each leaf copied in at the beginning and out at
the end, it is right but needs the whole state on the device. Here the same equations
run in another order: one leaf comes in, everything that can now be computed is, what
became of the state leaves, and the next leaf waits for that. Nothing is computed
otherwise, so every number stays what it was.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import JaxprEqn, Literal

from jaxswap import _compat
from jaxswap._base.units import parse_bytes
from jaxswap._trace.function import flatten_function
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.program import Operation, Program
from jaxswap._trace.tracing import program_of

T = TypeVar("T")

# So many arrays may be on their way to the host while the next one comes. Two belong to
# one parameter of Adam: its copies out run beside the next one's in.
_UNDERWAY = 2


def host_state(tx: T, *, min_bytes: int | str = "1MiB") -> T:
    """Keep the state of an optax optimizer in pinned host memory.

    Between steps the large arrays of the state (Adam's two moments, the trace of
    momentum) take no device memory. During the update they stream through the device
    one after the other, beside the backward pass where gradients allow: while one is
    computed with, the one before it leaves and the next one comes. From equal gradients
    come updates and states equal to those of `tx`, bit for bit, because the same
    operations run on the same numbers. (A gradient is rounded before it is used; where
    XLA would have fused the product that makes it with a sum of the optimizer, the last
    bit of a training step can differ.)

    Parameters and gradients stay on the device; so do scalars such as Adam's count.
    Donate parameters and state together and return them in the same order, as in the
    example: JAX lets a result take the first donated array of its shape, wherever that
    lives, and stops the process over parameters that land in host memory.

    Leaves are updated from the last to the first, as a backward pass makes the
    gradients of layers that are named in their order. An update that reads all
    gradients at first, as clipping by the global norm does, begins when all are there.
    A `jax.lax.cond` that reads the state, as in `optax.apply_if_finite`, has all of it
    on the device at once.

    Args:
        tx: An optax transformation: anything with `init` and `update` in a named
            tuple. It may be a chain, and take extra arguments.
        min_bytes: Smaller leaves of the state stay on the device, as copies of small
            arrays cost more time than they are worth. Bytes, or text such as `"4MiB"`.

    Returns:
        A transformation of the same type. Its `init` makes the state where `tx` does
        and then moves it; to have it never on the device as a whole, call
        `jax.jit(tx.init)`. Its `update` accepts states in either memory, such as one
        read from a checkpoint.

    Raises:
        TypeError: If `tx` is no optax transformation.
        ValueError: If `min_bytes` cannot be read.
        NotImplementedError: When updating, if `tx` uses a mutable array.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap, optax
        >>> tx = jaxswap.host_state(optax.sgd(1e-3, momentum=0.9))
        >>> def step(params, state, x):
        ...     gradients = jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(params)
        ...     updates, state = tx.update(gradients, state, params)
        ...     return optax.apply_updates(params, updates), state
        >>> params = jnp.zeros((1024, 1024))
        >>> state, step = tx.init(params), jax.jit(step, donate_argnums=(0, 1))
        >>> params, state = step(params, state, jnp.ones((8, 1024)))
        >>> state[0].trace.sharding.memory_kind
        'pinned_host'

    References:
        Le et al. 2018, "TFLMS: Large Model Support in TensorFlow by Graph Rewriting",
        which swaps whatever is idle; Ren et al. 2021, "ZeRO-Offload: Democratizing
        Billion-Scale Model Training", which keeps optimizer states on the host.
    """
    inner: Any = tx
    if not _is_transformation(inner):
        raise TypeError(
            f"`tx` is {tx!r}; jaxswap.host_state needs an optax transformation, a "
            "named tuple of `init` and `update`. (An optax.MultiSteps makes one: "
            "`.gradient_transformation()`.)"
        )
    threshold = parse_bytes(min_bytes, "min_bytes")

    def init(params: Any) -> Any:
        state = inner.init(params)
        return _committed(_sent(state, threshold, {}), beside=params)

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        def whole(updates: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
            fetched = _fetched(state)
            updates, new = inner.update(updates, fetched, *args, **kwargs)
            pairs = zip(jax.tree.leaves(fetched), jax.tree.leaves(state), strict=True)
            return updates, _sent(new, threshold, {id(f): leaf for f, leaf in pairs})

        args = (updates, state, params)
        if not any(
            isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, extra_args))
        ):
            return whole(*args, **extra_args)  # no program whose order could be changed
        return _stream(whole, args, extra_args)

    return inner._replace(init=init, update=update)


def _is_transformation(tx: Any) -> bool:
    parts = (getattr(tx, name, None) for name in ("init", "update", "_replace"))
    return isinstance(tx, tuple) and all(map(callable, parts))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _sent(state: Any, min_bytes: int, host_of: Mapping[int, Any]) -> Any:
    """Copy the large leaves of a state to the host, if they are not there.

    Args:
        state: A pytree.
        min_bytes: Smaller leaves stay.
        host_of: By `id`, the host array that a leaf was fetched from: it goes instead
            of a leaf that did not change.
    """

    def send(path: Any, leaf: Any) -> Any:
        if not _is_array(leaf) or _compat.is_on_host(jax.typeof(leaf)):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):  # keys of random numbers
            return leaf
        if leaf.size * leaf.dtype.itemsize < min_bytes:
            return leaf
        if _compat.is_on_host(jax.typeof(host_of.get(id(leaf), leaf))):
            return host_of[id(leaf)]
        with jax.named_scope(f"swap_out({_label(path)})"):
            return _compat.to_host(leaf)

    return jax.tree_util.tree_map_with_path(send, state)


def _fetched(state: Any) -> Any:
    """Copy the leaves of a state that are on the host to the device."""

    def fetch(path: Any, leaf: Any) -> Any:
        if not _is_array(leaf) or not _compat.is_on_host(jax.typeof(leaf)):
            return leaf
        with jax.named_scope(f"swap_in({_label(path)})"):
            return _compat.to_device(leaf)

    return jax.tree_util.tree_map_with_path(fetch, state)


def _committed(state: Any, beside: Any) -> Any:
    """Commit the leaves that stay to their device, if there is but one.

    The first step commits its results, as those in host memory are committed, and
    `jit` compiles anew for arguments that were not and now are.
    """
    leaves = jax.tree.leaves((state, beside))
    if not all(_is_array(leaf) and not isinstance(leaf, Tracer) for leaf in leaves):
        return state
    if len({device for leaf in leaves for device in leaf.devices()}) != 1:
        return state
    return jax.tree.map(lambda leaf: jax.device_put(leaf, leaf.sharding), state)


def _label(path: Any) -> str:
    """A leaf's path in a form that a name stack can hold."""
    keys = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"state.{keys}".replace("/", ".").replace(" ", ":")


def _stream(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call `fn` with its operations in an order in which host arrays come one by one.

    Args:
        fn: Copies its host arrays to the device itself, and results to the host.
        args: Its arguments. The first are the gradients and its first result the
            updates.
        kwargs: Its keyword arguments.
    """
    flat = flatten_function(fn, args, kwargs, _is_array)

    def call(*operands: Any) -> list[Any]:
        return _WithoutCalls().run(flat.jaxpr, operands)

    program = program_of(jax.make_jaxpr(call)(*flat.operands))
    arrays = dict(program.constants)
    arrays.update(zip(program.operands, flat.operands, strict=True))
    given = program.operands[flat.closed_over_count :]
    gradients = given[: sum(map(_is_array, jax.tree.leaves(args[0])))]
    # The last layers come first, as their gradients do.
    count = flat.out_tree.children()[0].num_leaves
    roots = (*reversed(program.outputs[:count]), *program.outputs[count:])
    _run(program, _arrivals(program, roots), gradients, arrays)
    results = [arrays[v] if isinstance(v, int) else v.val for v in program.outputs]
    return jax.tree.unflatten(flat.out_tree, results)


class _WithoutCalls(Interpreter):
    """Looks into every call, and into the branch that is taken where it is known.

    Either is one operation that may read the whole state at once. (The condition of
    `optax.MultiSteps` is known, unless it is told to skip some steps.)
    """

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Return what is called."""
        if eqn.primitive.name == "cond" and isinstance(eqn.invars[0], Literal):
            index, *operands = inputs
            return eqn.params["branches"][int(index)], operands
        called = _compat.called_jaxpr(eqn)
        return None if called is None else (called, inputs)


def _is_fetch(program: Program, operation: Operation) -> bool:
    """Whether an operation copies one array from the host to the device."""
    return (
        operation.eqn.primitive.name == "device_put"
        and len(operation.reads) == len(operation.inputs) == 1
        and _compat.is_on_host(program.avals[operation.reads[0]])
        and not _compat.is_on_host(program.avals[operation.outputs[0]])
    )


def _arrivals(program: Program, roots: Sequence[Any]) -> list[int]:
    """Indices of the operations that fetch, as `roots` one after the other need them.

    Depth first, so that what one parameter's update needs comes together.
    """
    operations = program.operations
    maker = {v: i for i, operation in enumerate(operations) for v in operation.outputs}
    seen: set[int] = set()
    found = []
    pending = [root for root in reversed(roots) if isinstance(root, int)]
    while pending:
        index = maker.get(pending.pop())
        if index is None or index in seen:
            continue
        seen.add(index)
        if _is_fetch(program, operations[index]):
            found.append(index)
        pending += reversed(operations[index].reads)
    return found


def _places(operations: Sequence[Operation], arrivals: Sequence[int]) -> list[int]:
    """For each operation, after which arrival it is executed.

    What depends on a host array is computed as soon as the last of those it depends
    on has come; what depends on none, when it is needed.
    """
    rank = {index: rank for rank, index in enumerate(arrivals)}
    known: dict[int, int] = {}
    places = []
    for index, operation in enumerate(operations):
        latest = max((known[v] for v in operation.reads if v in known), default=-1)
        places.append(rank.get(index, latest))
        if places[-1] >= 0:
            known.update((v, places[-1]) for v in operation.outputs)
    needed: dict[int, int] = {}
    for index in reversed(range(len(operations))):
        operation = operations[index]
        if places[index] < 0:
            users = (needed[v] for v in operation.outputs if v in needed)
            places[index] = min(users, default=len(arrivals))
        for v in operation.reads:
            needed[v] = min(needed.get(v, len(arrivals)), places[index])
    return places


def _run(
    program: Program,
    arrivals: Sequence[int],
    gradients: Sequence[int],
    arrays: dict[int, Any],
) -> None:
    """Execute a program, arrival by arrival; `arrays` takes what it makes.

    An array comes when all but the last few sent before it are on the host, and when
    the gradients are there that it and the next few are used with. What waits for no
    gradient would come at the beginning of the program, and be there during the whole
    backward pass. Gradients of the next few are awaited because they are computed from
    the parameters that the update may then overwrite without keeping a copy.
    """
    operations = program.operations
    places = _places(operations, arrivals)
    order = sorted(range(len(operations)), key=places.__getitem__)
    first_read: dict[int, int] = {}
    for index in order:
        for v in operations[index].reads:
            first_read.setdefault(v, places[index])
    awaited: dict[int, list[int]] = {}
    for v in gradients:
        if (place := first_read.get(v, len(arrivals))) < len(arrivals):
            awaited.setdefault(max(place - _UNDERWAY, 0), []).append(v)
    early = [operations[index].reads[0] for index in arrivals[1 : _UNDERWAY + 1]]
    awaited.setdefault(0, []).extend(early)

    sent: list[int] = []
    for index in order:
        operation = operations[index]
        if _is_fetch(program, operation):
            due = [*sent[:-_UNDERWAY], *awaited.pop(places[index], ())]
            _await_together(arrays, [*operation.reads, *due])
            del sent[:-_UNDERWAY]
        inputs = [arrays[v] if isinstance(v, int) else v.val for v in operation.inputs]
        outputs = _compat.bind_equation(operation.eqn, inputs)
        arrays.update(zip(operation.outputs, outputs, strict=True))
        sent += [v for v in operation.outputs if _compat.is_on_host(program.avals[v])]


def _await_together(arrays: dict[int, Any], values: Sequence[int]) -> None:
    """Have none of the values be there before all are.

    Inside `shard_map` a barrier gives all its results one type, so what varies along
    other axes than the first stays out.
    """
    axes = _compat.varying_axes(arrays[values[0]])
    alike = [v for v in values if _compat.varying_axes(arrays[v]) == axes]
    if len(alike) > 1:
        together = jax.lax.optimization_barrier([arrays[v] for v in alike])
        arrays.update(zip(alike, together, strict=True))
