"""The transform of optimizers: `host_state(tx)`.

An optimizer's update is a list of equations. Only a few of them read or make each leaf
of the state. It would be correct to copy all leaves in at the beginning and out at the
end, but then the whole state is on the device. Here the same equations run in another
order. One leaf comes in. Everything that can now be computed is computed. The new state
leaves, and the next leaf waits for that. The operations stay the same, so every number
stays the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import JaxprEqn, Literal

from jaxswap import _compat
from jaxswap._base.units import parse_bytes
from jaxswap._trace.function import Arguments, flatten_function
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.program import Operation, Program
from jaxswap._trace.tracing import program_of

T = TypeVar("T")

# So many arrays may be on their way to the host while the next one comes in. Adam has
# two arrays for one parameter: they leave while the next parameter's arrays come in.
_UNDERWAY = 2


def host_state(tx: T, *, min_bytes: int | str = "1MiB") -> T:
    """Keep the state of an optax optimizer in pinned host memory.

    Between steps, the large arrays of the state (Adam's two moments, the trace of
    momentum) take no device memory. During the update they pass through the device one
    after the other. While one is used, the one before it leaves and the next one comes
    in. If gradients allow, this runs beside the backward pass. Equal gradients give
    updates and states equal to those of `tx`, bit for bit, because the same operations
    run on the same numbers. (A gradient is rounded before it is used. If XLA would have
    fused the product that makes it with a sum of the optimizer, the last bit of a
    training step can differ.)

    Parameters and gradients stay on the device. So do scalars such as Adam's count.
    Donate parameters and state together, and return them in the same order, as in the
    example. A result takes the first donated array of its shape, in either memory, and
    JAX stops the process if parameters get into host memory in this way.

    Leaves are updated from the last to the first, because a backward pass makes the
    gradients of the last layers first. If an update reads all gradients at first, as
    clipping by the global norm does, it begins when all of them exist. If a
    `jax.lax.cond` reads the state, as in `optax.apply_if_finite`, the whole state is on
    the device at once.

    Args:
        tx: An optax transformation: anything with `init` and `update` in a named
            tuple. It may be a chain, and take extra arguments.
        min_bytes: Smaller leaves of the state stay on the device, since copies of small
            arrays cost more time than they are worth. Bytes, or text such as `"4MiB"`.
            Scalars stay for any number.

    Returns:
        A transformation of the same type. Its `init` makes the state where `tx` does
        and then moves it. With `jax.jit(tx.init)` the whole state is never on the
        device. Its `update` accepts states in either memory, for instance from a
        checkpoint.

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
            return whole(*args, **extra_args)  # It has no equations to reorder.
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
        host_of: By `id`, the host array from which a leaf was copied. If a leaf did not
            change, this array is returned instead of a new copy.
    """

    def send(path: Any, leaf: Any) -> Any:
        if not _is_array(leaf) or _compat.is_on_host(jax.typeof(leaf)):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):  # PRNG keys
            return leaf
        if not leaf.shape or leaf.size * leaf.dtype.itemsize < min_bytes:
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
    """Commit the leaves that stay on the device, if there is only one device.

    After the first step all results are committed, as those in host memory always are.
    `jit` compiles again if an argument was not committed and now is.
    """
    leaves = jax.tree.leaves((state, beside))
    if not all(_is_array(leaf) and not isinstance(leaf, Tracer) for leaf in leaves):
        return state
    if len({device for leaf in leaves for device in leaf.devices()}) != 1:
        return state
    return jax.tree.map(lambda leaf: jax.device_put(leaf, leaf.sharding), state)


def _label(path: Any) -> str:
    """Return a leaf's path in a form that a name stack can hold."""
    keys = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"state.{keys}".replace("/", ".").replace(" ", ":")


def _stream(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call `fn` with its operations in such an order that host arrays come one by one.

    Args:
        fn: Copies its host arrays to the device, and its results to the host.
        args: Its arguments. The first are the gradients and its first result the
            updates.
        kwargs: Its keyword arguments.
    """
    arguments = Arguments.of(args, kwargs, _is_array)
    flat, closed_over = flatten_function(fn, arguments)
    operands = (*closed_over, *arguments.arrays)

    def call(*operands: Any) -> list[Any]:
        return _WithoutCalls().run(flat.jaxpr, operands)

    program = program_of(jax.make_jaxpr(call)(*operands))
    arrays = dict(program.constants)
    arrays.update(zip(program.operands, operands, strict=True))
    given = program.operands[flat.closed_over_count :]
    gradients = given[: sum(map(_is_array, jax.tree.leaves(args[0])))]
    # The last layers come first, because their gradients do.
    count = flat.out_tree.children()[0].num_leaves
    roots = (*reversed(program.outputs[:count]), *program.outputs[count:])
    _run(program, _arrivals(program, roots), gradients, arrays)
    results = [arrays[v] if isinstance(v, int) else v.val for v in program.outputs]
    return jax.tree.unflatten(flat.out_tree, results)


class _WithoutCalls(Interpreter):
    """Looks into every call, and into the taken branch if it is known.

    Otherwise a call or a branch is one operation, which may read the whole state. (The
    condition of `optax.MultiSteps` is known, unless it is to skip some steps.)
    """

    def call(
        self, eqn: JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Return the called jaxpr and its inputs."""
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
    """Return the operations that fetch, in the order in which the `roots` need them.

    The search is depth first, so what the update of one parameter needs is together.
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
    """Return after which arrival each operation is executed.

    If an operation depends on host arrays, it runs after the last of them has come. If
    it depends on none, it runs when its result is needed.
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
    """Execute a program, arrival by arrival. Put its results into `arrays`.

    An array comes in when two conditions hold. First, all but the last few arrays that
    were sent before are on the host. Second, the gradients that are used with it and
    with the next few arrays exist. Without the second condition, arrays would come at
    the beginning of the program and stay during the whole backward pass. The gradients
    of the next few are awaited because they are computed from the parameters. After
    that the update can overwrite the parameters without a copy.
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
    """Let none of the values be available before all are.

    Inside `shard_map` a barrier gives all its results one type. So values that vary
    along other axes than the first one are left out.
    """
    axes = _compat.varying_axes(arrays[values[0]])
    alike = [v for v in values if _compat.varying_axes(arrays[v]) == axes]
    if len(alike) > 1:
        together = jax.lax.optimization_barrier([arrays[v] for v in alike])
        arrays.update(zip(alike, together, strict=True))
