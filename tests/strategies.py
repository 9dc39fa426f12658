"""Inputs for the tests: arrays inside an operation's declared domain, shapes, and memory layouts.

Two sources of the same data: `sample` (from a seeded generator, for declared cases) and hypothesis strategies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from tinygrad_nn.domains import Booleans, Domain, Integers, Reals

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def intervals(domain: Reals) -> list[tuple[float, float]]:
    """The pieces of [low, high] that stay `margin` away from every point of `avoid`."""
    pieces, low = [], domain.low
    for point in sorted(domain.avoid):
        pieces.append((low, min(domain.high, point - domain.margin)))
        low = max(domain.low, point + domain.margin)
    pieces.append((low, domain.high))
    return [(a, b) for a, b in pieces if a <= b]


def domain_of(domains: Sequence[Domain], i: int) -> Domain:
    """The domain of argument i; the last one stands for all further arguments of a variadic operation."""
    return domains[min(i, len(domains) - 1)]


# -- seeded ------------------------------------------------------------------------------------------------------------


def sample(domains: Sequence[Domain], shapes: Sequence[Shape], rng: np.random.Generator) -> tuple[Array, ...]:
    """One float64 (or integer, or boolean) array per shape, inside its domain; distinct ones differ everywhere."""
    chosen = [domain_of(domains, i) for i in range(len(shapes))]
    ranks = iter(rng.permutation(_distinct_total(chosen, shapes)))
    return tuple(
        _fill(domain, shape, rng, ranks, _distinct_total(chosen, shapes))
        for domain, shape in zip(chosen, shapes, strict=True)
    )


def _distinct_total(domains: Sequence[Domain], shapes: Sequence[Shape]) -> int:
    return sum(math.prod(s) for d, s in zip(domains, shapes, strict=True) if isinstance(d, Reals) and d.distinct)


def _fill(domain: Domain, shape: Shape, rng: np.random.Generator, ranks: Any, total: int) -> Array:
    size = math.prod(shape)
    if isinstance(domain, Booleans):
        return rng.random(shape) < 0.5
    if isinstance(domain, Integers):
        return rng.integers(domain.low, domain.high, shape)
    if domain.distinct:
        return _spread(domain, shape, [next(ranks) for _ in range(size)], rng.random(size), total)
    pieces = intervals(domain)
    lengths = np.array([b - a for a, b in pieces])
    which = rng.choice(len(pieces), size, p=lengths / lengths.sum())
    low, high = np.array(pieces).T
    return np.array(low[which] + rng.random(size) * (high - low)[which]).reshape(shape)


def _spread(domain: Reals, shape: Shape, ranks: Any, jitter: Any, total: int) -> Array:
    """Values on a grid of `total` points in the order `ranks`, moved by less than a third of its spacing."""
    step = (domain.high - domain.low) / max(total, 1)
    assert step >= domain.margin, f"{total} distinct values do not fit into {domain}"
    return (domain.low + step * (np.array(ranks, float) + 0.3 * np.asarray(jitter))).reshape(shape)


# -- drawn by hypothesis -----------------------------------------------------------------------------------------------


@st.composite
def arrays(draw: Any, domains: Sequence[Domain], shapes: Sequence[Shape]) -> tuple[Array, ...]:
    """One array per shape, inside its domain."""
    chosen = [domain_of(domains, i) for i in range(len(shapes))]
    total = _distinct_total(chosen, shapes)
    ranks = iter(draw(st.permutations(range(total))))
    made = []
    for domain, shape in zip(chosen, shapes, strict=True):
        if isinstance(domain, Booleans):
            made.append(draw(hnp.arrays(np.bool_, shape)))
        elif isinstance(domain, Integers):
            made.append(draw(hnp.arrays(np.int64, shape, elements=st.integers(domain.low, domain.high - 1))))
        elif domain.distinct:
            size = math.prod(shape)
            jitter = draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
            made.append(_spread(domain, shape, [next(ranks) for _ in range(size)], jitter, total))
        else:
            made.append(draw(hnp.arrays(np.float64, shape, elements=reals(domain))))
    return tuple(made)


def reals(domain: Reals) -> st.SearchStrategy[float]:
    """Numbers of a real domain."""
    return st.one_of([st.floats(a, b) for a, b in intervals(domain)])


def shapes(count: int) -> st.SearchStrategy[tuple[Shape, ...]]:
    """`count` shapes that broadcast together: 0-d, empty and length-1 axes included."""
    broadcastable = hnp.mutually_broadcastable_shapes(num_shapes=count, min_side=0, max_dims=3, max_side=3)
    return broadcastable.map(lambda found: found.input_shapes)


# -- memory layouts ----------------------------------------------------------------------------------------------------


def strided(a: Array) -> Array:
    """The same values, every second element of a larger array along each axis."""
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    view = wide[(..., *(slice(None, None, 2) for _ in a.shape))]
    view[...] = a
    return view


def backwards(a: Array) -> Array:
    """The same values with a negative stride along each axis."""
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def transposed(a: Array) -> Array:
    """The same values, the view that transposing a contiguous array gives."""
    return a.T.copy().T


def offset(a: Array) -> Array:
    """The same values in unaligned memory."""
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = raw.view(a.dtype).reshape(a.shape) if a.nbytes else np.zeros(a.shape, a.dtype)
    view[...] = a
    return view


LAYOUTS = {"strided": strided, "backwards": backwards, "transposed": transposed, "unaligned": offset}


def repeated(a: Array) -> Array:
    """The first row of each axis repeated with stride 0: a broadcast view of the same shape, other values."""
    return np.broadcast_to(a[tuple(slice(0, 1) for _ in a.shape)], a.shape)
