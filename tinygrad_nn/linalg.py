"""`tg.linalg`: matrices, under the names of the Python array API standard's extension and NumPy's `np.linalg`."""

from .ops.linalg import diagonal, matmul, outer, tensordot, trace, vecdot
from .ops.matrix import SlogdetResult, det, inv, slogdet, solve
from .ops.norm import matrix_norm, norm, vector_norm
from .ops.shape import matrix_transpose

__all__ = [
    "SlogdetResult",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
