"""Gradients in float32 and float16, judged in units of their own precision against the same rules in float64."""

from __future__ import annotations

import math

import numpy as np

from .._types import Array
from .judge import POWERLESS
from .problem import Problem, Recording, random_cotangents
from .scatter import scatter
from .verdict import InputReport

GROSS = 100.0  # a difference this many times what rounding explains is no rounding


def precision(
    problem: Problem,
    low: Recording,
    double: Problem,
    high: Recording,
    reports: list[InputReport],
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """Compare the gradients of both runs, and lower the resolution of the reports to what the dtype allows."""
    cotangents = [g.astype(y.dtype) for g, y in zip(random_cotangents(high.values, rng), low.values, strict=True)]
    wide = [g.astype(y.dtype) for g, y in zip(cotangents, high.values, strict=True)]
    mine, exact = low.vjp(cotangents), high.vjp(wide)
    eps = max(float(np.finfo(a.dtype).eps) for a in (*problem.arrays, *low.values))
    wobbled = [x * (1 + eps * rng.standard_normal(x.shape)) for x in double.arrays]
    moved = double.record(wobbled).vjp(wide)
    depth = math.sqrt(1 + len(low.operations()))
    off = max((_ratio(a, b, eps) for a, b in zip(low.values, high.values, strict=True)), default=1.0)
    for k, (report, g, h, m) in enumerate(zip(reports, mine, exact, moved, strict=True)):
        if report.dtype == "float64" or report.verdict in ("fail", "inconclusive"):
            continue
        if not np.isfinite(h).all():
            continue
        if not np.isfinite(g).all():
            report.verdict, report.reason = "inconclusive", f"the gradient overflows in {report.dtype}"
            continue
        size, gap = _norm(h), _norm(g - h)
        allowed = tolerance * (
            4 * eps * size * depth * max(1.0, off) + 4 * _norm(m - h) + float(np.finfo(g.dtype).tiny)
        )
        seen = max(allowed, gap) / size if size else 0.0

        def difference(x: Array, factor: float, k: int = k) -> Array:
            arrays = problem.cast(x)
            scaled = [(factor * c).astype(c.dtype) for c in cotangents]
            mine = problem.record(arrays).vjp(scaled)[k]
            at = [a.astype(np.float64) for a in arrays]
            exact = double.record(at).vjp([c.astype(y.dtype) for c, y in zip(scaled, high.values, strict=True)])[k]
            return np.ravel(mine.astype(float) - exact) / factor

        if gap > GROSS * allowed and gap > scatter(problem, difference, rng):
            report.verdict = "fail"
            report.reason = (
                f"the gradient in {report.dtype} differs from that in float64 by {gap / size if size else gap:.2g}"
            )
        elif seen > POWERLESS and report.verdict == "pass":
            report.verdict = "inconclusive"
            report.reason = f"the precision of {report.dtype} hides relative errors below {seen:.1g}"
        report.resolution = max(report.resolution if report.resolution < math.inf else 0.0, seen)


def _ratio(low: Array, high: Array, eps: float) -> float:
    """By how many units of precision a result is off."""
    size = _norm(high)
    gap = _norm(low - high)
    return gap / (eps * size) if size and math.isfinite(gap) else 1.0


def _norm(a: Array) -> float:
    return float(np.linalg.norm(np.ravel(a).astype(float)))
