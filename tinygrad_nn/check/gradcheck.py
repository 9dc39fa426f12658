"""`gradcheck` and `gradgradcheck`: the tiers in order, cheapest first, and the verdict on every input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._types import Array
from ..errors import ArgumentError, GradcheckError
from .blame import blame
from .judge import Outcome, Point, bisect, judge, limits, weaken
from .numeric import Line
from .precision import precision
from .problem import Problem, Recording, gradient_map, problem_of, random_cotangents, spread
from .structure import Finding, adjoint, algebra, structure, symmetry
from .verdict import GradcheckResult, InputReport, worst

Tier = Callable[[Problem, Recording, np.random.Generator], Iterator[Finding]]
TRIALS = 2
KINK_TRIALS = 12
JOINT = 1e-3  # an input whose share of a joint direction is resolved no better than this is checked alone


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    order: int = 1,
    tolerance: float = 1.0,
    seed: int = 0,
    raise_exception: bool = True,
) -> GradcheckResult:
    """Check the gradients of `fn(*inputs)` against the slopes that its values show, without a step size to choose.

    `inputs` are Tensors, arrays, or nested lists, tuples and dicts of them; what requires a gradient is checked, or
    everything floating if nothing does. If `fn` is a module, its parameters are checked too. `fn` returns Tensors,
    nested likewise. `order=2` checks the gradient's own gradients as well.

    The verdict is "pass" (with the `resolution`: the smallest relative error that would have been seen), "fail",
    "valid at kink" (the gradient lies between the slopes of the two sides) or "inconclusive" (with the reason; such a
    result is false but raises nothing). Tolerances follow from measured rounding errors; `tolerance` multiplies them.
    A wrong gradient raises `GradcheckError`, whose `result` is what is returned otherwise.

    >>> import numpy as np, tinygrad_nn as tg
    >>> result = tg.autograd.gradcheck(lambda x, y: tg.sin(x) * y, (np.ones(3), np.arange(3.0)))
    >>> result.verdict
    'pass'
    >>> result.resolution < 1e-8
    True
    """
    if order not in (1, 2):
        raise ArgumentError(f"gradcheck: order {order}; 1 and 2 can be checked")
    problem = problem_of(fn, inputs)
    result = check(problem, tolerance, seed)
    if result.verdict == "fail":
        result.blame = blame(_double(problem), lambda node: check(node, tolerance, seed))
    elif order == 2 and result:
        result = _second(problem, tolerance, seed)
    if raise_exception and result.verdict == "fail":
        raise GradcheckError(result)
    return result


def gradgradcheck(
    fn: Callable[..., Any], inputs: Any, *, tolerance: float = 1.0, seed: int = 0, raise_exception: bool = True
) -> GradcheckResult:
    """Check the second derivatives of `fn`: `gradcheck` of its gradient as a function of inputs and upstream gradient.

    >>> import numpy as np, tinygrad_nn as tg
    >>> bool(tg.autograd.gradgradcheck(lambda x: (x**3).sum(), np.arange(1.0, 4.0)))
    True
    """
    result = _second(problem_of(fn, inputs), tolerance, seed)
    if raise_exception and result.verdict == "fail":
        raise GradcheckError(result)
    return result


def _second(problem: Problem, tolerance: float, seed: int) -> GradcheckResult:
    """The tiers on the gradient as a function of inputs and incoming gradient, and the Hessian's symmetry."""

    def second_order(of: Problem) -> GradcheckResult:
        cotangents = random_cotangents(of.record().values, np.random.default_rng(seed + 1))
        return check(gradient_map(of, cotangents), tolerance, seed, [("symmetry of the Hessian", symmetry)])

    result = second_order(problem)
    result.order = 2
    if result.verdict == "fail":
        result.blame = blame(_double(problem), second_order)
    return result


def _double(problem: Problem) -> Problem:
    return problem.with_dtype(np.float64)


