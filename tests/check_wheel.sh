#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh environment and uses it from another folder.
# usage: check_wheel.sh PYTHON
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$1" -m build --wheel --outdir "$folder" . >"$folder/build.log" 2>&1 ||
  { cat "$folder/build.log"; exit 1; }
"$1" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "$folder"/jaxswap-*.whl

cd "$folder"
JAX_PLATFORMS=cpu venv/bin/python - <<'SMOKE'
import importlib.metadata
import pathlib
import sys

import jax
import jax.numpy as jnp

import jaxswap

folder = pathlib.Path(jaxswap.__file__).parent
assert folder.is_relative_to(sys.prefix), folder
assert (folder / "py.typed").exists()


def loss(w):
    return jnp.sum(jnp.tanh(jnp.tanh(jnp.ones((4, 4)) @ w) @ w))


w = jnp.full((4, 4), 0.1)
swapped = jax.grad(jaxswap.offload(loss, policy=lambda value: jaxswap.OFFLOAD))
assert jnp.allclose(jax.jit(swapped)(w), jax.grad(loss)(w))
print("jaxswap", importlib.metadata.version("jaxswap"), "works from its wheel")
SMOKE
venv/bin/jaxswap --help >/dev/null
