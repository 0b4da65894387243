"""Linear algebra, types, trees, constants, modules of Flax."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from zoo_case import Array, case, integers, normal, weight

# --- linear algebra, complex numbers --------------------------------------------------


@case(normal(5, 5), normal(5, 2), argnums=(0, 1))
def cholesky_and_solve(a: Array, b: Array) -> Array:
    factor = jnp.linalg.cholesky(a @ a.T + 5.0 * jnp.eye(5))
    half = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
    return jnp.sum(half**2) + jnp.sum(jnp.log(jnp.diag(factor)))


@case(normal(5, 5), argnums=(0,))
def inverse_and_determinant(a: Array) -> Array:
    a = a @ a.T + 5.0 * jnp.eye(5)
    values = jnp.linalg.eigvalsh(a)
    sign, size = jnp.linalg.slogdet(a)
    return jnp.sum(jnp.tanh(jnp.linalg.inv(a) @ a @ a)) + sign * size + values[0]


@case(normal(6, 6), normal(6), argnums=(0, 1))
def conjugate_gradient(a: Array, b: Array) -> Array:
    spd = a @ a.T + 6.0 * jnp.eye(6)
    x, _ = jax.scipy.sparse.linalg.cg(lambda x: spd @ x, b, maxiter=20)
    return jnp.sum(jnp.sin(x))


@case(normal(4, 8), normal(8), argnums=(0, 1))
def fourier(x: Array, kernel: Array) -> Array:
    spectrum = jnp.fft.rfft(x) * jnp.fft.rfft(kernel)[None]
    y = jnp.tanh(jnp.fft.irfft(spectrum, n=8))
    return jnp.sum(jnp.abs(jnp.fft.fft2(y)) ** 2)


@case(normal(4, 4), normal(4, 4), argnums=(0, 1))
def complex_intermediate(real: Array, imaginary: Array) -> Array:
    z = lax.complex(real, imaginary)
    z = jnp.exp(1j * jnp.sin(z @ z.conj().T / 4.0)) @ z
    return jnp.sum(jnp.abs(z) ** 2) + jnp.sum(jnp.angle(z))


# --- types, trees, constants ----------------------------------------------------------


# bfloat16 has 8 bits of mantissa, and XLA keeps fused intermediate results in more:
# what is fused differs between a program and its rewrite.
@case(
    [normal(16, 16, scale=0.25) for _ in range(3)],
    normal(8, 16),
    argnums=(0, 1),
    rtol=2e-2,
)
def mixed_precision(weights: list[Array], x: Array) -> Array:
    h = x.astype(jnp.bfloat16)
    for w in weights:
        h = jnp.tanh(h @ w.astype(jnp.bfloat16))
    return jnp.mean(h.astype(jnp.float32) ** 2)


@case(normal(4, 8, dtype=jnp.float16), normal(8, 8, dtype=jnp.bfloat16), rtol=2e-2)
def half_precisions(x: Array, w: Array) -> Array:
    h = jnp.tanh(x @ (w / 3).astype(jnp.float16))
    return jnp.sum((h.astype(jnp.bfloat16) @ w).astype(jnp.float32) ** 2)


@case(
    normal(8, 16),
    weight(16, 16),
    jax.random.key(1),
    jnp.bool_(True),
    jnp.int32(3),
    argnums=(0, 1),
)
def dropout(x: Array, w: Array, key: Array, on: Array, count: Array) -> Array:
    for layer in range(3):
        key, use = jax.random.split(key)
        kept = jax.random.bernoulli(jax.random.fold_in(use, layer), 0.8, (8, 16))
        x = jnp.where(kept | ~on, jnp.tanh(x @ w), 0.0) / 0.8
    return jnp.sum(x * count.astype(jnp.float32))


@case(normal(4, 8), weight(8, 8), jax.random.PRNGKey(1))
def random_noise(x: Array, w: Array, key: Array) -> Array:
    noise = jax.random.normal(key, (4, 8))
    return jnp.sum(jnp.tanh((x + noise) @ w) * jax.random.uniform(key, (4, 8)))


class Layer(NamedTuple):
    w: Array
    b: Array | None


@case(
    {
        "first": Layer(weight(6, 6), None),
        "second": (Layer(weight(6, 6), normal(6)), []),
    },
    normal(4, 6),
    argnums=(0, 1),
)
def trees_of_many_kinds(params: dict[str, Any], x: Array) -> dict[str, Any]:
    first, (second, _) = params["first"], params["second"]
    h = jnp.tanh(x @ first.w)
    y = jnp.tanh(h @ second.w + second.b[None])
    return {"y": Layer(y, None), "sums": (jnp.sum(h), [jnp.sum(y * h)]), "none": None}


@case(normal(4, 6), weight(6, 6), integers(9, 3), argnums=(0, 1))
def outputs_that_are_inputs(x: Array, w: Array, n: Array) -> tuple[Array, ...]:
    h = jnp.tanh(x @ w)
    return x, h, h, w, n, jnp.sin(h @ w)


@case(normal(4, 6), weight(6, 6), normal(3), argnums=(0, 1, 2))
def unused_inputs(x: Array, w: Array, unused: Array) -> Array:
    del unused
    return jnp.sum(jnp.tanh(x) @ jnp.tanh(lax.stop_gradient(w)))


@case(normal(4, 6), weight(6, 6), argnums=(0, 1))
def vector_outputs(x: Array, w: Array) -> tuple[Array, Array, Array]:
    h = jnp.tanh(x @ w)
    return jnp.tanh(h @ w), jnp.argmax(h, axis=1), h > 0


@case(normal(4, 6), argnums=(0,))
def constant_outputs(x: Array) -> tuple[Array, Array, float]:
    return jnp.zeros(3), jnp.sum(jnp.tanh(x @ x.T)), 1.0


@case(weight(6, 6), normal(4, 6), has_aux=True)
def auxiliary_of_many_types(w: Array, x: Array) -> tuple[Array, dict[str, Any]]:
    h = jnp.tanh(x @ w)
    aux = {"h": h, "count": jnp.sum(h > 0), "w": w, "key": jax.random.key(0)}
    return jnp.sum(jnp.tanh(h @ w)), aux


CLOSED_OVER = weight(6, 6)


@case(normal(4, 6))
def closure_over_arrays(x: Array) -> Array:
    table = jnp.arange(6.0)[None]
    return jnp.sum(jnp.tanh(jnp.tanh(x @ CLOSED_OVER) @ CLOSED_OVER) * table)


@case(np.ones((4, 6), np.float32), np.full((6, 6), 0.1, np.float32), argnums=(0, 1))
def numpy_arrays(x: Array, w: Array) -> Array:
    pattern = np.linspace(0, 1, 6, dtype=np.float32)[None]
    return jnp.sum(jnp.tanh(jnp.tanh((x * pattern) @ w) @ w) * np.float32(2.0))


@case(2.0, normal(4, 6), 3, argnums=(0, 1))
def python_numbers(scale: float, x: Array, power: int) -> Array:
    return jnp.sum(jnp.tanh(scale * x) @ x.T) ** 2 + scale**power


# --- Flax -----------------------------------------------------------------------------


class Classifier(nn.Module):
    """Convolutions, norms and dense layers as Flax writes them."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in (4, 8):
            x = nn.Conv(width, (3, 3))(x)
            x = nn.relu(nn.GroupNorm(num_groups=2)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.gelu(nn.LayerNorm()(nn.Dense(8)(x.reshape(x.shape[0], -1))))
        return nn.Dense(3)(x)


@functools.cache
def classifier_params() -> Any:
    return jax.jit(Classifier().init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


@case(classifier_params(), normal(2, 8, 8, 1), integers(3, 2))
def flax_classifier(params: Any, images: Array, labels: Array) -> Array:
    logits = jnp.asarray(Classifier().apply(params, images))
    chosen = jax.nn.one_hot(labels, 3) * jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.sum(chosen, axis=1))


class BatchNormNet(nn.Module):
    """A model that changes state and uses random numbers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(2):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(6)(x))
            x = nn.Dropout(0.5, deterministic=False)(nn.relu(x))
        return x


@functools.cache
def batch_norm_net_variables() -> Any:
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.jit(BatchNormNet().init)(keys, jnp.zeros((1, 6)))


@case(
    batch_norm_net_variables()["params"],
    batch_norm_net_variables()["batch_stats"],
    normal(8, 6),
    jax.random.key(2),
    has_aux=True,
)
def flax_batch_norm_and_dropout(
    params: Any, stats: Any, x: Array, key: Array
) -> tuple[Array, Any]:
    variables = {"params": params, "batch_stats": stats}
    y, state = BatchNormNet().apply(
        variables, x, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    return jnp.mean(y**2), state["batch_stats"]
