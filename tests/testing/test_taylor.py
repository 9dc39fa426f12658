"""The Taylor test: right derivatives give the slopes 1, 2, 3, wrong ones do not, and kinks are told apart."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, MissingExtraError
from tinygrad_nn.registry import OPS
from tinygrad_nn.testing import taylor_test

from ..benchmarks import mutations

X = np.array([0.3, -1.2, 0.8, 1.9])


def sine(factor: float) -> Any:
    class Sine(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return tg.sin(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return factor * g * tg.cos(x)

    return Sine.apply


class StillSine(tg.autograd.Function):
    """Its gradient is right, but a constant to whoever differentiates it."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return tg.sin(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * tg.cos(x.detach())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("fn", "x"),
    [
        (lambda x: tg.exp(x).sum(), X),
        (tg.sin, X),
        (sine(1.0), X),
        (lambda x: tg.log(x), np.array([1e-9, 2.0])),
        (lambda x: tg.sin(1e5 * x), X),
        (lambda p: tg.tanh(p["w"] @ p["x"] + p["b"]).sum(), {"w": np.full((2, 4), 0.3), "x": X, "b": np.ones(2)}),
        (tg.exp, np.array(300.0)),
    ],
)
def test_right_derivatives_have_the_slopes_1_2_3(fn: Any, x: Any, seed: int) -> None:
    result = taylor_test(fn, x, seed=seed)
    assert result.verdict == "pass", result
    assert result
    np.testing.assert_allclose(result.slopes, [1.05, 2.1, 3.2], atol=0.3)
    assert result.resolution < 1e-3


def test_remainders_against_constants() -> None:
    """x³ at 2 along 1: f = 8, f' = 12, f'' = 12, so that at h = 1/2 the changes are 7.625, 1.625, 0.125 or less."""
    result = taylor_test(lambda x: x**3, 2.0, direction=1.0)
    assert result.steps[0] == 0.5
    assert [r[0] for r in result.remainders] == pytest.approx([7.625, 1.625, 0.125], rel=1e-12)


def test_what_is_exact() -> None:
    assert taylor_test(lambda x: 3 * x, X).slopes[1:] == (np.inf, np.inf)
    quadratic = taylor_test(lambda x: (x * x).sum(), X)
    assert quadratic.slopes[1] == pytest.approx(2, abs=0.05) and quadratic.slopes[2] == np.inf
    assert taylor_test(tg.cos, 0.0).slopes == pytest.approx((2, 2, 4), abs=0.1)
    assert "exact" in str(quadratic)


@pytest.mark.parametrize("factor", [1.01, 1.0005, 1 + 1e-5, 1 + 1e-6, -1.0, 2.0])
def test_wrong_gradient_fails(factor: float) -> None:
    result = taylor_test(sine(factor), X)
    assert not result
    assert result.verdict == "fail"
    assert result.slopes[1] == pytest.approx(1, abs=0.2)
    assert "gradient is wrong" in result.reason


def test_zero_gradient_of_a_tiny_function_fails() -> None:
    assert taylor_test(lambda x: 1e-6 * sine(0.0)(x), X).verdict == "fail"


def test_wrong_hessian_fails_at_order_two_alone() -> None:
    result = taylor_test(StillSine.apply, X)
    assert result.verdict == "fail"
    assert result.slopes == pytest.approx((1, 2, 2), abs=0.1)
    assert "Hessian is wrong" in result.reason
    assert taylor_test(StillSine.apply, X, order=1).verdict == "pass"


def test_gradient_by_hand_of_plain_numpy() -> None:
    def fn(x: Any) -> Any:
        assert isinstance(x, np.ndarray)
        return np.sum(np.exp(x)) + np.linalg.norm(x)

    right = np.exp(X) + X / np.linalg.norm(X)
    assert taylor_test(fn, X, gradient=right).verdict == "pass"
    assert taylor_test(fn, X, gradient=right * 1.0001).verdict == "fail"
    assert len(taylor_test(fn, X, gradient=right).slopes) == 2


