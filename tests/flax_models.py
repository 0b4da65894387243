"""The models that people start from, in Flax linen and nnx, at the smallest size.

Each is a perceptron, a convolutional network, a residual network, a recurrent
translator, a language model or an autoencoder, with what makes its training more than a
function of its weights: dropout, running averages, masks, samples.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from trees import made_up

Array = jax.Array
Made = tuple[Callable[..., Any], tuple[Any, ...]]

KEY = jax.random.key(7)
WORDS = 11


@dataclasses.dataclass(frozen=True)
class Example:
    """A model with its loss.

    Attributes:
        name: what kind of model, and the library.
        make: returns the loss and the arguments to call it with, the first of which
            is differentiated; the loss returns its value and auxiliary results.
    """

    name: str
    make: Callable[[], Made]


LINEN: list[Example] = []
NNX: list[Example] = []


def example(examples: list[Example]) -> Callable[..., Callable[[], Made]]:
    def add(make: Callable[[], Made]) -> Callable[[], Made]:
        examples.append(Example(make.__name__, make))
        return make

    return add


def images(size: int, channels: int) -> Array:
    pixels = jnp.arange(2 * size * size * channels, dtype=jnp.float32)
    return jnp.sin(pixels * 1.7).reshape(2, size, size, channels)


def tokens(length: int, first: int) -> Array:
    """Two sentences of words from 1 on."""
    return (jnp.arange(2 * length).reshape(2, length) * 5 + first) % (WORDS - 1) + 1


def cross_entropy(logits: Array, labels: Array) -> Array:
    chosen = jax.nn.one_hot(labels, logits.shape[-1])
    return -jnp.mean(jnp.sum(chosen * jax.nn.log_softmax(logits), axis=-1))


def divergence(mean: Array, log_variance: Array) -> Array:
    """How far the codes of an autoencoder are from a standard normal distribution."""
    excess = jnp.exp(log_variance) + mean**2 - 1 - log_variance
    return 0.5 * jnp.mean(jnp.sum(excess, axis=-1))


def variables_of(model: nn.Module, *args: Any) -> Any:
    keys = {"params": KEY, "dropout": KEY, "sample": KEY}
    return made_up(jax.eval_shape(lambda: model.init(keys, *args)))


# --- linen ----------------------------------------------------------------------------


class Perceptron(nn.Module):
    """Two hidden layers, units dropped behind each."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for width in (16, 12):
            x = nn.relu(nn.Dense(width)(x))
            x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(3)(x)


@example(LINEN)
def perceptron() -> Made:
    model = Perceptron()
    x, labels = images(3, 1).reshape(2, 9), jnp.array([0, 2])

    def loss(variables: Any, x: Array, labels: Array, key: Array) -> Any:
        logits: Any = model.apply(variables, x, True, rngs={"dropout": key})
        return cross_entropy(logits, labels), {"best": jnp.argmax(logits, axis=-1)}

    return loss, (variables_of(model, x, False), x, labels, KEY)


class Convolutional(nn.Module):
    """Convolutions and pooling, then a classifier."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for channels in (4, 6):
            x = nn.relu(nn.Conv(channels, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(8)(x.reshape(x.shape[0], -1)))
        return nn.Dense(3)(x)


@example(LINEN)
def convolutional() -> Made:
    model = Convolutional()
    x, labels = images(8, 1), jnp.array([1, 2])

    def loss(variables: Any, x: Array, labels: Array) -> Any:
        logits: Any = model.apply(variables, x)
        return cross_entropy(logits, labels), logits

    return loss, (variables_of(model, x), x, labels)


class ResidualBlock(nn.Module):
    """Two normalized convolutions beside a shortcut."""

    channels: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        strides = (self.stride, self.stride)
        norm = functools.partial(nn.BatchNorm, use_running_average=not self.train)
        conv = functools.partial(nn.Conv, self.channels, use_bias=False)
        y = nn.relu(norm()(conv((3, 3), strides)(x)))
        y = norm(scale_init=nn.initializers.zeros)(conv((3, 3))(y))
        if x.shape != y.shape:
            x = norm(name="shortcut_norm")(conv((1, 1), strides, name="shortcut")(x))
        return nn.relu(x + y)


class Residual(nn.Module):
    """A stem, two stages, the mean over all places."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        for channels, stride in ((4, 1), (6, 2)):
            x = ResidualBlock(channels, stride, train)(x)
        return nn.Dense(3)(jnp.mean(x, axis=(1, 2)))


