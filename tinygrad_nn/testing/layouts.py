"""The same values in other memory: what a rule that trusts strides or writes in place gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]


def strided(a: Array) -> Array:
    """The same values, every second element of a larger array along each axis."""
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    index: tuple[Any, ...] = (..., *(slice(None, None, 2) for _ in a.shape))  # with `...`, 0-d stays an array
    view: Array = wide[index]
    view[...] = a
    return view


def backwards(a: Array) -> Array:
    """The same values with a negative stride along each axis."""
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def transposed(a: Array) -> Array:
    """The same values, the view that transposing a contiguous array gives."""
    return a.T.copy().T


def unaligned(a: Array) -> Array:
    """The same values in memory that does not start at a multiple of the item's size."""
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = raw.view(a.dtype).reshape(a.shape) if a.nbytes else np.zeros(a.shape, a.dtype)
    view[...] = a
    return view


LAYOUTS = {"strided": strided, "backwards": backwards, "transposed": transposed, "unaligned": unaligned}


def repeated(a: Array) -> Array:
    """The first row of each axis repeated with stride 0: a read-only view of the same shape, other values."""
    return np.broadcast_to(a[tuple(slice(0, 1) for _ in a.shape)], a.shape)


def views(arrays: st.SearchStrategy[Array]) -> st.SearchStrategy[Array]:
    """The arrays of another strategy as they are, strided, with negative strides, transposed, or unaligned.

    The values stay what they were. Shrinks to contiguous arrays.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.views(tg.testing.arrays("log")), lambda x: x.ndim == 1 and x.strides[0] < 0)
    array([1.])
    """
    return _laid_out(arrays, (np.asarray, *LAYOUTS.values()))


def broadcast_views(arrays: st.SearchStrategy[Array]) -> st.SearchStrategy[Array]:
    """The arrays of another strategy with their first row along each axis repeated: read-only, with strides of 0.

    Equal elements are ties: not for operations that want distinct values.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.broadcast_views(tg.testing.arrays()), lambda x: x.size == 2)
    array([0., 0.])
    """
    return _laid_out(arrays, (repeated,))


@st.composite
def _laid_out(draw: Any, arrays: st.SearchStrategy[Array], layouts: tuple[Callable[[Array], Array], ...]) -> Array:
    return draw(st.sampled_from(layouts))(draw(arrays))  # type: ignore[no-any-return]
