"""What jaxswap raises for its callers to catch: one family with one base class.

Each error also has the built-in class that fits it, so that `except ValueError` works.
"""

from collections.abc import Sequence
from typing import Any

from jaxswap._base.units import format_bytes


class JaxswapError(Exception):
    """The base class of every error that jaxswap defines.

    Wrong arguments raise the built-in `ValueError` and `TypeError`, as everywhere.

    Example:
        >>> import jaxswap
        >>> issubclass(jaxswap.BudgetError, jaxswap.JaxswapError)
        True
    """


class BudgetError(JaxswapError, ValueError):
    """No plan fits into the budget.

    Attributes:
        budget_bytes: The budget that was asked for.
        smallest_bytes: The smallest budget for which a plan was found.
        in_the_way: What holds device memory at the peak of that plan, with its bytes,
            largest first.
        host_budget_bytes: The pinned host memory that was allowed. `None` for no limit.
        needed_host_bytes: Pinned host memory with which a plan would fit into the
            budget, simulated. `None` if host memory is not what is missing.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> try:
        ...     jaxswap.plan(lambda w: jnp.sum(jnp.tanh(w @ w)), w, budget="5MiB",
        ...                  target="h100", compile=False, progress=False)
        ... except jaxswap.BudgetError as error:
        ...     error.smallest_bytes >= 8 * 2**20  # the argument and its gradient
        True
    """

    def __init__(
        self,
        budget_bytes: int,
        smallest_bytes: int,
        in_the_way: Sequence[tuple[str, int]],
        *,
        is_compiled: bool,
        host_budget_bytes: int | None = None,
        needed_host_bytes: int | None = None,
    ) -> None:
        self.host_budget_bytes = host_budget_bytes
        self.needed_host_bytes = needed_host_bytes
        self.budget_bytes = budget_bytes
        self.smallest_bytes = smallest_bytes
        self.in_the_way = tuple(in_the_way)
        shown = "; ".join(
            f"{label} {format_bytes(nbytes)}" for label, nbytes in self.in_the_way[:8]
        )
        how = "compiled" if is_compiled else "simulated"
        super().__init__(
            f"`budget` is {format_bytes(budget_bytes)}; the smallest that was found to "
            f"work is {format_bytes(smallest_bytes)} ({smallest_bytes} bytes, {how}). "
            f"At its peak, device memory holds: {shown}.{self._about_the_host()}"
        )

    def _about_the_host(self) -> str:
        """Say whether host memory is what is missing."""
        if self.host_budget_bytes is None:
            return ""
        allowed = f" `host_budget` is {format_bytes(self.host_budget_bytes)}"
        if self.needed_host_bytes is None:
            return f"{allowed}; more would not help (simulated)."
        needed = format_bytes(self.needed_host_bytes)
        return (
            f"{allowed}, too little for this `budget`: with {needed} of pinned host "
            "memory a plan fits (simulated)."
        )


class HostMemoryError(JaxswapError, ValueError):
    """A plan needs more pinned host memory than it may have.

    `jaxswap.plan` raises it if a plan needs more than `host_budget`, more than this
    machine has free, or more than XLA's pool holds. The text says which limit it is and
    what to do.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> try:
        ...     jaxswap.plan(lambda w: jnp.sum(jnp.tanh(w @ w) @ w), w,
        ...                  policy=jaxswap.OFFLOAD, host_budget="1MiB",
        ...                  target="h100", compile=False, progress=False)
        ... except jaxswap.HostMemoryError as error:
        ...     print(str(error).split(":")[0])
        the plan needs 8.00 MiB of pinned host memory and the host budget is 1.00 MiB
    """


class GradientError(JaxswapError, AssertionError):
    """The value or the gradient of an offloaded function is not the plain one's.

    Attributes:
        leaf: The array that differs, such as `"gradient of args[0]['w']"`.
        difference: Largest difference, as a share of the array's largest entry. From
            plain JAX, or from float32 if the function computes in 16 bits.
        allowed: The largest difference that rounding explains.
        policy: Name of the policy under which it happens.
        options: What `jaxswap.offload` takes to repeat it.
        plain_difference: How far plain JAX is from float32. `None` if `difference` is
            that from plain JAX.

    Example:
        >>> import jax.numpy as jnp, jaxswap
        >>> try:
        ...     report = jaxswap.check(lambda x: jnp.sum(jnp.tanh(x)), jnp.ones(3))
        ... except jaxswap.GradientError as error:
        ...     print(error.leaf, error.policy, error.options)
    """

    def __init__(
        self,
        leaf: str,
        difference: float,
        allowed: float,
        *,
        policy: str,
        options: dict[str, Any],
        plain_difference: float | None = None,
    ) -> None:
        self.leaf = leaf
        self.difference = difference
        self.allowed = allowed
        self.policy = policy
        self.options = options
        self.plain_difference = plain_difference
        if plain_difference is None:
            differs = f"by {difference:.2g} of its largest entry"
        else:
            differs = (
                f"from float32 by {difference:.2g} of its largest entry, plain JAX by "
                f"{plain_difference:.2g}"
            )
        super().__init__(
            f"the {leaf} is not that of plain JAX under the policy `{policy}`: it "
            f"differs {differs}, and rounding explains {allowed:.2g}. To repeat it: "
            "jaxswap.offload(fn, **error.options)."
        )


class MissingExtraError(JaxswapError, ModuleNotFoundError):
    """A library is missing that belongs to one of jaxswap's extras.

    The text has the command that installs it, such as `pip install "jaxswap[plots]"`.

    Example:
        >>> import jaxswap
        >>> try:
        ...     raise jaxswap.MissingExtraError('pip install "jaxswap[plots]"')
        ... except ImportError as error:
        ...     print(error)
        pip install "jaxswap[plots]"
    """
