"""The gradient checker: verdicts on right and wrong gradients, reports, and what it refuses."""

from __future__ import annotations

import collections
import functools
import math
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import nn
from tinygrad_nn.autograd import GradcheckError, GradcheckResult, gradcheck, gradgradcheck
from tinygrad_nn.check import judge
from tinygrad_nn.errors import ArgumentError, DTypeError, TinygradError
from tinygrad_nn.nn import functional as F

from .cases import EXTRA, PUBLIC, Case, function
from .held_out import HELD_OUT

SEEDS = 50


def verdicts(case: Case, seeds: int) -> collections.Counter[str]:
    return collections.Counter(
        gradcheck(case, case.make(np.random.default_rng(s)), seed=s, raise_exception=False).verdict
        for s in range(seeds)
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_public_case(name: str) -> None:
    case = PUBLIC[name]
    found = verdicts(case, SEEDS if "1000" not in name and "sort" not in name else 10)
    assert set(found) <= set(case.right), dict(found)


@pytest.mark.parametrize("name", EXTRA)
def test_extra_case(name: str) -> None:
    seeds = 10
    found = verdicts(EXTRA[name], seeds)
    assert sum(found[v] for v in EXTRA[name].right) >= seeds - 1, dict(found)  # hidden noise may be missed once


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_case(name: str) -> None:
    with np.errstate(all="ignore"):
        found = verdicts(HELD_OUT[name], 5)
    assert set(found) <= set(HELD_OUT[name].right), dict(found)


def quiet(fn: Any, *inputs: Any, **options: Any) -> GradcheckResult:
    return gradcheck(fn, inputs, raise_exception=False, **options)


def six_copies(y: Any) -> Any:
    return tg.reshape(y, (-1,))[np.zeros((2, 3), np.intp)]


# -- verdicts and what goes with them ----------------------------------------------------------------------------------


def test_pass_states_its_resolution() -> None:
    result = gradcheck(lambda x: tg.sin(x) * x, np.linspace(0.5, 2, 5))
    assert result and result.verdict == "pass" and result.resolution < 1e-10
    assert "would have seen a relative error of" in str(result)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("constant", [0.0, 1e3, 1e9, 1e11])
def test_resolution_is_kept(constant: float, seed: int) -> None:
    """An error of a few times the resolution is seen; that is what the figure promises, and a pass is worth."""
    x = np.random.default_rng(seed).standard_normal(6)

    def checked(factor: float) -> GradcheckResult:
        vjp = lambda g, x: factor * 3 * g / np.cosh(x) ** 2  # noqa: E731
        return quiet(function(lambda x: np.tanh(x) * 3 + constant, vjp), x, seed=seed)

    result = checked(1.0)
    assert result.verdict == "pass" and result.resolution <= 1e-2
    for times in (20.0, 1000.0):  # the direction may happen to be one that shows little of it
        assert checked(1 + times * result.resolution).verdict == "fail"
        assert checked(1 - times * result.resolution).verdict == "fail"


def test_failure_raises_with_the_result() -> None:
    with pytest.raises(GradcheckError, match="analytic") as caught:
        gradcheck(lambda x: x * x.detach(), np.array([1.0, 2.0]))
    result = caught.value.result
    assert isinstance(result, GradcheckResult) and not result and result.verdict == "fail"
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, TinygradError)


def test_failure_names_input_element_and_values() -> None:
    def fn(x: Any, y: Any) -> Any:
        return tg.concat([x * y, (y[1:2] * 3).detach() * 1.0])

    report = quiet(fn, np.array([1.0, 2.0, 3.0]), np.array([2.0, 5.0, 7.0])).inputs
    assert [r.verdict for r in report] == ["pass", "fail"]
    assert report[1].element == (1,) and report[1].output == "result[3]"
    assert report[1].analytic == 0.0 and report[1].numeric == pytest.approx(3.0)


def test_kink_shows_both_sides() -> None:
    result = gradcheck(tg.relu, np.array([1.0, 0.0, -1.0]))
    (report,) = result.inputs
    assert result and result.verdict == "valid at kink"
    assert report.element == (1,) and report.one_sided == pytest.approx((0.0, 1.0)) and report.analytic == 0.0


