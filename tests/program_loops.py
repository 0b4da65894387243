"""Operations of random programs that have others inside of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from program_context import (
    LENGTH,
    Array,
    Context,
    fit,
    matrix,
    operation,
    rows,
    single,
    with_body,
)

# --- loops ----------------------------------------------------------------------------


@with_body
def scan_time(c: Context, x: Array, y: Array) -> Array | tuple[Array, ...]:
    """Over the rows of an array; a carry; results of each step, or none used."""
    xs = rows(x)
    closed_over = y

    def step(carry: Array, x: Array) -> tuple[Array, Any]:
        new = fit(c.body([closed_over, x, carry]), carry)
        return new, (jnp.sum(jnp.sin(new)), new)

    if c.pick((False, True)):
        step = jax.checkpoint(step)
    reverse, unroll = c.pick((False, True)), c.pick((1, 1, 2))
    start = fit(y, xs[0])
    last, (sums, all_of) = lax.scan(step, start, xs, reverse=reverse, unroll=unroll)
    return c.pick((last, (last, sums), (all_of,), (sums, all_of, last)))


@with_body
def scan_layers(c: Context, x: Array, y: Array) -> Array:
    """Over weights, as deep networks are written."""
    x = matrix(x)
    n = x.shape[-1]
    weights = {"w": c.weight(LENGTH, n, n), "b": c.weight(LENGTH, n)}

    def layer(carry: Array, leaf: dict[str, Array]) -> tuple[Array, None]:
        h = jnp.tanh(carry @ leaf["w"].astype(carry.dtype))
        h = h + leaf["b"].astype(carry.dtype)[None]
        return carry + fit(c.body([carry, h]), carry), None

    if c.pick((False, True)):
        layer = jax.checkpoint(layer)
    return lax.scan(layer, x, weights, reverse=c.pick((False, True)))[0]


@with_body
def scan_carries(c: Context, x: Array, y: Array) -> Array | tuple[Array, ...]:
    """Several carries, an integer and a key among them; nothing scanned over."""

    def step(carry: tuple[Any, ...], _: None) -> tuple[Any, Any]:
        a, b, count, key = carry
        key, use = jax.random.split(key)
        noise = jax.random.uniform(use, a.shape, a.dtype)
        new = fit(c.body([b, a]), a) + 0.1 * noise + 0.1 * count.astype(a.dtype)
        return (new, fit(a, b), count + 1, key), (count, jnp.mean(new))

    start = (x, y, jnp.int32(0), c.leaves.key(1))
    (a, b, count, _), (counts, means) = lax.scan(step, start, None, LENGTH)
    last = a * count.astype(a.dtype)
    return c.pick((last, (last, b), (means, last), counts.astype(a.dtype) * means))


@with_body
def scan_constant_carry(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    """A carry that stays as it is, one that nobody reads, xs that are integers."""
    xs: Any = (jnp.arange(LENGTH), np.linspace(0, 1, LENGTH, dtype=np.float32))

    def step(carry: tuple[Array, ...], x: tuple[Array, Array]) -> tuple[Any, Any]:
        fixed, moving, ignored = carry
        scale = x[1].astype(moving.dtype) + (x[0] % 2).astype(moving.dtype)
        new = fit(c.body([fixed, moving * scale]), moving)
        return (fixed, new, jnp.sin(ignored)), fixed

    (fixed, last, _), copies = lax.scan(step, (y, x, x), xs)
    return fixed, copies, last


@with_body
def fori(c: Context, x: Array, y: Array) -> Array:
    def step(i: Array, x: Array) -> Array:
        return fit(c.body([y, x]), x) * (1 + 0.1 * i.astype(x.dtype))

    return lax.fori_loop(0, c.pick((LENGTH, 1)), step, x)


@with_body
def map_rows(c: Context, x: Array, y: Array) -> Array:
    size = c.pick((None, 2))
    return lax.map(lambda row: c.body([y, row]), rows(x), batch_size=size)


@with_body
def while_stopped(c: Context, x: Array, y: Array) -> Array:
    """A loop without a gradient, whose length is not known."""
    start = lax.stop_gradient(jnp.mean(jnp.abs(single(c.body([y, x])))) + 1)
    size = lax.while_loop(lambda s: s > 0.5, lambda s: s / 2, start)
    return x * size.astype(x.dtype)


@with_body
def cond(c: Context, x: Array, y: Array) -> Array:
    known = c.leaves.integers(0, (), 2) > 0
    flag = c.pick((known, jnp.sum(single(x)) > 0.5))
    branches = (lambda x: fit(c.body([y, x]), x), lambda x: jnp.sin(x) * fit(y, x))
    return lax.cond(flag, *c.pick((branches, branches[::-1])), x)


@with_body
def switch(c: Context, x: Array, y: Array) -> Array:
    branches = [lambda x: fit(c.body([y, x]), x), jnp.cos, lambda x: x * fit(y, x)]
    return lax.switch(c.leaves.integers(c.pick((0, 1)), (), 3), branches, x)


# --- transformations ------------------------------------------------------------------

POLICIES = jax.checkpoint_policies


@with_body
def nested_jit(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    """A compiled part, called twice; some of its results are its operands."""
    part = jax.jit(lambda a, b: (c.body([b, a]), a, b), inline=c.pick((False, True)))
    first, again, other = part(x, y)
    if c.pick((False, True)):
        return first, part(fit(first, x), other)[0]
    return again, first


@with_body
def checkpoint(c: Context, x: Array, y: Array) -> Array:
    policy = c.pick(
        (
            None,
            POLICIES.nothing_saveable,
            POLICIES.dots_saveable,
            POLICIES.everything_saveable,
            POLICIES.save_only_these_names("hidden"),
        )
    )
    part = jax.checkpoint(lambda x, y: c.body([y, x]), policy=policy)
    return part(x, y)


@with_body
def vmap(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    if c.pick((False, True)):
        others = fit(y, x)
        return jax.vmap(lambda a, b: c.body([b, a]))(x, others)
    return jax.vmap(lambda row: c.body([y, row]))(x)


@with_body
def gradient_inside(c: Context, x: Array, y: Array) -> Array:
    def energy(x: Array) -> Array:
        return jnp.sum(jnp.sin(single(c.body([y, x]))))

    force = jax.grad(energy)(x)
    return c.pick((force, x - 0.1 * force))


@with_body
def vjp_inside(c: Context, x: Array, y: Array) -> tuple[Array, ...]:
    out, pullback = jax.vjp(lambda x: c.body([y, x]), x)
    (back,) = pullback(jnp.tanh(out))
    return out, back


@jax.custom_jvp
def steep(x: Array) -> Array:
    """Its derivative is another than it looks: shows whether the rule is used."""
    return jnp.sin(x)


@steep.defjvp
def _steep_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return jnp.sin(primals[0]), 2 * jnp.exp(-(primals[0] ** 2)) * tangents[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lean_norm(x: Array, epsilon: float) -> Array:
    """A norm whose backward rule reads its result instead of its operand."""
    return _lean_norm_forward(x, epsilon)[0]


def _lean_norm_forward(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    scale = lax.rsqrt(jnp.mean(x * x) + epsilon)
    return x * scale, (x * scale, scale)


def _lean_norm_backward(
    epsilon: float, kept: tuple[Array, Array], g: Array
) -> tuple[Array]:
    y, scale = kept
    return ((scale * (g - y * jnp.mean(g * y))).astype(y.dtype),)


lean_norm.defvjp(_lean_norm_forward, _lean_norm_backward)


@jax.custom_vjp
def pick_rows(x: Array, places: Array) -> Array:
    """A rule of its own with integers among what it keeps."""
    return x[places]


pick_rows.defvjp(
    lambda x, places: (x[places], (places, x)),
    lambda kept, g: (jnp.zeros_like(kept[1]).at[kept[0]].add(jnp.sin(g)), None),
)


@operation
def custom(c: Context, x: Array, y: Array) -> Array:
    x = rows(x)
    kind = c.pick(("jvp", "vjp", "vjp_integers"))
    if kind == "jvp":
        return steep(x)
    if kind == "vjp":
        return lean_norm(x, 0.1)
    return pick_rows(x, c.leaves.integers(c.pick((0, 1)), (4,), x.shape[0]))