@np.errstate(all="ignore")
def check(problem: Problem, tolerance: float, seed: int, more: Sequence[tuple[str, Tier]] = ()) -> GradcheckResult:
    """All tiers of first order on a problem, and `more` of the kind that need no step size."""
    rng = np.random.default_rng(seed)
    reports = [InputReport(name, a.shape, str(a.dtype)) for name, a in zip(problem.names, problem.arrays, strict=True)]
    recording = problem.record()
    low = any(a.dtype != np.float64 for a in problem.arrays)
    double = problem.with_dtype(np.float64) if low else problem
    point = Point(double, double.record() if low else recording, tolerance)
    result = GradcheckResult("pass", math.inf, reports)
    wrong = False
    tiers: list[tuple[str, Tier, Problem, Recording]] = [
        ("structure", structure, problem, recording),
        ("algebra", algebra, double, point.recording),
        ("adjoint", adjoint, double, point.recording),
        *((name, tier, double, point.recording) for name, tier in more),
    ]
    for name, tier, checked, run in tiers:
        if name == "adjoint" and not run.has_jvp:
            continue
        result.tiers.append(name)
        try:
            findings = list(tier(checked, run, rng))
        except Exception as error:  # the walk runs rules of the user's
            findings = [(None, f"{name} check: the walk raised {type(error).__name__}: {error}")]
        for k, what in findings:
            wrong = True
            for report in reports if k is None else [reports[k]]:
                if report.verdict == "pass":
                    report.verdict, report.reason = "fail", what
        if wrong:
            break
    if not wrong:
        numeric(point, reports, rng)
        result.tiers.append("numeric with complex step" if point.analytic else "numeric")
        if low and point.finite.all():
            precision(problem, recording, double, point.recording, reports, tolerance, rng)
            result.tiers.append("precision")
    result.verdict = worst([r.verdict for r in reports])
    result.resolution = max((r.resolution for r in reports), default=math.inf)
    return result


def numeric(point: Point, reports: list[InputReport], rng: np.random.Generator) -> None:
    """The numeric tier: all inputs at once first, then alone those that this did not settle."""
    if not point.mid.size:
        for report in reports:
            report.reason, report.resolution = "no results to differentiate", 0.0
        return
    if not point.finite.any():
        for report in reports:
            report.verdict, report.reason = "inconclusive", "the function is not finite at the input"
        return
    shares = _joint(point, rng)
    for k, report in enumerate(reports):
        if shares is not None and shares[k] <= JOINT:
            report.resolution = max(shares[k], 2e-16)
        elif report.shape and 0 in report.shape:
            report.reason, report.resolution = "no elements", 0.0
        else:
            _alone(point, k, report, rng)
        if not point.finite.all() and report.verdict == "pass":
            report.verdict, report.reason = "inconclusive", "some results are not finite at the input"


def _cotangent(point: Point, rng: np.random.Generator) -> Array:
    g = np.ones(1) if point.mid.size == 1 else spread(rng, point.mid.size)
    return np.where(point.finite, g / point.unit, 0.0)


def _balanced(point: Point, d: Array, rng: np.random.Generator) -> tuple[Line, Array]:
    """A line, and a cotangent under which every output that moves counts about the same."""
    line = point.line(d)
    g = _cotangent(point, rng)
    if g.size > 1:
        level = len(line.h) * 3 // 4
        moved = np.abs(line.up[level] - line.down[level]) / (2 * line.h[level])
        rounding = line.eps * np.abs(line.mid) / line.h[level]
        weight = 1 / np.maximum(moved, 1e6 * rounding)
        good = np.isfinite(weight) & (weight < 1e200)
        if good.any():
            g = g * np.where(good, weight, np.median(weight[good])) / np.max(weight[good])
    return line, g


def _trial(
    point: Point, where: Any, balanced: bool, rng: np.random.Generator, smooth: bool = False
) -> tuple[Outcome, Array, Array, Array]:
    """One random direction over the elements `where`: the outcome, the cotangent, the gradient and the direction."""
    d = point.direction(rng, where, relative=balanced)
    line, g = _balanced(point, d, rng) if balanced else (point.line(d), _cotangent(point, rng))
    gradient = point.pull(g)
    return judge(point, line, d, g, gradient, rng, smooth), g, gradient, d


def _joint(point: Point, rng: np.random.Generator) -> list[float] | None:
    """The resolution of every input in directions that move all; None if those settle nothing."""
    if len(point.problem.arrays) == 1:
        return None
    shares = [math.inf] * len(point.problem.arrays)
    for i in range(TRIALS):
        outcome, _, gradient, d = _trial(point, slice(None), i > 0, rng)
        if outcome.verdict != "pass":
            return None
        for k, s in enumerate(point.problem.slices):
            size = float(np.linalg.norm(gradient[s] * d[s]))
            shares[k] = min(shares[k], outcome.error / size if size else math.inf)
    return shares


