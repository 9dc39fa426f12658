"""The Taylor test: does what a derivative leaves over fall as fast as it must?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._types import Array
from ..errors import ArgumentError
from ._figure import new_figure, write
from ._line import Line

Verdict = Literal["pass", "fail", "valid at kink", "inconclusive"]

CLEAR = 30.0  # a remainder counts where it is this many times the rounding noise: the slope then errs by a few percent
WINDOW = 6  # steps, the smallest that count, through which the slope is fitted
POWER = 0.01  # a test that could not see an error of 1 % proves nothing


@dataclass(frozen=True)
class TaylorResult:
    """What a Taylor test found; true when the derivatives are right.

    `steps` fall; `remainders[k]` has the remainder of order k at each, and `noise` the rounding noise, below which a
    remainder means nothing. `slopes[k]` is the slope of order k in the log-log picture, where k + 1 is right; infinite
    where the remainder is nothing but noise, as that of order 1 of a linear function. `resolution` is the relative
    error of the gradient, along the direction, that would have been seen.
    """

    verdict: Verdict
    reason: str
    steps: Array
    remainders: tuple[Array, ...]
    noise: Array
    slopes: tuple[float, ...]
    resolution: float
    used: tuple[slice, ...] = field(repr=False)

    def __bool__(self) -> bool:
        return self.verdict in ("pass", "valid at kink")

    def __str__(self) -> str:
        lines = [f"Taylor test: {self.verdict}. {self.reason}", "order  slope  should be  steps"]
        for k, (slope, used) in enumerate(zip(self.slopes, self.used, strict=True)):
            shown = "exact" if math.isinf(slope) else "  -" if math.isnan(slope) else f"{slope:5.2f}"
            steps = self.steps[used]
            span = f"{steps[0]:.1e} ... {steps[-1]:.1e}" if len(steps) else "-"
            lines.append(f"{k:>5}  {shown:>5}  {k + 1:>9}  {span}")
        return "\n".join(lines)

    def plot(self, path: str | Path) -> Path:
        """Draw the remainders against the step, with the slopes they should have; needs the extra viz."""
        figure, panel = new_figure("TaylorResult.plot", 7.2, 5.0)
        names = ["|f(x+h·d) − f(x)|", "… − h·g·d", "… − h²/2·dᵀH d"]
        for k, (values, slope, used) in enumerate(zip(self.remainders, self.slopes, self.used, strict=True)):
            shown = np.where(values > 0, values, np.nan)
            note = "exact" if math.isinf(slope) else "no slope" if math.isnan(slope) else f"slope {slope:.2f}"
            panel.plot(self.steps, shown, "o-", ms=3, lw=1, color=f"C{k}", label=f"order {k}: {names[k]}   {note}")
            if len(self.steps[used]):  # the slope it should have, drawn through the place where it was measured
                middle = (used.start + used.stop) // 2
                near = self.steps[max(used.start - 4, 0) : used.stop + 4]
                ideal = shown[middle] * (near / self.steps[middle]) ** (k + 1)
                panel.plot(near, ideal, "--", color=f"C{k}", lw=4, alpha=0.3)
        panel.plot([], [], "--", color="0.5", lw=4, alpha=0.3, label="slope that is right")
        floor = np.maximum(self.noise, 1e-300)
        panel.fill_between(self.steps, floor, color="0.5", alpha=0.2, lw=0, label="rounding noise")
        panel.set_xscale("log")
        panel.set_yscale("log")
        top = max(float(np.nanmax(r, initial=0.0)) for r in self.remainders)
        panel.set_ylim(float(floor.min()) / 30, 10 * max(top, 1e-290))
        panel.invert_xaxis()
        panel.set(xlabel="step h", ylabel="remainder", title=f"Taylor test: {self.verdict}")
        panel.legend(frameon=False, fontsize=8, loc="upper right", handlelength=3.5)
        return write(figure, path)


def taylor_test(
    fn: Callable[..., Any],
    x: Any,
    *,
    direction: Any = None,
    gradient: Any = None,
    order: int = 2,
    steps: Sequence[float] | Array | None = None,
    seed: int = 0,
) -> TaylorResult:
    """Whether f(x + h·d) − f(x) − h·g·d falls as h², and with the Hessian in it as h³, as it must if both are right.

    No tolerance decides, only slopes: the remainders of order 0, 1, 2 must fall at least as h, h², h³. `fn` takes
    `x`, an array or a tree (list, tuple, dict) of arrays, as Tensors, and returns one Tensor; several elements are
    weighed with random numbers. The direction d is drawn unless given, the steps are powers of ½.

    `gradient`, built as `x` is, is put to the test instead of that by autodiff, alone, without a Hessian: `fn` gets
    arrays then, so that NumPy alone will do, and returns a single number.

    Where the one-sided derivatives differ and the given one lies between, the verdict is "valid at kink".

    >>> import numpy as np, tinygrad_nn as tg
    >>> x = np.array([0.3, 1.1])
    >>> result = tg.testing.taylor_test(lambda x: tg.exp(x).sum(), x)
    >>> result.verdict, [round(slope) for slope in result.slopes]
    ('pass', [1, 2, 3])
    >>> tg.testing.taylor_test(lambda x: np.sum(np.exp(x)), x, gradient=1.01 * np.exp(x)).verdict
    'fail'
    """
    if order not in (1, 2):
        raise ArgumentError(f"taylor_test: order is 1 or 2, not {order!r}")
    line = Line("taylor_test", fn, x, direction, seed, plain=gradient is not None)
    if gradient is not None:
        order = 1  # only autodiff knows the Hessian, and it need not be able to trace `fn`
        if line.value.size != 1:
            raise ArgumentError(
                f"taylor_test: with gradient= the function must return one number, not {line.value.shape}"
            )
        g, bend = line.leaves_like("gradient", gradient), 0.0
    else:
        g, bend = line.derivatives(order)
    bits = -int(math.log2(line.eps))
    h = np.asarray(0.5 ** np.arange(1, bits - 1) if steps is None else sorted(map(float, steps), reverse=True))
    if h.ndim != 1 or len(h) < WINDOW or not np.all(h > 0):
        raise ArgumentError(f"taylor_test: give at least {WINDOW} positive steps, not {steps!r:.200}")

    value = line.value.astype(np.float64)
    signed = np.full((order + 1, 2, len(h)), np.nan)  # by order, side and step
    noise = np.zeros(len(h))
    for j, step in enumerate(h if math.isfinite(bend) and all(np.all(np.isfinite(a)) for a in g) else ()):
        changes, sizes = [], [line.weighed_size(value)]
        for side in (0, 1):
            moved, shift = line.step(-step if side else step)
            if not np.all(np.isfinite(moved)):
                continue
            change = line.weighed(moved - value)
            linear = float(sum(np.sum(a * b) for a, b in zip(g, shift, strict=True)))
            signed[:, side, j] = [change, change - linear, change - linear - 0.5 * step**2 * bend][: order + 1]
            changes.append(change)
            sizes += [line.weighed_size(moved), abs(linear), step**2 * abs(bend)]
        noise[j] = line.eps * max(sizes)
        if len(changes) == 2 and j >= len(h) - 8:  # so small a step bends nothing: what is left here is rounding
            noise = np.maximum(noise, abs(changes[0] + changes[1]))
    remainders = tuple(np.max(np.abs(r), axis=0) for r in signed)  # NaN where either side is outside the domain
    used = tuple(_window(r, noise) for r in remainders)
    slopes = tuple(_slope(h, r, u, noise, k) for k, (r, u) in enumerate(zip(remainders, used, strict=True)))
    scale = float(sum(np.sum(np.abs(a * d)) for a, d in zip(g, line.direction, strict=True)))
    with np.errstate(all="ignore"):
        blur = (remainders[1] + CLEAR * noise) / h
    resolution = float(np.nanmin(blur, initial=math.inf)) / (scale or 1.0)
    slope = float(sum(np.sum(a * d) for a, d in zip(g, line.direction, strict=True)))
    verdict, reason = _judge(h, signed, noise, slopes, used, (0.0, slope, bend), resolution)
    return TaylorResult(verdict, reason, h, remainders, noise, slopes, resolution, used)


def _window(remainder: Array, noise: Array) -> slice:
    """The smallest steps at which a remainder is clear of the noise: the end of the longest run of such steps."""
    best = start = length = 0
    for j, clear in enumerate([*(remainder > CLEAR * noise), False]):
        if clear:
            length += 1
            continue
        if length > best:
            best, start = length, j - length
        length = 0
    return slice(start + max(best - WINDOW, 0), start + best) if best >= 3 else slice(0, 0)


def _slope(h: Array, remainder: Array, used: slice, noise: Array, k: int) -> float:
    """The slope of log remainder over log step; infinite if there is no remainder, NaN if it cannot be told."""
    if used.stop - used.start < 3:  # nothing but noise, if need be from some step on, as when large steps cross a kink
        small = remainder[-len(h) * 3 // 4 :]
        return math.inf if np.all(small <= CLEAR * noise[-len(small) :]) else math.nan
    last, below = used.stop - 1, used.stop
    gone = below < len(h) and remainder[last] * (h[below] / h[last]) ** (k + 2) > CLEAR * noise[below]
    if gone and (k or below < len(h) // 2):  # the value itself is gone at last, when x + h·d is x
        return math.inf  # the steps have come closer than a kink or jump nearby, and nothing is left over
    return float(np.polyfit(np.log(h[used]), np.log(remainder[used]), 1)[0])


NAMES = ("value", "gradient", "Hessian")


def _judge(
    h: Array,
    signed: Array,
    noise: Array,
    slopes: tuple[float, ...],
    used: tuple[slice, ...],
    along: tuple[float, ...],
    resolution: float,
) -> tuple[Verdict, str]:
    """The verdict and its reason; `along[k]` is the given derivative of order k along the direction."""
    for name, value in zip(NAMES, along, strict=True):
        if not math.isfinite(value):
            return "inconclusive", f"The {name} is not finite here."
    if math.isnan(min(slopes)):
        return "inconclusive", "The remainders are nowhere finite and clear of rounding noise."
    if slopes[0] <= 0.8:
        return "inconclusive", f"f(x+h·d) − f(x) falls as h^{slopes[0]:.2f}: the function has no finite slope here."
    if any(slope <= k + 0.8 for k, slope in enumerate(slopes)):
        k, slope = len(slopes) - 1, slopes[-1]  # the highest order shows most: of a wrong gradient h is left there, too
        order = round(slope) if math.isfinite(slope) else 0
        if 1 <= order <= k and abs(slope - order) < 0.2:
            return _wrong_or_kink(h, signed[k], noise, used[k], order, along[order])
        falls = ", ".join(f"h^{s:.2f}" for s in slopes[1:])
        return "inconclusive", (
            f"The remainders fall as {falls}: the function is not smooth enough here, or an error is at the limit of "
            "what can be seen."
        )
    if not resolution < POWER:
        return (
            "inconclusive",
            f"A gradient wrong by {min(resolution, 1.0):.0%} would not have been seen: noise, or a jump.",
        )
    return "pass", f"A gradient wrong by {resolution:.0e} of itself along the direction would have been seen."


def _wrong_or_kink(h: Array, signed: Array, noise: Array, used: slice, order: int, along: float) -> tuple[Verdict, str]:
    """A remainder that falls as h^order: that derivative is wrong, unless those of the two sides differ."""
    name = NAMES[order]
    at = (used.start + used.stop) // 2  # clear of the noise, and small
    unit = h[at] ** order / math.factorial(order)
    left, right = (float(signed[side, at] * sign**order / unit) for side, sign in ((1, -1.0), (0, 1.0)))
    sides = f"from the left {along + left:.6g}, from the right {along + right:.6g}, given {along:.6g}"
    if abs(left - right) > 0.5 * max(abs(left), abs(right)):  # a wrong derivative errs alike on both sides
        unsure = 4 * noise[at] / unit
        if min(left, right) <= unsure and max(left, right) >= -unsure:
            return "valid at kink", f"The {name} lies between those of the two sides: {sides}."
        return "fail", f"A kink, and the {name} is not between those of the two sides: {sides}."
    return "fail", (
        f"The {name} is wrong: what it leaves over falls only as h{'²' if order == 2 else ''}. Along the direction it "
        f"is {along:.9g} and should be {along + right:.9g}."
    )
