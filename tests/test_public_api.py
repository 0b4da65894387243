"""What a user can import, how light importing is, and the wrapper's manners."""

import importlib
import inspect
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

import jaxswap

# In the order in which the documentation introduces them.
PUBLIC_NAMES = [
    "offload",
    "plan",
    "Plan",
    "JaxswapError",
    "BudgetError",
    "HostMemoryError",
    "load_plan",
    "clear_plans",
    "pareto",
    "Pareto",
    "Point",
    "calibrate",
    "Rates",
    "Slabs",
    "compiler_options",
    "jit",
    "Action",
    "KEEP",
    "OFFLOAD",
    "RECOMPUTE",
    "LMS",
    "Value",
    "host_state",
    "inspect",
    "Target",
    "find_target",
    "Node",
    "find_node",
    "Evidence",
    "check",
    "Check",
    "GradientError",
    "profile",
    "pin_host_memory",
    "Profile",
    "MissingExtraError",
]
HEAVY = {"flax", "optax", "nibabel", "nilearn", "scipy", "matplotlib", "rich"}
ROOT = pathlib.Path(__file__).parent.parent


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh Python holds after it ran the statement."""
    program = (
        f"{statement}\nimport sys\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    return set(done.stdout.split())


def test_public_names_are_exactly_the_documented_ones() -> None:
    members = ((name, getattr(jaxswap, name)) for name in dir(jaxswap))
    public = {
        name
        for name, value in members
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == set(PUBLIC_NAMES)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_is_documented(name: str) -> None:
    assert getattr(jaxswap, name).__doc__


@pytest.mark.parametrize("action", jaxswap.Action)
def test_actions_have_short_names(action: jaxswap.Action) -> None:
    assert getattr(jaxswap, action.name) is action


def test_import_is_light() -> None:
    assert not modules_after("import jaxswap") & HEAVY


def test_import_weight_would_be_noticed() -> None:
    assert modules_after("import jaxswap, optax") & HEAVY == {"optax"}


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_flax_comes_with_its_submodule_alone(library: str) -> None:
    assert "flax" in modules_after(f"import jaxswap.{library}")
    module = importlib.import_module(f"jaxswap.{library}")
    assert module.offload.__doc__
    assert module.offload is not jaxswap.offload


def scaled_norm(x: jax.Array, scale: float = 2.0) -> jax.Array:
    """The norm of `x`, scaled."""
    return scale * jnp.sqrt(jnp.sum(x * x))


def test_wrapper_looks_like_the_function_it_wraps() -> None:
    wrapped = jaxswap.offload(scaled_norm)
    assert wrapped.__name__ == "scaled_norm"
    assert wrapped.__doc__ == "The norm of `x`, scaled."
    assert inspect.signature(wrapped) == inspect.signature(scaled_norm)
    assert inspect.unwrap(wrapped) is scaled_norm


def test_wrapper_takes_defaults_and_keywords() -> None:
    wrapped = jaxswap.offload(scaled_norm)
    x = jnp.array([3.0, 4.0])
    assert wrapped(x) == 10.0
    assert wrapped(x=x, scale=3.0) == 15.0


def test_wrapper_leaves_what_is_no_array_alone() -> None:
    @jaxswap.offload
    def loss(x: jax.Array, train: bool, kind: str) -> jax.Array:
        return jnp.sum(x) * 2.0 if train and kind == "sum" else jnp.mean(x)

    x = jnp.ones(4)
    assert jax.grad(loss)(x, True, "sum").tolist() == [2.0] * 4
    assert jax.grad(loss)(x, train=False, kind="sum").tolist() == [0.25] * 4


def test_offload_decorates_a_method() -> None:
    class Model:
        scale = 2.0

        @jaxswap.offload
        def loss(self, x: jax.Array) -> jax.Array:
            return self.scale * jnp.sum(x)

    assert jax.grad(Model().loss)(jnp.ones(3)).tolist() == [2.0] * 3
