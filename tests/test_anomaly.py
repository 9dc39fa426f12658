"""`detect_anomaly`: the first operation that made a NaN or an infinity, elements, inputs, line; no false alarms."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.autograd import AnomalyError, AnomalyWarning, detect_anomaly
from tinygrad_nn.errors import ArgumentError, GraphError, TinygradError
from tinygrad_nn.registry import OPS

INF = float("inf")


def here(offset: int = 0) -> str:
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def leaf(*numbers: float) -> tg.Tensor:
    return tg.tensor(np.array(numbers, float), requires_grad=True)


def caught(run: Callable[[], Any], **options: Any) -> Any:
    with warnings.catch_warnings(), detect_anomaly(**options):
        warnings.simplefilter("ignore")  # NumPy's, about what these tests do on purpose
        with pytest.raises(AnomalyError) as error:
            run()
    assert isinstance(error.value, FloatingPointError)
    assert isinstance(error.value, TinygradError)
    return error.value.anomaly


# -- forward -----------------------------------------------------------------------------------------------------------


def test_forward_nan_says_everything() -> None:
    x, b = leaf(1.0, -2.0, 4.0, -3.0), tg.tensor(np.array(0.5))
    with pytest.raises(AnomalyError) as error, detect_anomaly():
        tg.sqrt(x * b)
    line = here(-1)
    a = error.value.anomaly
    assert (a.kind, a.operation, a.line, a.phase) == ("NaN", "sqrt", line, "forward")
    assert (a.indices, a.count, a.inputs, a.made) == (((1,), (3,)), 2, (-1.0,), True)
    assert str(error.value) == f"sqrt at {line} made 2 NaN among 4 elements, at [1], [3], from input 0 = -1"


def test_only_the_first_elements_are_listed() -> None:
    a = caught(lambda: tg.log(-tg.reshape(leaf(1, 2, 3, 4, 5, 6), (2, 3))))
    assert a.indices == ((0, 0), (0, 1), (0, 2))
    assert a.count == 6
    assert "at [0, 0], [0, 1], [0, 2], ..., from" in a.text


def test_both_inputs_of_a_broadcast_operation() -> None:
    a = caught(lambda: tg.reshape(leaf(0.0, 1.0), (2, 1)) / np.array([[1.0, 0.0]]))
    assert a.indices == ((0, 1),)
    assert a.inputs == (0.0, 0.0)


def test_single_numbers() -> None:
    a = caught(lambda: tg.log(tg.tensor(-1.0, requires_grad=True)))
    assert a.indices == ((),)
    assert "made NaN, a single number, from input 0 = -1" in a.text


def test_general_operations_give_the_ranges_of_their_inputs() -> None:
    x = tg.tensor(np.full((2, 3), 1e200), requires_grad=True)
    a = caught(lambda: x @ x.T, inf="raise")
    assert (a.operation, a.kind, a.count, a.inputs) == ("matmul", "inf", 4, ())
    assert "input 0 float64(2, 3) from 1e+200 to 1e+200, input 1 float64(3, 2) from" in a.text


def test_a_nan_from_an_infinity_tells_of_both() -> None:
    def run() -> None:
        y = tg.exp(leaf(1000.0, 1.0))
        y - y

    a = caught(run)
    assert (a.operation, a.indices, a.inputs) == ("subtract", ((0,),), (INF, INF))
    assert (a.first.operation, a.first.kind, a.first.inputs) == ("exp", "inf", (1000.0,))
    assert "subtract at" in str(a) and ". Before that, exp at" in str(a)


def test_a_nan_that_was_given_is_said_to_be() -> None:
    a = caught(lambda: 2 * leaf(1.0, float("nan")))
    assert (a.made, a.indices, a.operation) == (False, ((1,),), "multiply")
    assert "was given 1 NaN among 2 elements, at [1], in its input 1, which no recorded operation made" in a.text
    a = caught(lambda: (leaf(1.0, 2.0) * np.array([1.0, np.nan])).sum())
    assert (a.made, a.operation) == (False, "multiply")


def test_infinities_on_request() -> None:
    x = leaf(1000.0)
    with detect_anomaly(), pytest.warns(RuntimeWarning, match="overflow encountered in exp"):
        assert tg.exp(x).item() == INF
    assert caught(lambda: tg.exp(x), inf="raise").kind == "inf"
    with detect_anomaly(inf="warn"), pytest.warns(AnomalyWarning, match="exp at .* made 1 inf among 1") as found:
        y = tg.exp(x)
    line = here(-1)
    assert len(found) == 1, "NumPy's own warning is not given besides"
    assert y.item() == INF
    assert f"{found[0].filename}:{found[0].lineno}" == line


def test_a_warning_for_nan() -> None:
    with pytest.warns(AnomalyWarning, match="log"), detect_anomaly(nan="warn"):
        assert np.isnan(tg.log(leaf(-1.0)).item())


def test_options_are_checked() -> None:
    with pytest.raises(ArgumentError, match="inf is 'raise', 'warn' or 'ignore', not True"):
        detect_anomaly(inf=True)  # type: ignore[arg-type]


# -- operations that are not recorded ----------------------------------------------------------------------------------


def test_operations_without_gradient_are_covered() -> None:
    z = tg.tensor([4.0, -1.0])
    a = caught(lambda: tg.sqrt(z))
    assert (a.operation, a.indices, a.inputs) == ("sqrt", ((1,),), (-1.0,))
    with tg.no_grad():
        assert caught(lambda: tg.log(leaf(-1.0))).operation == "log"
        assert caught(lambda: leaf(0.0) / 0.0).operation == "divide"
    a = caught(lambda: tg.std(tg.tensor([[INF, 1.0], [2.0, 3.0]]), axis=1), inf="raise")
    assert a.kind == "NaN"
    assert caught(lambda: tg.exp(z * 1000.0), inf="raise").operation == "exp"


def test_operations_on_arrays_are_named_too() -> None:
    a = caught(lambda: tg.log(np.array([-1.0])))
    assert a.operation == "log"
    assert "met an invalid value in arrays" in a.text


def test_numpy_in_your_own_code_is_left_alone() -> None:
    bad = np.array([-1.0])
    with detect_anomaly():
        with pytest.warns(RuntimeWarning, match="invalid value"):
            assert np.isnan(np.log(bad)).all()
        with np.errstate(invalid="ignore"):
            np.log(bad)
    with np.errstate(invalid="ignore"), detect_anomaly():
        np.log(bad)
    with np.errstate(invalid="raise"), detect_anomaly(), pytest.raises(FloatingPointError) as error:
        np.log(bad)
    assert not isinstance(error.value, AnomalyError)


def test_numpys_settings_are_put_back() -> None:
    before = np.geterr(), np.geterrcall()
    with pytest.raises(AnomalyError), detect_anomaly(inf="raise"), detect_anomaly():
        tg.log(leaf(-1.0))
    assert (np.geterr(), np.geterrcall()) == before
    with detect_anomaly():
        with detect_anomaly(nan="ignore"), np.errstate(invalid="ignore"):
            tg.log(tg.tensor(-1.0))
        with pytest.raises(AnomalyError):
            tg.log(tg.tensor(-1.0))


def makes_nan(op: Any) -> list[tuple[Any, ...]]:
    """Arguments, all elements alike, of which `op` makes a NaN."""
    found: list[tuple[Any, ...]] = []
    for numbers in itertools.product((-2.0, 0.0, 0.5, 2.0, INF, -INF), repeat=len(op.domain)):
        args = tuple(np.full((2, 2), n) for n in numbers)
        try:
            with np.errstate(all="ignore"):
                y = op.call(*args)
        except (TypeError, ValueError):  # needs parameters, or other shapes
            break
        if y.dtype.kind == "f" and np.isnan(y).any():
            found.append(args)
    return found


def test_many_operations_can_make_a_nan() -> None:
    assert sum(bool(makes_nan(op)) for op in OPS.values() if op.vjps) >= 25


@pytest.mark.parametrize("name", sorted(name for name in OPS if OPS[name].vjps))
def test_every_operation_that_makes_a_nan_is_named(name: str) -> None:
    op = OPS[name]
    for args in makes_nan(op):
        tensors = [tg.tensor(a, requires_grad=True) for a in args]
        assert caught(lambda ts=tensors: op.call(*ts)).operation == name
        if name not in ("inv", "solve"):  # LAPACK raises no flags
            plain = [tg.tensor(a) for a in args]
            assert caught(lambda ts=plain: op.call(*ts)).operation == name


# -- backward ----------------------------------------------------------------------------------------------------------


def test_backward_infinity_says_everything() -> None:
    x = leaf(4.0, 0.0)
    with detect_anomaly(), np.errstate(divide="ignore"):
        y = tg.sqrt(x)
        line = here(-1)
        with pytest.raises(AnomalyError) as error:
            (3.0 * y).sum().backward()
    a = error.value.anomaly
    assert (a.kind, a.operation, a.line, a.phase, a.indices) == ("inf", "sqrt", line, "backward", ((1,),))
    assert str(error.value) == (
        f"backward of sqrt at {line}: the gradient of input 0 has 1 inf among 2 elements, at [1], "
        "from a gradient of 3, result = 0"
    )


def test_backward_gives_the_saved_inputs() -> None:
    a = caught(lambda: (leaf(0.0, 2.0) ** 0.5).sum().backward())
    assert (a.operation, a.indices, a.inputs) == ("power", ((0,),), (0.0, 0.5))


def test_backward_from_a_nan_names_where_it_was_made() -> None:
    def run() -> None:
        y = tg.log(leaf(-1.0, 2.0))
        (y * 2.0).sum().backward()

    a = caught(run, nan="ignore")
    assert (a.operation, a.phase, a.indices) == ("log", "forward", ((0,),))
    assert a.text.startswith("backward starts from what is not finite: log at")


def test_backward_from_an_overflow_names_where_it_was_made() -> None:
    a = caught(lambda: tg.exp(leaf(1000.0)).sum().backward())
    assert (a.operation, a.kind) == ("exp", "inf")


def test_a_gradient_that_was_given_so() -> None:
    a = caught(lambda: (leaf(1.0, 2.0) * 2.0).backward(np.array([1.0, np.nan])))
    assert not a.made
    assert "that gradient came in so" in a.text


def test_a_gradient_scattered_by_an_index() -> None:
    x = leaf(1.0, 2.0, 3.0)
    a = caught(lambda: (x[np.array([2, 0])]).backward(np.array([INF, 1.0])))
    assert (a.operation, a.indices, a.kind) == ("getitem", ((2,),), "inf")


def test_a_sum_of_gradients_that_overflows() -> None:
    x = leaf(1e-300)
    a = caught(lambda: (x * 1e308 + x * 1e308).sum().backward())
    assert (a.kind, a.made, a.operation) == ("inf", False, "")
    assert "a gradient has 1 inf among 1 elements, at [0]: it was given so, or is a sum that overflowed" in a.text


def test_the_first_of_several_operations_is_named() -> None:
    x = leaf(0.0, 1.0)
    a = caught(lambda: (tg.sqrt(tg.exp(x) * x) * 2.0).sum().backward())
    assert (a.operation, a.phase, a.count) == ("sqrt", "backward", 1)
    assert not [n for n in ("multiply", "exp") if n in a.text]


@pytest.mark.parametrize("program", [lambda x: tg.log(x), lambda x: tg.sqrt(x + 1.0).sum().backward()])
def test_an_error_that_is_gone_keeps_nothing(program: Callable[[Any], Any]) -> None:
    values = np.full(2, -1.0)
    kept = weakref.ref(values)
    gc.disable()
    try:
        x = tg.asarray(values)
        x.requires_grad = True
        with detect_anomaly(), np.errstate(divide="ignore"):
            try:
                program(x)
            except AnomalyError:
                pass
            else:
                pytest.fail("no alarm")
        del x, values
        assert kept() is None
    finally:
        gc.enable()


def test_both_passes_must_be_inside_but_either_is_looked_at() -> None:
    y = tg.sqrt(leaf(0.0))
    a = caught(lambda: y.sum().backward())
    assert (a.operation, a.line) == ("sqrt", "")
    assert "backward of sqrt: the gradient" in a.text


def test_gradients_of_gradients_name_the_line_of_the_operation() -> None:
    x = tg.tensor(0.0, requires_grad=True)
    with detect_anomaly(), np.errstate(divide="ignore"):
        y = x**1.5
        line = here(-1)
        (g,) = tg.autograd.grad(y, x, create_graph=True)
        with pytest.raises(AnomalyError) as error:
            tg.autograd.grad(g, x)
    a = error.value.anomaly
    assert a.line == f"{line} (backward of power)"
    assert (a.operation, a.kind, a.inputs) == ("power", "inf", (0.0, 0.5))


def test_rules_are_judged_as_a_whole() -> None:
    """Inside the recorded rule of the square root NaNs come and go, but what leaves it is 0."""
    x = leaf(-1.0, 4.0)
    with detect_anomaly(nan="ignore"), np.errstate(all="ignore"):
        y = tg.where(x.data > 0, tg.sqrt(x), x).sum()
        (g,) = tg.autograd.grad(y, x, create_graph=True)
    np.testing.assert_array_equal(g.data, [1.0, 0.25])


def test_tangents() -> None:
    a = caught(lambda: tg.func.jvp(tg.sqrt, (np.array([1.0, 0.0]),), (np.ones(2),)))
    assert (a.operation, a.phase, a.indices) == ("sqrt", "tangent", ((1,),))
    assert "the tangent by input 0 has 1 inf among 2 elements, at [1], from a tangent of 1" in a.text


def test_inside_vmap() -> None:
    a = caught(lambda: tg.func.vmap(tg.log)(leaf(1.0, -1.0)))
    assert (a.operation, a.indices) == ("log", ((1,),))


def test_arrays_that_numpy_code_changed_in_one_place() -> None:
    """By default large arrays are compared in samples."""
    noise = np.ones(1_000_000)
    with detect_anomaly():
        x = tg.tensor(np.ones(1_000_000), requires_grad=True)
        y = (x * noise).sum()
        line = here(-1)
        noise[12_345] = 7.0
        with pytest.raises(GraphError, match="wrote into") as error:
            y.backward()
    assert f"multiply at {line}" in str(error.value)


# -- no false alarms ---------------------------------------------------------------------------------------------------


def masked_softmax() -> None:
    mask = np.array([[0.0, -np.inf], [0.0, 0.0]])
    x = tg.tensor(np.ones((2, 2)), requires_grad=True)
    tg.softmax(x + mask, axis=1).sum().backward()
    tg.log_softmax(x + mask, axis=1)[:, 0].sum().backward()
    tg.logsumexp(x + mask, axis=1).sum().backward()
    tg.max(x + mask, axis=1).sum().backward()


def logarithm_of_zero_not_taken() -> None:
    x = leaf(0.0, 2.0)
    tg.where(x.data > 0, tg.log(x), 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0.0, 0.5])  # type: ignore[union-attr]


def stable_functions_at_large_numbers() -> None:
    x = leaf(-1e4, -100.0, 0.0, 100.0, 1e4)
    for fn in (tg.sigmoid, tg.tanh, tg.nn.functional.softplus, tg.nn.functional.gelu):
        fn(x).sum().backward()
    tg.nn.functional.cross_entropy(tg.reshape(x, (1, 5)), np.array([4])).backward()


def huge_but_finite_numbers() -> None:
    x = tg.tensor(np.full((2, 3), 1e30, np.float32), requires_grad=True)
    (x * 1e-30).sum().backward()


def infinite_slopes_that_exact_zeros_take_away() -> None:
    x = leaf(0.0, 3.0)
    tg.sqrt(x**2).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0.0, 1.0])  # type: ignore[union-attr]
    x = leaf(0.0, 3.0)
    tg.where(x.data > 0, tg.sqrt(x), x).sum().backward()
    tg.sqrt(x[x.data > 0]).sum().backward()
    tg.linalg.norm(leaf(0.0, 0.0)).backward()


def an_infinity_on_the_way() -> None:
    """1 / exp(800) is 0, and its derivative, too."""
    (1.0 / (1.0 + tg.exp(leaf(800.0).detach())) * leaf(2.0)).sum().backward()


def infinity_as_a_bound() -> None:
    tg.clip(leaf(1.0, 2.0), -INF, INF).sum().backward()
    tg.minimum(leaf(1.0, 2.0), INF).sum().backward()


def nothing_at_all() -> None:
    x = tg.tensor(np.zeros((0, 3)), requires_grad=True)
    (x * 2.0).sum().backward()


@pytest.mark.parametrize(
    "program",
    [
        masked_softmax,
        logarithm_of_zero_not_taken,
        stable_functions_at_large_numbers,
        huge_but_finite_numbers,
        infinite_slopes_that_exact_zeros_take_away,
        an_infinity_on_the_way,
        infinity_as_a_bound,
        nothing_at_all,
    ],
)
def test_no_false_alarm(program: Callable[[], None]) -> None:
    with detect_anomaly(), np.errstate(divide="ignore", over="ignore"):
        program()


def test_a_branch_not_taken_when_nans_may_be_made() -> None:
    x = leaf(-1.0, 2.0)
    with detect_anomaly(nan="ignore"), np.errstate(invalid="ignore"):
        tg.where(x.data > 0, tg.log(x), 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0.0, 0.5])  # type: ignore[union-attr]


def test_training_is_the_same_with_and_without() -> None:
    def losses(mode: Any) -> list[float]:
        tg.manual_seed(0)
        model = tg.nn.Sequential(tg.nn.Linear(4, 8), tg.nn.ReLU(), tg.nn.Linear(8, 3))
        descent = tg.optim.SGD(model.parameters(), lr=0.1)
        x, t = np.random.default_rng(0).random((6, 4), np.float32), np.arange(6) % 3
        found = []
        with mode:
            for _ in range(5):
                loss = tg.nn.functional.cross_entropy(model(x), t)
                model.zero_grad()
                loss.backward()
                descent.step()
                found.append(loss.item())
        return found

    assert losses(detect_anomaly(inf="raise")) == losses(tg.enable_grad())


def test_belongs_to_a_thread() -> None:
    found: list[float] = []
    with detect_anomaly():
        thread = threading.Thread(target=lambda: found.append(tg.where(False, tg.log(leaf(-1.0)), 1.0).item()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            thread.start()
            thread.join()
    assert found == [1.0]


def test_as_decorator() -> None:
    @detect_anomaly()
    def fn(x: tg.Tensor) -> tg.Tensor:
        return tg.log(x)

    assert fn(leaf(1.0)).item() == 0.0
    with pytest.raises(AnomalyError):
        fn(leaf(-1.0))
