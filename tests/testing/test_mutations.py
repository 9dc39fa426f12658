"""The public gradient checker on wrong rules and right ones: a quick part of the suites in `tests/benchmarks`."""

from __future__ import annotations

import zlib

import pytest

from ..benchmarks import gradcheck_table, mutations


def chosen(mutant: mutations.Mutant) -> bool:
    """One in ten, the same ones every time."""
    return zlib.crc32(str(mutant).encode()) % 10 == 0


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_broken_rules_are_caught(kind: str) -> None:
    tried = 0
    for mutant in mutations.mutants(mutations.smooth()):
        if mutant.kind == kind and chosen(mutant):
            verdicts = set(mutations.judge(mutant)[1])
            assert verdicts <= {"fail", "equal"}, f"{mutant}: {verdicts}"
            tried += "fail" in verdicts
    assert tried


def test_right_rules_are_not() -> None:
    for name in mutations.smooth():
        verdicts, doubted = mutations.false_alarms(name, range(1, 2))
        assert verdicts.total() and not doubted, doubted


@pytest.mark.parametrize("case", gradcheck_table.CASES, ids=lambda case: case.name)
def test_public_cases(case: gradcheck_table.Case) -> None:
    found = gradcheck_table.verdicts(case, gradcheck_table.ours, seeds=4)
    assert set(found) <= set(case.right), found
    if case.name == "relu at exactly 0, gradient 0":
        assert set(found) == {"valid at kink"}
    if case.name == "1e12 + sin":
        assert set(found) == {"inconclusive"}
