"""Random programs: inside their domains, equal to the source they print, and with right gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings, strategies as st

import tinygrad_nn as tg
from tinygrad_nn.domains import Reals
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.registry import OPS
from tinygrad_nn.testing import Program, Step, assert_gradients, calls, programs
from tinygrad_nn.testing.domain_arrays import nth
from tinygrad_nn.testing.random_programs import Variable, is_inside

DIFFERENTIABLE = sorted(name for name, op in OPS.items() if op.vjps)


def run_source(program: Program) -> Any:
    names: dict[str, Any] = {}
    exec(str(program), names)
    return names["program"](*names["inputs"])


@given(programs())
def test_the_source_is_the_program(program: Program) -> None:
    given_values, printed = program(*program.inputs), run_source(program)
    assert len(given_values) == len(printed) > 0
    for a, b in zip(given_values, printed, strict=True):
        assert np.array_equal(a, b)
        assert np.shape(a) == np.shape(b)


@given(programs())
def test_each_operation_is_inside_its_domain(program: Program) -> None:
    values: list[Any] = list(program.inputs)
    for step in program.steps:
        domains = OPS[step.op].domain
        for i, argument in enumerate(step.arguments):
            domain = nth(domains, i)
            if isinstance(argument, Variable) and isinstance(domain, Reals):
                value = np.asarray(values[argument.position])
                if step.op not in ("multiply", "add", "reshape", "getitem"):  # these make a value fit
                    assert is_inside(domain, value), (step, value)
        values.append(step.run(values))
        assert np.all(np.isfinite(values[-1]))


@settings(max_examples=200)
@given(programs())
def test_variables_come_before_their_use(program: Program) -> None:
    for i, step in enumerate(program.steps):
        for argument in step.arguments:
            assert not isinstance(argument, Variable) or argument.position < len(program.inputs) + i


def test_graphs_have_shared_nodes_and_several_results() -> None:
    def uses(p: Program) -> list[int]:
        found = [a.position for s in p.steps for a in s.arguments if isinstance(a, Variable)]
        return [found.count(i) for i in set(found)]

    find(programs(), lambda p: max(uses(p), default=0) >= 3)
    find(programs(), lambda p: len(p(*p.inputs)) >= 3)
    find(programs(operations=["matmul", "exp"]), lambda p: [s.op for s in p.steps].count("exp") == 2)


def test_programs_shrink_to_one_step_on_a_number() -> None:
    program = find(programs(), lambda p: np.max(p(*p.inputs)[-1], initial=0.0) > 1.5)
    assert len(program.steps) == 1
    assert all(x.shape == () and float(x).is_integer() for x in program.inputs)
    assert program(*map(tg.tensor, program.inputs))[0].shape == ()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@settings(max_examples=5)
@given(data=st.data())
def test_calls_of_every_operation(name: str, data: Any) -> None:
    program = data.draw(calls(name))
    (step,) = program.steps
    assert step.op == name
    (value,), (printed,) = program(*program.inputs), run_source(program)
    assert np.array_equal(value, printed)


@settings(max_examples=20)
@given(programs(max_steps=4))
def test_gradients_of_programs(program: Program) -> None:
    if sum(x.size for x in program.inputs):
        assert_gradients(program, *program.inputs)


@given(programs(operations=["exp", "add", "matmul", "max"], dtype=np.float32))
def test_dtype_of_programs(program: Program) -> None:
    assert all(x.dtype == np.float32 for x in (*program.inputs, *program(*program.inputs)))


def test_calls_at_kinks() -> None:
    program = find(calls("relu", kinks=True), lambda p: True)
    assert program.inputs[0] == 0.0
    with pytest.raises(ArgumentError, match="exp declares no kink"):
        calls("exp", kinks=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: calls("argmax"), "argmax has no derivative"),
        (lambda: programs(0), "at least one step"),
        (lambda: programs(operations=["equal"]), "none of these operations has a derivative"),
        (lambda: programs(operations=["no_such"]), "is no registered operation"),
        (lambda: Program((np.ones(1),), (Step("exp", (Variable(0),)),))(), "takes 1 inputs, not 0"),
    ],
)
def test_misuse(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_source_of_a_program_made_by_hand() -> None:
    program = Program(
        (np.float32([1.0, -2.0]), np.zeros((0, 2))),
        (
            Step("getitem", (Variable(0),), {"index": (slice(None, None, -1), None)}),
            Step("multiply", (Variable(2), 0.5)),
            Step("sum", (Variable(1),), {"axis": (0,), "keepdims": False}),
        ),
    )
    assert str(program).splitlines()[3:] == [
        "def program(x0, x1):",
        "    y0 = tg.getitem(x0, index=(slice(None, None, -1), None))",
        "    y1 = tg.multiply(y0, 0.5)",
        "    y2 = tg.sum(x1, axis=(0,), keepdims=False)",
        "    return (y1, y2,)",
        "",
        "inputs = (np.array([1.0, -2.0], dtype=np.float32), np.zeros((0, 2), dtype=np.float64),)",
    ]
    y1, y2 = run_source(program)
    assert y1.tolist() == [[-1.0], [0.5]] and y1.dtype == np.float32
    assert y2.tolist() == [0.0, 0.0]
