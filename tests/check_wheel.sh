#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh environment with what it needs and no extra,
# and uses it from another folder.
# usage: check_wheel.sh PYTHON
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$1" -m build --wheel --outdir "$folder" . >"$folder/build.log" 2>&1 ||
  { cat "$folder/build.log"; exit 1; }

# uv takes a fifth of pip's time. It does not read pip's settings: where it fails, pip
# may succeed.
with_uv() {
  "$1" -m uv venv --quiet --python "$1" "$folder/venv" &&
    "$1" -m uv pip install --quiet --python "$folder/venv" "$folder"/jaxswap-*.whl
}
with_pip() {
  "$1" -m venv --clear "$folder/venv" &&
    "$folder/venv/bin/python" -m pip install --quiet "$folder"/jaxswap-*.whl
}
with_uv "$1" || with_pip "$1"

cd "$folder"
export JAX_PLATFORMS=cpu JAXSWAP_HOME="$folder/home"
venv/bin/python - <<'SMOKE'
import importlib.metadata
import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp

import jaxswap

folder = pathlib.Path(jaxswap.__file__).parent
assert folder.is_relative_to(sys.prefix), folder
assert (folder / "py.typed").exists()
assert (folder / "_sketch" / "core.c").exists()
assert jaxswap.__version__ == importlib.metadata.version("jaxswap")
for library in ("grain", "matplotlib", "nilearn", "tensorboardX"):
    assert importlib.util.find_spec(library) is None, f"{library} belongs to an extra"


def loss(w):
    return jnp.sum(jnp.tanh(jnp.tanh(jnp.ones((4, 4)) @ w) @ w))


w = jnp.full((4, 4), 0.1)
swapped = jax.grad(jaxswap.offload(loss, policy=lambda value: jaxswap.OFFLOAD))
assert jnp.allclose(jax.jit(swapped)(w), jax.grad(loss)(w))
plan = jaxswap.plan(loss, w, target="h100", compile=False, progress=False)
assert str(plan).startswith("plan for h100")
assert "<html" in plan.to_html()
try:
    plan.plot()
except jaxswap.MissingExtraError as error:
    assert "jaxswap[plots]" in str(error), error
else:
    raise AssertionError("a plot without matplotlib")
print("jaxswap", jaxswap.__version__, "works from its wheel, without extras")
SMOKE
venv/bin/jaxswap --help >help
venv/bin/jaxswap targets >targets
unet=(plan unet3d --no-compile --target h100 --size 32 --quiet)
venv/bin/jaxswap "${unet[@]}" --save plan.json --html plan.html >plan
grep -q "^plan for h100" plan

# Runs a command that lacks something: one line with the extra, exit code 2.
lacks() {
  local extra=$1 status=0
  shift
  venv/bin/jaxswap "$@" >out 2>err || status=$?
  if [ "$status" != 2 ] || [ -s out ] || [ "$(wc -l <err)" != 1 ] ||
    ! grep -q "^jaxswap: .*pip install \"jaxswap\[$extra\]\"" err; then
    echo "jaxswap $*: exit code $status, expected the extra $extra" >&2
    cat out err >&2
    exit 1
  fi
}
mkdir data
lacks plots "${unet[@]}" --plot plan.png
lacks plots "${unet[@]}" --pareto pareto.png
lacks gpu-targets plan unet3d --target h100 --size 32 --quiet
lacks gpu-targets inspect unet3d --target h100 --size 32
lacks medical demo --skip-table
lacks medical train data --out run
lacks medical evaluate data data
lacks medical compare out
lacks data synth made --cases 1
echo "each command without its libraries names the extra that has them"
