"""`check_gradients` finds wrong gradients and shrinks them to the smallest input; right ones pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

import tinygrad_nn as tg
from tinygrad_nn.autograd import GradcheckError
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing import arguments, arrays, check_gradients, tensors, views

from . import wrong


def smallest(fn: Any, *strategies: Any, **how: Any) -> list[np.ndarray[Any, Any]]:
    """The inputs that a check of a wrong function ended with."""
    last: list[Any] = []

    def watched(*values: Any) -> Any:
        last[:] = [np.array(v.data if isinstance(v, tg.Tensor) else v) for v in values]
        return fn(*values)

    named = {f"a{i}": s for i, s in enumerate(strategies)}
    body = eval(f"lambda {', '.join(named)}: watched({', '.join(named)})", {"watched": watched})
    with pytest.raises(GradcheckError) as caught:
        check_gradients(**named, **how)(body)()
    assert caught.value.result.verdict == "fail"
    assert any("a0=" in note for note in caught.value.__notes__)
    return [np.asarray(shape_of) for shape_of in last]


@pytest.mark.parametrize("function", [wrong.Factor, wrong.Sign])
def test_a_wrong_function_shrinks_to_a_round_number(function: Any) -> None:
    (x,) = smallest(function.apply, arrays(), max_examples=100)
    assert x.shape == ()
    assert abs(x - 1.0) < 1e-2  # the check itself moves the input a little


def test_a_mistake_on_one_side_shrinks_to_a_number_there() -> None:
    (x,) = smallest(wrong.NegativeSide.apply, arrays(), max_examples=200)
    assert x.shape == ()
    assert abs(x + 1.0) < 1e-2


def test_a_mistake_in_the_last_of_several_elements_shrinks_to_two() -> None:
    (x,) = smallest(wrong.LastElement.apply, arrays(), max_examples=200)
    assert x.shape == (2,)


def test_a_forgotten_upstream_gradient_is_found_in_one_or_two_elements() -> None:
    (x,) = smallest(wrong.NoUpstream.apply, arrays(), max_examples=100)
    assert x.size <= 2


def test_a_missing_sum_over_rows_is_found_with_two_rows_of_one() -> None:
    rows, inner, columns = st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)
    shapes = st.tuples(rows, inner, columns).map(lambda n: ((n[0], n[1]), (n[1], n[2]), (n[2],)))

    @check_gradients(arguments("add", shapes), max_examples=20)
    def test(xwb: Any) -> Any:
        seen[:] = [np.shape(a) for a in xwb]
        return wrong.Affine.apply(*map(tg.asarray, xwb))

    seen: list[Any] = []
    with pytest.raises(GradcheckError) as caught:
        test()
    assert seen == [(2, 1), (1, 1), (1,)]
    assert [report.verdict for report in caught.value.result.inputs] == ["pass", "pass", "fail"]


def test_right_functions_pass() -> None:
    check_gradients(arrays())(wrong.Cube.apply)()
    check_gradients(tensors(views(arrays("log"))))(tg.log)()
    check_gradients(arrays("exp"), order=2, max_examples=10)(tg.exp)()


def test_valid_at_a_kink_passes() -> None:
    check_gradients(arrays("relu", kinks=True))(tg.relu)()


def test_other_values_and_fixtures_are_passed_on(tmp_path: Any) -> None:
    seen = []

    @check_gradients(x=arrays(shape=(2, 3)), axis=st.sampled_from([0, 1]), max_examples=5)
    def test(folder: Any, x: Any, axis: int) -> Any:
        seen.append((folder, axis))
        return tg.sum(tg.square(x), axis=axis)

    test(folder=tmp_path)
    assert {folder for folder, _ in seen} == {tmp_path}
    assert {axis for _, axis in seen} <= {0, 1}


class TestInAClass:
    @check_gradients(arrays(), max_examples=5)
    def test_self_is_no_input(self, x: Any) -> Any:
        assert isinstance(self, TestInAClass)
        return tg.sin(x)


def test_nothing_conclusive_is_no_pass() -> None:
    with pytest.raises(Unsatisfiable):
        check_gradients(arrays(), max_examples=5)(wrong.Buried.apply)()


def test_errors_of_the_function_come_through() -> None:
    def refuses(x: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        check_gradients(arrays())(refuses)()


@pytest.mark.parametrize(
    ("strategies", "named", "message"),
    [
        ((), {}, "no strategy"),
        ((arrays(), arrays()), {}, "2 strategies for the 1 arguments of"),
        ((arrays(),), {"x": arrays()}, "x is given twice"),
        ((), {"y": arrays()}, "y is no argument of"),
        ((3.0,), {}, "must be drawn by a strategy"),
    ],
)
def test_misuse(strategies: Any, named: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        check_gradients(*strategies, **named)(lambda x: x)