def test_kinks() -> None:
    assert taylor_test(tg.relu, np.array([1e-8, -1e-8, 1.0])).verdict == "pass"
    at = taylor_test(tg.relu, 0.0)
    assert at.verdict == "valid at kink" and at
    assert "left 0, from the right 1, given 0" in at.reason
    outside = taylor_test(lambda x: np.maximum(x, 0.0), np.array(0.0), gradient=np.array(-0.5))
    assert outside.verdict == "fail"
    assert taylor_test(lambda x: tg.relu(x) ** 2, 0.0).verdict == "valid at kink"


@pytest.mark.parametrize(
    ("fn", "x"),
    [(lambda x: 1e12 + tg.sin(x), X), (tg.sin, X.astype(np.float16)), (tg.sqrt, np.array(0.0)), (tg.floor, 2.0)],
)
def test_without_power_no_pass(fn: Any, x: Any) -> None:
    result = taylor_test(fn, x)
    assert result.verdict == "inconclusive" and not result


def test_float32_is_judged_by_its_own_precision() -> None:
    assert taylor_test(tg.sin, X.astype(np.float32)).verdict == "pass"
    assert taylor_test(sine(1.05), X.astype(np.float32)).verdict == "fail"


@pytest.mark.parametrize("kind", [None, "×(1+1e-5)", "one element"])
def test_every_operation_and_broken_ones(kind: str | None) -> None:
    """Right rules pass, and broken ones fail, in all of a sample of cases."""
    names = mutations.smooth()
    if kind is None:
        jobs = [(OPS[name], example) for name in names for example in mutations.examples(OPS[name])]
    else:
        chosen = [m for m in mutations.mutants(names) if m.kind == kind and m.mode != "jvp"][::6]
        made = [(m, m.operation()) for m in chosen]
        jobs = [(op, e) for m, op in made for e in mutations.examples(OPS[m.op]) if mutations.differs(m, op, e)]
    assert len(jobs) > 50
    for op, example in jobs:
        where = example.moving

        def fn(xs: Any, op: Any = op, example: Any = example, where: Any = where) -> Any:
            moved = dict(zip(where, xs, strict=True))
            return op.call(*[moved.get(i, a) for i, a in enumerate(example.args)], **example.params)

        result = taylor_test(fn, [example.args[i] for i in where])
        assert result.verdict == ("fail" if kind else "pass"), f"{op.name} {example.params}: {result}"


def test_same_seed_same_result() -> None:
    a, b, c = (taylor_test(tg.sin, X, seed=s) for s in (1, 1, 2))
    assert np.array_equal(a.remainders[1], b.remainders[1])
    assert not np.array_equal(a.remainders[1], c.remainders[1])


def test_integers_stand_still() -> None:
    labels = np.array([1, 0])
    result = taylor_test(lambda p: tg.nn.functional.cross_entropy(p[0], p[1]), (X.reshape(2, 2), labels))
    assert result.verdict == "pass"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: taylor_test(tg.sin, X, order=3), "order is 1 or 2"),
        (lambda: taylor_test(tg.sin, np.array([1, 2])), "nothing to move"),
        (lambda: taylor_test(tg.sin, X, direction=np.ones(3)), r"direction has the shape \(3,\)"),
        (lambda: taylor_test(tg.sin, X, direction=[X]), "built as x is"),
        (lambda: taylor_test(tg.sin, X, gradient=np.cos(X)), "one number"),
        (lambda: taylor_test(lambda x: np.sin(x.data), X), "cannot trace"),
        (lambda: taylor_test(tg.log, -1.0), "finite real numbers at x"),
        (lambda: taylor_test(tg.sin, X, steps=[0.1, 0.2]), "at least 6 positive steps"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


def test_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = taylor_test(lambda x: (x * x).sum(), X)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"tinygrad_nn\[viz\]"):
        result.plot(tmp_path / "no.png")
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    for k, fn in enumerate([lambda x: (x * x).sum(), sine(1.01), lambda x: 0 * x, tg.floor]):
        path = taylor_test(fn, X).plot(tmp_path / "new" / f"{k}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
