"""A budget of device memory that nothing fits into, and how to say so."""

from collections.abc import Sequence

from jaxswap._base.units import format_bytes


class BudgetError(ValueError):
    """No plan fits into the budget.

    Attributes:
        budget_bytes: The budget that was asked for.
        smallest_bytes: The smallest budget for which a plan was found.
        in_the_way: What holds device memory at the peak of that plan, with its bytes,
            largest first.

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
    ) -> None:
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
            f"At its peak are alive: {shown}."
        )
