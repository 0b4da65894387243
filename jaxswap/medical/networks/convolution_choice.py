"""Which form of a convolution was the fastest on a GPU, among those that were timed.

Each pass has its own form. Where a normalisation follows, the forward pass can also be
a kernel that finds mean and variance of its result while it writes. Whether that is
faster is asked of the convolution and both reductions as one program.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct

from jaxswap import Target
from jaxswap.extend import operation_seconds, program_seconds
from jaxswap.medical.networks.convolution_form import Form
from jaxswap.medical.networks.convolution_forms import (
    PLAIN,
    Kind,
    Passes,
    forms_of,
)

MOST_CHANNELS = 128
"""Of packed features. With as many a plain convolution keeps tensor cores busy."""

MOST_DIFFERENCE = {"bfloat16": 0.02, "float16": 0.02, "float32": 0.002}
"""Of a kernel's result from the plain form's, relative to its length.

On tensor cores, products of float32 are rounded as well: to TF32.
"""

WITH_MOMENTS, THEN_MOMENTS = "with_moments", "then_moments"
"""Forward passes that return mean and variance of the result, in one and two steps."""

PASSES = tuple(field.name for field in dataclasses.fields(Passes))
"""Of each convolution: the names of functions of a form."""


@functools.lru_cache(maxsize=1024)
def passes_of(
    kind: Kind, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, target: Target
) -> Passes:
    """Return the fastest form of each pass of a convolution on a GPU.

    Args:
        kind: Which convolution.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        target: The GPU.
    """
    forms = candidates(kind, x, kernel, target)

    plain = forms[PLAIN]

    def fastest(name: str) -> Form:
        seconds = functools.partial(pass_seconds, name, x, kernel, target=target)
        if seconds(plain) is None:
            return plain
        timed = {form: s for form in forms.values() if (s := seconds(form)) is not None}
        return min(timed, key=timed.__getitem__)

    return Passes(*map(fastest, PASSES))


@functools.lru_cache(maxsize=1024)
def passes_with_moments(
    x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, target: Target
) -> Passes | None:
    """Return the passes of a convolution whose kernel finds the moments of its result.

    Args:
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        target: The GPU.

    Returns:
        The passes. `None` if no such kernel was faster, timed with all that is left to
        do, than the fastest form and two reductions after it.
    """
    passes = passes_of("convolve", x, kernel, target)
    seconds = functools.partial(pass_seconds, x=x, kernel=kernel, target=target)
    in_two_steps = seconds(THEN_MOMENTS, form=passes.forward)
    if in_two_steps is None:
        return None
    timed = {
        form: s
        for form in candidates("convolve", x, kernel, target).values()
        if form.has_moments
        and (s := seconds(WITH_MOMENTS, form=form)) is not None
        and s < in_two_steps
    }
    if not timed:
        return None
    return dataclasses.replace(passes, forward=min(timed, key=timed.__getitem__))


def candidates(
    kind: Kind, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, target: Target
) -> dict[str, Form]:
    """Return by name the plain form and those that a GPU may be faster at.

    Args:
        kind: Which convolution.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        target: The GPU.
    """
    most = max(kernel.shape[3:])
    return {
        name: form
        for name, form in forms_of(kind, x.shape, kernel.shape, x.dtype).items()
        if name == PLAIN
        or (
            most * max(form.packed, form.unpacked) <= MOST_CHANNELS
            and form.runs_on(target.compute_capability)
        )
    }


def is_right(
    name: str, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, form: Form, plain: Form
) -> bool:
    """Execute one pass of a form, and tell whether the result is the plain form's.

    Args:
        name: Of the pass: of `PASSES`, or one with moments.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        form: What is executed. One that the device refuses is not right.
        plain: The plain form.
    """
    arrays = draw(_types(name, x, kernel, form))
    try:
        found, right = (jax.jit(getattr(f, name))(*arrays) for f in (form, plain))
    except jax.errors.JaxRuntimeError:
        return False
    results = zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True)
    most = MOST_DIFFERENCE[x.dtype.name]
    return all(relative_error(*both) <= most for both in results)


def draw(types: Iterable[ShapeDtypeStruct]) -> list[Array]:
    """Draw random numbers for arrays of these types, always the same.

    Args:
        types: Shape and dtype of each.
    """
    return [
        jax.random.normal(jax.random.key(seed), a.shape, a.dtype)
        for seed, a in enumerate(types)
    ]


def relative_error(found: Array, right: Array) -> float:
    """Return the length of the difference of two results, relative to the second's.

    Args:
        found: A result, of any shape.
        right: Another one of the same shape.

    Example:
        >>> round(relative_error(jnp.array([3.0, 4.1]), jnp.array([3.0, 4.0])), 3)
        0.02
    """
    a, b = (x.astype(jnp.float32).ravel() for x in (found, right))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def pass_seconds(
    name: str, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, form: Form, **options: Any
) -> float | None:
    """Return the seconds of one pass of a form, if they were timed.

    Args:
        name: Of the pass: of `PASSES`, or one with moments.
        x: The features, (batch, depth, height, width, in).
        kernel: The kernel, (depth, height, width, in, out).
        form: What computes the pass.
        **options: Of `jaxswap.extend.operation_seconds`.
    """
    if name in (WITH_MOMENTS, THEN_MOMENTS):
        return program_seconds(getattr(form, name), x, kernel, **options)
    types = _types(name, x, kernel, form)
    return operation_seconds(getattr(form, name), *types, **options)


def _types(
    name: str, x: ShapeDtypeStruct, kernel: ShapeDtypeStruct, form: Form
) -> list[ShapeDtypeStruct]:
    """Return what one pass of a form takes."""
    if name in ("forward", WITH_MOMENTS, THEN_MOMENTS):
        return [x, kernel]
    return [x, kernel, jax.eval_shape(form.forward, x, kernel)]
