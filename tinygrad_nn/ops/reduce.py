"""Operations that fold axes away or run along one: sum, mean, var, max, prod, cumsum, argmax, any."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._types import ArrayLike, Axis, DTypeLike, Fn
from ..domains import Reals, case
from ..errors import ArgumentError, ShapeError, describe
from ..registry import OPS, SATURATED
from ..tensor import Tensor
from . import batching
from .declare import general, linear, nondifferentiable
from .elementwise import maximum, where
from .shape import (
    astype,
    concat,
    expand_dims,
    flip,
    normalize_axes,
    normalize_axis,
    reshape,
    shape_of,
    transpose,
)

_REDUCTIONS = (
    case((2, 3), axis=None, keepdims=False),
    case((2, 3), axis=(0,), keepdims=False),
    case((2, 3), axis=(1,), keepdims=True),
    case((2, 3, 4), axis=(0, 2), keepdims=False),
    case((2, 3), axis=None, keepdims=True),
    case((3,), axis=(), keepdims=False),
    case((), axis=None, keepdims=False),
)


def _stretch(g: Any, shape: tuple[int, ...], axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """The cotangent of a reduced array at every element it was reduced from, as a view."""
    return OPS["broadcast_to"].call(_with_axes(g, axis, keepdims), shape=shape)


def _with_axes(g: Any, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """`g` with the reduced axes back as axes of length 1 (none are needed where all were reduced)."""
    return g if keepdims or axis is None or not axis else expand_dims(g, axis)


def silent_lines(zero: Any, *, axis: Any, keepdims: bool, **_: Any) -> Any:
    """Where no cotangent comes from, given where the reduced array's is 0: along whole lines that were reduced."""
    return _with_axes(zero, axis, keepdims)


def _count(shape: tuple[int, ...], axis: tuple[int, ...] | None) -> int:
    return math.prod(shape if axis is None else (shape[a] for a in axis))


_add_up: Fn = np.add.reduce  # what np.sum calls, in a third of the time

# -- sum, mean ---------------------------------------------------------------------------------------------------------

_sum: Fn = linear(
    "sum",
    lambda x, *, axis, keepdims: _add_up(x, axis, keepdims=keepdims),
    [lambda g, _y, _x, *, axis, keepdims: _stretch(g, _x.shape, axis, keepdims)],
    cases=(*_REDUCTIONS, case((0, 3), axis=(0,), keepdims=False)),
    formula="Σ x",
    twin=np.sum,
    batch=batching.along,
)


