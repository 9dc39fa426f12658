"""A failed check names the operation at fault, the line where it ran, and the likely mistake."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.autograd import GradcheckResult, gradcheck
from tinygrad_nn.registry import Op
from tinygrad_nn.tensor import apply


def custom(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    class Layer(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            ctx.save_for_backward(*args)
            return forward(*args)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return backward(grad, *ctx.saved_tensors)

    return Layer


def composite(layer: Any) -> Callable[..., Any]:
    def model(*xs: Any) -> Any:
        inner = [tg.exp(0.1 * x) for x in xs]
        out = layer.apply(*inner)  # the line to blame
        return (out * tg.sin(out)).sum()

    return model


def blamed(layer: Any, *inputs: Any) -> GradcheckResult:
    result = gradcheck(composite(layer), inputs, raise_exception=False)
    assert result.verdict == "fail" and result.blame is not None and result.blame.operation == "Layer"
    assert result.blame.line is not None and "the line to blame" in result.blame.line
    source, start = inspect.getsourcelines(composite)
    number = start + next(i for i, line in enumerate(source) if "the line to blame" in line)
    assert f"{__file__}:{number}:" in result.blame.line
    assert result.blame.rule is not None and result.blame.rule.startswith(__file__)
    return result


RNG = np.random.default_rng(0)
SQUARE = RNG.standard_normal((3, 3))
REPEATED = np.array([0, 1, 1])
TWICE = custom(lambda x: x[REPEATED], lambda g, x: tg.asarray(np.array([g.data[0], g.data[2], 0.0])))


@pytest.mark.parametrize(
    ("forward", "backward", "inputs", "said"),
    [
        (tg.sin, lambda g, x: -g * tg.cos(x), (SQUARE,), "sign"),
        (tg.sin, lambda g, x: 2 * g * tg.cos(x), (SQUARE,), "2 times what it should be"),
        (tg.sin, lambda g, x: 2 / 3 * g * tg.cos(x), (SQUARE,), "0.666667 times what it should be"),
        (tg.sin, lambda g, x: tg.cos(x), (SQUARE,), "incoming gradient is missing"),
        (tg.sin, lambda g, x: (g * tg.cos(x)).T, (SQUARE,), "transposed"),
        (tg.sin, lambda g, x: g, (SQUARE,), "passed on unchanged"),
        (tg.sin, lambda g, x: 0 * g, (SQUARE,), "zero"),
        (tg.sin, lambda g, x: tg.roll(g * tg.cos(x), 1), (RNG.standard_normal(5),), "shifted by 1"),
        (tg.sin, lambda g, x: (g * tg.cos(x))[::-1], (RNG.standard_normal(5),), "reverse order"),
        (tg.cumsum, lambda g, x: tg.cumsum(g), (RNG.standard_normal(5),), "not its transpose"),
        (lambda x: tg.asarray(np.sort(x.data)), lambda g, x: g, (np.array([3.0, 1, 2, 9, 4]),), "not permuted back"),
        (lambda x, b: x + b, lambda g, x, b: (g, g[0]), (SQUARE, SQUARE[0]), "broadcast axis"),
        (
            lambda x: x[REPEATED],
            lambda g, x: tg.asarray(np.array([g.data[0], g.data[2], 0.0])),
            (RNG.standard_normal(3),),
            "occurs twice",
        ),
        (
            tg.sin,
            lambda g, x: g * tg.cos(x) * np.where(np.arange(8) == 3, 1.02, 1.0),
            (RNG.standard_normal(8),),
            "wrong at [[3]] only: 1.02 times what it should be",
        ),
    ],
)
def test_planted_mistake(forward: Any, backward: Any, inputs: Any, said: str) -> None:
    result = blamed(custom(forward, backward), *inputs)
    assert result.blame is not None and result.blame.mistake is not None and said in result.blame.mistake
    assert "likely mistake" in str(result) and "ran at" in str(result)


@pytest.mark.parametrize("x", [np.ones((4, 3)), RNG.standard_normal((4, 3))], ids=["equal rows", "different rows"])
def test_missing_sum_over_rows_of_a_single_result(x: Any) -> None:
    """Nothing but the shape of the other argument tells the rows apart, or of equal rows from a factor."""
    layer = custom(
        lambda x, b: ((x + b) ** 3).sum(),
        lambda g, x, b: (3 * g * tg.square(x + b), 3 * g * tg.square(x + b)[0]),
    )
    result = blamed(layer, x, np.array([0.5, -1.0, 2.0]))
    assert result.blame is not None and "the sum over a broadcast axis is missing" in str(result.blame.mistake)


def test_first_wrong_node_in_a_chain() -> None:
    wrong = [Op(f"wrong_{k}", "elementwise", np.sin, (lambda t, y, x: 1.1 * t * tg.cos(x),)) for k in range(2)]
    for op in wrong:
        op.jvps = op.vjps

    def model(x: Any) -> Any:
        h = tg.tanh(x @ np.ones((3, 3)))
        return apply(wrong[1], apply(wrong[0], h)).sum()

    result = gradcheck(model, np.full((2, 3), 0.3), raise_exception=False)
    assert result.blame is not None and result.blame.operation == "wrong_0"
    assert result.blame.mistake == "1.1 times what it should be"


def test_no_mistake_is_named_where_the_values_are_right() -> None:
    def rule(g: Any, _y: Any, x: Any) -> Any:
        return differentiable_once(g, x)

    def refuse(*_: Any) -> Any:
        raise ValueError("no second derivative")

    once = Op("once", "linear", lambda g, x: g * np.cos(x), (refuse, refuse))
    differentiable_once = functools.partial(apply, once)
    op = Op("twice", "general", np.sin, (rule,), (rule,))
    result = tg.autograd.gradgradcheck(lambda x: apply(op, x), (np.ones(3),), raise_exception=False)
    assert result.verdict == "fail" and "no second derivative" in str(result)
    assert result.blame is not None and result.blame.operation == "twice" and result.blame.mistake is None


def test_argument_at_fault() -> None:
    rules = (lambda t, y, a, b: t * b, lambda t, y, a, b: t * b)
    op = Op("times", "elementwise", np.multiply, rules, rules)
    result = gradcheck(lambda a, b: apply(op, a, b), (np.ones(3), np.full(3, 2.0)), raise_exception=False)
    assert result.blame is not None and result.blame.argument == 1


def test_no_blame_where_every_rule_is_right() -> None:
    """The history is cut by the user, so no operation is at fault."""
    result = gradcheck(lambda x: x * x.detach(), np.ones(3), raise_exception=False)
    assert result.verdict == "fail" and result.blame is None


def test_profiler_is_put_back() -> None:
    def hook(*_: Any) -> None:
        pass

    before = sys.getprofile()
    sys.setprofile(hook)
    try:
        gradcheck(composite(TWICE), np.ones(3), raise_exception=False)
        assert sys.getprofile() is hook
    finally:
        sys.setprofile(before)
