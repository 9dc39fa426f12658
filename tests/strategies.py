"""Inputs for the tests: arrays inside an operation's declared domain, shapes, and memory layouts.

Two sources of the same data: `sample` (from a seeded generator, for declared cases) and the strategies of `tg.testing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_nn.domains import Booleans, Domain, Integers, Invertible, Reals
from tinygrad_nn.testing import arguments as arrays, broadcastable_shapes
from tinygrad_nn.testing.domain_arrays import intervals, nth as domain_of
from tinygrad_nn.testing.layouts import LAYOUTS, repeated

__all__ = ["LAYOUTS", "arrays", "domain_of", "intervals", "repeated", "sample", "shapes"]

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

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
    if isinstance(domain, Invertible):
        return rng.uniform(-1, 1, shape) + np.eye(*shape[-2:]) * (shape[-1] + 1)
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


def shapes(count: int) -> st.SearchStrategy[tuple[Shape, ...]]:
    """`count` shapes that broadcast together: 0-d, empty and length-1 axes included."""
    return broadcastable_shapes(count, min_side=0, max_side=3)