def _alone(point: Point, k: int, report: InputReport, rng: np.random.Generator) -> None:
    """Check one input while the others stand still."""
    where = np.zeros(point.problem.size, bool)
    where[point.problem.slices[k]] = True
    resolution = math.inf
    unclear: Outcome | None = None
    smooth = False
    for i in range(TRIALS):
        outcome, g, gradient, _ = _trial(point, where, i > 0, rng, smooth)
        if outcome.kink:
            kinked = _kinked(point, where)
            if kinked.any():
                _at_kink(point, k, report, where, kinked, rng)
                return
            smooth = True
            outcome, g, gradient, _ = _trial(point, where, i > 0, rng, smooth)
        if outcome.verdict == "fail":
            if _located(point, k, report, where, g, gradient, outcome, rng):
                return
            outcome.verdict, outcome.error = "pass", abs(outcome.analytic - outcome.numeric)
            weaken(outcome)
        if outcome.verdict == "pass":
            resolution = min(resolution, outcome.resolution)
            report.reason = outcome.reason
        else:
            unclear = unclear or outcome
    report.resolution = resolution
    if resolution == math.inf and unclear is not None:
        _write(report, "inconclusive", unclear)


def _located(
    point: Point,
    k: int,
    report: InputReport,
    where: Array,
    g: Array,
    gradient: Array,
    outcome: Outcome,
    rng: np.random.Generator,
    smooth: bool = True,
) -> bool:
    """Find the elements at fault and write them into the report; False if the failure does not show again."""

    def part(mask: Array) -> Outcome:
        d = point.direction(rng, mask) if mask.sum() > 1 else np.where(mask, point.scale, 0.0)
        return judge(point, point.line(d), d, g, gradient, rng, smooth)

    found = bisect(where, part)
    if not found:
        again = _trial(point, where, False, rng, smooth)[0]
        if again.verdict == "fail":
            _write(report, "fail", outcome)
            return True
        return False
    index, at = max(found, key=lambda f: abs(f[1].analytic - f[1].numeric))
    report.output, at, unit = _by_output(point, index, at, rng)
    _write(report, "fail", at, float(point.scale[index]) * unit)
    start = point.problem.slices[k].start
    report.element = tuple(int(i) for i in np.unravel_index(index - start, report.shape)) if report.shape else ()
    return True


def _by_output(point: Point, index: int, at: Outcome, rng: np.random.Generator) -> tuple[str | None, Outcome, float]:
    """One output whose derivative by the element is wrong by itself, so that figures can be read; their unit."""
    if point.mid.size == 1:
        return None, at, 1 / point.unit
    d = np.where(np.arange(point.x.size) == index, point.scale, 0.0)
    line = point.line(d)
    level = len(line.h) * 3 // 4
    moves = np.abs(line.up[level] - line.down[level])
    for i in np.argsort(-np.where(np.isfinite(moves), moves, 0.0))[:4].tolist():
        g = np.where(np.arange(point.mid.size) == i, 1 / point.unit, 0.0)
        outcome = judge(point, line, d, g, point.pull(g), rng, True)
        if outcome.verdict == "fail":
            return point.output_name(i), outcome, 1 / point.unit
    return "the results, weighted at random", at, 1 / point.unit


def _at_kink(point: Point, k: int, report: InputReport, where: Array, kinked: Array, rng: np.random.Generator) -> None:
    """Judge an input whose elements `kinked` sit at a kink: the others as usual, these between one-sided slopes."""
    shown: Outcome | None = None
    smooth = where & ~kinked
    if smooth.any():
        for _ in range(TRIALS):
            outcome, g, gradient, _ = _trial(point, smooth, False, rng, True)
            if outcome.verdict == "fail" and _located(point, k, report, smooth, g, gradient, outcome, rng):
                return
            if outcome.verdict == "inconclusive":
                _write(report, "inconclusive", outcome)
                return
            report.resolution = min(report.resolution, outcome.resolution)
    places = np.flatnonzero(kinked)
    masks = [kinked] * KINK_TRIALS
    for index in places[:32]:
        single = np.zeros_like(where)
        single[index] = True
        masks.append(single)
    for i, mask in enumerate(masks):
        d = point.direction(rng, mask)
        if i == 0:
            d = np.abs(d)
        line, g = point.line(d), _cotangent(point, rng)
        gradient = point.pull(g)
        outcome = judge(point, line, d, g, gradient, rng)
        if outcome.verdict == "fail" and (mask.sum() > 1 or point.mid.size > 1):
            outcome = _within(point, line, d, g, gradient, outcome, rng)
        single_element = int(mask.sum()) == 1
        if outcome.verdict in ("fail", "inconclusive"):
            _write(report, outcome.verdict, outcome, (abs(float(d[mask][0])) if single_element else 1.0) / point.unit)
            if single_element:
                _place(point, k, report, int(np.flatnonzero(mask)[0]))
            return
        if outcome.kink and (shown is None or single_element):
            shown = outcome
            if single_element and point.mid.size > 1:
                shown = outcome = _readable(point, line, d, outcome, report, rng)
            _write(report, "valid at kink", outcome, (float(d[mask][0]) if single_element else 1.0) / point.unit)
            report.element = None
            if single_element:
                _place(point, k, report, int(np.flatnonzero(mask)[0]))
    if shown is None:
        report.verdict, report.reason = "inconclusive", "kinks were met in some directions only"


