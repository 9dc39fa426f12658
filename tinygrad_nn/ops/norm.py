"""Norms of vectors and of matrices. Where the norm of a vector is 0 its gradient is 0, for every norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._types import ArrayLike, Axis, Fn
from ..domains import Reals, case
from ..errors import ArgumentError, AxisError, describe
from ..tensor import Tensor, constant
from . import batching
from .declare import general
from .elementwise import absolute, not_equal, power, sign, where
from .reduce import max, min, sum
from .shape import astype, moveaxis, normalize_axes, shape_of, squeeze


def _p_norm(x: Any, *, axis: tuple[int, ...] | None, ord: float) -> Any:
    def total(v: Any) -> Any:
        return np.add.reduce(v * v if ord == 2 else np.abs(v) ** ord, axis, keepdims=True)

    def root(s: Any) -> Any:
        return np.sqrt(s) if ord == 2 else s ** (1 / ord)

    limits = np.finfo(x.dtype)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        s = total(x)
        if np.all((s > limits.tiny / limits.eps) & (s < np.inf)):
            return root(s)
        unit = np.max(np.abs(x), axis, keepdims=True, initial=0.0)  # what over- or underflowed does not in this unit
        unit = np.where((unit > 0) & (unit < np.inf), unit, x.dtype.type(1))
        return (root(total(x / unit)) * unit)[()]


def _slope(y: Any, x: Any, ord: float) -> Any:
    """sign(x) (|x| / y)ᵖ⁻¹, and 0 where x is 0."""
    safe = where(y == 0, 1.0, y)
    if ord == 2:
        return x * where(y == 0, 0.0, 1.0 / safe)  # so that at 0 all further derivatives are 0, too
    size = absolute(where(x == 0, 1.0, x))
    if ord < 0:  # y is 0 as soon as one x is, and the other slopes are 0 then
        return sign(x) * power(y / size, 1 - ord)
    return sign(x) * power(size / safe, ord - 1)


def _at_zero(y: Any, x: Any, *, axis: tuple[int, ...] | None, ord: float) -> Any:
    return np.any(x == 0, axis, keepdims=True) if ord <= 1 else y == 0


_vector_norm: Fn = general(
    "vector_norm",
    _p_norm,
    [lambda g, y, x, *, axis, ord: g * _slope(y, x, ord)],
    [lambda t, y, x, *, axis, ord: sum(t * _slope(y, x, ord), axis, keepdims=True)],
    domain=(Reals(avoid=(0.0,), margin=0.3),),
    cases=(
        case((2, 3), axis=None, ord=2),
        case((2, 3), axis=(1,), ord=2),
        case((2, 3, 2), axis=(0, 2), ord=3.5),
        case((3,), axis=(0,), ord=1.5),
        case((2, 3), axis=(0,), ord=-2),
        case((), axis=None, ord=2),
        case((0, 3), axis=(0,), ord=2),
    ),
    formula="(Σ |x|ᵖ)^(1/p)",
    ties="slope 0 where x is 0",
    kink=_at_zero,
    silent=lambda zero, **_: zero,  # the reduced axes are kept
    reference=lambda x, *, axis, ord: np.linalg.vector_norm(x, axis=axis, ord=ord, keepdims=True),
    twin=np.linalg.vector_norm,
    batch=batching.along,
)


def vector_norm(x: ArrayLike, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Any:
    """The p-norm (Σ |x|ᵖ)^(1/p) over `axis`, or all axes, with p = `ord`; also inf and -inf (extremes) and 0 (count).

    It does not over- or underflow where the result can be represented. At x = 0 its gradient is 0.

    >>> import tinygrad_nn as tg
    >>> tg.linalg.vector_norm(tg.tensor([[3.0, 4.0], [0.0, 0.0]]), axis=1)
    tensor([5., 0.])
    """
    array = _floating(x)
    axes = normalize_axes(axis, array.ndim, "vector_norm")
    if ord == math.inf:
        return max(absolute(array), axes, keepdims)
    if ord == -math.inf:
        return min(absolute(array), axes, keepdims)
    if ord == 0:
        return sum(astype(not_equal(array, 0), array.dtype), axes, keepdims=keepdims)
    if ord == 1:
        return sum(absolute(array), axes, keepdims=keepdims)
    if isinstance(ord, str) or ord != ord:
        raise ArgumentError(f"vector_norm: ord {ord!r} is no number; 'fro' is the name of a norm of matrices")
    y = _vector_norm(array, axis=axes, ord=float(ord))  # a Python number, which keeps the dtype
    return y if keepdims else squeeze(y, axes)


def matrix_norm(x: ArrayLike, keepdims: bool = False, ord: float | str = "fro") -> Any:
    """A norm of the matrices in the last two axes.

    `ord` is "fro" (Frobenius: the root of the sum of squares), 1 (the largest sum of a column's absolute values), inf
    (of a row's), or -1 and -inf for the smallest.

    >>> import tinygrad_nn as tg
    >>> tg.linalg.matrix_norm(tg.tensor([[1.0, -2.0], [3.0, 4.0]]), ord=1)
    tensor(6.)
    """
    array = _floating(x)
    if array.ndim < 2:
        raise AxisError(f"matrix_norm: {describe(x)} has fewer than two axes")
    if ord == "fro":
        return vector_norm(array, (-2, -1), keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(f"matrix_norm: ord {ord!r}; there are 'fro', 1, -1, inf and -inf")
    inner, outer = (-2, -1) if abs(ord) == 1 else (-1, -2)
    sums = sum(absolute(array), inner, keepdims=True)
    y = (max if ord > 0 else min)(sums, outer, keepdims=True)
    return y if keepdims else squeeze(y, (-2, -1))


def norm(x: ArrayLike, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """NumPy's `norm`: of vectors along one axis, of matrices in two, of all elements without `ord` and `axis`.

    >>> import tinygrad_nn as tg
    >>> tg.linalg.norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    ndim = len(shape_of(x))
    if ord is None and not isinstance(axis, tuple):
        return vector_norm(x, axis, keepdims)
    axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if len(axes) == 1:
        return vector_norm(x, axes, keepdims, 2 if ord is None else ord)  # type: ignore[arg-type]
    if len(axes) != 2:
        raise AxisError(f"norm: ord {ord!r} over axis {axis} of {describe(x)}: a norm is of one axis or of two")
    if ord is None:
        return vector_norm(x, axes, keepdims)
    y = matrix_norm(moveaxis(x, axes, (-2, -1)), True, ord)
    return moveaxis(y, (-2, -1), axes) if keepdims else squeeze(y, (-2, -1))


def _floating(x: ArrayLike) -> Any:
    array: Any = x if isinstance(x, Tensor) else np.asarray(constant(x))
    return array if array.dtype.kind == "f" else astype(array, np.float64)
