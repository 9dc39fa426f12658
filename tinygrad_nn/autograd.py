"""`tg.autograd`: gradients of recorded results, operations of your own, and the gradient checker."""

from .anomaly import detect_anomaly
from .check import GradcheckResult, gradcheck, gradgradcheck
from .checkpoint import checkpoint, checkpoint_sequential
from .errors import (
    Anomaly,
    AnomalyError,
    AnomalyWarning,
    GradcheckError,
    GraphKeptWarning,
    KinkError,
    RoughDerivativeWarning,
)
from .function import Function, FunctionContext
from .kinks import Kink, kink_slopes, kinks
from .ledger import KeptMemory, MemoryReport, memory
from .modes import record_lines
from .operation import operation
from .transforms import grad

__all__ = [
    "Anomaly",
    "AnomalyError",
    "AnomalyWarning",
    "Function",
    "FunctionContext",
    "GradcheckError",
    "GradcheckResult",
    "GraphKeptWarning",
    "KeptMemory",
    "Kink",
    "KinkError",
    "MemoryReport",
    "RoughDerivativeWarning",
    "checkpoint",
    "checkpoint_sequential",
    "detect_anomaly",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "kink_slopes",
    "kinks",
    "memory",
    "operation",
    "record_lines",
]
