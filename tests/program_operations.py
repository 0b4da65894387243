"""What random programs are made of.

Each operation takes a context and two arrays of any shape and any floating point type,
and returns an array or a tuple of arrays. Whatever it needs of its operands it makes
of them, so that every sequence of operations is a program. Results stay about as large
as operands: long programs shall not overflow.

The order of the files is that of the operations, by which programs are drawn.
"""

import program_arrays
import program_kernels
import program_loops
from program_context import OPERATIONS, WITH_BODY, Context, small

__all__ = ["FILES", "OPERATIONS", "WITH_BODY", "Context", "small"]

FILES = (program_arrays, program_kernels, program_loops)
