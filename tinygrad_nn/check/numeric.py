"""Derivatives along a line from function values alone, with an error that can be believed.

The function is sampled at x ± h·d for steps h that grow by a factor 4 from tiny to large. Small steps suffer from
rounding, which grows as 1/h and can be measured; large steps suffer from curvature, kinks and oscillation, which
cannot. So estimates are read from the *smallest* step upwards, each as an interval of its rounding error, as long as
all intervals met so far have a point in common (Lepski's rule); the one before the last such is taken. Steps so large
that the function looks smooth again by accident are never reached. Two levels of Richardson extrapolation (Ridders'
scheme) let the steps grow further before curvature shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._types import Array

RATIO = 4.0
SMALLEST = 2.0**-43  # of the scale of the inputs
FEW = 6  # of the smallest steps show the rounding
FEWEST = 3  # steps that must agree: a factor 16 of scale
SINGULAR = 0.25  # slopes that grow faster than h to the minus this have no limit
SURE = 4.0  # standard deviations of the rounding error that count as possible


@dataclass(frozen=True)
class Estimate:
    """A derivative, its error, and the step it was read at; `steps` is how many agreed."""

    value: float
    error: float
    at: int
    steps: int

    @property
    def plateau(self) -> bool:
        """Whether enough steps agreed for the value to mean something."""
        return self.steps >= FEWEST


@dataclass(frozen=True)
class Line:
    """The function along one direction: values at the point, and above and below it by every step, smallest first."""

    h: Array
    mid: Array
    up: Array
    down: Array
    eps: float  # the rounding unit that the function computes in


def sample(f: Callable[[Array], Array], x: Array, d: Array, eps: float, mid: Array, largest: float = 0.5) -> Line:
    """`f` at x ± h·d, for h from `SMALLEST` to `largest`; `mid` is f(x)."""
    steps: list[float] = []
    h = largest
    while h > SMALLEST and len(steps) < 64:
        steps.append(h)
        h /= RATIO
    hs = np.array(steps[::-1])
    moves = [h * d for h in hs]
    up = np.array([f(x + move) for move in moves])
    down = np.array([f(x - move) for move in moves])
    return Line(hs, mid, up, down, eps)


@dataclass(frozen=True)
class Slopes:
    """What the values along a line say about the slope of one projection of the outputs."""

    central: Estimate
    right: Estimate
    left: Estimate
    noise: float  # standard deviation of the rounding error of the projected value
    steepness: float  # the largest slope of a chord at larger steps: what the function visibly does
    growth: float  # how the one-sided slopes grow as h falls: h^-growth; 0 for a proper slope
    jump: bool  # whether the value changes at once, by the same amount however small the step
    between: Estimate | None = None  # where the values move in steps: the slope over a part of one

    @property
    def kink(self) -> bool:
        """Whether the slopes on the two sides differ by more than their errors."""
        r, left = self.right, self.left
        if not (r.plateau and left.plateau):
            return False
        return abs(r.value - left.value) > 2 * (r.error + left.error)


def slopes(line: Line, g: Array, rounding: float = 0.0) -> Slopes:
    """The slopes of <g, f> along the line. `rounding` is how far rounding of the inputs alone moves that value."""
    h = line.h
    up = (line.up - line.mid) @ g
    down = (line.mid - line.down) @ g
    both = (line.up - line.down) @ g
    hidden = _hidden(line, g)
    known = math.hypot(line.eps * math.sqrt(float(np.sum((g * line.mid) ** 2))), rounding)
    floor = 2 * math.hypot(known, hidden)
    seen = _noise(h, up, down, both)
    noise = max(seen, floor if math.isfinite(floor) else 0.0, 1e-300)
    away = _away(line, g)
    central = _climb(h, both / (2 * h), np.hypot(noise, away) / math.sqrt(2), RATIO**2, RATIO**2)
    between = None
    if hidden:
        shown = np.hypot(max(seen, 2 * known, 1e-300), away) / math.sqrt(2)
        between = _climb(h, both / (2 * h), shown, RATIO**2, RATIO**2)
    flat = not np.any(both[: central.at + 2])
    if flat or (
        central.at < FEWEST and _growth(h, up, down, noise) <= SINGULAR
    ):  # too early an end: staircase, rather than slope?
        coarse = _staircase(h, up, down, both)
        if coarse > noise:
            noise, between = coarse, between or central
            central = _climb(h, both / (2 * h), np.hypot(noise, away) / math.sqrt(2), RATIO**2, RATIO**2)
    one_sided = np.hypot(noise, away) * math.sqrt(2)
    right, left = (_climb(h, change / h, one_sided, RATIO, RATIO) for change in (up, down))
    chords = np.abs(np.concatenate([(up / h)[central.at :], (down / h)[central.at :]]))
    steepness = float(np.max(chords[np.isfinite(chords)], initial=0.0))
    return Slopes(
        central,
        right,
        left,
        noise,
        steepness,
        _growth(h, up, down, noise),
        _jump(up, floor) or _jump(down, floor),
        between,
    )


def _away(line: Line, g: Array) -> Array:
    """How far rounding may move the projected value at every step, where it is larger than at the point itself.

    That is the rounding of the value, and of the inputs times the steepness there: f(x) and its slope may both be 0.
    """
    moved = np.maximum(
        np.linalg.norm((line.up - line.mid) * g, axis=1), np.linalg.norm((line.down - line.mid) * g, axis=1)
    )
    away: Array = 2 * line.eps * (moved + 2 * moved / line.h)
    return np.where(np.isfinite(away), away, 0.0)


def _jump(change: Array, floor: float) -> bool:
    first = change[:FEW]
    size = float(np.abs(first).min())
    return size > 100 * floor and float(np.ptp(first)) <= 1e-3 * size


def _noise(h: Array, up: Array, down: Array, both: Array) -> float:
    """The standard deviation of the rounding error of one value, measured at the smallest steps.

    There the function is straight, so what remains of second differences, and the scatter of the slopes, is rounding.
    """
    few = slice(0, FEW)
    second = np.abs(up[few] - down[few]) / 1.5
    scatter = np.abs(np.diff(both[few] / (2 * h[few]))) * h[few][:-1] * 1.5
    return max([float(np.median(a)) for a in (second, scatter) if np.isfinite(a).all()], default=0.0)


def _hidden(line: Line, g: Array) -> float:
    """The noise of those outputs that stand still over the smallest steps because they move in steps of their own."""
    if g.size == 1:
        return 0.0  # seen in the projection itself
    still = np.all((line.up[:FEW] == line.mid) & (line.down[:FEW] == line.mid), axis=0)
    still &= (g != 0) & (line.up[-1] != line.mid)
    total = 0.0
    for i in np.flatnonzero(still)[:64]:
        up, down = line.up[:, i] - line.mid[i], line.mid[i] - line.down[:, i]
        total += float(g[i] * _staircase(line.h, up, down, line.up[:, i] - line.down[:, i])) ** 2
    return math.sqrt(total)


def _staircase(h: Array, up: Array, down: Array, both: Array) -> float:
    """The noise of a function that moves in steps (a sum with something huge, a cast to few digits); else 0.

    Such noise shows only from some size of step on, and then does not grow with it as kinks and curvature do.
    """
    second = np.abs(up - down)[:-1] / 1.5
    scatter = np.abs(np.diff(both / (2 * h))) * h[:-1] * 1.5
    size = np.hypot(second, scatter)
    found = 0.0
    for j in range(len(size) - 5):
        first, then = float(np.mean(size[j : j + 3])), float(np.mean(size[j + 3 : j + 6]))
        if size[j] > 0 and then < 8 * first and math.isfinite(then):
            found = max(found, first, then)
    return found


def _climb(h: Array, slope: Array, noise: Array, first: float, factor: float) -> Estimate:
    """The best estimate among the slopes and their extrapolations."""
    finite = np.isfinite(slope)
    count = len(h) if finite.all() else int(np.argmin(finite))  # steps beyond a pole say nothing
    if count < FEWEST:
        return Estimate(math.nan, math.inf, -1, 0)
    values, errors = slope[:count], SURE * noise[:count] / h[:count] + 4e-16 * np.abs(slope[:count])
    best = _agreeing(values, errors)
    power = first
    for _ in range(2):
        values = values[:-1] + (values[:-1] - values[1:]) / (power - 1)
        errors = errors[:-1] + (errors[:-1] + errors[1:]) / (power - 1)
        power *= factor
        if len(values) < FEWEST:
            break
        next_best = _agreeing(values, errors)
        if next_best.steps >= FEWEST and next_best.error < best.error:
            best = next_best
    return best


def _agreeing(values: Array, errors: Array) -> Estimate:
    """Go up from the smallest step while all intervals share a point; a single outlier may be stepped over."""
    low, high = -math.inf, math.inf
    agreed, missed = [0, 0], 0
    for j, (v, e) in enumerate(zip(values.tolist(), errors.tolist(), strict=True)):
        new_low, new_high = max(low, v - e), min(high, v + e)
        if new_low <= new_high:
            low, high, missed = new_low, new_high, 0
            agreed.append(j)
        else:
            missed += 1
            if missed == 2:
                break
    steps = len(agreed) - 2
    if steps < FEWEST and len(values) > FEWEST:  # no rounding to speak of: does it converge as h falls?
        changes = np.abs(np.diff(values[: FEWEST + 1]))
        if (changes[:-1] <= 0.6 * changes[1:]).all():
            return Estimate(float(values[0]), float(3 * changes[0] + errors[0]), 0, FEWEST)
    best = agreed[-2]  # at the last step that agreed, curvature may just have stayed unseen
    return Estimate(float(values[best]), 2 * float(errors[best]), best, steps)


def _growth(h: Array, up: Array, down: Array, noise: float) -> float:
    """The power by which slopes grow as h falls, read where the change is well above rounding; 0 if they do not."""
    rates = []
    for change in (up, down):
        size = np.abs(change)
        good = np.isfinite(change) & (size > 30 * noise)
        use = np.flatnonzero(good)[:8]
        if len(use) >= 4:
            x, y = np.log(h[use]), np.log(size[use])
            x -= x.mean()
            rates.append(1 - float(x @ y) / float(x @ x))
    return max(rates, default=0.0)