def sum(x: ArrayLike, axis: Axis = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Any:
    """The sum of the elements over `axis` (an int, a tuple, or None for all). Small integers add up as int64.

    >>> import tinygrad_nn as tg
    >>> tg.sum(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    if dtype is not None:
        x = astype(x, dtype)
    return _sum(x, axis=normalize_axes(axis, len(shape_of(x)), "sum"), keepdims=keepdims)


def _mean(x: Any, *, axis: Any, keepdims: bool) -> Any:
    if x.dtype == np.float16 or x.dtype.kind not in "fc" or not x.size:
        return np.mean(x, axis, keepdims=keepdims)
    return _add_up(x, axis, keepdims=keepdims) / _count(x.shape, axis)


_mean_op: Fn = linear(
    "mean",
    _mean,
    [lambda g, _y, _x, *, axis, keepdims: _stretch(g / _count(_x.shape, axis), _x.shape, axis, keepdims)],
    cases=_REDUCTIONS,
    formula="Σ x / n",
    twin=np.mean,
    batch=batching.along,
)


def mean(x: ArrayLike, axis: Axis = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Any:
    """The mean of the elements over `axis` (an int, a tuple, or None for all).

    >>> import tinygrad_nn as tg
    >>> tg.mean(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    tensor([1.5, 3.5])
    """
    if dtype is not None:
        x = astype(x, dtype)
    return _mean_op(_array(x), axis=normalize_axes(axis, len(shape_of(x)), "mean"), keepdims=keepdims)


def _array(x: ArrayLike) -> Any:
    return x if isinstance(x, Tensor) else np.asarray(x)


# -- variance ----------------------------------------------------------------------------------------------------------


def _centred(x: Any, axis: Any) -> Any:
    return x - _mean_op(x, axis=axis, keepdims=True)


def _var_vjp(g: Any, _y: Any, x: Any, *, axis: Any, keepdims: bool, correction: float) -> Any:
    return _with_axes(g, axis, keepdims) * (2.0 / (_count(x.shape, axis) - correction)) * _centred(x, axis)


def _var_jvp(t: Any, _y: Any, x: Any, *, axis: Any, keepdims: bool, correction: float) -> Any:
    slope = _centred(x, axis) * (2.0 / (_count(x.shape, axis) - correction))
    return _sum(t * slope, axis=axis, keepdims=keepdims)


def _slope_of_root(y: Any) -> Any:
    """1 / (2y), and 0 where y is 0: there the standard deviation has a kink."""
    return where(y == 0, 0.0, 0.5 / where(y == 0, 1.0, y))


_SPREADS = (
    case((2, 3), axis=None, keepdims=False, correction=0),
    case((2, 3), axis=(1,), keepdims=False, correction=1),
    case((2, 3, 4), axis=(0, 2), keepdims=True, correction=0.5),
)
_var: Fn = general(
    "var",
    lambda x, *, axis, keepdims, correction: np.var(x, axis, ddof=correction, keepdims=keepdims),
    [_var_vjp],
    [_var_jvp],
    cases=_SPREADS,
    formula="Σ (x - mean)² / (n - correction)",
    silent=silent_lines,
    analytic=False,
    batch=batching.along,
)
_std: Fn = general(
    "std",
    lambda x, *, axis, keepdims, correction: np.std(x, axis, ddof=correction, keepdims=keepdims),
    [lambda g, y, x, **params: _var_vjp(g * _slope_of_root(y), None, x, **params)],
    [lambda t, y, x, **params: _var_jvp(t, None, x, **params) * _slope_of_root(y)],
    domain=(Reals(distinct=True),),
    cases=_SPREADS,
    formula="√(Σ (x - mean)² / (n - correction))",
    silent=silent_lines,
    ties="slope 0 where all elements are equal",
    kink=lambda y, _x, **_: y == 0,
    batch=batching.along,
)


def var(x: ArrayLike, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Any:
    """The variance over `axis`: mean squared distance from the mean, divided by n - `correction` instead of n.

    >>> import tinygrad_nn as tg
    >>> tg.var(tg.tensor([1.0, 2.0, 3.0]), correction=1)
    tensor(1.)
    """
    return _spread(_var, "var", x, axis, correction, keepdims)


def std(x: ArrayLike, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Any:
    """The standard deviation over `axis`: the root of `var`. Where all elements are equal its gradient is 0.

    >>> import tinygrad_nn as tg
    >>> tg.std(tg.tensor([1.0, 2.0, 3.0]), correction=1)
    tensor(1.)
    """
    return _spread(_std, "std", x, axis, correction, keepdims)


def _spread(op: Any, name: str, x: ArrayLike, axis: Axis, correction: float, keepdims: bool) -> Any:
    shape = shape_of(x)
    axes = normalize_axes(axis, len(shape), name)
    if _count(shape, axes) <= correction:
        raise ArgumentError(
            f"{name}: correction {correction} leaves nothing to divide by over axis {axis} of {describe(x)}"
        )
    return op(_array(x), axis=axes, keepdims=keepdims, correction=correction)


# -- largest and smallest ----------------------------------------------------------------------------------------------


def _winners(y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """1 / (number of equals) at each extreme element, else 0, in the dtype of x."""
    equal = x == _with_axes(y, axis, keepdims)
    count = _sum(equal, axis=axis, keepdims=True)
    return astype(equal, x.dtype) / astype(maximum(count, 1), x.dtype)


def _extreme_vjp(g: Any, y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return _with_axes(g, axis, keepdims) * _winners(y, x, axis, keepdims)


def _extreme_jvp(t: Any, y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    shares = _winners(y, x, axis, keepdims)  # selecting: the others' tangents may be infinite
    return _sum(where(shares == 0, 0.0, t) * shares, axis=axis, keepdims=keepdims)


def _several_winners(y: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return _sum(x == _with_axes(y, axis, keepdims), axis=axis, keepdims=keepdims) > 1


_max: Fn = general(
    "max",
    lambda x, *, axis, keepdims: np.max(x, axis, keepdims=keepdims),
    [_extreme_vjp],
    [_extreme_jvp],
    domain=(Reals(distinct=True),),
    cases=_REDUCTIONS,
    formula="the largest element",
    selects=SATURATED,
    silent=silent_lines,
    ties="split evenly among equals",
    kink=_several_winners,
    twin=np.max,
    batch=batching.along,
)
_min: Fn = general(
    "min",
    lambda x, *, axis, keepdims: np.min(x, axis, keepdims=keepdims),
    [_extreme_vjp],
    [_extreme_jvp],
    domain=(Reals(distinct=True),),
    cases=_REDUCTIONS,
    formula="the smallest element",
    selects=SATURATED,
    silent=silent_lines,
    ties="split evenly among equals",
    kink=_several_winners,
    twin=np.min,
    batch=batching.along,
)


def max(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis`; equals share the gradient evenly.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([2.0, 2.0, 1.0], requires_grad=True)
    >>> tg.max(x).backward()
    >>> x.grad
    tensor([0.5, 0.5, 0. ])
    """
    return _max(x, axis=_nonempty("max", x, axis), keepdims=keepdims)


def min(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis`; equals share the gradient evenly.

    >>> import tinygrad_nn as tg
    >>> tg.min(tg.tensor([[3.0, 1.0], [2.0, 5.0]]), axis=1)
    tensor([1., 2.])
    """
    return _min(x, axis=_nonempty("min", x, axis), keepdims=keepdims)


def _nonempty(name: str, x: ArrayLike, axis: Axis) -> tuple[int, ...] | None:
    shape = shape_of(x)
    axes = normalize_axes(axis, len(shape), name)
    if not _count(shape, axes):
        raise ShapeError(f"{name}: {describe(x)} has no element over axis {axis}")
    return axes


# -- products and running sums -----------------------------------------------------------------------------------------


def _shifted(x: Any, by: int, fill: float) -> Any:
    """`x` moved towards the end of its last axis by `by`, `fill` coming in."""
    head = np.full((*x.shape[:-1], by), fill, x.dtype)
    return concat([head, x[..., : x.shape[-1] - by]], -1)


def _recurrence(a: Any, b: Any) -> Any:
    """s with s₀ = b₀, sᵢ = bᵢ + aᵢ·sᵢ₋₁ along the last axis, in log₂ n steps of whole arrays (Hillis & Steele, 1986).

    Made of products and sums alone, so it is right where elements are zero, and at any order of derivative.
    """
    step, n = 1, a.shape[-1]
    while step < n:
        b = b + a * _shifted(b, step, 0.0)
        a = a * _shifted(a, step, 0.0)
        step *= 2
    return b


def _products_before(x: Any) -> Any:
    """The product of all elements before each, along the last axis."""
    p, step = _shifted(x, 1, 1.0), 1
    while step < x.shape[-1]:
        p = p * _shifted(p, step, 1.0)
        step *= 2
    return p


def _last(x: Any, axis: int) -> Any:
    """`x` with `axis` moved to the end."""
    order = [a for a in range(x.ndim) if a != axis] + [axis]
    return transpose(x, order)


def _back(x: Any, axis: int) -> Any:
    """`x` with its last axis moved to `axis`: undoes `_last`."""
    order = list(range(x.ndim - 1))
    order.insert(axis, x.ndim - 1)
    return transpose(x, order)


def _others(x: Any, axis: tuple[int, ...] | None) -> Any:
    """For each element the product of all the others it is multiplied with, right also where elements are zero."""
    axes = tuple(range(x.ndim)) if axis is None else axis
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    moved = transpose(x, order)
    flat = reshape(moved, (*moved.shape[: x.ndim - len(axes)], _count(x.shape, axes)))
    others = _products_before(flat) * flip(_products_before(flip(flat, -1)), -1)
    return transpose(reshape(others, moved.shape), np.argsort(order).tolist())


_prod: Fn = general(
    "prod",
    lambda x, *, axis, keepdims: np.multiply.reduce(x, axis, keepdims=keepdims),
    [lambda g, _y, x, *, axis, keepdims: _with_axes(g, axis, keepdims) * _others(x, axis)],
    [lambda t, _y, x, *, axis, keepdims: _sum(t * _others(x, axis), axis=axis, keepdims=keepdims)],
    cases=_REDUCTIONS,
    formula="Π x",
    silent=silent_lines,
    analytic=True,
    twin=np.prod,
    batch=batching.along,
)


def prod(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product of the elements over `axis`; gradients are right also where elements are zero.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([0.0, 2.0, 3.0], requires_grad=True)
    >>> tg.prod(x).backward()
    >>> x.grad
    tensor([6., 0., 0.])
    """
    return _prod(x, axis=normalize_axes(axis, len(shape_of(x)), "prod"), keepdims=keepdims)


_RUNNING = (case((4,), axis=0), case((2, 3), axis=0), case((2, 3), axis=1), case((0,), axis=0))

_cumsum: Fn = linear(
    "cumsum",
    lambda x, *, axis: np.add.accumulate(x, axis),
    [lambda g, _y, _x, *, axis: flip(_cumsum(flip(g, axis), axis=axis), axis)],
    cases=_RUNNING,
    formula="running sum",
    twin=np.cumsum,
    batch=batching.along,
)


def cumsum(x: ArrayLike, axis: int | None = None) -> Any:
    """Running sums along `axis`; without one, of the flattened array.

    >>> import tinygrad_nn as tg
    >>> tg.cumsum(tg.tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.])
    """
    x, axis = _running("cumsum", x, axis)
    return _cumsum(x, axis=axis)


def _cumprod_vjp(g: Any, _y: Any, x: Any, *, axis: int) -> Any:
    x, g = _last(x, axis), _last(g, axis)
    if not x.shape[-1]:
        return _back(g, axis)
    following = flip(_shifted(flip(x, -1), 1, 0.0), -1)
    return _back(_products_before(x) * flip(_recurrence(flip(following, -1), flip(g, -1)), -1), axis)


def _cumprod_jvp(t: Any, _y: Any, x: Any, *, axis: int) -> Any:
    x, t = _last(x, axis), _last(t, axis)
    return _back(_recurrence(x, t * _products_before(x)) if x.shape[-1] else t, axis)


_cumprod: Fn = general(
    "cumprod",
    lambda x, *, axis: np.multiply.accumulate(x, axis),
    [_cumprod_vjp],
    [_cumprod_jvp],
    cases=_RUNNING,
    formula="running product",
    silent=lambda zero, *, axis: all(zero, axis=axis, keepdims=True),
    analytic=True,
    twin=np.cumprod,
    batch=batching.along,
)


def cumprod(x: ArrayLike, axis: int | None = None) -> Any:
    """Running products along `axis`; without one, of the flattened array. Gradients are right also at zeros.

    >>> import tinygrad_nn as tg
    >>> tg.cumprod(tg.tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 6.])
    """
    x, axis = _running("cumprod", x, axis)
    return _cumprod(x, axis=axis)


def _running(name: str, x: ArrayLike, axis: int | None) -> tuple[Any, int]:
    if axis is None:
        return reshape(x, (-1,)), 0
    return x, normalize_axis(axis, len(shape_of(x)), name)


# -- where, whether: no derivative -------------------------------------------------------------------------------------

_argmax: Fn = nondifferentiable(
    "argmax",
    lambda x, *, axis, keepdims: np.argmax(x, axis, keepdims=keepdims),
    cases=(case((2, 3), axis=1, keepdims=False), case((2, 3), axis=None, keepdims=True)),
    formula="the position of the first largest element",
    twin=np.argmax,
    batch=batching.position,
)
_argmin: Fn = nondifferentiable(
    "argmin",
    lambda x, *, axis, keepdims: np.argmin(x, axis, keepdims=keepdims),
    cases=(case((2, 3), axis=1, keepdims=False), case((2, 3), axis=None, keepdims=True)),
    formula="the position of the first smallest element",
    twin=np.argmin,
    batch=batching.position,
)
_all: Fn = nondifferentiable(
    "all",
    lambda x, *, axis, keepdims: np.all(x, axis, keepdims=keepdims),
    cases=_REDUCTIONS,
    formula="whether every element is true",
    twin=np.all,
    batch=batching.along,
)
_any: Fn = nondifferentiable(
    "any",
    lambda x, *, axis, keepdims: np.any(x, axis, keepdims=keepdims),
    cases=_REDUCTIONS,
    formula="whether some element is true",
    twin=np.any,
    batch=batching.along,
)


def argmax(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the first largest element along `axis`, or in the flattened array.

    >>> import tinygrad_nn as tg
    >>> tg.argmax(tg.tensor([[1.0, 3.0], [4.0, 2.0]]), axis=1)
    tensor([1, 0])
    """
    _nonempty("argmax", x, axis)
    return _argmax(x, axis=axis, keepdims=keepdims)


def argmin(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the first smallest element along `axis`, or in the flattened array.

    >>> import tinygrad_nn as tg
    >>> tg.argmin(tg.tensor([[1.0, 3.0], [4.0, 2.0]]), axis=1)
    tensor([0, 1])
    """
    _nonempty("argmin", x, axis)
    return _argmin(x, axis=axis, keepdims=keepdims)


def all(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether every element over `axis` is true (not zero).

    >>> import tinygrad_nn as tg
    >>> tg.all(tg.tensor([True, False]))
    tensor(False)
    """
    return _all(x, axis=normalize_axes(axis, len(shape_of(x)), "all"), keepdims=keepdims)


def any(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether some element over `axis` is true (not zero).

    >>> import tinygrad_nn as tg
    >>> tg.any(tg.tensor([True, False]))
    tensor(True)
    """
    return _any(x, axis=normalize_axes(axis, len(shape_of(x)), "any"), keepdims=keepdims)