def test_equal_numbers_that_are_sorted() -> None:
    """Moved alone, one of them becomes the first or the last; the gradient gives each its own place."""
    for seed in range(5):
        assert quiet(tg.sort, np.full((2, 5), -1.5), seed=seed).verdict == "valid at kink"


def test_inconclusive_is_false_and_does_not_raise() -> None:
    result = gradcheck(tg.sqrt, np.array([0.0]))
    assert not result and result.verdict == "inconclusive" and "infinite" in result.inputs[0].reason


def test_jump_is_named() -> None:
    def fn(x: Any) -> Any:
        return tg.asarray(np.where(x.data >= 0, 5.0, 3.0)) + 0 * x

    assert quiet(fn, np.array([0.0])).verdict == "inconclusive"


def test_tolerance_multiplies() -> None:
    def fn(x: Any) -> Any:
        return function(np.sin, lambda g, x: g * np.cos(x) * (1 + 1e-10))(x)

    x = np.array([1.0, 2.0])
    assert quiet(fn, x).verdict == "fail"
    assert quiet(fn, x, tolerance=1e5).verdict == "pass"


def test_same_seed_same_report() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert str(gradcheck(tg.tanh, x, seed=5)) == str(gradcheck(tg.tanh, x, seed=5))


def test_complex_step_sees_through_offsets() -> None:
    assert gradcheck(lambda x: 1e12 + tg.sin(x), np.ones(3)).resolution < 1e-12


def test_complex_step_is_not_trusted_where_values_disagree() -> None:
    """The operations recorded are analytic, but the imaginary part is lost on the way."""
    result = gradcheck(lambda x: x * 2 + tg.asarray(np.real(x.data)) * 0, np.ones(3))
    assert result.verdict == "pass"


# -- inputs and outputs ------------------------------------------------------------------------------------------------


def test_nested_inputs_and_outputs() -> None:
    def fn(batch: Any, scale: Any) -> Any:
        return {"sum": batch["a"][0] + batch["a"][1], "pair": (batch["b"] * scale, scale)}

    batch = {"a": [np.ones(2), np.full(2, 3.0)], "b": np.arange(1.0, 4.0)}
    result = gradcheck(fn, (batch, tg.tensor(2.0, dtype="float64")))
    assert [r.name for r in result.inputs] == ["batch['a'][0]", "batch['a'][1]", "batch['b']", "scale"]


def test_only_what_requires_a_gradient_is_checked() -> None:
    x = tg.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    result = gradcheck(lambda x, y: x * y.detach(), (x, tg.ones(2, dtype="float64")))
    assert [r.name for r in result.inputs] == ["x"]
    assert x.grad is None


def test_integers_are_not_checked() -> None:
    result = gradcheck(lambda x, i: x[i], (np.arange(4.0), np.array([0, 2, 2])))
    assert len(result.inputs) == 1


def test_module_parameters_are_checked_and_kept() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    before = model.state_dict()
    result = gradcheck(model, np.random.default_rng(0).standard_normal((5, 3)))
    assert [r.name for r in result.inputs] == ["x", "0.weight", "0.bias", "2.weight", "2.bias"]
    assert result.resolution < 1e-9
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_wrong_module_is_caught() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return tg.tanh(x @ self.layer.weight.detach()) + self.layer.bias

    result = quiet(Wrong().double(), np.ones((3, 2)))
    assert {r.name: r.verdict for r in result.inputs} == {
        "x": "pass",
        "layer.weight": "fail",
        "layer.bias": "pass",
    }


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    assert gradcheck(lambda x: tg.exp(x) * x, np.ones(shape)).verdict == "pass"


def test_low_precision_is_judged_against_float64() -> None:
    result = gradcheck(lambda x: tg.exp(tg.sin(x)), np.linspace(0, 2, 7, dtype=np.float32))
    assert result.verdict == "pass" and 1e-7 < result.resolution < 1e-5


def test_low_precision_only_mistake() -> None:
    def vjp(g: Any, x: Any) -> Any:
        return g * np.cos(x) * (1.2 if g.dtype == np.float32 else 1.0)

    result = quiet(function(np.sin, vjp), np.linspace(0, 2, 7, dtype=np.float32))
    assert result.verdict == "fail" and "float32 differs" in result.inputs[0].reason


