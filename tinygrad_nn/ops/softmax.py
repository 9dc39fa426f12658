"""The softmax family: softmax, log_softmax, logsumexp.

All subtract the largest element first, which changes nothing in exact arithmetic and keeps every exponential at 1 or
below. Their rules need the result alone, since softmax and log_softmax give their own slopes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._types import ArrayLike, Axis
from ..domains import case
from . import batching
from .declare import general
from .elementwise import exp, where
from .reduce import all as all_of, silent_lines, sum as sum_over
from .shape import normalize_axes, reshape, shape_of

_CASES = (
    case((3,), axis=(0,)),
    case((2, 3), axis=(1,)),
    case((3, 2), axis=(0,)),
    case((2, 3, 2), axis=(0, 2)),
    case((2, 3), axis=None),
    case((0, 3), axis=(1,)),
    case((), axis=None),
)


def _many_short_rows(x: Any, axis: tuple[int, ...] | None) -> bool:
    """Whether NumPy's reductions of `x` would spend their time on starting each row anew."""
    return (
        isinstance(x, np.ndarray)
        and x.size >= 1000
        and axis == (x.ndim - 1,)
        and x.shape[-1] <= 512
        and x.dtype.char in "fd"
        and x.flags.c_contiguous
    )


def _peak(x: Any, axis: tuple[int, ...] | None) -> Any:
    """The largest element along `axis`, which is kept."""
    if _many_short_rows(x, axis):  # argmax is two to three times faster on them
        rows = x.reshape(-1, x.shape[-1])
        return rows[np.arange(len(rows)), rows.argmax(1)].reshape(*x.shape[:-1], 1)
    return np.maximum.reduce(x, axis, keepdims=True, initial=None if np.size(x) else -math.inf)


def _total(x: Any, axis: tuple[int, ...] | None) -> Any:
    """The sum along `axis`, which is kept."""
    if _many_short_rows(x, axis):  # einsum is three times faster on them
        return np.einsum("...i->...", x)[..., None]
    return np.add.reduce(x, axis, keepdims=True)


def _exp(z: Any) -> Any:
    """e to the z, in the memory of z where it is an array that can hold it."""
    return np.exp(z, out=z) if isinstance(z, np.ndarray) and z.dtype.kind in "fc" else np.exp(z)


def _softmax(x: Any, *, axis: tuple[int, ...] | None) -> Any:
    e = _exp(x - _peak(x, axis))
    e /= _total(e, axis)
    return e


def _softmax_rule(t: Any, y: Any, _x: Any, *, axis: tuple[int, ...] | None) -> Any:
    return y * (t - sum_over(t * y, axis=axis, keepdims=True))  # the Jacobian diag(y) - y yᵀ is symmetric


def _silent_rows(zero: Any, *, axis: tuple[int, ...] | None) -> Any:
    """Where no cotangent comes from: each element of a row gets something from all of it."""
    return all_of(zero, axis=axis, keepdims=True)


_softmax_op = general(
    "softmax",
    _softmax,
    [_softmax_rule],
    [_softmax_rule],
    cases=_CASES,
    formula="eˣ / Σ eˣ",
    silent=_silent_rows,
    analytic=True,
    batch=batching.along,
)


def softmax(x: ArrayLike, axis: Axis = -1) -> Any:
    """The exponentials of `x` divided by their sum over `axis` (an int, a tuple, or None for all): eˣ / Σ eˣ.

    The result is positive and sums to 1. No finite input overflows.

    >>> import tinygrad_nn as tg
    >>> tg.softmax(tg.tensor([0.0, 0.0, 1000.0]))
    tensor([0., 0., 1.])
    """
    return _softmax_op(x, axis=_axes(axis, x, "softmax"))


def _log_softmax(x: Any, *, axis: tuple[int, ...] | None) -> Any:
    z = x - _peak(x, axis)
    return z - np.log(_total(np.exp(z), axis))


_log_softmax_op = general(
    "log_softmax",
    _log_softmax,
    [lambda g, y, _x, *, axis: g - exp(y) * sum_over(g, axis=axis, keepdims=True)],
    [lambda t, y, _x, *, axis: t - sum_over(exp(y) * t, axis=axis, keepdims=True)],
    cases=_CASES,
    formula="x - ln Σ eˣ",
    silent=_silent_rows,
    analytic=True,
    batch=batching.along,
)


def log_softmax(x: ArrayLike, axis: Axis = -1) -> Any:
    """The logarithm of softmax over `axis` (an int, a tuple, or None for all): x - ln Σ eˣ.

    Exact where softmax itself would round to 0.

    >>> import tinygrad_nn as tg
    >>> tg.log_softmax(tg.tensor([0.0, 1000.0]))
    tensor([-1000.,     0.])
    """
    return _log_softmax_op(x, axis=_axes(axis, x, "log_softmax"))


def _logsumexp(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    peak = _peak(x, axis)
    if not np.isfinite(peak).all():
        peak = np.where(np.isfinite(peak), peak, 0)  # all -inf, or nothing at all: ln 0; some inf: ln inf
        with np.errstate(divide="ignore"):
            y = np.log(_total(_exp(x - peak), axis)) + peak
    else:
        y = np.log(_total(_exp(x - peak), axis)) + peak
    return y if keepdims else y.reshape(_kept(np.shape(x), axis))[()]


def _kept(shape: tuple[int, ...], axis: tuple[int, ...] | None) -> tuple[int, ...]:
    return () if axis is None else tuple(n for i, n in enumerate(shape) if i not in axis)


def _shares(y: Any, x: Any, axis: tuple[int, ...] | None) -> Any:
    """∂y/∂x, the softmax of x; 0 where all of x is -inf."""
    return exp(x - _with_axes(where(y == -math.inf, 0.0, y), x.shape, axis))


def _with_axes(v: Any, shape: tuple[int, ...], axis: tuple[int, ...] | None) -> Any:
    return reshape(v, tuple(1 if axis is None or i in axis else n for i, n in enumerate(shape)))


_logsumexp_op = general(
    "logsumexp",
    _logsumexp,
    [lambda g, y, x, *, axis, keepdims: _with_axes(g, x.shape, axis) * _shares(y, x, axis)],
    [lambda t, y, x, *, axis, keepdims: sum_over(t * _shares(y, x, axis), axis=axis, keepdims=keepdims)],
    cases=(
        *(case(*c.shapes, **c.params, keepdims=False) for c in _CASES),
        case((2, 3), axis=(1,), keepdims=True),
        case((2, 3), axis=None, keepdims=True),
        case((2, 3), axis=(), keepdims=False),
    ),
    formula="ln Σ eˣ",
    silent=silent_lines,
    analytic=True,
    batch=batching.along,
)


def logsumexp(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """The logarithm of the sum of exponentials over `axis` (an int, a tuple, or None for all): ln Σ eˣ.

    A smooth maximum. No finite input overflows; where all elements are -inf the value is -inf and the gradient 0.

    >>> import tinygrad_nn as tg
    >>> tg.logsumexp(tg.tensor([1000.0, 1000.0]))
    tensor(1000.6932)
    """
    return _logsumexp_op(x, axis=_axes(axis, x, "logsumexp"), keepdims=keepdims)


def _axes(axis: Axis, x: ArrayLike, name: str) -> tuple[int, ...] | None:
    shape = shape_of(x)
    axes = normalize_axes(axis, len(shape) or 1, name)
    return axes if shape else None  # a single number has the one axis that is not there
