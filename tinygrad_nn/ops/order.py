"""Order along an axis: sort, argsort, and the differences of neighbours."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .._types import ArrayLike, Fn
from ..domains import Reals, case
from ..errors import ArgumentError, describe
from ..tensor import Tensor
from . import batching
from .declare import general, nondifferentiable
from .index import take_along_axis
from .shape import concat, normalize_axis, shape_of


def _places(x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    kind: Any = "stable" if stable else "quicksort"
    if not descending:
        return np.argsort(x, axis, kind)
    backwards = np.argsort(np.flip(x, axis), axis, kind)  # so that equals keep their order when this is turned round
    return np.flip(x.shape[axis] - 1 - backwards, axis)


def _in_order(x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    y = np.sort(x, axis)
    return np.flip(y, axis) if descending else y


_ORDERS = (
    case((4,), axis=0, descending=False, stable=True),
    case((2, 5), axis=1, descending=True, stable=True),
    case((3, 2, 2), axis=0, descending=False, stable=False),
    case((0, 2), axis=0, descending=False, stable=True),
)
_argsort: Fn = nondifferentiable(
    "argsort",
    _places,
    cases=_ORDERS,
    batch=batching.along,
    formula="the positions of the elements in ascending order",
    reference=lambda x, *, axis, descending, stable: np.argsort(-x if descending else x, axis, stable=True),
    twin=np.argsort,
)


def _ranks(x: Any, axis: int, how: dict[str, Any]) -> Any:
    """Where each element goes: the inverse of the permutation that sorts."""
    return _argsort(_argsort(x, axis=axis, **how), axis=axis, descending=False, stable=False)


def _has_equal(y: Any, _x: Any, *, axis: int, **_: Any) -> Any:
    """Where an element of the result has its like beside it."""
    rows = np.moveaxis(y, axis, -1)
    alike = np.zeros(rows.shape, bool)
    alike[..., 1:] = rows[..., 1:] == rows[..., :-1]
    alike[..., :-1] |= alike[..., 1:]
    return np.moveaxis(alike, -1, axis)


_sort: Fn = general(
    "sort",
    _in_order,
    [lambda g, _y, x, *, axis, **how: take_along_axis(g, _ranks(x, axis, how), axis)],
    [lambda t, _y, x, *, axis, **how: take_along_axis(t, _argsort(x, axis=axis, **how), axis)],
    domain=(Reals(distinct=True),),
    cases=_ORDERS,
    batch=batching.along,
    formula="the elements in ascending order",
    ties="equals keep their order, and so do their gradients",
    kink=_has_equal,
    reference=lambda x, *, axis, descending, stable: -np.sort(-x, axis) if descending else np.sort(x, axis),
    twin=np.sort,
)


def sort(x: ArrayLike, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The elements along `axis` in ascending (or descending) order; each gradient goes to where its element stood.

    Of equal elements, the one that stood first comes first, unless `stable` is False, which is faster.

    >>> import tinygrad_nn as tg
    >>> tg.sort(tg.tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    return _sort(x, axis=_axis_of("sort", x, axis), descending=descending, stable=stable)


def argsort(x: ArrayLike, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """The positions of the elements along `axis` in ascending (or descending) order.

    Of equal elements, the one that stood first comes first, unless `stable` is False, which is faster.

    >>> import tinygrad_nn as tg
    >>> tg.argsort(tg.tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0])
    """
    return _argsort(x, axis=_axis_of("argsort", x, axis), descending=descending, stable=stable)


def diff(
    x: ArrayLike, n: int = 1, axis: int = -1, prepend: ArrayLike | None = None, append: ArrayLike | None = None
) -> Any:
    """The differences of neighbours along `axis`, taken `n` times; `prepend` and `append` are joined to `x` before.

    >>> import tinygrad_nn as tg
    >>> tg.diff(tg.tensor([1.0, 4.0, 9.0]))
    tensor([3., 5.])
    """
    axis = _axis_of("diff", x, axis)
    if operator.index(n) < 0:
        raise ArgumentError(f"diff: n {n} must not be negative")
    parts = [part for part in (prepend, x, append) if part is not None]
    y = concat(parts, axis) if len(parts) > 1 else x if isinstance(x, Tensor) else np.asarray(x)
    lead = (slice(None),) * axis
    for _ in range(n):
        y = y[(*lead, slice(1, None))] - y[(*lead, slice(None, -1))]
    return y


def _axis_of(name: str, x: ArrayLike, axis: int) -> int:
    ndim = len(shape_of(x))
    if not ndim:
        raise ArgumentError(f"{name}: {describe(x)} is a single number, without an axis to go along")
    return normalize_axis(axis, ndim, name)
