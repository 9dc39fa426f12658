"""The exceptions this package raises, and the function that words the error of a failed operation.

Each class also derives from the built-in that Python users expect (`ValueError` for a bad shape, `TypeError` for a
bad dtype, `RuntimeError` for a graph that cannot be walked), so `except ValueError` keeps working.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


class TinygradError(Exception):
    """Base of every exception of this package."""


class ShapeError(TinygradError, ValueError):
    """Shapes that do not fit together, or an axis that does not exist."""


class AxisError(ShapeError, IndexError):
    """An axis or an index outside the array."""


class DTypeError(TinygradError, TypeError):
    """A dtype that the operation cannot work with, such as an integer that is asked for a gradient."""


class ArgumentError(TinygradError, ValueError):
    """A value that an argument cannot have."""


class GraphError(TinygradError, RuntimeError):
    """A graph that cannot be walked: nothing recorded, already freed, or overwritten since."""


class BatchError(TinygradError, RuntimeError):
    """Inside `vmap`, the values of one example are asked for, where there are as many as the batch has examples."""

    def __init__(self, run: Callable[..., Any], text: str = "") -> None:
        super().__init__(text or _NO_VALUES)
        self.run = run  # how an operation on batched tensors is to be run instead


_NO_VALUES = (
    "vmap: a batched tensor stands for all examples at once, so its values cannot be read: no bool(), float(), item(), "
    "data or numpy() inside vmap, no slice up to one, nor a write of one into a tensor that all examples share. Choose "
    "with tg.where instead of if, join with tg.stack, write into a zeros_like(x); keep other work outside"
)


class DataError(TinygradError, ValueError):
    """A file that is not what it should be, or data that cannot be had."""


class MissingExtraError(TinygradError, ImportError):
    """An optional library is needed; the message names the extra that brings it."""


class ConvergenceError(TinygradError, RuntimeError):
    """An iteration that has not arrived: what it would give is not what was asked for."""


class KinkError(TinygradError, ArithmeticError):
    """Inside `kinks("error")`: a gradient was taken exactly where there is no single right one."""


class GradcheckError(TinygradError, AssertionError):
    """A gradient that is wrong; `result` is the whole report."""

    def __init__(self, result: object) -> None:
        super().__init__(str(result))
        self.result = result


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A NaN or an infinity, and where it came from; as text, the whole story."""

    kind: Literal["NaN", "inf"]
    operation: str
    line: str  # of the user's program, `file.py:12`
    phase: Literal["forward", "backward", "tangent"]
    indices: tuple[tuple[int, ...], ...]  # of the first few such elements
    count: int
    inputs: tuple[Any, ...]  # the inputs of the operation at the first of them; None where that cannot be said
    made: bool  # by this operation, from finite numbers; else it was in an input that no operation made
    text: str
    first: Anomaly | None = None  # what an input, or the result, held before

    def __str__(self) -> str:
        return self.text if self.first is None else f"{self.text}. Before that, {self.first.text}"


class AnomalyError(TinygradError, FloatingPointError):
    """A NaN or an infinity under `detect_anomaly`; `anomaly` has its parts."""

    def __init__(self, anomaly: Anomaly) -> None:
        super().__init__(str(anomaly))
        self.anomaly = anomaly


class FloatFlag(AnomalyError):
    """NumPy raised a floating-point flag inside an operation, under `detect_anomaly`; `settle` looks into it."""

    def __init__(self, anomaly: Anomaly, settle: Callable[..., Any]) -> None:
        super().__init__(anomaly)
        self.settle = settle  # (operation, arguments, parameters, whether it will be recorded) -> its result


class GraphKeptWarning(UserWarning):
    """A running sum of results keeps all their graphs alive: `loss_sum += loss` for `loss_sum += loss.item()`.

    >>> import warnings
    >>> import tinygrad_nn as tg
    >>> warnings.simplefilter("ignore", tg.autograd.GraphKeptWarning)  # where that is meant
    """


class RoughDerivativeWarning(UserWarning):
    """A derivative from differences (`operation(fallback="numeric")`) that is known to fewer than three digits.

    >>> import warnings
    >>> import tinygrad_nn as tg
    >>> warnings.simplefilter("error", tg.autograd.RoughDerivativeWarning)  # where that will not do
    """


class AnomalyWarning(RuntimeWarning):
    """What `AnomalyError` says, where a warning was asked for."""


def describe(value: object) -> str:
    """`float32(3, 4)` for an array, `int 3` for a Python number: how errors show an argument."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        text = repr(value)
        return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
    return f"{dtype}{tuple(shape)}"


def operation_error(name: str, args: tuple[object, ...], cause: Exception) -> TinygradError:
    """The error for operation `name` that NumPy refused with `cause`: what was given, and NumPy's reason."""
    given = ", ".join(describe(a) for a in args)
    if isinstance(cause, TypeError):
        kind: type[TinygradError] = DTypeError
    elif isinstance(cause, IndexError):
        kind = AxisError
    else:
        shapes = any(word in str(cause) for word in ("broadcast", "shape", "dimension", "axis", "size"))
        kind = ShapeError if shapes else ArgumentError
    return kind(f"{name}: cannot take ({given}): {cause}")


def missing_extra(library: str, extra: str, purpose: str) -> MissingExtraError:
    """The error for an optional library that is not installed."""
    return MissingExtraError(f"{purpose} needs {library}: pip install 'tinygrad_nn[{extra}]'")