@example(LINEN)
def residual() -> Made:
    model = Residual()
    x, labels = images(6, 2), jnp.array([1, 0])
    variables = variables_of(model, x, False)

    def loss(params: Any, stats: Any, x: Array, labels: Array) -> Any:
        logits, changed = model.apply(
            {"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"]
        )
        decay = sum(jnp.sum(p**2) for p in jax.tree.leaves(params) if p.ndim > 1)
        value = cross_entropy(logits, labels) + 1e-2 * decay
        return value, changed["batch_stats"]

    return loss, (variables["params"], variables["batch_stats"], x, labels)


class Translator(nn.Module):
    """A recurrent encoder whose last state starts a recurrent decoder."""

    @nn.compact
    def __call__(self, source: Array, given: Array, lengths: Array) -> Array:
        embed = nn.Embed(WORDS, 6)
        encoder = nn.RNN(nn.LSTMCell(6), return_carry=True, name="encoder")
        state, _ = encoder(embed(source), seq_lengths=lengths)
        decoded = nn.RNN(nn.LSTMCell(6), name="decoder")(
            embed(given), initial_carry=state
        )
        return nn.Dense(WORDS)(decoded)


@example(LINEN)
def translator() -> Made:
    model = Translator()
    source, target = tokens(5, 0), tokens(4, 3)
    lengths = jnp.array([5, 3])

    def loss(variables: Any, source: Array, target: Array, lengths: Array) -> Any:
        given = jnp.pad(target[:, :-1], ((0, 0), (1, 0)))
        logits: Any = model.apply(variables, source, given, lengths)
        return cross_entropy(logits, target), {"words": jnp.argmax(logits, axis=-1)}

    variables = variables_of(model, source, target, lengths)
    return loss, (variables, source, target, lengths)


class Attentive(nn.Module):
    """Attention, then two dense layers, each normalized in front."""

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        attention = nn.MultiHeadDotProductAttention(
            num_heads=2, dropout_rate=0.1, deterministic=not train
        )
        x = x + attention(nn.LayerNorm()(x), mask=mask)
        y = nn.gelu(nn.Dense(12)(nn.LayerNorm()(x)))
        return x + nn.Dense(8)(y)


class Language(nn.Module):
    """Predicts each word from those before it; one table of words, used twice."""

    @nn.compact
    def __call__(self, words: Array, train: bool) -> Array:
        embed = nn.Embed(WORDS, 8)
        places = self.param("places", nn.initializers.normal(), (1, 6, 8))
        x = embed(words) + places[:, : words.shape[1]]
        mask = nn.make_causal_mask(words)
        for _ in range(2):
            x = Attentive()(x, mask, train)
        return embed.attend(nn.LayerNorm()(x))


@example(LINEN)
def language() -> Made:
    model, words = Language(), tokens(6, 2)

    def loss(variables: Any, words: Array, key: Array) -> Any:
        logits: Any = model.apply(variables, words[:, :-1], True, rngs={"dropout": key})
        return cross_entropy(logits, words[:, 1:]), {"key": jax.random.split(key)[0]}

    return loss, (variables_of(model, words[:, :-1], False), words, KEY)


