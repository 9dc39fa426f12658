"""Einstein summation: products of any number of arrays, summed over the letters that the output leaves out."""

from __future__ import annotations

import math
from functools import lru_cache
from string import ascii_letters
from typing import Any

import numpy as np

from .._types import ArrayLike, Fn
from ..domains import case
from ..errors import ArgumentError, ShapeError, describe
from ..registry import Each
from ..tensor import Tensor, constant
from . import batching
from .declare import linear
from .shape import transpose


def _contract(*xs: Any, inputs: tuple[str, ...], output: str) -> Any:
    large = (
        math.prod(dict(p for s, x in zip(inputs, xs, strict=True) for p in zip(s, x.shape, strict=True)).values())
        > 4096
    )
    return np.einsum(f"{','.join(inputs)}->{output}", *xs, optimize=large)


def _einsum_vjp(i: int, g: Any, _y: Any, *xs: Any, inputs: tuple[str, ...], output: str) -> Any:
    """Swap the output and input i.

    A letter that only input i has (or the others with length 1) was summed there alone: a ones vector spreads it.
    """
    others = [j for j in range(len(xs)) if j != i]
    seen: dict[str, int] = {}
    for letters, x in ((output, g), *((inputs[j], xs[j]) for j in others)):
        for a, n in zip(letters, x.shape, strict=True):
            seen[a] = max(n, seen.get(a, n))
    lonely = [(a, n) for a, n in zip(inputs[i], xs[i].shape, strict=True) if seen.get(a, -1) < n]
    ones = [np.ones(n, g.dtype) for _, n in lonely]
    return _einsum(
        g,
        *(xs[j] for j in others),
        *ones,
        inputs=(output, *(inputs[j] for j in others), *(a for a, _ in lonely)),
        output=inputs[i],
    )


_einsum: Fn = linear(
    "einsum",
    _contract,
    Each(_einsum_vjp),
    cases=(
        case((2, 3), (3, 4), inputs=("ij", "jk"), output="ik"),
        case((2, 3), inputs=("ij",), output="i"),
        case((3,), (3,), inputs=("i", "i"), output=""),
        case((2, 3), (3, 4), (4,), inputs=("ij", "jk", "k"), output="i"),
        case((5, 2, 3), (5, 3), inputs=("bij", "bj"), output="ib"),
    ),
    formula="sum of products over the letters missing from the output",
    batch=batching.einsum,
)


def einsum(subscripts: str, *operands: ArrayLike) -> Any:
    """Einstein summation as in NumPy: "ij,jk->ik", "..." for any number of axes, repeated letters for diagonals.

    >>> import tinygrad_nn as tg
    >>> tg.einsum("ii->", tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    if not isinstance(subscripts, str) or not operands:
        raise ArgumentError(f"einsum: needs subscripts such as 'ij,jk->ik' and operands, not {describe(subscripts)}")
    xs = [x if isinstance(x, Tensor) else np.asarray(constant(x)) for x in operands]
    spelt, output = _spell_out(subscripts, tuple(x.shape for x in xs))
    inputs = list(spelt)
    for i, letters in enumerate(inputs):
        if len(set(letters)) < len(letters):
            xs[i], inputs[i] = _diagonals(xs[i], letters)
    return _einsum(*xs, inputs=tuple(inputs), output=output)


@lru_cache(256)  # networks call with the same few forms and shapes again and again
def _spell_out(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[str, ...], str]:
    """Subscripts with letters in place of "...", and the output written out."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ShapeError(f"einsum: {subscripts!r} names {len(terms)} operands, {len(shapes)} were given")
    free = [c for c in ascii_letters if c not in text]
    longest = 0
    spread = []
    for term, shape in zip(terms, shapes, strict=True):
        letters = term.replace("...", "")
        extra = len(shape) - len(letters)
        if extra < 0 or (extra and "..." not in term) or (letters and not letters.isalpha()):
            raise ShapeError(f"einsum: {subscripts!r}: {term!r} does not fit shape {shape}")
        longest = max(longest, extra if "..." in term else 0)
        spread.append(extra)
    batch = "".join(free[:longest])
    inputs = tuple(t.replace("...", batch[longest - n :] if n else "") for t, n in zip(terms, spread, strict=True))
    if arrow:
        output = right.replace("...", batch)
    else:
        joined = left.replace(",", "").replace("...", "")
        output = batch + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    known = "".join(inputs)
    if any(c not in known for c in output) or len(set(output)) < len(output):
        raise ShapeError(f"einsum: {subscripts!r}: the output {right!r} must name letters of the inputs, each once")
    lengths: dict[str, int] = {}
    for letters, shape in zip(inputs, shapes, strict=True):
        for c, n in zip(letters, shape, strict=True):
            if lengths.setdefault(c, n) != n and 1 not in (n, lengths[c]):
                given = ", ".join(map(str, shapes))
                raise ShapeError(f"einsum: {subscripts!r}: {c!r} has length {lengths[c]} and {n} in shapes {given}")
            lengths[c] = max(lengths[c], n)
    return inputs, output


def _diagonals(x: Any, letters: str) -> tuple[Any, str]:
    """`x` with the axes of each repeated letter replaced by their diagonal, put first."""
    for c in dict.fromkeys(letters):
        axes = [i for i, d in enumerate(letters) if d == c]
        if len(axes) > 1:
            rest = [i for i in range(len(letters)) if i not in axes]
            along = np.arange(x.shape[axes[0]])
            x = transpose(x, [*axes, *rest])[(along,) * len(axes)]
            letters = c + "".join(letters[i] for i in rest)
    return x, letters
