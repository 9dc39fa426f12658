"""The numeric tier: the slope that the engine gives along a direction against the slope that the values show."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._types import Array
from ..registry import OPS
from .numeric import SINGULAR, Estimate, Line, Slopes, sample, slopes
from .problem import Problem, Recording, join, spread
from .scatter import NUDGE, scatter
from .verdict import Verdict

ODD = 1.3102439  # a factor that changes all rounding
OTHERS = 8  # sets of other steps that a slope is compared with before a gradient is called wrong
FLAT = 64.0  # a gradient of no more rounding units of the visible steepness is 0
POWERLESS = 1e-2  # a tolerance above this share of the slope proves nothing


@dataclass
class Outcome:
    """The verdict along one direction."""

    verdict: Verdict
    analytic: float
    numeric: float = math.nan
    error: float = math.inf  # what |analytic - numeric| may be
    reference: float = 0.0  # the size of slope that the error is compared with
    reason: str = ""
    one_sided: tuple[float, float] | None = None
    kink: bool = False

    @property
    def resolution(self) -> float:
        """The smallest relative error that would have been seen."""
        return max(self.error / self.reference, 2e-16) if self.reference > 0 else math.inf


class Point:
    """The function at its inputs, with what all directions share: the value, one recording, the inputs' scale."""

    def __init__(self, problem: Problem, recording: Recording, tolerance: float) -> None:
        self.problem, self.recording, self.tolerance = problem, recording, tolerance
        self.x = problem.x
        operations = recording.operations()
        self.analytic = bool(operations) and all(OPS.get(n.op.name) is n.op and n.op.analytic for n in operations)
        self.mid = join(recording.values)
        self.finite = np.isfinite(self.mid)
        dtypes = {y.dtype for y in recording.values} | {n.dtype for n in recording.nodes if n.dtype.kind == "f"}
        self.eps = max(float(np.finfo(d).eps) for d in dtypes) / 2
        size = float(np.max(np.abs(self.mid[self.finite]), initial=0.0))
        self.unit = (
            2.0 ** round(math.log2(size)) if size > 1e100 or 0 < size < 1e-100 else 1.0
        )  # squares must be finite
        self.scale = problem.scale

    def direction(self, rng: np.random.Generator, where: Array | slice, relative: bool = False) -> Array:
        """A random direction that moves only the elements `where`, each by about the scale of its input.

        If `relative`, each moves by its own size instead, so that tiny elements stay in their domain.
        """
        d = np.zeros(self.problem.size)
        size = np.where(self.x != 0, np.abs(self.x), self.scale) if relative else self.scale
        d[where] = (spread(rng, self.problem.size) * size)[where]
        return d

    def line(self, d: Array) -> Line:
        """The function along `d`."""
        size = float(np.max(np.abs(d), initial=0.0)) or 1.0
        largest = 0.5 * 2.0 ** math.ceil(min(max(0.0, -math.log2(size)), 40.0))
        return sample(self.at, self.x, d, self.eps, np.where(self.finite, self.mid, 0.0), largest)

    def at(self, x: Array) -> Array:
        """The values of the function at a vector of all inputs; 0 for those that are not finite at the inputs."""
        y = self.problem.at(x)
        return y if self.finite.all() else np.where(self.finite, y, 0.0)

    def output_name(self, i: int) -> str:
        """`result[2]` for element i of all results end to end; with its number if there are several results."""
        for k, y in enumerate(self.recording.values):
            if i < y.size:
                where = [int(j) for j in np.unravel_index(i, y.shape)]
                return (f"result {k}" if len(self.recording.values) > 1 else "result") + (str(where) if where else "")
            i -= y.size
        raise IndexError(i)

    def complex_slope(self, d: Array, x: Array) -> Array | None:
        """The slopes at `x` along `d` by a complex step: Im f(x + ihd) / h. None if that cannot be had."""
        if not self.analytic:
            return None
        h = 1e-30 / max(float(np.max(np.abs(d), initial=0.0)), 1e-250)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a cast to real that drops the imaginary part says so
                outputs = self.problem.outputs_at(self.problem.split(x + 1j * (h * d)))
        except Exception:  # whatever stands against complex numbers, real ones still serve
            return None
        if any(y.dtype != np.complex128 for y in outputs):
            return None
        return np.concatenate([y.imag.ravel() for y in outputs]) / h

    def pull(self, g: Array) -> Array:
        """The gradients of <g, f> as the engine gives them, end to end."""
        return pull(self.recording, g)

    def sensitivity(self, g: Array, gradient: Array, d: Array, rng: np.random.Generator) -> float:
        """How far rounding may move <gradient, d>: how unsteady it is when the inputs change by almost nothing."""
        terms = gradient * d
        rounding = 16 * self.eps * (float(np.linalg.norm(terms)) + abs(float(np.sum(terms))))
        change = 0.0
        for _ in range(3 if self.x.size <= 16 else 1):
            found = self._unsteady(g, gradient, d, np.where(self.x == 0, self.scale, self.x), rng)
            if found is None:  # many a function has a kink at 0: let those stand still
                found = self._unsteady(g, gradient, d, self.x, rng)
            change = max(change, found or 0.0)
        # Large contributions may have cancelled on the way back. The walk is linear in g, so scaled by what is no power
        # of 2, and scaled back, all that can change is their rounding.
        cancelled = abs(float((pull(self.recording, g * ODD) / ODD - gradient) @ d))
        return rounding + 4 * cancelled + 4 * change

    def _unsteady(self, g: Array, gradient: Array, d: Array, size: Array, rng: np.random.Generator) -> float | None:
        """How far <gradient, d> is from straight over steps that are next to nothing beside `size`: rounding.

        None if it jumps instead, across a kink, or because a rule is not continuous.
        """
        step = NUDGE * size * rng.standard_normal(self.x.size)
        up, down = (
            (pull(self.problem.record(self.problem.split(self.x + s)), g) - gradient) * d for s in (step, -step)
        )
        change = abs(float(np.sum(up + down)))
        visible = max(float(np.linalg.norm(gradient * d)), float(np.linalg.norm(up - down)))
        contributions = float(np.linalg.norm(g)) * float(np.linalg.norm(d))  # of this size, they may have cancelled
        return change if change <= max(1e-3 * visible, FLAT * self.eps * contributions) else None

    def scatter(self, g: Array, d: Array, rng: np.random.Generator, complex_step: bool) -> float:
        """How far rounding moves <gradient, d>, and the complex step if that is used, around the inputs."""

        def value(x: Array, factor: float) -> Array:
            gradient = pull(self.problem.record(self.problem.split(x)), factor * g) / factor
            exact = self.complex_slope(d, x) if complex_step else None
            return np.array([gradient @ d, 0.0 if exact is None else g @ exact])

        return scatter(self.problem, value, rng)


