"""Reading and writing at an index, basic and advanced: `x[i]`, functional updates, `take`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._types import ArrayLike, Fn, Index
from ..domains import case
from ..errors import AxisError, DTypeError, describe
from ..graph import Scatter
from ..registry import UNUSED
from ..tensor import Tensor, plain_index
from . import batching
from .declare import linear
from .elementwise import where
from .shape import normalize_axis, reshape, shape_of


def repeats(index: Any) -> bool:
    """Whether an index may name an element twice: only integer arrays can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, np.ndarray) and p.dtype.kind != "b" and p.ndim for p in parts)


def _all_different(rows: Any, count: int) -> bool:
    return bool(len(np.unique(rows % count)) == rows.size)


def add_at(total: Any, index: Any, values: Any) -> None:
    """`total[index] += values` in place, where an element named twice is added to twice."""
    if not repeats(index):
        total[index] += values
    elif total.ndim == 1 or not total.flags.c_contiguous:
        np.add.at(total, index, values)
    elif isinstance(index, np.ndarray) and index.size * 8 < total.size and _all_different(index, len(total)):
        total[index] += values
    else:
        # NumPy's `add.at` is much faster on flat arrays, so let NumPy itself say which elements the index names
        flat = np.arange(total.size).reshape(total.shape)[index]
        np.add.at(total.reshape(-1), flat.reshape(-1), np.broadcast_to(values, flat.shape).reshape(-1))


def _send_back(g: Any, _y: Any, _x: Any, *, index: Any) -> Any:
    if isinstance(g, Tensor):
        return _scatter(g, index=index, shape=_x.shape)
    return Scatter(index, g, _x.shape, add_at)


_INDEX_CASES = (
    case((3, 4), index=1),
    case((3, 4), index=(slice(None, None, -2), 2)),
    case((3, 4), index=(Ellipsis, None, 0)),
    case((3, 4), index=np.array([2, 0, 2, -1])),
    case((3, 4), index=(np.array([[0, 1], [1, 0]]), np.array([1, 3]))),
    case((3, 4), index=(np.array([0, 2]), slice(1, 3))),
    case((2, 3), index=np.array([[True, False, True], [False, False, True]])),
    case((3,), index=np.array([], dtype=np.intp)),
    case((), index=()),
)

_getitem: Fn = linear(
    "getitem",
    lambda x, *, index: np.asarray(x)[index],
    [_send_back],
    cases=_INDEX_CASES,
    formula="x[index]",
    selects=UNUSED,
    batch=batching.getitem,
)


