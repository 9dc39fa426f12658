"""The public gradient checker on wrong rules and right ones: a quick part of the suites in `tests/benchmarks`."""

from __future__ import annotations

import zlib

import pytest

from ..benchmarks import false_alarms, gradcheck_table, mutations


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_broken_rules_are_caught(kind: str) -> None:
    """One in ten of a kind, the same ones every time, and on until three have changed something."""
    of_kind = [mutant for mutant in mutations.mutants(mutations.smooth()) if mutant.kind == kind]
    of_kind.sort(key=lambda mutant: zlib.crc32(str(mutant).encode()))
    tried = 0
    for count, mutant in enumerate(of_kind):
        if count >= len(of_kind) / 10 and tried >= 3:
            break
        verdicts = set(mutations.judge(mutant)[1])
        assert verdicts <= {"fail", "equal"}, f"{mutant}: {verdicts}"
        tried += "fail" in verdicts
    assert tried >= 3


def test_right_rules_are_not() -> None:
    for name in mutations.smooth():
        verdicts, doubted = mutations.false_alarms(name, range(1, 2))
        assert verdicts.total() and not doubted, doubted


@pytest.mark.parametrize(
    "piece", [false_alarms.Piece(11), false_alarms.Piece(12, "softmax"), false_alarms.Piece(13, "maximum", kinks=True)]
)
def test_random_programs_of_right_rules_are_not(piece: false_alarms.Piece) -> None:
    verdicts, doubted = false_alarms.check(piece)
    assert verdicts.total() > 90
    assert not [text for verdict, text in doubted if verdict == "fail"]


@pytest.mark.parametrize("case", gradcheck_table.CASES, ids=lambda case: case.name)
def test_public_cases(case: gradcheck_table.Case) -> None:
    found = gradcheck_table.verdicts(case, gradcheck_table.ours, seeds=4)
    assert set(found) <= set(case.right), found
    if case.name == "relu at exactly 0, gradient 0":
        assert set(found) == {"valid at kink"}
    if case.name == "1e12 + sin":
        assert set(found) == {"inconclusive"}
