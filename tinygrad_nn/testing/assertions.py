"""Assertions for tests: right gradients, and values that agree to the precision of their dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..check import gradcheck
from ..errors import GradcheckError, describe
from ..tensor import Tensor
from ..tree import describe_path, flatten, paths
from . import effort


def assert_gradients(
    fn: Callable[..., Any], *inputs: Any, order: int = 1, tolerance: float = 1.0, seed: int = 0
) -> None:
    """Fail unless the gradients of `fn` at `inputs` are right; a verdict of "inconclusive" fails, too.

    `fn`, `inputs`, `order` and `tolerance` are those of `tg.autograd.gradcheck`: floating Tensors and arrays are
    checked, other inputs passed on. The error, a `GradcheckError`, is an AssertionError with the whole report. Under
    `pytest --gradcheck-deep` the check is repeated with 20 seeds.

    >>> import numpy as np
    >>> import tinygrad_nn as tg
    >>> tg.testing.assert_gradients(lambda x, w: tg.tanh(x @ w), np.ones((2, 3)), np.eye(3))
    """
    __tracebackhide__ = True
    for further in range(effort.times(1)):
        result = gradcheck(fn, inputs, order=order, tolerance=tolerance, seed=seed + further, raise_exception=False)
        if not result:
            raise GradcheckError(result)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_dtype: bool = True,
) -> None:
    """Fail unless `actual` agrees with `expected` in structure, shape and dtype, and in values to a tolerance.

    Every element must have |actual - expected| ≤ atol + rtol·|expected|. Both are Tensors, arrays, numbers, or nested
    lists, tuples and dicts of them. Python numbers have no dtype of their own.
    The tolerances follow from the coarser of the two dtypes, ε its rounding unit, unless given: `rtol` is ε^(3/4)
    (2e-12 in float64, 6e-6 in float32, 6e-3 in float16), `atol` is 8ε times the largest finite element of `expected`;
    integers and booleans must be equal. Infinities must match, and NaN differs from everything unless `equal_nan`.

    >>> import numpy as np
    >>> import tinygrad_nn as tg
    >>> tg.testing.assert_close(tg.tensor([1.0, 2.0]), np.array([1.0, 2.0000001], np.float32))
    >>> tg.testing.assert_close(tg.tensor([1.0, 2.0]), [1.0, 2.5])
    Traceback (most recent call last):
    ...
    AssertionError: assert_close: 1 of 2 elements differ by more than 2.4e-06 + 6.4e-06·|expected|
      largest difference 0.5 (relative 0.2) at [1]: actual 2.0, expected 2.5
    """
    __tracebackhide__ = True
    if _is_numbers(expected) and isinstance(actual, Tensor | np.ndarray):  # nested lists of numbers stand for an array
        expected = np.asarray(expected)
        expected = expected.astype(actual.dtype) if expected.dtype.kind in "iuf" else expected
    leaves, structure = flatten(actual)
    wanted, its_structure = flatten(expected)
    if structure != its_structure:
        raise AssertionError(f"assert_close: {actual!r:.200} and {expected!r:.200} are nested differently")
    for path, a, b in zip(paths(structure), leaves, wanted, strict=True):
        fault = _fault(a, b, rtol, atol, equal_nan, check_dtype)
        if fault:
            raise AssertionError("assert_close" + (f" at {describe_path(path)}" if path else "") + f": {fault}")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in flatten(value)[0])


def _fault(actual: Any, expected: Any, rtol: Any, atol: Any, equal_nan: bool, check_dtype: bool) -> str:
    """What is wrong, or nothing."""
    a, b = _array(actual), _array(expected)
    weak = [isinstance(v, int | float | complex) for v in (actual, expected)]  # Python numbers take the other's dtype
    if a.shape != b.shape:
        return f"shapes differ: actual {describe(a)}, expected {describe(b)}"
    if check_dtype and not any(weak) and a.dtype != b.dtype:
        return f"dtypes differ: actual {describe(a)}, expected {describe(b)} (check_dtype=False compares values only)"
    kinds = [v.dtype for v, w in zip((a, b), weak, strict=True) if v.dtype.kind in "fc" and (not w or all(weak))]
    unit = max((float(np.finfo(kind).eps) for kind in kinds), default=0.0)
    wide = np.complex128 if "c" in a.dtype.kind + b.dtype.kind else np.float64
    if not unit and not any(v.dtype.kind == "f" for v in (a, b)):
        wide = np.result_type(a, b)  # type: ignore[assignment]  # exact: large integers would not fit a float
    a, b = a.astype(wide), b.astype(wide)
    finite = np.isfinite(b)
    largest = float(np.max(np.abs(b[finite]), initial=0.0)) if unit else 0.0
    rtol = unit**0.75 if rtol is None else rtol
    atol = 8 * unit * largest if atol is None else atol
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64)) if wide is not np.complex128 else np.abs(a - b)
        same = (a == b) | (np.isfinite(a) & finite & (gap <= atol + rtol * np.abs(b)) & bool(rtol or atol))
    if equal_nan:
        same |= np.isnan(a) & np.isnan(b)
    if np.all(same):
        return ""
    ranked = np.where(same, -1.0, np.where(np.isnan(gap), np.inf, gap))
    worst = np.unravel_index(int(np.argmax(ranked)), a.shape)
    relative = gap[worst] / abs(b[worst]) if b[worst] and np.isfinite(gap[worst]) else np.inf
    at = f" at [{', '.join(str(int(i)) for i in worst)}]" if worst else ""
    return (
        f"{int(np.sum(~same))} of {a.size} elements differ by more than {atol:.2g} + {rtol:.2g}·|expected|\n"
        f"  largest difference {gap[worst]:.3g} (relative {relative:.3g}){at}: "
        f"actual {a[worst].item()!r}, expected {b[worst].item()!r}"
    )


def _array(value: Any) -> np.ndarray[Any, Any]:
    return value.data if isinstance(value, Tensor) else np.asarray(value)
