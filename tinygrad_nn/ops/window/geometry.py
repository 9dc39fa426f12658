"""Where a window moves over the last two axes of an image: pairs, output sizes, and the positions inside a window."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from ...errors import ArgumentError

Pair: TypeAlias = tuple[int, int]
PairLike: TypeAlias = int | Sequence[int]


def pair(value: PairLike, name: str, argument: str, least: int = 1) -> Pair:
    """`value` as (rows, columns): one integer stands for both; an error if either is less than `least`."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    try:
        rows, columns = (operator.index(v) for v in values)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: {argument} must be an integer or a pair of integers, not {value!r}") from None
    if min(rows, columns) < least:
        raise ArgumentError(f"{name}: {argument} must be at least {least}, not {value!r}")
    return rows, columns


def span(kernel: int, dilation: int) -> int:
    """How many elements a window covers from its first to its last."""
    return dilation * (kernel - 1) + 1


@lru_cache(maxsize=1024)
def taps(size: Pair, out: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Any, ...]:
    """For each position inside a window, in row-major order: which inputs it reads, and for which outputs.

    Both are index tuples for the last two axes. What would read padding is left out, so padding needs no memory and
    no value.
    """
    rows, columns = (
        [_along(i * dilation[axis] - padding[axis], size[axis], out[axis], stride[axis]) for i in range(kernel[axis])]
        for axis in (0, 1)
    )
    return tuple(((..., x_rows, x_columns), (..., y_rows, y_columns)) for x_rows, y_rows in rows
                 for x_columns, y_columns in columns)  # fmt: skip


def _along(offset: int, size: int, out: int, stride: int) -> tuple[slice, slice]:
    """Output o reads input offset + o·stride: the slices of both where that lies in [0, size)."""
    first = max(0, -(offset // stride))
    last = min(out - 1, (size - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = offset + first * stride
    return slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1)
