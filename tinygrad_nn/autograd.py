"""`tg.autograd`: gradients of recorded results, operations of your own, and the gradient checker."""

from .check import GradcheckResult, gradcheck, gradgradcheck
from .errors import GradcheckError
from .function import Function, FunctionContext
from .modes import record_lines
from .transforms import grad

__all__ = [
    "Function",
    "FunctionContext",
    "GradcheckError",
    "GradcheckResult",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "record_lines",
]
