"""The tests of the tests: planted mistakes that the checks of `contract.py` must notice.

A check that accepts a wrong rule is worse than none, since it vouches for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.domains import Reals, case
from tinygrad_nn.graph import Scatter
from tinygrad_nn.registry import OPS, Each, Op, Rule
from tinygrad_nn.tensor import Tensor, apply

from . import contract, numeric
from .contract import Check
from .test_ops_contract import SMOOTH, TIES, check_ties


def remade(op: Op, **changes: Any) -> Op:
    """A copy of an operation with some fields changed, not in the registry."""
    copy = dataclasses.replace(op, **changes)
    copy.call = lambda *args, **params: apply(copy, *args, **params)
    return copy


def rejected(op: Op, checks: Sequence[Check]) -> bool:
    for trial in contract.trials(op):
        for check in checks:
            try:
                check(trial)
            except AssertionError:
                return True
    return False


# -- every rule of every operation, wrong in every usual way -----------------------------------------------------------


def plain(result: Any) -> Any:
    """A rule's result as an array; reading at an index sends back where and what."""
    if isinstance(result, Scatter):
        total = np.zeros(result.shape, result.dtype)
        result.add_to(total)
        return total
    return result


def shifted(result: Any) -> Any:
    return result if isinstance(result, Tensor) else np.roll(result, 1)


def ones_like(t: Any) -> Any:
    return Tensor(np.ones(t.shape, t.dtype)) if isinstance(t, Tensor) else np.ones(t.shape, t.dtype)[()]


PLANTS: dict[str, Callable[[Rule], Rule]] = {
    "times 1.01": lambda rule: lambda t, y, *args, **params: plain(rule(t, y, *args, **params)) * 1.01,
    "negated": lambda rule: lambda t, y, *args, **params: -plain(rule(t, y, *args, **params)),
    "zeroed": lambda rule: lambda t, y, *args, **params: plain(rule(t, y, *args, **params)) * 0.0,
    "ignoring upstream": lambda rule: lambda t, y, *args, **params: plain(rule(ones_like(t), y, *args, **params)),
    "shifted by one": lambda rule: lambda t, y, *args, **params: shifted(plain(rule(t, y, *args, **params))),
    "plus 0.01": lambda rule: lambda t, y, *args, **params: plain(rule(t, y, *args, **params)) + 0.01,
}


def with_rule(rules: Any, i: int, plant: Callable[[Rule], Rule]) -> Any:
    """The rules, that of argument i planted with a mistake."""
    wrong = plant(rules[i])
    if not isinstance(rules, Each):
        return tuple(wrong if j == i else rule for j, rule in enumerate(rules))
    return Each(lambda j, t, y, *args, **params: (wrong if j == i else rules[j])(t, y, *args, **params))


def rules_of(op: Op) -> list[tuple[str, int]]:
    """Which rules an operation has: ("both", i) where one function is the vjp and the jvp of argument i."""
    indices = sorted({i for trial in contract.trials(op) for i in trial.moving})
    modes = {"elementwise": ["both"], "linear": ["vjp"], "general": ["vjp", "jvp"]}[op.kind]
    return [(mode, i) for mode in modes for i in indices]


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_right_is_accepted(name: str) -> None:
    assert rules_of(OPS[name])
    assert not rejected(remade(OPS[name]), contract.GRADIENT_CHECKS)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", SMOOTH)
def test_wrong_rule_is_rejected(name: str, plant: str) -> None:
    op = OPS[name]
    for mode, i in rules_of(op):
        if contract.is_flat(op, i) and plant != "plus 0.01":
            continue  # zero scaled, negated, shifted is still zero, and right
        if plant == "shifted by one" and mode == "jvp" and all(t.cotangent.size < 2 for t in contract.trials(op)):
            continue  # a single number cannot be shifted
        changes = {
            attribute: with_rule(getattr(op, attribute), i, PLANTS[plant])
            for attribute in ("vjps", "jvps")
            if mode in ("both", attribute[:3])
        }
        assert rejected(remade(op, **changes), contract.GRADIENT_CHECKS), f"{name}: {mode} {i} {plant} was accepted"


CURVED = ("exp", "sin", "tanh", "sigmoid", "multiply", "divide", "power", "hypot", "matmul", "prod", "var", "softmax")


