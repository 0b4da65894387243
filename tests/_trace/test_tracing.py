"""One list of operations for the forward and the backward pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxswap._trace.program import Program
from jaxswap._trace.tracing import trace

X = jnp.ones((4, 4))


def traced(fn: Callable[..., Any], *operands: Any, perturbed: Any = None) -> Program:
    def flat(*args: Any) -> list[Any]:
        return jax.tree.leaves(fn(*args))

    wanted = [True] * len(operands) if perturbed is None else perturbed
    out_avals = jax.make_jaxpr(flat)(*operands).out_avals
    return trace(flat, operands, wanted, out_avals)


def primitives(program: Program, *, is_backward: bool | None = None) -> list[str]:
    return [
        op.eqn.primitive.name
        for i, op in enumerate(program.operations)
        if is_backward is None or (i in program.backward) == is_backward
    ]


def test_backward_operations_are_those_that_depend_on_a_cotangent() -> None:
    program = traced(lambda x: jnp.sin(x @ x), X)
    assert primitives(program, is_backward=False) == ["dot_general", "sin", "cos"]
    backward = primitives(program, is_backward=True)
    assert backward.count("dot_general") == 2
    assert "mul" in backward


def test_nested_jit_is_inlined() -> None:
    inner = jax.jit(lambda x: jax.jit(jnp.sin)(x) * 2.0)
    program = traced(lambda x: inner(inner(x)), X)
    assert "jit" not in primitives(program)
    assert primitives(program, is_backward=False).count("sin") == 2


def test_dead_operations_are_left_out() -> None:
    def fn(x: jax.Array) -> jax.Array:
        jnp.exp(x)
        return jnp.sin(x)

    assert "exp" not in primitives(traced(fn, X))


def test_only_wanted_gradients_are_traced() -> None:
    program = traced(lambda w, x: x @ w, X, X, perturbed=[True, False])
    assert program.gradients[0] is not None
    assert program.gradients[1] is None
    assert primitives(program, is_backward=True).count("dot_general") == 1


def test_integers_have_neither_gradient_nor_cotangent() -> None:
    program = traced(lambda x, i: (x * 2.0, i + 1), X, jnp.arange(3))
    assert program.gradients[1] is None
    assert program.cotangents[0] is not None
    assert program.cotangents[1] is None


def test_scope_is_free_of_the_names_of_transforms() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with jax.named_scope("layer"):
            return jax.jit(jnp.sin)(x) @ x

    scopes = {op.scope for op in traced(fn, X).operations}
    assert scopes == {"layer"}


def test_loop_stays_one_operation() -> None:
    def fn(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=3)[0]

    program = traced(fn, X)
    assert primitives(program).count("scan") == 2


def test_constants_are_kept_apart() -> None:
    table = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    program = traced(lambda x: x @ table, X)
    reads = {v for op in program.operations for v in op.reads}
    assert any(v in program.constants for v in reads)


def test_custom_jvps_are_looked_into_after_their_derivatives_are_taken() -> None:
    """Nothing differentiates the list again."""

    @jax.custom_jvp
    def doubled(x: jax.Array) -> jax.Array:
        return jnp.sin(x) * 2

    doubled.defjvp(lambda x, t: (doubled(*x), 3 * t[0]))
    program = traced(lambda x: jnp.sum(doubled(doubled(x) @ x)), X)
    assert "custom_jvp_call" not in primitives(program)
    assert primitives(program).count("sin") == 2
    assert "cos" not in primitives(program)