def pull(recording: Recording, g: Array) -> Array:
    """The gradients of <g, f> in a recording, end to end."""
    pieces, at = [], 0
    for y in recording.values:
        pieces.append(np.array(g[at : at + y.size].reshape(y.shape), y.dtype))
        at += y.size
    return join(recording.vjp(pieces))


def judge(
    point: Point,
    line: Line,
    d: Array,
    g: Array,
    gradient: Array,
    rng: np.random.Generator,
    smooth: bool = False,
    suspected: bool = False,
) -> Outcome:
    """Compare <gradient, d> with the slope of <g, f> along the line.

    `smooth`: there is known to be no kink. `suspected`: there is known to be a mistake, which is to be located.
    """
    inputs = float(np.linalg.norm(gradient * point.x * (d != 0)))
    s = slopes(line, g, point.eps * inputs if math.isfinite(inputs) else 0.0)
    terms = gradient * d
    analytic, size = float(np.sum(terms)), float(np.linalg.norm(terms))
    if not math.isfinite(analytic):
        return _not_finite(analytic, s)
    if s.jump:
        return Outcome("inconclusive", analytic, reason=_singular(1.0))
    if s.growth > SINGULAR and not (s.right.plateau and s.left.plateau and not s.kink):
        return Outcome("inconclusive", analytic, reason=_singular(s.growth))
    if s.kink and not smooth:
        between = (s.left.value, s.right.value)
        error = point.tolerance * (s.left.error + s.right.error + 16 * point.eps * size)
        inside = min(between) - error <= analytic <= max(between) + error
        verdict: Verdict = "valid at kink" if inside else "fail"
        reason = "the slopes on the two sides differ"
        return Outcome(verdict, analytic, s.central.value, error, max(map(abs, between)), reason, between, True)
    best, edge = s.central, False
    if not best.plateau:
        best, edge = min((s.right, s.left), key=lambda e: e.error), True
    if not best.plateau:
        return Outcome("inconclusive", analytic, reason=_unclear(s))
    exact = point.complex_slope(d, point.x)
    if exact is not None:
        slope, size_ = float(g @ exact), 32 * point.eps * float(np.linalg.norm(g * exact))
        told = best.error <= 0.1 * float(np.linalg.norm(g * exact))  # the values say enough to confirm it
        if told and abs(slope - best.value) <= best.error + size_ and size_ < best.error:
            best = Estimate(slope, size_, best.at, best.steps)
    own = point.sensitivity(g, gradient, d, rng)
    error = point.tolerance * (best.error + own)
    doubtful = not abs(analytic - best.value) <= error
    if doubtful and not suspected:  # a wrong gradient, or rounding that no single point tells of
        error += point.tolerance * point.scatter(g, d, rng, exact is not None)
        if best is s.central:
            error += point.tolerance * _spread(point, d, g, best.value, inputs, rng)
    reference = max(size, abs(best.value), 0.0 if size else s.steepness)
    outcome = Outcome("pass", analytic, best.value, error, reference, "at the edge of the domain" if edge else "")
    if not abs(analytic - best.value) <= error:
        outcome.verdict = "fail"
        outcome.reason = "the analytic gradient is not the slope"
        step = s.between
        seen = step is not None and step.error <= POWERLESS * abs(best.value)
        if step is not None and seen and abs(analytic - step.value) <= step.error + own:
            outcome.verdict = "inconclusive"
            outcome.reason = "the values move in steps, between which the slope is another one than across them"
    elif abs(best.value) <= error and not doubtful:
        _measure_zero(outcome, s, line, d, g, size, own)
    weaken(outcome)
    return outcome


