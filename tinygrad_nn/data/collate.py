"""Making one batch of single samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, tensor, wrap


def collate(samples: Sequence[Any]) -> Any:
    """One batch of a list of samples: Tensors, arrays and numbers are stacked into a Tensor, along a new first axis.

    Tuples, lists and dicts are collated item by item; strings and all else stay in a list. History is not kept. Errors:
    `ShapeError` for samples that do not fit together, `ArgumentError` for none.

    >>> import tinygrad_nn as tg
    >>> tg.data.collate([{"x": 1.0, "name": "a"}, {"x": 2.0, "name": "b"}])
    {'x': tensor([1., 2.]), 'name': ['a', 'b']}
    """
    if not samples:
        raise ArgumentError("collate: no samples, so no batch")
    first = samples[0]
    if isinstance(first, Tensor | np.ndarray | np.generic):
        return wrap(_stack([s._array() if isinstance(s, Tensor) else s for s in samples]), None)
    if isinstance(first, bool | int | float | complex):
        return tensor(list(samples))
    if isinstance(first, dict):
        if any(not isinstance(s, dict) or s.keys() != first.keys() for s in samples):
            raise ShapeError(f"collate: samples do not all have the keys {list(first)} of the first")
        return {key: collate([s[key] for s in samples]) for key in first}
    if isinstance(first, tuple | list):
        if any(not isinstance(s, tuple | list) or len(s) != len(first) for s in samples):
            raise ShapeError(f"collate: samples do not all have {len(first)} items as the first has")
        columns = [collate(column) for column in zip(*samples, strict=True)]
        if isinstance(first, list):
            return columns
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    return list(samples)


def _stack(arrays: list[Any]) -> Any:
    shapes = {np.shape(a) for a in arrays}
    if len(shapes) > 1:
        raise ShapeError(f"collate: samples of shapes {', '.join(map(str, sorted(shapes)))} do not stack")
    return np.stack(arrays)
