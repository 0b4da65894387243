"""Small functions of every kind, for contracts that hold for any JAX function.

Each runs under strict dtype promotion, has several expensive operations in sequence
where its kind allows it, and compiles in a fraction of a second.

The order of the files is that of the cases, whose numbers are drawn one after another.
"""

import zoo_dense
import zoo_forms
import zoo_loops
import zoo_types
from zoo_case import CASES, Case, integers, normal, weight

__all__ = ["CASES", "FILES", "Case", "integers", "normal", "weight"]

FILES = (zoo_dense, zoo_forms, zoo_loops, zoo_types)