class Autoencoder(nn.Module):
    """Encodes pixels as a distribution, decodes a sample of it."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        h = nn.relu(nn.Dense(12)(x))
        mean, log_variance = nn.Dense(4)(h), nn.Dense(4)(h)
        noise = jax.random.normal(self.make_rng("sample"), mean.shape)
        code = mean + noise * jnp.exp(0.5 * log_variance)
        return nn.Dense(x.shape[-1])(nn.relu(nn.Dense(12)(code))), mean, log_variance


def bits_lost(logits: Array, x: Array) -> Array:
    wrong = jnp.where(x > 0, jax.nn.softplus(-logits), jax.nn.softplus(logits))
    return jnp.mean(jnp.sum(wrong, axis=-1))


@example(LINEN)
def autoencoder() -> Made:
    model, x = Autoencoder(), images(4, 1).reshape(2, 16)

    def loss(variables: Any, x: Array, key: Array) -> Any:
        out: Any = model.apply(variables, x, rngs={"sample": key})
        logits, mean, log_variance = out
        parts = bits_lost(logits, x), divergence(mean, log_variance)
        return sum(parts), parts

    return loss, (variables_of(model, x), x, KEY)


# --- nnx ------------------------------------------------------------------------------


class NnxConvolutional(nnx.Module):
    """Convolution, running averages, pooling, dropout, then a classifier."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.out = nnx.Linear(24, 3, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = nnx.max_pool(nnx.relu(self.norm(self.first(x))), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.second(x)), (2, 2), (2, 2))
        return self.out(self.dropout(x.reshape(x.shape[0], -1)))


@example(NNX)
def nnx_convolutional() -> Made:
    def loss(model: NnxConvolutional, x: Array, labels: Array) -> Any:
        logits = model(x)
        return cross_entropy(logits, labels), logits

    model = nnx.jit(lambda: NnxConvolutional(nnx.Rngs(0)))()
    return loss, (model, images(8, 1), jnp.array([1, 2]))


class NnxAttentive(nnx.Module):
    """Attention, then two dense layers, each normalized in front."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(
            2, 8, dropout_rate=0.1, decode=False, deterministic=False, rngs=rngs
        )
        self.wide = nnx.Linear(8, 12, rngs=rngs)
        self.narrow = nnx.Linear(12, 8, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> Array:
        x = x + self.attention(self.norms[0](x), mask=mask)
        return x + self.narrow(nnx.gelu(self.wide(self.norms[1](x))))


class NnxLanguage(nnx.Module):
    """Predicts each word from those before it; one table of words, used twice."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(WORDS, 8, rngs=rngs)
        self.block = NnxAttentive(rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)

    def __call__(self, words: Array) -> Array:
        x, mask = self.embed(words), nnx.make_causal_mask(words)
        x = self.block(x, mask)
        return self.embed.attend(self.norm(x))


@example(NNX)
def nnx_language() -> Made:
    def loss(model: NnxLanguage, words: Array) -> Any:
        logits = model(words[:, :-1])
        return cross_entropy(logits, words[:, 1:]), jnp.argmax(logits, axis=-1)

    return loss, (nnx.jit(lambda: NnxLanguage(nnx.Rngs(0)))(), tokens(6, 2))


class NnxAutoencoder(nnx.Module):
    """Encodes pixels as a distribution, decodes a sample of it."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.encoder = nnx.Linear(16, 12, rngs=rngs)
        self.code = nnx.Linear(12, 8, rngs=rngs)
        self.decoder = nnx.Sequential(
            nnx.Linear(4, 12, rngs=rngs), nnx.relu, nnx.Linear(12, 16, rngs=rngs)
        )
        self.rngs = rngs

    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        code = self.code(nnx.relu(self.encoder(x)))
        mean, log_variance = jnp.split(code, 2, axis=-1)
        noise = jax.random.normal(self.rngs.sample(), mean.shape)
        sample = mean + noise * jnp.exp(0.5 * log_variance)
        return self.decoder(sample), mean, log_variance


@example(NNX)
def nnx_autoencoder() -> Made:
    def loss(model: NnxAutoencoder, x: Array) -> Any:
        logits, mean, log_variance = model(x)
        parts = bits_lost(logits, x), divergence(mean, log_variance)
        return sum(parts), parts

    model = nnx.jit(lambda: NnxAutoencoder(nnx.Rngs(0, sample=1)))()
    return loss, (model, images(4, 1).reshape(2, 16))
