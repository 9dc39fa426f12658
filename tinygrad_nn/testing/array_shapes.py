"""Strategies for what an array is before it has values: shapes, dtypes, and the indices into it."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from ..errors import ArgumentError

Shape = tuple[int, ...]
INDEX_KINDS = ("basic", "integers", "mask")


def shapes(*, min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 4) -> st.SearchStrategy[Shape]:
    """Shapes of arrays, 0-d included. Shrinks to fewer axes, then to shorter ones; `min_side=0` adds empty arrays.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.shapes(), lambda shape: len(shape) == 2)
    (1, 1)
    """
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(
    count: int = 2, *, max_dims: int = 3, min_side: int = 1, max_side: int = 4
) -> st.SearchStrategy[tuple[Shape, ...]]:
    """`count` shapes that broadcast together: missing axes, axes of length 1, 0-d. Shrinks to 0-d shapes.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.broadcastable_shapes(2), lambda pair: pair[0] != pair[1])
    ((1,), ())
    """
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=count, min_side=min_side, max_dims=max_dims, max_side=max(max_side, min_side)
    )
    return drawn.map(lambda found: found.input_shapes)


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """float64, float32 and float16: the dtypes that have gradients. Shrinks to float64, which shows most.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.dtypes(), lambda dtype: dtype.itemsize < 8)
    dtype('float32')
    """
    return st.sampled_from([np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16)])


def indices(shape: Shape, kind: str | None = None) -> st.SearchStrategy[Any]:
    """Indices into an array of this shape, of every kind that NumPy knows, or of one.

    `kind` "basic": integers, slices with either sign of step, `...` and `None`. "integers": integer arrays that
    broadcast together, repeats and negative ones included, beside slices. "mask": a boolean array for the leading axes.
    Axes of length 0 are only ever sliced.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.indices((3, 4), "integers"), lambda index: True)
    (array([0]),)
    """
    if kind is not None and kind not in INDEX_KINDS:
        raise ArgumentError(f"indices: kind {kind!r} is none of {', '.join(INDEX_KINDS)}")
    made = {
        "basic": hnp.basic_indices(shape, allow_newaxis=True),
        "integers": _integer_indices(shape),
        "mask": _masks(shape),
    }
    return st.one_of(list(made.values())) if kind is None else made[kind]


@st.composite
def _integer_indices(draw: Any, shape: Shape) -> tuple[Any, ...]:
    """Integer arrays that broadcast together for some of the axes, slices for others; nothing for the last ones."""
    length = draw(st.integers(min(1, len(shape)), len(shape)))
    picked = [draw(st.sampled_from(["integers", "slice"])) if n else "slice" for n in shape[:length]]
    together = iter(draw(broadcastable_shapes(max(1, picked.count("integers")), max_dims=2, max_side=3)))

    def entry(n: int, kind: str) -> Any:
        if kind == "slice":
            return draw(st.slices(n))
        found = next(together)
        return draw(hnp.arrays(np.intp, found or (1,), elements=st.integers(-n, n - 1)))

    return tuple(entry(n, kind) for n, kind in zip(shape, picked, strict=False))


@st.composite
def _masks(draw: Any, shape: Shape) -> Any:
    axes = draw(st.integers(0, len(shape)))
    return draw(hnp.arrays(np.bool_, shape[:axes]))