def _spread(point: Point, d: Array, g: Array, slope: float, inputs: float, rng: np.random.Generator) -> float:
    """How far the slope is from those that other steps show: rounding goes unseen where all steps share it.

    They grow by powers of 2, so near 0, where only exponents differ, the same rounding error may come back at each.
    """
    rounding = point.eps * inputs if math.isfinite(inputs) else 0.0
    factors = (1 + rng.random(OTHERS)).tolist()
    others = [slopes(point.line(c * d), g, rounding).central for c in factors]
    return 2 * max((abs(e.value / c - slope) for e, c in zip(others, factors, strict=True) if e.plateau), default=0.0)


def _measure_zero(outcome: Outcome, s: Slopes, line: Line, d: Array, g: Array, size: float, own: float) -> None:
    """Find what a slope that may be 0 can be measured against, where the gradient is 0 but for its own rounding."""
    if size <= FLAT * line.eps * s.steepness:  # flat here, and only here
        outcome.reference = max(outcome.reference, s.steepness)
    if size <= own:  # flat all around: what could have been seen is measured against the values themselves
        moved = float(np.linalg.norm(d))
        natural = float(np.linalg.norm(g * line.mid)) / moved if moved else 0.0
        outcome.reference = max(outcome.reference, natural)
    if size == 0 and s.steepness == 0 and not np.any(line.mid):  # zero all around
        outcome.error, outcome.reference = 0.0, 1.0


def weaken(outcome: Outcome) -> None:
    """A pass that proves nothing becomes inconclusive."""
    if outcome.verdict == "pass" and outcome.resolution > POWERLESS:
        outcome.verdict = "inconclusive"
        outcome.reason = (
            f"rounding of the values hides relative errors below {outcome.resolution:.1g} (cancellation, or too low a "
            "precision)"
        )


def _not_finite(analytic: float, s: Slopes) -> Outcome:
    if s.growth > SINGULAR / 2 or not s.central.plateau:
        return Outcome("inconclusive", analytic, reason=_singular(max(s.growth, SINGULAR)))
    reason = "the analytic gradient is not finite, but the function has a slope"
    return Outcome("fail", analytic, s.central.value, s.central.error, abs(s.central.value), reason)


def _singular(growth: float) -> str:
    return "the function jumps at the input" if growth > 0.9 else "the slope at the input is infinite"


def _unclear(s: Slopes) -> str:
    if not math.isfinite(s.central.value) and s.central.steps == 0:
        return "the function is not finite around the input"
    return "the slopes at different steps do not agree: too rough a function, or too near a kink"


Judge = Callable[[Array], Outcome]  # the verdict when only the elements of a mask move


def bisect(mask: Array, check: Judge, limit: int = 3) -> list[tuple[int, Outcome]]:
    """The elements of `mask` whose gradient alone is wrong, the first `limit` found, by halving."""
    found: list[tuple[int, Outcome]] = []
    stack = [np.flatnonzero(mask)]
    while stack and len(found) < limit:
        part = stack.pop()
        if not part.size:
            continue
        chosen = np.zeros(mask.shape, bool)
        chosen[part] = True
        outcome = check(chosen)
        if outcome.verdict != "fail":
            continue
        if part.size == 1:
            found.append((int(part[0]), outcome))
        else:
            half = part.size // 2
            stack += [part[half:], part[:half]]
    return found
