"""Inputs that sit exactly at a kink or a tie, where the gradient must lie among the slopes that meet there."""

from __future__ import annotations

import numpy as np

from .._types import Array
from .judge import Outcome, Point, judge
from .numeric import Line
from .trial import InputCheck, cotangent, trial

KINK_TRIALS = 12
PIECES = 64  # random points near a kink whose slopes count: of equal numbers in sorted order, each may be any
SINGLE = 32  # elements at a kink that are also looked at one by one
MOST = 2048  # groups of elements that are moved to find those at a kink
NEAR = (2.0**-24, 2.0**-28)  # steps, relative to the scale of the input, at which a kink shows and curvature does not
DIFFER = "the slopes on the two sides differ"


def kinked_elements(check: InputCheck) -> Array:
    """Which elements of the input sit at a kink, by halving: a mask."""
    kinked = np.zeros_like(check.where)
    stack = [np.flatnonzero(check.where)]
    for _ in range(MOST):
        if not stack:
            return kinked
        group = stack.pop()
        mask = np.zeros_like(check.where)
        mask[group] = True
        # One direction may happen to move both of two equal numbers alike; two hardly ever do.
        if not any(_bends(check.point, check.point.direction(check.rng, mask)) for _ in range(2)):
            continue
        if group.size == 1:
            kinked[group] = True
        else:
            half = group.size // 2
            stack += [group[half:], group[:half]]
    for group in stack:
        kinked[group] = True
    return kinked


def _bends(point: Point, d: Array) -> bool:
    shares = []
    for h in NEAR:
        up, down = point.at(point.x + h * d) - point.mid, point.mid - point.at(point.x - h * d)
        gap, size = np.abs(up - down), np.maximum(np.abs(up), np.abs(down))
        shares.append(np.where(gap > 16 * point.eps * np.abs(point.mid), gap / size, 0.0))
    far, near = shares
    return bool(np.any((far > 1e-3) & (near > 0.5 * far) & np.isfinite(far)))  # curvature would fade as h falls


def at_kink(check: InputCheck, kinked: Array, trials: int) -> None:
    """Judge an input whose elements `kinked` sit at a kink: the others as usual, these between one-sided slopes."""
    point, report, rng = check.point, check.report, check.rng
    smooth = check.where & ~kinked
    for _ in range(trials if smooth.any() else 0):
        outcome, g, gradient, _ = trial(point, smooth, rng, smooth=True)
        if outcome.verdict == "fail" and check.located(smooth, g, gradient, outcome):
            return
        if outcome.verdict == "inconclusive":
            check.write("inconclusive", outcome)
            return
        report.resolution = min(report.resolution, outcome.resolution)
    directions = [point.direction(rng, kinked) for _ in range(KINK_TRIALS)]
    directions[0] = np.abs(directions[0])
    directions += [check.unit(int(i)) for i in np.flatnonzero(kinked)[:SINGLE]]
    shown = False
    for d in directions:
        alone = np.count_nonzero(d) == 1
        line, g = point.line(d), cotangent(point, rng)
        gradient = point.pull(g)
        outcome = judge(point, line, d, g, gradient, rng)
        if outcome.verdict == "fail" and not (alone and point.mid.size == 1):
            outcome = _among(point, line, d, g, outcome, rng, kinked)
        if outcome.verdict in ("fail", "inconclusive"):
            check.write(outcome.verdict, outcome, d)
            return
        if outcome.kink and (alone or not shown):
            shown = True
            check.write("valid at kink", check.bending(line, d, outcome) if alone and g.size > 1 else outcome, d)
    if not shown:
        report.verdict, report.reason = "inconclusive", "kinks were met in some directions only"


def _among(
    point: Point, line: Line, d: Array, g: Array, outcome: Outcome, rng: np.random.Generator, kinked: Array
) -> Outcome:
    """A second opinion where a direction bends: is the gradient among what the smooth pieces around allow?"""
    bounds = _apart(point, d, g)
    if bounds is None or not _inside(bounds, outcome):
        low, high, error = _limits(point, line, d, rng, kinked)
        slack = float(np.sum(np.abs(g) * error)) * point.tolerance
        bounds = float(np.sum(np.minimum(g * low, g * high))), float(np.sum(np.maximum(g * low, g * high))), slack
    if not _inside(bounds, outcome):
        return outcome
    least, most, slack = bounds
    sides = outcome.one_sided or (least, most)
    return Outcome("valid at kink", outcome.analytic, outcome.numeric, slack, most - least, DIFFER, sides, True)


def _inside(bounds: tuple[float, float, float], outcome: Outcome) -> bool:
    least, most, slack = bounds
    return least - slack <= outcome.analytic <= most + slack


def _apart(point: Point, d: Array, g: Array) -> tuple[float, float, float] | None:
    """What the slopes by each element alone add up to at least and at most, and the slack.

    None unless they add up to the slopes along `d`, as they do if every element has a kink of its own.
    """
    places = np.flatnonzero(d)
    if places.size > 64:
        return None
    h = NEAR[0]

    def sides(v: Array) -> tuple[float, float]:
        up = float(g @ (point.at(point.x + h * v) - point.mid)) / h
        down = float(g @ (point.mid - point.at(point.x - h * v))) / h
        return up, down

    alone = np.array([sides(np.where(np.arange(d.size) == i, d, 0.0)) for i in places])
    together = np.array(sides(d))
    slack = 1e-5 * float(np.abs(alone).sum()) + 64 * point.eps * float(np.linalg.norm(g * point.mid)) / h
    if not np.abs(alone.sum(axis=0) - together).max() <= slack:
        return None
    return float(alone.min(axis=1).sum()), float(alone.max(axis=1).sum()), slack * point.tolerance


def _limits(point: Point, line: Line, d: Array, rng: np.random.Generator, kinked: Array) -> tuple[Array, Array, Array]:
    """The smallest and largest slope of every output along `d` among the smooth pieces that meet at a kink; errors.

    These are the slopes on both sides, and at random points nearby: what the limits of gradients there allow. All that
    is at the kink moves to these: of equal numbers that are sorted, one that moves alone is first or last.
    """
    level = 10
    ok = np.isfinite(line.up[: level + 1]).all() and np.isfinite(line.down[: level + 1]).all()
    level = level if ok else 4
    h = line.h[level]
    slopes_ = [(line.up[level] - line.mid) / h, (line.mid - line.down[level]) / h]
    noise = 8 * line.eps * np.abs(line.mid) / h
    for _ in range(PIECES):
        near = point.x + point.direction(rng, kinked) * (64 * h)
        slope = (point.at(near + h * d) - point.at(near - h * d)) / (2 * h)
        if np.isfinite(slope).all():
            slopes_.append(slope)
    stack = np.array(slopes_)
    low, high = stack.min(axis=0), stack.max(axis=0)
    return low, high, noise + 1e-6 * np.maximum(np.abs(low), np.abs(high))
