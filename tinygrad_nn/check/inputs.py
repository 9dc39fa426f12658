"""The numeric tier over all inputs: together first, then alone those that this did not settle."""

from __future__ import annotations

import math

import numpy as np

from .judge import Outcome, Point, weaken
from .kinks import at_kink, kinked_elements
from .trial import InputCheck, trial
from .verdict import InputReport

TRIALS = 2
MORE_TRIALS = 4  # while none was conclusive
JOINT = 1e-3  # an input whose share of a joint direction is resolved no better than this is checked alone


def numeric(point: Point, reports: list[InputReport], rng: np.random.Generator) -> None:
    """Judge every input, and write what is found into its report."""
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
        elif 0 in report.shape:
            report.reason, report.resolution = "no elements", 0.0
        else:
            _alone(InputCheck(point, k, report, rng))
        if not point.finite.all() and report.verdict == "pass":
            report.verdict, report.reason = "inconclusive", "some results are not finite at the input"


def _joint(point: Point, rng: np.random.Generator) -> list[float] | None:
    """The resolution of every input in directions that move all; None if those settle nothing."""
    if len(point.problem.arrays) == 1:
        return None
    shares = [math.inf] * len(point.problem.arrays)
    for i in range(TRIALS):
        outcome, _, gradient, d = trial(point, slice(None), rng, relative=i > 0, even=i > 0)
        if outcome.verdict != "pass":
            return None
        for k, s in enumerate(point.problem.slices):
            size = float(np.linalg.norm(gradient[s] * d[s]))
            shares[k] = min(shares[k], outcome.error / size if size else math.inf)
    return shares


def _alone(check: InputCheck) -> None:
    """Check one input while the others stand still."""
    report = check.report
    unclear: Outcome | None = None
    smooth = False
    for i in range(MORE_TRIALS):
        if i >= TRIALS and report.resolution < math.inf:
            break
        how = {"relative": i > 0, "even": i > 0 and unclear is None}  # what was unclear must not lose its weight
        outcome, g, gradient, _ = trial(check.point, check.where, check.rng, **how, smooth=smooth)
        if outcome.kink:
            kinked = kinked_elements(check)
            if kinked.any():
                at_kink(check, kinked, TRIALS)
                return
            smooth = True  # rounding looked like a kink
            outcome, g, gradient, _ = trial(check.point, check.where, check.rng, **how, smooth=smooth)
        if outcome.verdict == "fail":
            if check.located(check.where, g, gradient, outcome):
                return
            outcome.verdict, outcome.error = "pass", abs(outcome.analytic - outcome.numeric)
            weaken(outcome)
        if outcome.verdict == "pass":
            report.resolution = min(report.resolution, outcome.resolution)
            report.reason = outcome.reason
        else:
            unclear = unclear or outcome
    if report.resolution == math.inf and unclear is not None:
        check.write("inconclusive", unclear)
