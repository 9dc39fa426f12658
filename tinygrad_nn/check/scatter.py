"""Rounding, seen in how something computed scatters at points around the inputs.

Where large contributions cancelled inside a function, nothing that is left of them tells how large they were, nor how
far their rounding moved the result: a slope of 1e-15 may be right, or be what rounding made of 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._types import Array
from .problem import Problem

NUDGE = 1e-11  # a change of the inputs over which every gradient is straight, but for rounding
CROWD = 32  # points on either side of the inputs: rounding may strike one in ten only


def scatter(problem: Problem, value: Callable[[Array, float], Array], rng: np.random.Generator) -> float:
    """How far rounding may move the vector `value(x, factor)` at the inputs of `problem`.

    It is linear in the incoming gradient; `value` scales that by the factor, and the result back, which changes
    nothing but rounding. The inputs themselves are not among the points: if a rule is wrong there alone, nothing need
    scatter around them. 0 if the function is not finite nearby.
    """
    eps = max((float(np.finfo(a.dtype).eps) for a in problem.arrays), default=0.0)
    nudge = max(NUDGE, 16 * eps)
    shift = nudge * np.where(problem.x == 0, problem.scale, problem.x) * rng.standard_normal(problem.size)
    bends: list[float] = []
    for sign in (1.0, -1.0):
        steps = sign * np.cumsum(rng.random(CROWD) + 0.5)  # uneven: rounding may repeat itself with a period
        factors = (1 + rng.random(CROWD)).tolist()
        found = np.array([value(problem.x + t * shift, c) for t, c in zip(steps, factors, strict=True)])
        share = ((steps[1:-1] - steps[:-2]) / (steps[2:] - steps[:-2]))[:, None]
        bends += np.linalg.norm(found[1:-1] - found[:-2] - share * (found[2:] - found[:-2]), axis=1).tolist()
    largest = sorted(b for b in bends if np.isfinite(b))[::-1]
    # All are next to nothing but for rounding. A kink between two points makes two of them large, an odd point three.
    return 4 * largest[2] if len(largest) > CROWD else 0.0