@pytest.mark.parametrize("name", [name for name in CURVED if name in OPS])
def test_rule_without_its_own_derivative_is_rejected(name: str) -> None:
    """Right at first order, but a constant when differentiated again."""
    op = OPS[name]

    def still(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    def plant(rule: Rule) -> Rule:
        return lambda t, y, *args, **params: rule(t, still(y), *map(still, args), **params)

    vjps = with_rule(op.vjps, 0, plant)
    wrong = remade(op, vjps=vjps, jvps=vjps if op.kind == "elementwise" else op.jvps)
    assert not rejected(wrong, contract.GRADIENT_CHECKS)
    assert rejected(wrong, [contract.check_second_order])


@pytest.mark.parametrize("name", ["add", "exp", "matmul", "sum", "softmax"])
def test_rule_that_cuts_the_cotangent_off_is_rejected(name: str) -> None:
    op = OPS[name]

    def plant(rule: Rule) -> Rule:
        return lambda t, y, *args, **params: rule(t.detach() if isinstance(t, Tensor) else t, y, *args, **params)

    wrong = remade(op, vjps=with_rule(op.vjps, 0, plant))
    assert not rejected(wrong, contract.GRADIENT_CHECKS)
    assert rejected(wrong, [contract.check_cotangent_is_differentiated])


# -- other broken promises: each is kept by `good`, and broken in one place --------------------------------------------


def declared(forward: Callable[..., Any], rule: Rule, **facts: Any) -> Op:
    op = Op("planted", "elementwise", forward, (rule,), (rule,), **{"formula": "planted", **facts})
    op.call = lambda *args, **params: apply(op, *args, **params)
    return op


def good_rule(t: Any, _y: Any, x: Any) -> Any:
    return t * (x + x)


def test_the_good_one_is_accepted() -> None:
    assert not rejected(declared(np.square, good_rule, analytic=True), contract.CHECKS)


def overwrites_input(x: Any) -> Any:
    y = np.square(x)
    if isinstance(x, np.ndarray) and x.ndim:
        x += 1.0
    return y


def overwrites_and_restores(x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.ndim:
        x *= 2.0
        x /= 2.0
    return np.square(x)


def rule_overwrites_input(t: Any, _y: Any, x: Any) -> Any:
    slope = t * (x + x)
    if isinstance(x, np.ndarray) and x.ndim:
        x[...] = 0.0
    return slope


def rule_overwrites_cotangent(t: Any, _y: Any, x: Any) -> Any:
    slope = t * (x + x)
    if isinstance(t, np.ndarray) and t.ndim:
        t *= 2.0
    return slope


def rule_overwrites_result(t: Any, y: Any, x: Any) -> Any:
    slope = t * (x + x)
    if isinstance(y, np.ndarray) and y.ndim:
        y[...] = 0.0
    return slope


@pytest.mark.parametrize(
    ("forward", "rule"),
    [
        (overwrites_input, good_rule),
        (overwrites_and_restores, good_rule),
        (np.square, rule_overwrites_input),
        (np.square, rule_overwrites_cotangent),
        (np.square, rule_overwrites_result),
    ],
)
def test_mutation_is_rejected(forward: Callable[..., Any], rule: Rule) -> None:
    assert rejected(declared(forward, rule), [contract.check_nothing_modified])


def test_result_that_is_the_input_is_rejected() -> None:
    assert rejected(declared(lambda x: x, lambda t, _y, _x: t), [contract.check_no_aliases])
    assert rejected(declared(lambda x: x[...], lambda t, _y, _x: t), [contract.check_no_aliases])


def test_rule_that_hands_out_a_saved_array_is_rejected() -> None:
    assert rejected(declared(np.square, lambda _t, _y, x: x), [contract.check_no_aliases])
    assert rejected(declared(np.square, lambda _t, y, _x: y.T), [contract.check_no_aliases])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_value_that_is_not_finite_in_the_domain_is_rejected(bad: float) -> None:
    op = declared(lambda x: np.where(x > -2.0, np.square(x), bad), good_rule, cases=(case((200,)),))
    assert rejected(op, [contract.check_finite])


def test_gradient_that_is_not_finite_in_the_domain_is_rejected() -> None:
    op = declared(np.square, lambda t, _y, x: tg.where(x > -2.0, t * (x + x), np.nan), cases=(case((200,)),))
    assert rejected(op, [contract.check_finite])


def test_function_undefined_on_its_domain_is_rejected() -> None:
    op = declared(np.sqrt, lambda t, y, _x: t * 0.5 / y, domain=(Reals(-1.0, 1.0),))
    assert rejected(op, [contract.check_finite])


def test_kink_inside_the_domain_is_rejected() -> None:
    op = declared(np.abs, lambda t, _y, x: t * tg.sign(x), domain=(Reals(-0.01, 0.01),), cases=(case((20,)),))
    assert rejected(op, [contract.check_vjp])
    assert rejected(op, [contract.check_jvp])


def test_jump_inside_the_domain_is_rejected() -> None:
    op = declared(np.floor, lambda t, _y, _x: t * 0.0, domain=(Reals(-0.01, 0.01),), cases=(case((20,)),))
    assert rejected(op, [contract.check_vjp])


@pytest.mark.parametrize(
    ("forward", "rule"),
    [
        (np.absolute, lambda t, _y, x: t * tg.sign(x)),
        (lambda x: np.real(x) ** 2, good_rule),
        (lambda x: np.conj(x) * x, good_rule),
        (lambda x: np.conj(x) ** 2, good_rule),
        (lambda x: np.square(np.real(x)) + np.imag(x), good_rule),
        (lambda x: x * np.maximum(x, x.dtype.type(-10)).real, good_rule),
        (lambda x: np.square(x) * (1 if x.dtype.kind == "f" else 2), good_rule),
        (lambda x: np.fmod(x, 100.0) * x, good_rule),  # refuses complex numbers
    ],
)
def test_falsely_analytic_is_rejected(forward: Callable[..., Any], rule: Rule) -> None:
    op = declared(forward, rule, analytic=True, domain=(Reals(avoid=(0.0,)),))
    assert rejected(op, [contract.check_analytic])
    assert not rejected(remade(op, analytic=False), contract.GRADIENT_CHECKS), "nothing else may be wrong with it"


def test_complex_step_sees_an_error_that_differences_cannot() -> None:
    op = declared(np.square, lambda t, _y, x: t * (x + x) * (1 + 1e-9), analytic=True)
    assert rejected(op, [contract.check_analytic])


@pytest.mark.parametrize("forward", [lambda x: np.square(x, dtype=np.float64), lambda x: np.square(x) * np.float32(1)])
def test_changed_dtype_is_rejected(forward: Callable[..., Any]) -> None:
    assert rejected(declared(forward, good_rule), [contract.check_dtypes])


def test_dependence_on_memory_order_is_rejected() -> None:
    op = declared(lambda x: np.square(np.ravel(x, "K").reshape(np.shape(x))), good_rule)
    assert rejected(op, [contract.check_layouts])


def test_refusal_inside_the_domain_is_rejected() -> None:
    def picky(x: Any) -> Any:
        if np.size(x) == 3:
            raise ValueError("not three")
        return np.square(x)

    assert rejected(declared(picky, good_rule), [contract.check_finite])


def test_warning_inside_the_domain_is_rejected() -> None:
    op = declared(lambda x: np.square(x) + 0 * np.exp(1e6 * np.abs(x)), good_rule)
    assert rejected(op, [contract.check_finite])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_tie_given_to_the_first_is_rejected(name: str) -> None:
    op = OPS[name]
    first = tg.greater_equal if name == "maximum" else tg.less_equal
    second = tg.less if name == "maximum" else tg.greater
    rules = (lambda t, _y, a, b: t * first(a, b), lambda t, _y, a, b: t * second(a, b))
    wrong = remade(op, vjps=rules, jvps=rules)
    assert not rejected(wrong, contract.GRADIENT_CHECKS), "away from ties it is right"
    with pytest.raises(AssertionError):
        check_ties(wrong)


@pytest.mark.parametrize("name", sorted(set(TIES) & set(OPS)))
def test_wrong_slope_at_a_tie_is_rejected(name: str) -> None:
    op = OPS[name]
    for i in range(len(TIES[name][0][0])):
        vjps = with_rule(op.vjps, i, PLANTS["plus 0.01"])
        with pytest.raises(AssertionError):
            check_ties(remade(op, vjps=vjps))


# -- the numerics themselves, against constants ------------------------------------------------------------------------


def test_extrapolated_difference() -> None:
    value, error = numeric.slope(lambda h: np.exp(1.0 + h))
    assert abs(value - 2.718281828459045) <= 1e-12
    assert abs(value - 2.718281828459045) <= error <= 1e-11


def test_extrapolated_difference_knows_when_it_fails() -> None:
    for phi in (lambda h: np.abs(h - 0.004), lambda h: np.floor(h + 0.004), lambda h: np.sqrt(np.abs(h + 0.001))):
        assert numeric.slope(phi)[1] > 1e-3


def test_complex_step() -> None:
    assert numeric.complex_step(np.exp, [np.array(1.0)], [np.array(1.0)]) == pytest.approx(2.718281828459045, rel=1e-15)
    two = numeric.complex_step(np.multiply, [np.array([2.0]), np.array([5.0])], [np.array([1.0]), None])
    assert two == pytest.approx([5.0])


def test_gradient_by_elements() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    value, error = numeric.gradient(lambda a: np.array([np.sum(a**2), np.sum(a)]), [x], 0, np.array([1.0, 10.0]))
    np.testing.assert_allclose(value, [[12.0, 14.0], [16.0, 18.0]], rtol=1e-11)
    assert np.all(error < 1e-9)


def test_assert_close_is_strict() -> None:
    contract.assert_close([1.0, 2.0], [1.0, 2.0], "same")
    for given, wanted in (([1.0], [1.0, 1.0]), ([np.nan], [np.nan]), ([np.inf], [np.inf]), ([1.0 + 1e-6], [1.0])):
        with pytest.raises(AssertionError):
            contract.assert_close(given, wanted, "different")
    with pytest.raises(AssertionError, match="settle"):
        contract.assert_close([1.0], [2.0], "unsure", error=np.array([1.0]))