def _readable(
    point: Point, line: Line, d: Array, outcome: Outcome, report: InputReport, rng: np.random.Generator
) -> Outcome:
    """The outcome for the one output that bends most, so that the figures can be read."""
    level = len(line.h) // 2
    bend = np.abs(line.up[level] + line.down[level] - 2 * line.mid)
    i = int(np.argmax(np.where(np.isfinite(bend), bend, 0.0)))
    g = np.where(np.arange(point.mid.size) == i, 1 / point.unit, 0.0)
    single = judge(point, line, d, g, point.pull(g), rng)
    if single.verdict != "valid at kink":
        return outcome
    report.output = point.output_name(i)
    return single


def _place(point: Point, k: int, report: InputReport, index: int) -> None:
    start = point.problem.slices[k].start
    report.element = tuple(int(i) for i in np.unravel_index(index - start, report.shape)) if report.shape else ()


def _within(
    point: Point, line: Line, d: Array, g: Array, gradient: Array, outcome: Outcome, rng: np.random.Generator
) -> Outcome:
    """A second opinion at a kink: is the gradient among what the smooth pieces around it allow?"""
    if (sum_ := _apart(point, d, g)) is not None:
        least, most, slack = sum_
        if least - slack <= outcome.analytic <= most + slack:
            reason = "the slopes on the two sides differ"
            sides = outcome.one_sided or (least, most)
            return Outcome("valid at kink", outcome.analytic, outcome.numeric, slack, most - least, reason, sides, True)
    low, high, error = limits(point, line, d, rng)
    least = float(np.sum(np.minimum(g * low, g * high)))
    most = float(np.sum(np.maximum(g * low, g * high)))
    slack = float(np.sum(np.abs(g) * error)) * point.tolerance
    if least - slack <= outcome.analytic <= most + slack:
        sides = outcome.one_sided or (least, most)
        reason = "the slopes on the two sides differ"
        return Outcome("valid at kink", outcome.analytic, outcome.numeric, slack, most - least, reason, sides, True)
    return outcome


def _apart(point: Point, d: Array, g: Array) -> tuple[float, float, float] | None:
    """What the slopes by each element alone add up to at least and at most, if the function is a sum of such parts."""
    places = np.flatnonzero(d)
    if places.size > 64:
        return None
    h = 2.0**-24

    def sides(v: Array) -> tuple[float, float]:
        up = float(g @ (point._at(point.x + h * v) - point.mid)) / h
        down = float(g @ (point.mid - point._at(point.x - h * v))) / h
        return up, down

    alone = np.array([sides(np.where(np.arange(d.size) == i, d, 0.0)) for i in places])
    together = np.array(sides(d))
    slack = 1e-5 * float(np.abs(alone).sum()) + 64 * point.eps * float(np.linalg.norm(g * point.mid)) / h
    if not np.abs(alone.sum(axis=0) - together).max() <= slack:
        return None
    return float(alone.min(axis=1).sum()), float(alone.max(axis=1).sum()), slack * point.tolerance


def _kinked(point: Point, where: Array) -> Array:
    """Which elements of an input sit at a kink, as far as moving each alone shows."""
    places = np.flatnonzero(where)
    kinked = np.zeros_like(where)
    if places.size > 1024:
        return where.copy()
    for index in places:
        d = np.where(np.arange(where.size) == index, point.scale, 0.0)
        bends = []
        for h in (2.0**-24, 2.0**-28):
            up, down = point._at(point.x + h * d) - point.mid, point.mid - point._at(point.x - h * d)
            gap, size = np.abs(up - down), np.maximum(np.abs(up), np.abs(down))
            bends.append(np.where(gap > 16 * point.eps * np.abs(point.mid), gap / size, 0.0))
        far, near = bends
        kinked[index] = np.any((far > 1e-3) & (near > 0.5 * far) & np.isfinite(far))  # curvature fades as h falls
    return kinked


def _write(report: InputReport, verdict: Any, outcome: Outcome, unit: float = 1.0) -> None:
    """Put an outcome into a report; `unit` is the length of the step, so that slopes read as derivatives."""
    report.verdict, report.reason = verdict, outcome.reason
    report.analytic, report.numeric = outcome.analytic / unit, outcome.numeric / unit
    report.error = outcome.error / abs(unit)
    if verdict != "inconclusive":
        report.resolution = outcome.resolution
    if outcome.one_sided is not None:
        left, right = (v / unit for v in outcome.one_sided)
        report.one_sided = (left, right) if unit > 0 else (right, left)
