"""Rows of a table chosen by number: `embedding`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._types import ArrayLike
from ...domains import Integers, Reals, case
from ...errors import ArgumentError, DTypeError, ShapeError, describe
from ...strong_zero import values
from ...tensor import Tensor
from .. import batching
from ..declare import general, linear
from ..shape import shape_of


def _rows(indices: Any, weight: Any, *, padding_idx: int | None) -> Any:
    return np.take(weight, indices, axis=0)


def _moving_rows(indices: Any, weight: Any, *, padding_idx: int | None) -> Any:
    y = np.take(weight, indices, axis=0)
    if padding_idx is not None:
        y[indices == padding_idx] = 0
    return y


def _summed_rows(indices: Any, g: Any, *, count: int, padding_idx: int | None) -> Any:
    # `add.at` is fast where both the array and the indices are flat: four times faster here than on rows
    width = g.shape[-1]
    weight = np.zeros((count, width), np.float32 if g.dtype == np.float16 else g.dtype)
    flat = indices.reshape(-1, 1).astype(np.intp, copy=False) * width + np.arange(width)
    np.add.at(weight.reshape(-1), flat.reshape(-1), g.reshape(-1))
    if padding_idx is not None:
        weight[padding_idx] = 0
    return weight.astype(g.dtype, copy=False)


def _never(_t: Any, _y: Any, _indices: Any, _w: Any, **_how: Any) -> Any:
    raise AssertionError("indices are integers: nothing asks for their gradient")  # pragma: no cover


_INDICES = Integers(0, 3)

_embedding = general(
    "embedding",
    _rows,
    [
        _never,
        lambda g, _y, indices, _w, *, padding_idx: _embedding_weight(
            indices, g, count=_w.shape[0], padding_idx=padding_idx
        ),
    ],
    [_never, lambda t, _y, indices, _w, *, padding_idx: _embedding_moving(indices, t, padding_idx=padding_idx)],
    domain=(_INDICES, Reals()),
    cases=(
        case((5,), (3, 2), padding_idx=None),
        case((), (3, 2), padding_idx=None),
        case((2, 0), (3, 2), padding_idx=None),
    ),
    formula="weight[indices]",
    batch=batching.rows_of_table,
)
_embedding_moving: Any = linear(
    "embedding_moving",
    _moving_rows,
    [
        _never,
        lambda g, _y, indices, _w, *, padding_idx: _embedding_weight(
            indices, g, count=_w.shape[0], padding_idx=padding_idx
        ),
    ],
    domain=(_INDICES, Reals()),
    cases=(case((2, 3), (3, 2), padding_idx=None), case((5,), (3, 2), padding_idx=1)),
    formula="weight[indices], with zeros for padding_idx",
    batch=batching.rows_of_table,
)
_embedding_weight: Any = linear(
    "embedding_weight",
    _summed_rows,
    [_never, lambda t, _y, indices, _g, *, count, padding_idx: _embedding_moving(indices, t, padding_idx=padding_idx)],
    domain=(_INDICES, Reals()),
    cases=(
        case((2, 3), (2, 3, 2), count=3, padding_idx=None),
        case((5,), (5, 2), count=4, padding_idx=1),
        case((0,), (0, 2), count=3, padding_idx=None),
    ),
    formula="the gradient of <g, embedding(indices, weight)> by weight",
    batch=batching.rows_added,
)


def embedding(indices: ArrayLike, weight: ArrayLike, padding_idx: int | None = None) -> Any:
    """The rows of `weight` that `indices` name: shape `indices.shape` + (columns of `weight`,).

    Indices are integers from 0 to rows - 1. A row named more than once gets the sum of the gradients; row
    `padding_idx` (counted from the end if negative) gets none.

    >>> import tinygrad_nn as tg
    >>> import tinygrad_nn.nn.functional as F
    >>> weight = tg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    >>> F.embedding([2, 0, 2], weight).sum().backward()
    >>> weight.grad
    tensor([[1., 1.],
            [0., 0.],
            [2., 2.]])
    """
    shape = shape_of(weight)
    if len(shape) != 2:
        raise ShapeError(f"embedding: weight {describe(weight)} must have axes (rows, columns)")
    numbers = np.asarray(values(indices))
    if numbers.dtype.kind not in "iu":
        raise DTypeError(f"embedding: indices must be integers, not {describe(numbers)}")
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < shape[0]):
        wrong = numbers[(numbers < 0) | (numbers >= shape[0])].flat[0]
        raise ArgumentError(
            f"embedding: index {wrong} in indices {describe(numbers)} is not a row of weight {describe(weight)}: "
            f"rows are 0 to {shape[0] - 1}"
        )
    if padding_idx is not None:
        if not -shape[0] <= padding_idx < shape[0]:
            raise ArgumentError(f"embedding: padding_idx={padding_idx} is not a row of weight {describe(weight)}")
        padding_idx %= shape[0]
    return _embedding(indices if isinstance(indices, Tensor) else numbers, weight, padding_idx=padding_idx)
