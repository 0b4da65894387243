"""Factorizations and triangular solves -> their floating point operations.

The counts are the leading terms in Golub and Van Loan, "Matrix Computations", 4th
edition, chapters 3 to 5.
"""

import math
from typing import Any


def solver_flops(eqn: Any) -> float:
    """Return the operations of a solve or factorization; 0 of anything else."""
    name = eqn.primitive.name
    if name == "triangular_solve":
        *_, size = eqn.invars[0].aval.shape
        return float(size * math.prod(eqn.invars[1].aval.shape))
    if name not in ("cholesky", "lu", "geqrf", "qr", "householder_product"):
        return 0.0
    *batch, rows, columns = eqn.invars[0].aval.shape
    short, long = min(rows, columns), max(rows, columns)
    each = {"cholesky": short**3 / 3, "lu": short**2 * (long - short / 3)}
    return math.prod(batch) * each.get(name, 2 * short**2 * (long - short / 3))