def test_low_precision_of_what_cancels() -> None:
    """The variance of copies has slope 0; in float32 it is rounding, at one input in ten."""
    x, y = (np.array(v, np.float32) for v in (0.5629295, 0.7015643))
    for seed in range(20):
        result = quiet(lambda x, y: tg.var(six_copies(x * y)), x, y, seed=seed)
        assert result.verdict in ("pass", "inconclusive"), str(result)


def test_overflow_in_float16_is_inconclusive() -> None:
    with np.errstate(over="ignore"):
        result = quiet(lambda x: tg.exp(x) * 1e-3, np.array([11.5], dtype=np.float16))
    assert result.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("fn", "inputs", "error", "message"),
    [
        (lambda x: x, (np.arange(3),), ArgumentError, "no input to check"),
        (lambda: 1, (), ArgumentError, "no input to check"),
        (lambda x: 3, (np.ones(2),), ArgumentError, "must return floating"),
        (lambda x: x, (np.ones(2, dtype=complex),), DTypeError, "only real"),
        (lambda x: x * 1j, (np.ones(2),), DTypeError, "returns complex"),
    ],
)
def test_refusals(fn: Any, inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gradcheck(fn, inputs)


def test_order_is_1_or_2() -> None:
    with pytest.raises(ArgumentError, match="order 3"):
        gradcheck(tg.sin, np.ones(2), order=3)


def test_errors_of_the_function_come_through() -> None:
    with pytest.raises(TinygradError, match="matmul"):
        gradcheck(lambda x: x @ np.ones((3, 3)), np.ones((2, 2)))


# -- structure and algebra ---------------------------------------------------------------------------------------------


def write_input(g: Any, x: Any) -> Any:
    out = g * np.cos(x)
    x += 1.0
    return out


def write_upstream(g: Any, x: Any) -> Any:
    out = g * np.cos(x)
    g *= 2.0
    return out


def unsteady(g: Any, x: Any) -> Any:
    unsteady.calls += 1  # type: ignore[attr-defined]
    return g * np.cos(x) * (1 + 1e-3 * unsteady.calls)  # type: ignore[attr-defined]


unsteady.calls = 0  # type: ignore[attr-defined]


def layout_bound(g: Any, x: Any) -> Any:
    return g * np.cos(np.lib.stride_tricks.as_strided(x, x.shape, (8,) * x.ndim))


def broken(g: Any, x: Any) -> Any:
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("vjp", "reason"),
    [
        (write_input, "backward writes into"),
        (write_upstream, "incoming gradient"),
        (unsteady, "different gradients"),
        (lambda g, x: np.cos(x), "is not 0"),
        (lambda g, x: g * np.abs(g) * np.cos(x), "not linear"),
        (layout_bound, "negative strides"),
        (broken, "raised KeyError"),
    ],
)
def test_structure(vjp: Any, reason: str) -> None:
    result = quiet(function(np.sin, vjp), np.linspace(1, 2, 4))
    assert result.verdict == "fail" and reason in result.inputs[0].reason


def test_function_that_writes_into_its_input() -> None:
    def fn(x: Any) -> Any:
        y = tg.sin(x)
        x.data[...] += 1e-3
        return y

    result = quiet(fn, np.ones(3))
    assert result.verdict == "fail"


def test_random_function_is_named() -> None:
    rng = np.random.default_rng(0)
    assert "different values" in quiet(lambda x: x * rng.random(), np.ones(2)).inputs[0].reason


def test_lost_history_is_named() -> None:
    assert "history is lost" in quiet(lambda x: np.sin(x.data), np.ones(2)).inputs[0].reason


def test_forward_mode_is_checked_against_reverse() -> None:
    from tinygrad_nn.registry import Op
    from tinygrad_nn.tensor import apply

    rule = lambda t, y, x: t * tg.cos(x)  # noqa: E731
    op = Op("planted", "general", np.sin, (rule,), (lambda t, y, x: 1.001 * t * tg.cos(x),))
    assert "forward mode disagree" in quiet(lambda x: apply(op, x), np.ones(2)).inputs[0].reason


def test_inputs_have_the_names_of_parameters() -> None:
    class Scale(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any) -> Any:
            ctx.save_for_backward(x, weight)
            return x * weight

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            x, weight = ctx.saved_tensors
            return grad * weight, grad * x

    def many(x: Any, *rest: Any) -> Any:
        return x * rest[0]

    x = np.ones(2)
    assert [r.name for r in gradcheck(Scale.apply, (x, x)).inputs] == ["x", "weight"]
    assert [r.name for r in gradcheck(many, (x, x)).inputs] == ["x", "input 1"]
    assert [r.name for r in gradcheck(functools.partial(many, np.ones(2)), x).inputs] == ["input 0"]
    assert [r.name for r in gradgradcheck(lambda x: x**3, x).inputs] == ["x", "cotangent 0"]


