"""The shares of published peaks that predict the timed steps and kernels best.

Least squares of relative errors. A share that no row depends on stays what it is.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from scipy.optimize import least_squares

from benchmarks.accuracy import predictions
from benchmarks.accuracy.predictions import Row
from jaxswap._gpu.published import USUAL, Shares
from jaxswap._gpu.target import built_in_target, published_rates

_H200 = built_in_target("h200")

FITTED = {
    "matmul": 0.2,
    "convolution": 0.2,
    "kernel_gradient": 0.2,
    "fp32_convolution": 1.0,
    "fp32_kernel_gradient": 1.0,
    "memory": 0.1,
    "reduction": 0.3,
    "conversion": 0.2,
    "launch_seconds": 0.5,
    "call_seconds": 0.5,
}
"""Each with how far, as a logarithm, it may easily be from what is shipped."""

_STEP_ERROR = 0.05
_KERNEL_ERROR = 0.15
_FEWEST_SECONDS = 1e-3
"""Kinds of kernels that take less count for nothing."""


def fitted_shares(left_out: str = "") -> Shares:
    """Fit to all rows but those of one workload."""

    def residuals(logarithms: Any) -> list[float]:
        rates = published_rates(_H200, _moved(logarithms))
        steps = [r for r in predictions.steps(rates) if r.workload != left_out]
        kinds = [
            row
            for row in predictions.kernels(rates)
            if row.workload != left_out and row.measured > _FEWEST_SECONDS
        ]
        return [
            *(_logarithm(row) / _STEP_ERROR for row in steps),
            *(_logarithm(row) / _KERNEL_ERROR for row in kinds),
            *(
                x / easily
                for x, easily in zip(logarithms, FITTED.values(), strict=True)
            ),
        ]

    found = least_squares(residuals, [0.0] * len(FITTED), diff_step=0.05, max_nfev=6)
    return _moved(found.x)


def leave_one_out() -> Iterator[Row]:
    """Predict the steps of each workload by shares that were fitted to the others."""
    rows = list(predictions.steps(published_rates(_H200)))
    for workload in dict.fromkeys(row.workload for row in rows):
        rates = published_rates(_H200, fitted_shares(left_out=workload))
        yield from (r for r in predictions.steps(rates) if r.workload == workload)


def _moved(logarithms: Any) -> Shares:
    """What is shipped, each share times the exponential of its logarithm."""
    changes = {
        name: getattr(USUAL, name) * math.exp(x)
        for name, x in zip(FITTED, logarithms, strict=True)
    }
    return dataclasses.replace(USUAL, **changes)


def _logarithm(row: Row) -> float:
    return math.log(row.predicted / row.measured)