def _spread(g: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    total = np.zeros(shape, g.dtype)
    add_at(total, index, g)
    return total


_scatter: Fn = linear(
    "scatter_add",
    _spread,
    [lambda g, _y, _x, *, index, shape: _getitem(g, index=index)],
    cases=(case((2, 4), index=np.array([1, 1]), shape=(3, 4)), case((2,), index=slice(0, 2), shape=(3,))),
    formula="zeros of a shape, with x added at an index",
    batch=batching.scatter,
)


def getitem(x: ArrayLike, index: Index) -> Any:
    """`x[index]` with every form of NumPy's indexing; an element read twice gets the sum of both gradients.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad
    tensor([2., 0., 1.])
    """
    return _getitem(x, index=plain_index(index))


def _write(x: Any, value: Any, *, index: Any) -> Any:
    result = np.array(x)
    if result.dtype.kind not in "fc" and np.result_type(value).kind in "fc":
        raise TypeError(f"a floating value would lose its fraction in {result.dtype}; use astype first")
    result[index] = value
    return result[()]


def _written(g: Any, _y: Any, _x: Any, _v: Any, *, index: Any) -> Any:
    """The gradient of the values: of those written to one element, only the last stayed there."""
    g = _getitem(g, index=index)
    if not repeats(index):
        return g
    places = np.arange(math.prod(_x.shape)).reshape(_x.shape)[index]
    order = np.arange(places.size).reshape(places.shape)
    last = np.empty(math.prod(_x.shape), np.intp)
    last[places] = order
    stayed = last[places] == order
    return g if stayed.all() else where(stayed, g, 0.0)


_index_update: Fn = linear(
    "index_update",
    _write,
    [
        lambda g, _y, _x, _v, *, index: _index_update(g, 0.0, index=index),
        _written,
    ],
    joint=True,
    cases=(
        case((3, 4), (4,), index=1),
        case((3, 4), (), index=(slice(None), 2)),
        case((3, 4), (2, 4), index=np.array([2, 0])),
        case((3,), (2,), index=np.array([True, False, True])),
        case((3,), (4,), index=np.array([2, 0, 2, 2])),
        case((2, 3), (), index=(np.array([1, 1]), slice(None))),
    ),
    formula="x with x[index] replaced by the value",
    selects=UNUSED,
    batch=batching.write,
)


def index_update(x: ArrayLike, index: Index, value: ArrayLike) -> Any:
    """A copy of `x` in which `x[index]` is `value`; the gradient of what was replaced is zero.

    Of several values for one element the last stays, and has the gradient.

    >>> import tinygrad_nn as tg
    >>> tg.index_update(tg.tensor([1.0, 2.0]), 0, 5.0)
    tensor([5., 2.])
    """
    return _index_update(x, value, index=plain_index(index))


def _add_to(x: Any, value: Any, *, index: Any) -> Any:
    result = np.array(x)
    add_at(result, index, value)
    return result[()]


_index_add: Fn = linear(
    "index_add",
    _add_to,
    [lambda g, _y, _x, _v, *, index: g, lambda g, _y, _x, _v, *, index: _getitem(g, index=index)],
    joint=True,
    cases=(case((3, 4), (4,), index=1), case((3,), (4,), index=np.array([2, 0, 2, 2]))),
    formula="x with the value added at x[index]",
    batch=batching.write,
)


def index_add(x: ArrayLike, index: Index, value: ArrayLike) -> Any:
    """A copy of `x` with `value` added at `x[index]`; an element named twice is added to twice.

    >>> import tinygrad_nn as tg
    >>> tg.index_add(tg.zeros(3), [0, 0, 2], 1.0)
    tensor([2., 0., 1.])
    """
    return _index_add(x, value, index=plain_index(index))


def _integers(indices: Any) -> Any:
    found = plain_index(indices)
    return found if isinstance(found, Tensor) else np.asarray(found)


def take(x: ArrayLike, indices: ArrayLike, axis: int | None = None) -> Any:
    """The slices of `x` at `indices` along `axis`; without `axis`, elements of the flattened array.

    >>> import tinygrad_nn as tg
    >>> tg.take(tg.tensor([[1, 2], [3, 4]]), [1, 0], axis=1)
    tensor([[2, 1],
            [4, 3]])
    """
    where = _integers(indices)
    if where.dtype.kind not in "iu":
        raise DTypeError(f"take: indices must be integers, not {describe(indices)}")
    if axis is None:
        return _getitem(reshape(x, (-1,)), index=where)
    axis = normalize_axis(axis, len(shape_of(x)), "take")
    return _getitem(x, index=(slice(None),) * axis + (where,))


def take_along_axis(x: ArrayLike, indices: ArrayLike, axis: int = -1) -> Any:
    """Elements of `x` at `indices` along one axis; the other axes match (or broadcast).

    >>> import tinygrad_nn as tg
    >>> tg.take_along_axis(tg.tensor([[1, 2], [3, 4]]), [[1], [0]], axis=1)
    tensor([[2],
            [3]])
    """
    shape = shape_of(x)
    axis = normalize_axis(axis, len(shape), "take_along_axis")
    where = _integers(indices)
    if where.ndim != len(shape):
        raise AxisError(f"take_along_axis: indices {describe(where)} must have as many axes as {describe(x)}")
    index = [np.arange(n).reshape(-1, *(1,) * (len(shape) - 1 - i)) for i, n in enumerate(shape)]
    index[axis] = where
    return _getitem(x, index=tuple(index))
