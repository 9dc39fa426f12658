"""`tg.autograd.operation`: operations declared in user code, held to what the package's own are; black boxes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import differences
from tinygrad_nn.autograd import operation
from tinygrad_nn.domains import Reals, case
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, RoughDerivativeWarning
from tinygrad_nn.registry import OPS, Each

from . import contract

Array = np.ndarray[Any, Any]


def agnesi() -> Any:
    @operation(elementwise=lambda t, y, x: -2.0 * t * x * y * y)
    def agnesi(x: Any) -> Any:
        """1 / (1 + x²)"""
        return 1 / (1 + x * x)

    return agnesi


def slanted() -> Any:
    """Two arrays that broadcast, and a parameter."""

    @operation(
        elementwise=[
            lambda t, _y, _a, b, *, power: t * b * power,
            lambda t, _y, a, _b, *, power: t * a * power,
        ],
        domain=[Reals(), Reals(0.5, 2.0)],
    )
    def slanted(a: Any, b: Any, *, power: float = 2.0) -> Any:
        return a * b * power

    return slanted


def second_difference() -> Any:
    def transpose(g: Any, _y: Any, _x: Any) -> Any:
        return tg.pad(g, ((0, 2),)) - 2 * tg.pad(g, ((1, 1),)) + tg.pad(g, ((2, 0),))

    @operation(linear=transpose, cases=[case((5,)), case((3,))])
    def second_difference(x: Any) -> Any:
        return x[:-2] - 2 * x[1:-1] + x[2:]

    return second_difference


def energy(**more: Any) -> Any:
    """A general operation: xᵀ A x."""

    def by_x(g: Any, _y: Any, x: Any, a: Any) -> Any:
        return g * (tg.matmul(a, x) + tg.matmul(a.T, x))

    def by_a(g: Any, _y: Any, x: Any, _a: Any) -> Any:
        return g * tg.outer(x, x)

    @operation(vjps=[by_x, by_a], domain=[Reals(), Reals()], cases=[case((3,), (3, 3)), case((1,), (1, 1))], **more)
    def energy(x: Any, a: Any) -> Any:
        return x @ a @ x

    return energy


def energy_both_ways() -> Any:
    def push_x(t: Any, _y: Any, x: Any, a: Any) -> Any:
        return tg.dot(t, tg.matmul(a, x)) + tg.dot(tg.matmul(x, a), t)

    def push_a(t: Any, _y: Any, x: Any, _a: Any) -> Any:
        return tg.dot(x, tg.matmul(t, x))

    return energy(jvps=[push_x, push_a])


MADE = [agnesi, slanted, second_difference, energy, energy_both_ways]


@pytest.mark.parametrize("make", MADE)
def test_held_to_the_contract_of_the_packages_own(make: Callable[[], Any]) -> None:
    op = OPS[make().__name__]
    trials = contract.trials(op)
    assert trials
    for trial in trials:
        for check in contract.CHECKS:
            check(trial)


@pytest.mark.parametrize("make", MADE)
def test_checked_by_the_gradient_checker(make: Callable[[], Any]) -> None:
    fn = make()
    trial = contract.trials(OPS[fn.__name__])[0]
    args = tuple(a.astype(np.float64) for a in trial.args)
    assert tg.autograd.gradcheck(fn, args).verdict == "pass"
    assert tg.autograd.gradgradcheck(fn, args).verdict == "pass"


@pytest.mark.parametrize("make", MADE)
def test_under_vmap(make: Callable[[], Any]) -> None:
    fn = make()
    args = contract.trials(OPS[fn.__name__])[0].args
    batch = [np.stack([a, 2 * a, a + 1]) for a in args]
    wanted = np.stack([fn(*(b[i] for b in batch)) for i in range(3)])
    np.testing.assert_allclose(tg.func.vmap(fn)(*batch).data, wanted, rtol=1e-6)


def test_a_wrong_rule_is_found() -> None:
    @operation(elementwise=lambda t, _y, x: t * x)
    def wrong_square(x: Any) -> Any:
        return x * x

    assert tg.autograd.gradcheck(wrong_square, (np.array([1.0, 2.0]),), raise_exception=False).verdict == "fail"


def test_it_looks_like_the_function_it_was() -> None:
    fn = agnesi()
    assert (fn.__name__, fn.__doc__, fn.__module__) == ("agnesi", "1 / (1 + x²)", __name__)
    assert list(inspect.signature(fn).parameters) == ["x"]
    assert OPS["agnesi"].formula == "1 / (1 + x²)"
    assert isinstance(fn(np.ones(2, np.float32)), np.ndarray)
    assert fn(np.ones(2, np.float32)).dtype == np.float32


def test_one_decorator_for_several_functions() -> None:
    black_box = operation(fallback="numeric")

    @black_box
    def first(x: Any) -> Any:
        """First."""
        return x + 1

    @black_box
    def second(x: Any) -> Any:
        return x + 2

    assert (OPS["first"].formula, OPS["second"].formula, second.__doc__) == ("First.", "", None)
    assert (first(np.ones(1)).tolist(), second(np.ones(1)).tolist()) == ([2], [3])


def test_a_number_and_each_rules() -> None:
    @operation(
        vjps=Each(lambda i, g, _y, *args: g * args[1 - i]), jvps=Each(lambda i, t, _y, *args: (t * args[1 - i]).sum())
    )
    def inner(a: Any, b: Any) -> float:
        return float(np.dot(a, b))

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    inner(x, x * 3).backward()
    assert x.grad is not None and x.grad.tolist() == [6, 12]
    assert tg.func.jvp(lambda a: inner(a, a), (x,), (x,))[1].item() == 10


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_name_that_is_taken() -> None:
    with pytest.raises(ArgumentError, match="operation 'exp' is registered already; give the function another name"):

        @operation(elementwise=lambda t, y, _x: t * y)
        def exp(x: Any) -> Any:
            return np.exp(x)

    agnesi()
    agnesi()  # the same definition again, as in a notebook
    with pytest.raises(ArgumentError, match="operation 'agnesi' is registered already"):
        operation(fallback="numeric")(type(agnesi)(agnesi.__code__, {"__name__": "elsewhere"}, "agnesi"))


def test_one_way_to_say_the_derivative() -> None:
    def rule(t: Any, _y: Any, _x: Any) -> Any:
        return t

    for wrong in (
        {},
        {"linear": rule, "elementwise": rule},
        {"jvps": rule},
        {"linear": rule, "jvps": rule},
        {"vjps": rule, "fallback": "numeric"},
    ):
        with pytest.raises(ArgumentError, match="operation: give one of elementwise=, linear="):
            operation(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"fallback='guess'; there is 'numeric' only"):
        operation(fallback="guess")  # type: ignore[arg-type]


def test_one_rule_for_each_array() -> None:
    with pytest.raises(ArgumentError, match=r"lone: 1 rules for 2 arrays \(x, power\).*come after \*"):

        @operation(elementwise=lambda t, y, x, power: t * power * x ** (power - 1))
        def lone(x: Any, power: float) -> Any:
            return x**power

    with pytest.raises(ArgumentError, match=r"the rule <lambda> at .*test_operation.py:\d+ takes \(t, x\), which must"):

        @operation(elementwise=lambda t, x: t * tg.cos(x))
        def short(x: Any) -> Any:
            return np.sin(x)


def test_arrays_by_keyword_and_parameters_by_position() -> None:
    fn = slanted()
    x = tg.ones(2, requires_grad=True)
    with pytest.raises(ArgumentError, match=r"slanted: b given by keyword; arrays are given by position.*\['power'\]"):
        fn(x, b=x)
    with pytest.raises(DTypeError, match="slanted: cannot take"):
        fn(x, x, 3.0)


def test_results_that_are_no_arrays() -> None:
    @operation(fallback="numeric")
    def pair(x: Any) -> Any:
        return x, x

    @operation(fallback="numeric")
    def nothing(x: Any) -> Any:
        return None

    with pytest.raises(
        ArgumentError, match=r"pair: an operation must return an array, not tuple .*tg.autograd.Function"
    ):
        pair(tg.ones(1))
    with pytest.raises(ArgumentError, match="nothing: an operation must return an array, not NoneType"):
        nothing(np.ones(1))


def test_forward_mode_from_a_rule_that_leaves_the_package() -> None:
    @operation(vjps=lambda g, _y, _x: np.asarray(getattr(g, "data", g)) * 2.0)
    def outside(x: Any) -> Any:
        return x * 2

    with pytest.raises(GraphError, match=r"forward mode cannot be worked out from a rule of vjps="):
        tg.func.jvp(outside, (tg.ones(2),), (tg.ones(2),))


# -- black boxes -------------------------------------------------------------------------------------------------------


def blend() -> Any:
    @operation(fallback="numeric")
    def blend(a: Any, b: Any, *, power: int = 2) -> Any:
        """Nothing that could be differentiated: a loop over numbers."""
        return np.array([math.sin(p) * q**power + p * b.flat[0] for p, q in zip(a.flat, b.flat, strict=True)])

    return blend


def plain_blend(a: Any, b: Any, power: int = 2) -> Any:
    return tg.sin(a) * b**power + a * b[0]


A, B = np.array([0.3, -1.2, 2.0, 0.0]), np.array([1.5, 0.2, -0.7, 3.0])


def test_a_black_box_in_both_modes() -> None:
    fn = blend()
    for power in (2, 3):
        found = tg.func.grad(lambda a, b, p=power: tg.exp(fn(a, b, power=p)).sum(), argnums=(0, 1))(A, B)
        wanted = tg.func.grad(lambda a, b, p=power: tg.exp(plain_blend(a, b, p)).sum(), argnums=(0, 1))(A, B)
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f.data, w.data, rtol=1e-8)
    y, t = tg.func.jvp(fn, (A, B), (B, A))
    z, s = tg.func.jvp(plain_blend, (A, B), (B, A))
    np.testing.assert_allclose(y.data, z.data)
    np.testing.assert_allclose(t.data, s.data, rtol=1e-9)
    assert tg.autograd.gradcheck(fn, (A, B)).verdict == "pass"
    assert isinstance(fn(A, B), np.ndarray)


def test_a_black_box_within_transforms_that_need_first_derivatives_of_it_only() -> None:
    fn = blend()
    jacobian, wanted = (tg.func.jacrev(f)(A, B) for f in (fn, plain_blend))
    np.testing.assert_allclose(jacobian.data, wanted.data, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(tg.func.jacfwd(fn)(A, B).data, wanted.data, rtol=1e-7, atol=1e-9)
    batch = np.stack([A, A + 1])
    per_sample = tg.func.vmap(tg.func.grad(lambda a: fn(a, B).sum()))(batch)
    np.testing.assert_allclose(
        per_sample.data[1], tg.func.grad(lambda a: plain_blend(a, B).sum())(A + 1).data, rtol=1e-7
    )


def test_second_derivatives_of_a_black_box_are_refused() -> None:
    fn = blend()
    with pytest.raises(GraphError, match="blend: its derivative is numeric, and has no derivative of its own"):
        tg.func.hessian(lambda a: fn(a, B).sum())(A)
    a = tg.tensor(A, requires_grad=True)
    w = tg.ones(4, dtype="float64", requires_grad=True)
    (g,) = tg.autograd.grad((fn(a, B) * w).sum(), a, create_graph=True)
    assert g is not None
    (by_w,) = tg.autograd.grad(g.sum(), w, retain_graph=True)  # the derivative is linear in what comes in
    assert by_w is not None
    np.testing.assert_allclose(by_w.data, np.cos(A) * B**2 + B[0], rtol=1e-8)
    with pytest.raises(GraphError, match="give the operation rules"):
        g.sum().backward()


def test_float32_stays_float32() -> None:
    fn = blend()
    seen: list[Any] = []

    @operation(fallback="numeric")
    def strict(x: Any) -> Any:
        seen.append(x.dtype)
        return np.tanh(x)

    x = tg.tensor(A, dtype="float32", requires_grad=True)
    y = strict(x)
    y.sum().backward()
    assert x.grad is not None
    assert (y.dtype, x.grad.dtype, {*seen}) == (np.float32, np.float32, {np.dtype(np.float32)})
    np.testing.assert_allclose(x.grad.data, 1 - np.tanh(A) ** 2, rtol=2e-4)
    assert fn is not None


CURVES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {
    "fast": (lambda x: np.exp(10 * x), lambda x: 10 * np.exp(10 * x), 1e-9),
    "wave": (lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x), 1e-8),
    "near a pole": (lambda x: np.log(np.abs(x) * 1e-3), lambda x: 1 / x, 1e-8),
    "offset": (lambda x: x**3 + 1e6, lambda x: 3 * x**2, 1e-6),
    "solver": (lambda x: np.round(np.sin(x) * 1e7) / 1e7, np.cos, 2e-3),
    "constant": (lambda x: 0 * x + 3, lambda x: 0 * x, 0.0),
    "straight": (lambda x: 3 * x, lambda x: 0 * x + 3, 1e-10),
    "small": (lambda x: (1e-6 * x) ** 2, lambda x: 2e-12 * x, 1e-9),
}


@pytest.mark.parametrize("curve", CURVES)
def test_accuracy_and_cost_as_documented(curve: str) -> None:
    f, slope, error = CURVES[curve]
    x = np.random.default_rng(0).normal(size=20)
    g = np.linspace(0.5, 1.5, 20)
    calls: list[int] = []

    def counted(v: Array) -> Array:
        calls.append(1)
        return np.asarray(f(v))

    scale = np.max(np.abs(slope(x)))
    found = differences.gradient(counted, x, g, curve)
    assert np.max(np.abs(found - g * slope(x))) <= error * scale
    assert len(calls) <= 12 * x.size
    calls.clear()
    assert np.max(np.abs(differences.tangent(counted, x, g, curve) - g * slope(x))) <= error * scale
    assert len(calls) <= 21


def test_a_black_box_that_jumps_or_leaves_its_domain() -> None:
    @operation(fallback="numeric")
    def jump(x: Any) -> Any:
        return np.floor(x) + 2 * x

    @operation(fallback="numeric")
    def root(x: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return np.sqrt(x)

    with pytest.raises(GraphError, match="jump: no numeric derivative: estimates of a slope, .* differ by"):
        tg.func.grad(jump)(np.float64(1.0))
    with pytest.raises(GraphError, match="root: no numeric derivative, because the values around .* not finite"):
        tg.func.grad(root)(np.float64(0.0))
    assert math.isclose(tg.func.grad(jump)(np.float64(1.5)).item(), 2, rel_tol=1e-9)
    assert math.isclose(tg.func.grad(root)(np.float64(1e-5)).item(), 0.5 / math.sqrt(1e-5), rel_tol=1e-6)


def test_a_black_box_with_noisy_values_says_that_its_slope_is_rough() -> None:
    @operation(fallback="numeric")
    def noisy_sine(x: Any) -> Any:
        return np.sin(x) + 1e-4 * np.sin(1e9 * x % 97)

    x = tg.tensor(0.7, dtype="float64", requires_grad=True)
    with pytest.warns(RoughDerivativeWarning, match=r"noisy_sine: a numeric slope, .* is known to ± .* only"):
        noisy_sine(x).backward()
    assert x.grad is not None
    assert abs(x.grad.item() - np.cos(0.7)) < 0.01
