"""A decoder-only transformer language model, unrolled or scanned over its layers.

The architecture is GPT-2's (Radford et al. 2019, Language Models are Unsupervised
Multitask Learners): layer normalisation before attention and before the MLP, gelu,
learned positions, embeddings tied to the logits. Its sizes are those of GPT-2 medium
but for the vocabulary. Parameters are float32 and cast to bfloat16 where they are used,
logits are cast to float32 before the loss: flax's `dtype` and `param_dtype`, as its
language model examples and MaxText train. No dropout, no biases. Three values carry
the names that MaxText gives them, for policies that go by name.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.ad_checkpoint import checkpoint_name

dense = partial(nn.DenseGeneral, use_bias=False)
normalization = partial(nn.LayerNorm, use_bias=False)


class Attention(nn.Module):
    """Causal self-attention with its scores in memory; softmax in float32."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Attends; (batch, position, feature) in and out."""
        features = x.shape[-1]
        head = (self.heads, features // self.heads)
        query = dense(head, dtype=self.dtype, name="query")(x)
        key = dense(head, dtype=self.dtype, name="key")(x)
        value = dense(head, dtype=self.dtype, name="value")(x)
        x = jax.nn.dot_product_attention(
            query, key, value, is_causal=True, implementation="xla"
        )
        x = dense(features, axis=(-2, -1), dtype=self.dtype, name="out")(x)
        return checkpoint_name(x, "out_proj")


class Block(nn.Module):
    """One layer: attention and MLP, each normalised first and added to its input.

    Has the signature that `nn.scan` asks for.
    """

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, _: None) -> tuple[Array, None]:
        """Apply the layer; (batch, position, feature) in and out."""
        features = x.shape[-1]
        x = checkpoint_name(x, "decoder_layer_input")
        y = normalization(dtype=self.dtype, name="attention_norm")(x)
        x = x + Attention(self.heads, self.dtype, name="attention")(y)
        y = normalization(dtype=self.dtype, name="mlp_norm")(x)
        y = dense(4 * features, dtype=self.dtype, name="up")(y)
        y = checkpoint_name(y, "mlpwi")
        y = dense(features, dtype=self.dtype, name="down")(nn.gelu(y))
        return x + y, None


class Transformer(nn.Module):
    """The language model.

    Attributes:
        layers: Number of blocks.
        features: Width of the residual stream.
        heads: Number of attention heads.
        vocabulary: Number of tokens there are.
        positions: Length of the sequences.
        is_scanned: Whether the blocks are one `nn.scan` over stacked parameters.
        policy: What `nn.remat` around each block saves; None is no `nn.remat`.
        dtype: Type of the activations. Parameters are float32.
    """

    layers: int = 24
    features: int = 1024
    heads: int = 16
    vocabulary: int = 32768
    positions: int = 1024
    is_scanned: bool = False
    policy: Any = None
    dtype: Any = jnp.bfloat16

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Compute float32 logits; (batch, position) in, one axis more out."""
        embedding = nn.Embed(
            self.vocabulary, self.features, dtype=self.dtype, name="embedding"
        )
        positions = self.param(
            "positions",
            nn.initializers.normal(0.02),
            (self.positions, self.features),
        )
        x = embedding(tokens) + positions[None].astype(self.dtype)
        block: Any = Block
        if self.policy is not None:
            # In a scan nothing can undo the recomputation, so no barrier is needed.
            block = nn.remat(Block, policy=self.policy, prevent_cse=not self.is_scanned)
        if self.is_scanned:
            scan = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.layers,
            )
            x, _ = scan(self.heads, self.dtype, name="layers")(x, None)
        else:
            for layer in range(self.layers):
                x, _ = block(self.heads, self.dtype, name=f"layer{layer}")(x, None)
        x = normalization(dtype=self.dtype, name="norm")(x)
        return embedding.attend(x).astype(jnp.float32)


def cross_entropy(
    model: Transformer, parameters: Any, tokens: Array, targets: Array
) -> Array:
    """Return the mean cross entropy of the tokens that come next."""
    logits: Any = model.apply(parameters, tokens)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.mean(losses)
