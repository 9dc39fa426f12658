"""The tiers of a check in order, cheapest first; at order two the same ones on the gradient as a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError
from .blame import blame
from .inputs import numeric
from .judge import Point
from .precision import precision
from .problem import Problem, Recording, gradient_map, problem_of, random_cotangents
from .structure import Finding, adjoint, algebra, structure, symmetry
from .verdict import GradcheckResult, InputReport, worst

Tier = Callable[[Problem, Recording, np.random.Generator], Iterator[Finding]]


def run(fn: Callable[..., Any], inputs: Any, order: int, tolerance: float, seed: int) -> GradcheckResult:
    """Check `fn` at one order, and look for whom to blame if it fails."""

    def first_order(problem: Problem) -> GradcheckResult:
        return check(problem, tolerance, seed)

    def second_order(problem: Problem) -> GradcheckResult:
        cotangents = random_cotangents(problem.record().values, np.random.default_rng(seed + 1))
        return check(gradient_map(problem, cotangents), tolerance, seed, [("symmetry of the Hessian", symmetry)])

    check_order = first_order if order == 1 else second_order
    problem = problem_of(fn, inputs)
    result = check_order(problem)
    result.order = order
    if result.verdict == "fail":
        result.blame = blame(problem.with_dtype(np.float64), check_order)
    return result


@np.errstate(all="ignore")
def check(problem: Problem, tolerance: float, seed: int, more: Sequence[tuple[str, Tier]] = ()) -> GradcheckResult:
    """All tiers of first order on a problem, and `more` of the kind that need no step size."""
    rng = np.random.default_rng(seed)
    reports = [InputReport(name, a.shape, str(a.dtype)) for name, a in zip(problem.names, problem.arrays, strict=True)]
    recording = problem.record()
    if any(y.dtype.kind == "c" for y in recording.values):
        raise DTypeError("gradcheck: the function returns complex numbers; check their real and imaginary parts")
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
