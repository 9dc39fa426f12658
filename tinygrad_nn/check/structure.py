"""The first tiers: what must hold of a gradient without looking at a single slope.

Each check yields (input index or None for all, what is wrong). The gradient walk runs on arrays of its own, so that
whatever it writes into is noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._types import Array
from ..errors import GraphError, describe
from .problem import Problem, Recording, join, random_cotangents
from .scatter import scatter

Finding = tuple[int | None, str]
ROUNDING = 2.0**17  # how many rounding units two ways to compute the same sum may differ by


def structure(problem: Problem, recording: Recording, rng: np.random.Generator) -> Iterator[Finding]:
    """Shape, dtype, repeatability; nothing written into that belongs to others; no memory shared between results."""
    before = [a.copy() for a in problem.arrays]
    once, again = problem.outputs_at(problem.arrays), problem.outputs_at(problem.arrays)
    if not all(_same(a, b) for a, b in zip(once, again, strict=True)):
        yield None, "the function gives different values for the same inputs (random numbers? seed them inside it)"
        return
    for k, (a, b) in enumerate(zip(once, recording.values, strict=True)):

        def gap(x: Array, _: float, k: int = k) -> Array:
            arrays = problem.cast(x)
            return np.ravel(problem.outputs_at(arrays)[k] - problem.record(arrays).values[k]).astype(float)

        loose = float(np.sqrt(np.finfo(a.dtype).eps)) * _norm(a)
        if np.isfinite(a).all() and not _norm(a - b) <= loose and not _norm(a - b) <= scatter(problem, gap, rng):
            yield None, "the function gives other values when it is recorded"
    yield from _written(before, problem.arrays, "the function writes into")
    for y in recording.outputs:
        if isinstance(y, np.ndarray):
            yield None, f"the function returns an array, {describe(y)}, not a Tensor: its history is lost"
    cotangents = random_cotangents(recording.values, rng)
    kept = [g.copy() for g in cotangents]
    values = [y.copy() for y in recording.values]
    grads = recording.vjp(cotangents)
    yield from _written(before, problem.arrays, "backward writes into")
    if not all(_same(a, b) for a, b in zip(kept, cotangents, strict=True)):
        yield None, "backward writes into the incoming gradient"
    if not all(_same(a, b) for a, b in zip(values, recording.values, strict=True)):
        yield None, "backward writes into the results"
    for k, (g, a) in enumerate(zip(grads, problem.arrays, strict=True)):
        if g.shape != a.shape or g.dtype != a.dtype:
            yield k, f"the gradient is {describe(g)} for an input {describe(a)}"
    yield from _shared(grads, [*problem.arrays, *cotangents, *recording.values])
    if not all(_same(a, b) for a, b in zip(grads, recording.vjp(kept), strict=True)):
        yield None, "backward gives different gradients the second time"


def algebra(problem: Problem, recording: Recording, rng: np.random.Generator) -> Iterator[Finding]:
    """The gradient is linear in the incoming one, and does not depend on how inputs lie in memory."""
    if not all(np.isfinite(y).all() for y in recording.values):
        return
    first, second = random_cotangents(recording.values, rng), random_cotangents(recording.values, rng)
    a, b = 0.75, -1.5
    both = [(a * g + b * h).astype(g.dtype) for g, h in zip(first, second, strict=True)]
    one, two = recording.vjp(first), recording.vjp(second)
    sums, none = recording.vjp(both), recording.vjp([np.zeros_like(g) for g in first])
    eps = max(float(np.finfo(g.dtype).eps) for g in one)
    incoming = sum(_norm(g) for g in (*first, *second))  # contributions of this size may have cancelled
    for k, (g, h, s, zero) in enumerate(zip(one, two, sums, none, strict=True)):
        if not (np.isfinite(g).all() and np.isfinite(h).all()):
            continue
        if np.any(zero):
            yield k, "the gradient for an incoming gradient of 0 is not 0: does the rule ignore the incoming gradient?"
        elif _norm(s - (a * g + b * h)) > ROUNDING * eps * (_norm(g) + _norm(h) + incoming):

            def gap(x: Array, _: float, k: int = k) -> Array:  # no factor, where linear is what it may not be
                there = problem.record(problem.split(x))
                g, h, s = (np.ravel(there.vjp(us)[k]) for us in (first, second, both))
                return s - (a * g + b * h)

            if _norm(s - (a * g + b * h)) > scatter(problem, gap, rng):
                yield k, "the gradient is not linear in the incoming gradient"
    odd = [_strided(x) for x in problem.arrays]
    if not any(x.size > 1 for x in odd):
        return
    moved = problem.record(odd)
    loose = float(np.sqrt(eps))
    values, theirs = join(recording.values), join(moved.values)
    if _norm(values - theirs) > loose * _norm(values):
        yield None, "the function gives other values for inputs with gaps and negative strides"
        return
    for k, (g, h) in enumerate(zip(one, moved.vjp(first), strict=True)):
        if _norm(g - h) > loose * _norm(g) + ROUNDING * eps * incoming:
            yield k, "the gradient is another one for inputs with gaps and negative strides"


def adjoint(problem: Problem, recording: Recording, rng: np.random.Generator) -> Iterator[Finding]:
    """Reverse and forward mode agree: <u, Jd> = <Jᵀu, d>, with no step size in it."""
    u = random_cotangents(recording.values, rng)
    d = random_cotangents(problem.arrays, rng)

    def both(run: Recording, factor: float) -> tuple[Array, Array]:
        pushed, pulled = run.jvp([factor * t for t in d]), run.vjp([factor * g for g in u])
        return join(u) * join(pushed) / factor, join(pulled) * join(d) / factor

    try:
        gap = _apart(problem, recording, both, rng, sum(map(_norm, u)) * sum(map(_norm, d)))
    except GraphError:  # an operation of the user's that has no rule for forward mode
        return
    if gap:
        yield None, f"reverse and forward mode disagree: <Jᵀu, d> and <u, Jd> differ by {gap:.3g}"


def symmetry(problem: Problem, recording: Recording, rng: np.random.Generator) -> Iterator[Finding]:
    """Second derivatives do not depend on their order. `problem` is a gradient map: its results are gradients."""
    count = len(recording.values)
    one, two = (random_cotangents(problem.arrays[:count], rng) for _ in range(2))

    def both(run: Recording, factor: float) -> tuple[Array, Array]:
        first, second = (run.vjp([factor * g for g in gs])[:count] for gs in (one, two))
        return join(first) * join(two) / factor, join(second) * join(one) / factor

    gap = _apart(problem, recording, both, rng)
    if gap:
        yield None, f"the Hessian is not symmetric: d·H·e and e·H·d differ by {gap:.3g}"


def _apart(
    problem: Problem,
    recording: Recording,
    both: Callable[[Recording, float], tuple[Array, Array]],
    rng: np.random.Generator,
    contributions: float = 0.0,
) -> float:
    """How far two ways to compute one number, each given as terms of a sum, are apart; 0 if that may be rounding.

    `both` takes a recording and a factor for the incoming gradient. `contributions` of this size may have cancelled.
    """
    left, right = both(recording, 1.0)
    gap = abs(float(left.sum() - right.sum()))
    eps = max((float(np.finfo(n.dtype).eps) for n in recording.nodes if n.dtype.kind == "f"), default=0.0)
    size = float(np.abs(left).sum() + np.abs(right).sum()) + contributions
    if not (math.isfinite(size) and gap > ROUNDING * eps * size):
        return 0.0

    def difference(x: Array, factor: float) -> Array:
        left, right = both(problem.record(problem.split(x)), factor)
        return np.array([left.sum() - right.sum()])

    return gap if gap > scatter(problem, difference, rng) else 0.0


def _written(before: Sequence[Array], after: Sequence[Array], what: str) -> Iterator[Finding]:
    for k, (a, b) in enumerate(zip(before, after, strict=True)):
        if not _same(a, b):
            yield k, f"{what} this input"
            b[...] = a


def _shared(grads: Sequence[Array], others: Sequence[Array]) -> Iterator[Finding]:
    for k, g in enumerate(grads):
        if not g.size:
            continue
        if any(np.may_share_memory(g, h) for h in grads[k + 1 :]):
            yield k, "its gradient shares memory with another one"
        elif any(np.may_share_memory(g, a) for a in others):
            yield k, "its gradient shares memory with an input, a result or the incoming gradient"


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _norm(a: Any) -> float:
    return float(np.linalg.norm(np.ravel(a).astype(float)))


def _strided(a: Array) -> Array:
    """The same values, every other element of a larger array, backwards."""
    if not a.ndim:
        return a
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    view = wide[..., ::-2]
    view[...] = a
    return view
