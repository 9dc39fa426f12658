"""Single trials on one input: a random direction judged, a failure traced to its element, an outcome written down."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._types import Array
from .judge import Outcome, Point, bisect, judge
from .numeric import Line
from .problem import spread
from .verdict import InputReport, Verdict


def cotangent(point: Point, rng: np.random.Generator) -> Array:
    """A random incoming gradient of all results that are finite."""
    g = np.ones(1) if point.mid.size == 1 else spread(rng, point.mid.size)
    return np.where(point.finite, g / point.unit, 0.0)


def balanced(point: Point, line: Line, g: Array) -> Array:
    """`g`, scaled so that every result that moves along the line counts about the same."""
    if g.size == 1:
        return g
    level = len(line.h) * 3 // 4
    moved = np.abs(line.up[level] - line.down[level]) / (2 * line.h[level])
    rounding = line.eps * np.abs(line.mid) / line.h[level]
    weight = 1 / np.maximum(moved, 1e6 * rounding)
    good = np.isfinite(weight) & (weight < 1e200)
    if not good.any():
        return g
    weighted: Array = g * np.where(good, weight, np.median(weight[good])) / np.max(weight[good])
    return weighted


def trial(
    point: Point,
    where: Any,
    rng: np.random.Generator,
    *,
    relative: bool = False,
    even: bool = False,
    smooth: bool = False,
) -> tuple[Outcome, Array, Array, Array]:
    """One random direction over the elements `where`: the outcome, the cotangent, the gradient and the direction.

    If `relative`, every element moves by its own size; if `even`, results count alike whatever their size.
    """
    d = point.direction(rng, where, relative)
    line, g = point.line(d), cotangent(point, rng)
    if even:
        g = balanced(point, line, g)
    gradient = point.pull(g)
    return judge(point, line, d, g, gradient, rng, smooth), g, gradient, d


class InputCheck:
    """The check of input `k` while the others stand still; what it finds goes into `report`."""

    def __init__(self, point: Point, k: int, report: InputReport, rng: np.random.Generator) -> None:
        self.point, self.report, self.rng = point, report, rng
        self.place = point.problem.slices[k]
        self.where = np.zeros(point.problem.size, bool)
        self.where[self.place] = True

    def unit(self, index: int) -> Array:
        """The direction that moves one element alone, by the scale of its input."""
        d = np.zeros(self.point.problem.size)
        d[index] = self.point.scale[index]
        return d

    def located(self, where: Array, g: Array, gradient: Array, outcome: Outcome) -> bool:
        """Find the elements of `where` at fault, and report the worst; False if the failure does not show again."""
        point = self.point

        def part(mask: Array) -> Outcome:
            d = point.direction(self.rng, mask) if mask.sum() > 1 else np.where(mask, point.scale, 0.0)
            return judge(point, point.line(d), d, g, gradient, self.rng, smooth=True, suspected=True)

        found = bisect(where, part)
        if not found:
            again = trial(point, where, self.rng, smooth=True)[0]
            if again.verdict == "fail":
                self.write("fail", outcome)
            return again.verdict == "fail"
        index, at = max(found, key=lambda f: abs(f[1].analytic - f[1].numeric))
        if point.mid.size > 1:
            at = self._by_output(index, at)
        self.write("fail", at, self.unit(index))
        return True

    def _by_output(self, index: int, at: Outcome) -> Outcome:
        """The outcome for one result whose derivative by the element is wrong by itself: figures that can be read."""
        d = self.unit(index)
        line = self.point.line(d)
        level = len(line.h) * 3 // 4
        for i in _largest(np.abs(line.up[level] - line.down[level]), 4):
            outcome = self.single(i, line, d, smooth=True)
            if outcome.verdict == "fail":
                self.report.output = self.point.output_name(i)
                return outcome
        self.report.output = "the results, weighted at random"
        return at

    def bending(self, line: Line, d: Array, outcome: Outcome) -> Outcome:
        """The outcome for the one result that bends most along `d`."""
        level = len(line.h) // 2
        (i,) = _largest(np.abs(line.up[level] + line.down[level] - 2 * line.mid), 1)
        single = self.single(i, line, d, smooth=False)
        if single.verdict != "valid at kink":
            return outcome
        self.report.output = self.point.output_name(i)
        return single

    def single(self, i: int, line: Line, d: Array, smooth: bool) -> Outcome:
        """The outcome for result element `i` alone."""
        g = np.zeros(self.point.mid.size)
        g[i] = 1 / self.point.unit
        return judge(self.point, line, d, g, self.point.pull(g), self.rng, smooth)

    def write(self, verdict: Verdict, outcome: Outcome, d: Array | None = None) -> None:
        """Report an outcome; if `d` moves one element only, that one is named and the figures are its derivatives."""
        report = self.report
        unit = 1.0
        if d is not None and np.count_nonzero(d) == 1:
            index = int(np.flatnonzero(d)[0])
            unit = float(d[index])
            report.element = tuple(int(i) for i in np.unravel_index(index - self.place.start, report.shape))
        unit /= self.point.unit
        report.verdict, report.reason = verdict, outcome.reason
        report.analytic, report.numeric = outcome.analytic / unit, outcome.numeric / unit
        report.error = outcome.error / abs(unit)
        if verdict != "inconclusive":
            report.resolution = outcome.resolution
        if outcome.one_sided is not None:
            left, right = (v / unit for v in outcome.one_sided)
            report.one_sided = (left, right) if unit > 0 else (right, left)


def _largest(values: Array, count: int) -> list[int]:
    order: list[int] = np.argsort(-np.where(np.isfinite(values), values, 0.0))[:count].tolist()
    return order