# -- slopes of 0 -------------------------------------------------------------------------------------------------------

EQUAL = np.full((3, 2), 0.37)
ZEROS = np.array([[1.0, 0.0, 2.5], [0.0, 1.5, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
FLAT = {
    "two equal arguments": (lambda x: F.mse_loss(x * 1.7, 1.7 * x, reduction="none"), np.array([1.3, 0.7, 2.1])),
    "terms that cancel at 0": (lambda x: x + x**2 - tg.tan(x), np.zeros(())),
    "terms that cancel at some zeros": (lambda x: x + x**2 - tg.tan(x), np.zeros(3)),
    "variance of equal numbers": (tg.var, np.full(6, 0.1)),
    "variance of computed equal numbers": (
        lambda x: tg.var(x * np.array([1 / 3, 1 / 7, 1 / 9])),
        0.37 * np.array([3.0, 7, 9]),
    ),
    "variance of equal rows": (lambda x: tg.var(tg.tanh(x), axis=0), EQUAL),
    "variance of copies": (lambda x: (-x, x + x, tg.var(tg.broadcast_to(x, (2, 3)))), np.array(2.1623466238496514)),
    "product of two zeros": (lambda x: tg.prod(x, axis=1), ZEROS),
    "product of all": (tg.prod, ZEROS[:2]),
    "flat beside a jump": (lambda x: tg.sign(1 / x[0] - 2.5), np.array([0.25, 1.0, 1.0])),
}


@pytest.mark.parametrize("name", FLAT)
def test_slope_of_exactly_0(name: str) -> None:
    fn, x = FLAT[name]
    for seed in range(20):
        result = quiet(fn, x, seed=seed)
        assert result.verdict == "pass", str(result)


@pytest.mark.parametrize("off", [1e-9, 1e-3])
@pytest.mark.parametrize("name", [name for name in FLAT if "copies" not in name])
def test_wrong_slope_where_it_is_0(name: str, off: float) -> None:
    fn, x = FLAT[name]
    added = function(lambda x: 0 * x, lambda g, x: off * g)
    for seed in range(5):
        assert quiet(lambda x: fn(x) + added(x).sum(), x, seed=seed).verdict == "fail"


# -- order two ---------------------------------------------------------------------------------------------------------


def var_of_copies(x: Any) -> Any:
    """0, and so is its slope, but the mean of six copies is off by a rounding unit."""
    return tg.var(six_copies(tg.exp(tg.rad2deg(x) + 114.5)), correction=0)


def prod_of_log1p(x: Any, y: Any) -> Any:
    """NumPy rounds complex log1p in units of 1, however small it is, and the product has six times that."""
    return tg.prod(six_copies(tg.log1p(x * y)))


ROUNDED = {
    "var of copies": (var_of_copies, (np.array(-2.0),), "inconclusive"),
    "prod of log1p": (prod_of_log1p, (np.array(0.125), np.array(0.02448895556781938)), "pass"),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_inside_the_function_is_no_mistake(name: str) -> None:
    """Rounding that shows neither in the values nor in the gradient, but in how both scatter around the inputs."""
    fn, inputs, verdict = ROUNDED[name]
    assert {quiet(fn, *inputs, seed=seed).verdict for seed in range(20)} == {verdict}


@pytest.mark.parametrize("name", ROUNDED)
def test_wrong_slope_amid_rounding(name: str) -> None:
    fn, inputs, _ = ROUNDED[name]
    for off in (1e-3, 1e-10):  # times the input the wrong part of the slope

        def wrong(x: Any, *more: Any, off: float = off) -> Any:
            y = fn(x, *more)
            return y + off * (y.detach() + (not more)) * (x - x.detach())

        assert {quiet(wrong, *inputs, seed=seed).verdict for seed in range(10)} == {"fail"}


def test_hessian_of_rounding_is_not_asymmetric() -> None:
    """The logsumexp of copies of a number is straight: its second derivatives cancel, to rounding."""
    for seed in range(10):
        x = np.array(np.random.default_rng(seed).standard_normal())
        result = quiet(lambda x, y: (tg.logsumexp(six_copies(x)), y), x, np.array(1.0), order=2, seed=seed)
        assert result.verdict in ("pass", "inconclusive"), str(result)


def test_gradient_of_rounding_may_be_recorded_otherwise() -> None:
    """x / x moves nowhere: its gradient is rounding, another when it is recorded."""
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal((1, 1))
        result = quiet(lambda x: six_copies(x) / tg.reshape(x, ()), x, order=2, seed=seed)
        assert result.verdict in ("pass", "inconclusive"), str(result)


def test_slope_of_0_but_for_rounding() -> None:
    """The gradient is rounding, the function moves nowhere, and has values beside which slopes would show."""
    result = quiet(lambda x: tg.softmax(six_copies(x)), np.array(0.3))
    assert result.verdict == "pass" and 1e-16 < result.resolution < 1e-10


def test_rounding_that_all_steps_share() -> None:
    """(x - x·r) - x + x·r is 0 but for rounding, which near 0 is the same share of every step that is a power of 2."""

    def fn(x: Any) -> Any:
        y = tg.deg2rad(x)
        return ((x - y) - x) + y

    for seed in range(20):
        assert quiet(fn, np.array(0.0), seed=seed).verdict in ("pass", "inconclusive")


def test_steps_of_the_function_are_not_rounding() -> None:
    """rint moves in steps, which is what rounding does to a slope, but in steps that its values do not explain."""
    result = quiet(lambda x: tg.rint(tg.rad2deg(tg.rad2deg(x) - 171.5)), np.array(2.9935916533787053))
    assert result.verdict == "inconclusive" and "move in steps" in result.inputs[0].reason
    assert (
        quiet(lambda x: tg.rint(tg.rad2deg(tg.rad2deg(x) - 171.5)) + x - x.detach(), np.array(2.99)).verdict == "fail"
    )


def test_second_order() -> None:
    result = gradgradcheck(lambda x, w: tg.tanh(x @ w).sum(), (np.ones((2, 3)), np.full((3, 2), 0.1)))
    assert result.order == 2 and result.resolution < 1e-8 and "symmetry of the Hessian" in result.tiers
    assert gradcheck(tg.exp, np.ones(2), order=2).order == 2


def test_dropped_second_order_term() -> None:
    class Cube(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return 3 * grad * tg.square(ctx.saved_tensors[0].detach())

    def fn(x: Any) -> Any:
        return tg.exp(Cube.apply(tg.sin(x)))

    x = np.array([0.4, 0.7])
    assert gradcheck(fn, x)
    with pytest.raises(GradcheckError, match="Cube"):
        gradgradcheck(fn, x)
    result = gradcheck(fn, x, order=2, raise_exception=False)
    assert result.verdict == "fail" and result.blame is not None and result.blame.operation == "Cube"


def test_asymmetric_hessian_is_named() -> None:
    class Mixed(tg.autograd.Function):
        """x·y with gradients right at first order, whose own derivatives are not."""

        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            x, y = ctx.saved_tensors
            return grad * y, grad * x.detach()

    result = gradgradcheck(lambda x, y: Mixed.apply(x, y).sum(), (np.ones(2), np.ones(2)), raise_exception=False)
    assert result.verdict == "fail" and "not symmetric" in result.inputs[0].reason


# -- power -------------------------------------------------------------------------------------------------------------


def test_powerless_pass_is_inconclusive() -> None:
    outcome = judge.Outcome("pass", 1.0, 1.0, error=0.5, reference=1.0)
    judge.weaken(outcome)
    assert outcome.verdict == "inconclusive"
    assert judge.Outcome("pass", 0.0, 0.0, error=0.0, reference=0.0).resolution == math.inf


@pytest.mark.parametrize("place", [0, 499, 999])
@pytest.mark.parametrize("factor", [-1.0, 0.0, 1 + 1e-5])
def test_every_element_counts(place: int, factor: float) -> None:
    def vjp(g: Any, x: Any) -> Any:
        out = g * np.cos(x)
        out[place] *= factor
        return out

    x = np.random.default_rng(place).standard_normal(1000)
    assert quiet(function(np.sin, vjp), x).inputs[0].element == (place,)
