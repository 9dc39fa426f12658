"""The classic picture of numerical differentiation: error against step, for four ways to take a difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Array
from ..errors import ArgumentError
from ..graph import Node, reachable
from ._figure import new_figure, write
from ._line import Line

METHODS = {
    "forward": ("(f(x+h) − f(x)) / h", "C0"),
    "central": ("(f(x+h) − f(x−h)) / 2h", "C1"),
    "extrapolated": ("(4·central(h/2) − central(h)) / 3", "C2"),
    "complex step": ("Im f(x+ih) / h", "C3"),
}


@dataclass(frozen=True)
class StepSizeStudy:
    """Errors of numerical derivatives against the step.

    `errors[method]` belongs to `steps`; methods are "forward", "central", "extrapolated" and, where the function is
    complex-differentiable, "complex step". Errors are relative to `derivative`, the one by autodiff (absolute if that
    is 0). `best[method]` is (step, error); `left_out` says why a method is missing.
    """

    steps: Array
    errors: dict[str, Array]
    best: dict[str, tuple[float, float]]
    derivative: float
    left_out: dict[str, str]

    def __str__(self) -> str:
        lines = [f"derivative {self.derivative:.17g}", "method        best step  error there"]
        lines += [f"{name:<12}  {h:9.1e}  {error:11.1e}" for name, (h, error) in self.best.items()]
        lines += [f"{name:<12}  left out: {why}" for name, why in self.left_out.items()]
        return "\n".join(lines)

    def plot(self, path: str | Path) -> Path:
        """Draw the errors against the step in logarithmic scales; needs the extra viz."""
        figure, panel = new_figure("StepSizeStudy.plot", 7.6, 5.2)
        floor = 1e-17  # no error at all must be drawn somewhere
        for name, errors in self.errors.items():
            formula, color = METHODS[name]
            shown = np.where(np.isfinite(errors), np.maximum(errors, floor), np.nan)
            label = f"{name}: {formula}"
            if name != "complex step":  # flat, so that no step is best
                h, error = self.best[name]
                label += f"   best at {h:.0e}"
                panel.plot(h, max(error, floor), "o", ms=8, color=color, mec="white", zorder=3)
            panel.plot(self.steps, shown, "-", lw=1.6, color=color, label=label)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(floor / 5, 100)
        relative = "relative error" if self.derivative else "error"
        panel.set(
            xlabel="step h",
            ylabel=relative,
            title="Differences: truncation to the right, rounding to the left",
        )
        panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.4))
        return write(figure, path)


def step_size_study(
    fn: Callable[..., Any],
    x: Any,
    *,
    direction: Any = None,
    derivative: float | None = None,
    steps: Sequence[float] | Array | None = None,
    seed: int = 0,
) -> StepSizeStudy:
    """How far forward, central, extrapolated and complex-step differences are off, at steps from 1 to 1e-20.

    The derivative of `fn` at `x`, an array or a tree of arrays, is taken along `direction` (drawn unless given; 1 for a
    single number), and the errors are those against autodiff, or against `derivative` where that is given: then `fn`
    gets arrays, and NumPy alone will do. Python numbers are float64 here. A curve that flattens at the same height for
    every method shows an error of the derivative.

    The complex step is left out where an operation is not complex-differentiable, as abs and max.

    >>> import tinygrad_nn as tg
    >>> study = tg.testing.step_size_study(lambda x: tg.exp(x) / (tg.sin(x) ** 3 + tg.cos(x) ** 3), 1.5)
    >>> [name for name, (h, error) in study.best.items() if error < 1e-14]
    ['complex step']
    """
    line = Line("step_size_study", fn, x, direction, seed, plain=derivative is not None)
    h = np.logspace(0, -20, 121) if steps is None else np.array(sorted(map(float, steps), reverse=True))
    if h.ndim != 1 or not len(h) or not np.all(h > 0):
        raise ArgumentError(f"step_size_study: steps must be positive numbers, not {steps!r:.200}")
    left_out: dict[str, str] = {}
    if derivative is None:
        gradient, _ = line.derivatives(1)
        exact = float(sum(np.sum(g * d) for g, d in zip(gradient, line.direction, strict=True)))
        left_out |= _not_analytic(line)
    else:
        exact = float(derivative)
    value = line.value.astype(np.float64)

    def difference(step: float, back: bool) -> float:
        far = line.step(step)[0].astype(np.float64)
        near = line.step(-step)[0].astype(np.float64) if back else value
        return line.weighed(far - near) / (2 * step if back else step)

    found = {
        "forward": np.array([difference(s, False) for s in h]),
        "central": np.array([difference(s, True) for s in h]),
    }
    half = np.array([difference(s / 2, True) for s in h])
    found["extrapolated"] = (4 * half - found["central"]) / 3
    if not left_out:
        try:
            found["complex step"] = np.array([line.complex_step(s) for s in h])
        except (TypeError, ValueError) as error:
            left_out["complex step"] = f"the function takes no complex numbers ({error})"
    errors = {name: np.abs(d - exact) / (abs(exact) or 1.0) for name, d in found.items()}
    best = {}
    for name, e in errors.items():
        j = int(np.argmin(np.where(np.isfinite(e), e, math.inf)))
        best[name] = float(h[j]), float(e[j])
    return StepSizeStudy(h, errors, best, exact, left_out)


def _not_analytic(line: Line) -> dict[str, str]:
    _, y = line.recorded()
    nodes = reachable([y._node] if y._node is not None else [])
    names = sorted({node.op.name for node in nodes if isinstance(node, Node) and not node.op.analytic})
    return {"complex step": f"{', '.join(names)}: not complex-differentiable"} if names else {}
