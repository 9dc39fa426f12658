"""The checker on every registered operation: right rules pass, at ties too; wrong rules fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinygrad_nn.autograd import GradcheckResult, gradcheck, gradgradcheck
from tinygrad_nn.registry import OPS, Op, Rule
from tinygrad_nn.tensor import Tensor

from .. import contract
from ..contract import Trial
from ..test_checkers import CURVED, PLANTS, plain, remade, rules_of, with_rule
from ..test_ops_contract import SMOOTH, TIES


def checked(
    op: Op, trial: Trial, check: Callable[..., GradcheckResult] = gradcheck, dtype: Any = np.float64
) -> GradcheckResult:
    def fn(*moving: Any) -> Any:
        args: list[Any] = list(trial.args)
        for i, m in zip(trial.moving, moving, strict=True):
            args[i] = m
        return op.call(*args, **trial.params)

    inputs = tuple(trial.args[i].astype(dtype) for i in trial.moving)
    return check(fn, inputs, seed=trial.seed, raise_exception=False)


@pytest.mark.parametrize("name", SMOOTH)
def test_right_rules_pass(name: str) -> None:
    for trial in contract.trials(OPS[name]):
        if not trial.moving:
            continue
        for check in (gradcheck, gradgradcheck):
            result = checked(OPS[name], trial, check)
            assert result.verdict == "pass" and result.resolution < 1e-5, f"{trial}\n{result}"
        single = checked(OPS[name], trial, dtype=np.float32)
        assert single.verdict == "pass", f"{trial}\n{single}"


@pytest.mark.parametrize("name", sorted(TIES))
def test_ties_are_never_failures(name: str) -> None:
    """The declared policies are all among the limits of gradients nearby, or at jumps where nothing can be said."""
    for arguments, params, _, _ in TIES[name]:
        trial = Trial(OPS[name], tuple(np.array(a) for a in arguments), params, 0)
        result = checked(OPS[name], trial)
        assert result.verdict != "fail", str(result)


WRONG: dict[str, Callable[[Rule], Rule]] = {
    **PLANTS,
    "times 1 + 1e-5": lambda rule: lambda t, y, *args, **params: plain(rule(t, y, *args, **params)) * (1 + 1e-5),
}


@pytest.mark.parametrize("plant", WRONG)
def test_wrong_rules_fail(plant: str) -> None:
    for name in SMOOTH:
        op = OPS[name]
        for mode, i in rules_of(op):
            if mode == "jvp" or (contract.is_flat(op, i) and plant != "plus 0.01"):
                continue
            changes = {
                a: with_rule(getattr(op, a), i, WRONG[plant]) for a in ("vjps", "jvps") if mode in ("both", a[:3])
            }
            wrong = remade(op, **changes)
            trials = [t for t in contract.trials(wrong) if i in t.moving and t.cotangent.size]
            if plant == "shifted by one":
                trials = [t for t in trials if t.args[i].size > 1]
            found = (checked(wrong, t).verdict == "fail" for t in trials)
            assert any(found) or not trials, f"{name}: argument {i} {plant} was accepted"


@pytest.mark.parametrize("name", CURVED)
def test_rule_without_its_own_derivative_is_blamed(name: str) -> None:
    def still(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    def plant(rule: Rule) -> Rule:
        return lambda t, y, *args, **params: rule(t, still(y), *map(still, args), **params)

    op = OPS[name]
    vjps = with_rule(op.vjps, 0, plant)
    wrong = remade(op, vjps=vjps, jvps=vjps if op.kind == "elementwise" else op.jvps)
    trial = next(t for t in contract.trials(wrong) if 0 in t.moving and t.args[0].size > 1)
    assert checked(wrong, trial).verdict == "pass"
    result = checked(wrong, trial, gradgradcheck)
    assert result.verdict == "fail" and result.blame is not None and result.blame.operation == name
