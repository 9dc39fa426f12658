"""What a gradient check found: verdicts, and the report for people."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["pass", "fail", "valid at kink", "inconclusive"]
WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "valid at kink", "pass")


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict of a whole from the verdicts of its parts."""
    return min(verdicts, key=WORST_FIRST.index, default="inconclusive")


@dataclass
class InputReport:
    """The verdict on the gradient of one input.

    `analytic` and `numeric` are derivatives by the element `element` (along a random direction if that is None) of the
    results weighted with the upstream gradient; `error` is what their difference may be. `one_sided` are the slopes on
    the left and on the right, where they differ.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    verdict: Verdict = "pass"
    resolution: float = math.inf
    element: tuple[int, ...] | None = None
    output: str | None = None
    analytic: float | None = None
    numeric: float | None = None
    error: float | None = None
    one_sided: tuple[float, float] | None = None
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.name} {self.dtype}{self.shape}: {self.verdict}"
        if self.verdict == "pass" and self.resolution < math.inf:
            text += f" (would have seen a relative error of {self.resolution:.1g})"
        lines = [text + (f": {self.reason}" if self.reason else "")]
        if self.verdict != "pass" and self.analytic is not None:
            where = f"element {list(self.element)}" if self.element is not None else "along a random direction"
            if self.output:
                where += f" of the gradient of {self.output}"
            lines.append(f"  {where}: analytic {self.analytic:.12g}")
            if self.one_sided is not None:
                lines[-1] += f", slopes on the two sides {self.one_sided[0]:.12g} and {self.one_sided[1]:.12g}"
            elif self.numeric is not None:
                lines[-1] += f", numeric {self.numeric:.12g} ± {self.error:.1g}"
        return "\n".join(lines)


@dataclass
class Blame:
    """The operation whose rule is wrong: its name, where it ran, where its rule is, and the likely mistake."""

    operation: str
    argument: int | None = None
    line: str | None = None
    rule: str | None = None
    mistake: str | None = None
    report: InputReport | None = None

    def __str__(self) -> str:
        text = self.operation + (f", argument {self.argument}" if self.argument is not None else "")
        lines = [f"wrong rule: {text}"]
        if self.line:
            lines.append(f"  ran at {self.line}")
        if self.rule:
            lines.append(f"  rule at {self.rule}")
        if self.mistake:
            lines.append(f"  likely mistake: {self.mistake}")
        if self.report is not None:
            lines += ["  checked alone, " + line.strip() for line in str(self.report).splitlines()[1:]]
        return "\n".join(lines)


@dataclass
class GradcheckResult:
    """The outcome of a check; true when the gradient may be trusted (verdicts "pass" and "valid at kink").

    `resolution` is the smallest relative error of a gradient that would have been seen, for the input where that is
    worst. `inputs` has one report for each input; `blame` names the operation at fault, where one was found.
    """

    verdict: Verdict
    resolution: float
    inputs: list[InputReport]
    order: int = 1
    blame: Blame | None = None
    tiers: list[str] = field(default_factory=list)  # which checks ran

    def __bool__(self) -> bool:
        return self.verdict in ("pass", "valid at kink")

    def __str__(self) -> str:
        head = f"gradcheck{'' if self.order == 1 else f' of order {self.order}'}: {self.verdict}"
        if self.verdict == "pass":
            head += f"; would have seen a relative error of {self.resolution:.1g}"
        lines = [head]
        for report in self.inputs:
            lines += ["  " + line for line in str(report).splitlines()]
        if self.blame is not None:
            lines += ["  " + line for line in str(self.blame).splitlines()]
        if self.tiers:
            lines.append("  checked: " + ", ".join(self.tiers))
        return "\n".join(lines)
