"""`tg.autograd.Function`: derivatives in both modes and of any order, arguments of any kind, no leaks, clear errors."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, GraphError, ShapeError

Ctx = tg.autograd.FunctionContext


class Sine(tg.autograd.Function):
    @staticmethod
    def forward(ctx: Ctx, x: tg.Tensor) -> tg.Tensor:
        ctx.save_for_backward(x)
        return tg.sin(x)

    @staticmethod
    def backward(ctx: Ctx, g: tg.Tensor) -> tg.Tensor:
        return g * tg.cos(ctx.saved_tensors[0])


class Exp(tg.autograd.Function):
    """Saves its result."""

    @staticmethod
    def forward(ctx: Ctx, x: tg.Tensor) -> tg.Tensor:
        y = tg.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Ctx, g: tg.Tensor) -> tg.Tensor:
        return g * ctx.saved_tensors[0]


class Polar(tg.autograd.Function):
    """Two arguments that broadcast, two results."""

    @staticmethod
    def forward(ctx: Ctx, r: tg.Tensor, phi: tg.Tensor) -> Any:
        x, y = r * tg.cos(phi), r * tg.sin(phi)
        ctx.save_for_backward(r, phi, x, y)
        return x, y

    @staticmethod
    def backward(ctx: Ctx, gx: tg.Tensor, gy: tg.Tensor) -> Any:
        _, phi, x, y = ctx.saved_tensors
        return gx * tg.cos(phi) + gy * tg.sin(phi), gy * x - gx * y


class WithJvp(Sine):
    calls = 0

    @staticmethod
    def jvp(ctx: Ctx, *tangents: tg.Tensor | None) -> Any:
        WithJvp.calls += 1
        (t,) = tangents
        return t * tg.cos(ctx.saved_tensors[0])


class PolarJvp(Polar):
    @staticmethod
    def jvp(ctx: Ctx, *tangents: tg.Tensor | None) -> Any:
        _, phi, x, y = ctx.saved_tensors
        dr, dphi = tangents
        return dr * tg.cos(phi) - dphi * y, dr * tg.sin(phi) + dphi * x


def by_hand(r: Any, phi: Any) -> Any:
    return r * tg.cos(phi), r * tg.sin(phi)


def mixed(pair: Callable[..., Any]) -> Callable[..., Any]:
    def f(r: Any, phi: Any) -> Any:
        x, y = pair(r, phi)
        return (x * x * y + tg.exp(y)).sum()

    return f


R, PHI = np.array([1.5, 0.5, 2.0]), np.array(0.3)


@pytest.mark.parametrize("pair", [Polar.apply, PolarJvp.apply])
def test_every_nesting_of_modes(pair: Callable[..., Any]) -> None:
    custom, plain = mixed(pair), mixed(by_hand)
    grad, jvp = tg.func.grad, tg.func.jvp

    def compare(transform: Callable[[Any], Any]) -> None:
        for a, b in zip(transform(custom), transform(plain), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-12)

    compare(lambda f: grad(f, (0, 1))(R, PHI))
    compare(lambda f: jvp(f, (R, PHI), (R + 1, PHI)))
    compare(lambda f: jvp(lambda a, b: grad(f, 0)(a, b) * b, (R, PHI), (R + 1, PHI)))
    compare(lambda f: grad(lambda a, b: jvp(f, (a, b), (a * 2, b * b))[1], (0, 1))(R, PHI))
    compare(lambda f: grad(lambda a, b: (grad(f, 0)(a, b) * a).sum(), (0, 1))(R, PHI))
    compare(lambda f: jvp(lambda a: jvp(lambda c: f(c, c.sum()), (a,), (R,))[1], (R,), (R,)))
    compare(lambda f: [grad(lambda p: grad(lambda q: grad(lambda s: f(R, s))(q))(p))(PHI)])


@pytest.mark.parametrize("fn", [Sine, Exp, WithJvp])
def test_checked(fn: type[tg.autograd.Function]) -> None:
    x = np.array([[0.3, -1.0], [2.0, 0.1]])
    assert tg.autograd.gradcheck(fn.apply, (x,)).verdict == "pass"
    assert tg.autograd.gradgradcheck(fn.apply, (x,)).verdict == "pass"


def test_a_jvp_of_ones_own_is_used() -> None:
    WithJvp.calls = 0
    _, t = tg.func.jvp(WithJvp.apply, (0.0,), (3.0,))
    assert (WithJvp.calls, t.item()) == (1, 3.0)


def test_a_wrong_jvp_disagrees_with_backward() -> None:
    class Wrong(Sine):
        @staticmethod
        def jvp(ctx: Ctx, *tangents: tg.Tensor | None) -> Any:
            return tangents[0] * 2  # type: ignore[operator]

    result = tg.autograd.gradcheck(Wrong.apply, (np.array([0.3, 0.7]),), raise_exception=False)
    assert result.verdict == "fail"
    assert "reverse and forward mode disagree" in str(result)


# -- arguments and results ---------------------------------------------------------------------------------------------


def test_arrays_in_arrays_out() -> None:
    y = Sine.apply(np.array([0.0, 1.0], np.float32))
    assert isinstance(y, np.ndarray) and y.dtype == np.float32
    x, z = Polar.apply(np.float64(2.0), np.zeros(3))
    assert isinstance(x, np.ndarray) and isinstance(z, np.ndarray) and x.tolist() == [2, 2, 2]


def test_arrays_reach_forward_as_tensors_and_the_rest_as_it_is() -> None:
    seen: list[Any] = []

    class Look(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Ctx, *args: Any) -> Any:
            seen.extend(args)
            return args[0] * args[1]

        @staticmethod
        def backward(ctx: Ctx, g: tg.Tensor) -> Any:
            return g * seen[1], None, None, None, None

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    Look.apply(x, np.array([3.0, 4.0], np.float32), 5, "name", {"a": x}).sum().backward()
    assert [type(s) for s in seen] == [tg.Tensor, tg.Tensor, int, str, dict]
    assert x.grad is not None and x.grad.tolist() == [3, 4]


def test_an_array_is_a_result_like_a_tensor() -> None:
    class Sort(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Ctx, x: tg.Tensor) -> Any:
            ctx.order = np.argsort(x.data)  # type: ignore[attr-defined]
            return x.data[ctx.order]  # type: ignore[attr-defined]

        @staticmethod
        def backward(ctx: Ctx, g: tg.Tensor) -> Any:
            return g[np.argsort(ctx.order)]  # type: ignore[attr-defined]

    x = tg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    y = Sort.apply(x)
    assert y.tolist() == [1, 2, 3]
    y.backward([10.0, 20.0, 30.0])
    assert x.grad is not None and x.grad.tolist() == [30, 10, 20]


def test_a_result_marked_non_differentiable() -> None:
    class Top(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Ctx, x: tg.Tensor) -> Any:
            share = x / x.sum()
            ctx.mark_non_differentiable(share)
            return x * 2, share

        @staticmethod
        def backward(ctx: Ctx, g: tg.Tensor, g_share: tg.Tensor) -> Any:
            assert g_share.tolist() == [0, 0]
            return g * 2

    x = tg.tensor([1.0, 3.0], requires_grad=True)
    double, share = Top.apply(x)
    assert (double.requires_grad, share.requires_grad) == (True, False)
    (double * share).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.5, 1.5]


def test_gradients_that_are_not_materialized() -> None:
    seen: list[Any] = []

    class Both(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Ctx, x: tg.Tensor) -> Any:
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx: Ctx, g: tg.Tensor | None, h: tg.Tensor | None) -> Any:
            seen.append([g is None, h is None])
            return (0 if g is None else g * 2) + (0 if h is None else h * 3)

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    Both.apply(x)[1].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [3, 3]
    (g,) = tg.autograd.grad((Both.apply(x)[0] * x).sum(), x, create_graph=True)
    assert g is not None and g.tolist() == [4, 8]
    (h,) = tg.autograd.grad(g.sum(), x)
    assert h is not None and h.tolist() == [4, 4]
    assert tg.func.jvp(lambda a: Both.apply(a)[1], (x,), (x,))[1].tolist() == [3, 6]
    assert seen[0] == [True, False]


def test_needs_input_grad_and_recording_off() -> None:
    seen: list[tuple[bool, ...]] = []

    class Add(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Ctx, a: tg.Tensor, b: tg.Tensor) -> Any:
            return a + b

        @staticmethod
        def backward(ctx: Ctx, g: tg.Tensor) -> Any:
            seen.append(ctx.needs_input_grad)
            return g, None

    a, b = tg.tensor([1.0], requires_grad=True), tg.tensor([2.0])
    Add.apply(a, b).backward()
    assert seen == [(True, False)]
    with tg.no_grad():
        assert not Add.apply(a, b).requires_grad


def test_backward_runs_once_for_all_arguments() -> None:
    runs: list[int] = []

    class Count(Polar):
        @staticmethod
        def backward(ctx: Ctx, gx: tg.Tensor, gy: tg.Tensor) -> Any:
            runs.append(1)
            return Polar.backward(ctx, gx, gy)

    r, phi = tg.tensor(R, requires_grad=True), tg.tensor(PHI, requires_grad=True)
    loss = mixed(Count.apply)(r, phi)
    for create in (False, True):
        runs.clear()
        tg.autograd.grad(loss, (r, phi), retain_graph=True, create_graph=create)
        assert len(runs) == 1


def test_a_saved_argument_that_is_then_rebound() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    a = x * 1.0
    y = Sine.apply(a)
    a += 100.0  # the name `a` moves on; what was saved does not
    y.sum().backward()
    np.testing.assert_allclose(x.grad.data, np.cos([1.0, 2.0]), rtol=1e-6)  # type: ignore[union-attr]


def test_under_vmap_each_example_runs_alone() -> None:
    r, phi = tg.tensor(np.array([[1.0, 2.0, 3.0], [0.5, 1.5, 2.5]])), tg.tensor(np.array([0.1, 0.2]))
    for wanted, found in zip(by_hand(r, phi[:, None]), tg.func.vmap(Polar.apply)(r, phi), strict=True):
        np.testing.assert_allclose(found.data, wanted.data, rtol=1e-15)
    inner = tg.func.vmap(lambda a, b: tg.func.vmap(lambda c: Polar.apply(c, b)[1])(a))
    np.testing.assert_allclose(inner(r, phi).data, by_hand(r, phi[:, None])[1].data, rtol=1e-15)
    custom, plain = (tg.func.vmap(tg.func.grad(mixed(pair)), in_axes=(None, 0)) for pair in (Polar.apply, by_hand))
    np.testing.assert_allclose(custom(R, phi).data, plain(R, phi).data, rtol=1e-12)
    hessians = (tg.func.hessian(lambda p, pair=pair: mixed(pair)(p[:2], p[2]))(R) for pair in (Polar.apply, by_hand))
    np.testing.assert_allclose(next(hessians).data, next(hessians).data, rtol=1e-12)
    assert tg.func.vmap(Sine.apply)(tg.zeros((0, 3))).shape == (0, 3)


# -- errors ------------------------------------------------------------------------------------------------------------


class Outside(tg.autograd.Function):
    """x³ whose backward leaves the recorded operations."""

    @staticmethod
    def forward(ctx: Ctx, x: tg.Tensor) -> tg.Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Ctx, g: tg.Tensor) -> Any:
        return g.data * 3 * ctx.saved_tensors[0].data ** 2


def test_a_backward_outside_the_recorded_operations_has_first_derivatives_only() -> None:
    x = tg.tensor([2.0], requires_grad=True)
    Outside.apply(x).backward()
    assert x.grad is not None and x.grad.tolist() == [12]
    with pytest.raises(GraphError, match=r"Outside.backward: the gradient of argument 0 .* a derivative of its result"):
        tg.autograd.grad(Outside.apply(x).sum(), x, create_graph=True)
    with pytest.raises(GraphError, match=r"Outside.backward: .*define jvp\(ctx, \*tangents\)"):
        tg.func.jvp(Outside.apply, (tg.tensor([2.0]),), (tg.tensor([1.0]),))


def test_writing_through_numpy_into_what_was_saved_is_noticed() -> None:
    array = np.array([1.0, 2.0])
    y = Sine.apply(tg.asarray(array).requires_grad_()).sum()
    array[0] = 5.0
    with pytest.raises(GraphError, match="Sine needs its saved_tensors, .* but NumPy code"):
        y.backward()


def test_none_is_a_gradient_of_zero_in_both_modes() -> None:
    class Stop(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Ctx, x: tg.Tensor) -> tg.Tensor:
            return x * 5

        @staticmethod
        def backward(ctx: Ctx, g: tg.Tensor) -> Any:
            return None

    assert tg.func.grad(lambda x: Stop.apply(x) + x)(2.0).item() == 1
    assert tg.func.jvp(lambda x: Stop.apply(x) + x, (2.0,), (1.0,))[1].item() == 1
    assert tg.func.grad(tg.func.grad(lambda x: Stop.apply(x) * x))(2.0).item() == 0


def test_a_jvp_with_the_wrong_number_or_shape_is_told() -> None:
    class TwoTangents(Sine):
        @staticmethod
        def jvp(ctx: Ctx, *tangents: tg.Tensor | None) -> Any:
            return tangents[0], tangents[0]

    class LongTangent(Sine):
        @staticmethod
        def jvp(ctx: Ctx, *tangents: tg.Tensor | None) -> Any:
            return tg.ones(7)

    x, t = (tg.tensor([1.0]),), (tg.tensor([1.0]),)
    with pytest.raises(ArgumentError, match=r"TwoTangents.jvp returned 2 tangents for 1 results"):
        tg.func.jvp(TwoTangents.apply, x, t)
    with pytest.raises(ShapeError, match=r"LongTangent.jvp returned .*\(7,\) as the tangent of result 0"):
        tg.func.jvp(LongTangent.apply, x, t)


# -- memory and threads ------------------------------------------------------------------------------------------------


def freed(make: Callable[[tg.Tensor], Any]) -> bool:
    """Whether the graph that `make` leaves behind is gone without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
        gone = weakref.ref(x.data)
        made = make(x)
        del made, x
        return gone() is None
    finally:
        gc.enable()


class Messy(tg.autograd.Function):
    """Puts everything on ctx, also in backward."""

    @staticmethod
    def forward(ctx: Any, x: tg.Tensor, y: tg.Tensor) -> Any:
        z = x * y
        ctx.save_for_backward(x, y, z)
        ctx.everything = [x, y, z]
        return z, z * 2

    @staticmethod
    def backward(ctx: Any, g: tg.Tensor, h: tg.Tensor) -> Any:
        x, y, _ = ctx.saved_tensors
        ctx.later = [g, h, g * x]
        return (g + 2 * h) * y, (g + 2 * h) * x


@pytest.mark.parametrize(
    "make",
    [
        lambda x: Messy.apply(x, x * 2),
        lambda x: Messy.apply(x, x * 2)[1].sum().backward(),
        lambda x: tg.autograd.grad(Messy.apply(x, x * 2)[1].sum(), x, create_graph=True),
        lambda x: tg.autograd.grad(Messy.apply(x, tg.ones(3).requires_grad_())[0].sum(), x, create_graph=True),
        lambda x: tg.func.jvp(lambda a: Messy.apply(a, a * 2)[0], (x,), (x,)),
        lambda x: tg.autograd.grad(Exp.apply(x).sum(), x, create_graph=True),
    ],
)
def test_no_cycle_keeps_a_graph(make: Callable[[tg.Tensor], Any]) -> None:
    assert freed(make)


def test_threads_may_walk_one_graph() -> None:
    r, phi = tg.tensor(R, requires_grad=True), tg.tensor(PHI, requires_grad=True)
    loss = mixed(Polar.apply)(r, phi)
    wanted = [g.tolist() for g in tg.autograd.grad(loss, (r, phi), retain_graph=True)]  # type: ignore[union-attr]
    found: list[Any] = []

    def walk() -> None:
        for _ in range(30):
            found.append([g.tolist() for g in tg.autograd.grad(loss, (r, phi), retain_graph=True)])  # type: ignore[union-attr]

    threads = [threading.Thread(target=walk) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 120 and all(f == wanted for f in found)


def test_jacobians_and_hessians_of_a_function() -> None:
    """Its backward gets a whole batch of gradients at once, and the results keep no history."""

    class Scaled(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, s: Any) -> Any:
            ctx.save_for_backward(x, s)
            return x**3 * s, x + s

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            x, s = ctx.saved_tensors
            return 3 * g * x * x * s + h, g * x**3 + h

    x, s = np.array([1.0, 2.0]), np.array([0.5, 3.0])
    for jacobian in (tg.func.jacrev, tg.func.jacfwd):
        (by_x, by_s), (one, other) = jacobian(Scaled.apply, (0, 1))(x, s)
        np.testing.assert_allclose(by_x.data, np.diag(3 * x * x * s))
        np.testing.assert_allclose(by_s.data, np.diag(x**3))
        assert one.tolist() == other.tolist() == np.eye(2).tolist()
        assert not by_x.requires_grad and not one.requires_grad
    found = tg.func.hessian(lambda x, s: Scaled.apply(x, s)[0].sum(), (0, 1))(x, s)
    np.testing.assert_allclose(found[0][0].data, np.diag(6 * x * s))
    np.testing.assert_allclose(found[0][1].data, np.diag(3 * x * x))


class Attributes(tg.autograd.Function):
    """x·exp(x), with argument and result as plain attributes."""

    @staticmethod
    def forward(ctx: Any, x: Any, power: int = 1) -> Any:
        ctx.x, ctx.power = x, power
        ctx.y = tg.exp(x) * x
        return ctx.y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * (ctx.y + ctx.y / ctx.x) * ctx.power, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0] * (ctx.y + ctx.y / ctx.x)


def test_arguments_and_results_as_attributes_are_saved_like_others() -> None:
    """A second derivative that took them for constants would be wrong without a word."""
    point = np.array([1.0, 2.0])
    x = tg.tensor(point, requires_grad=True)
    (slope,) = tg.autograd.grad(Attributes.apply(x, 1).sum(), x, create_graph=True)
    (bend,) = tg.autograd.grad(slope.sum(), x)
    np.testing.assert_allclose(slope.data, np.exp(point) * (point + 1))
    np.testing.assert_allclose(bend.data, np.exp(point) * (point + 2))
    hessian = tg.func.hessian(lambda v: Attributes.apply(v, 1).sum())(point)
    np.testing.assert_allclose(hessian.data, np.diag(np.exp(point) * (point + 2)))


def test_an_attribute_follows_no_write_into_the_argument() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    z = x * 1.0
    y = Attributes.apply(z, 1)
    z += 100.0  # makes a new array
    y.sum().backward(retain_graph=True)
    np.testing.assert_allclose(x.grad.data, np.exp([1.0, 2.0]) * np.array([2.0, 3.0]), rtol=1e-6)
    z = x * 1.0
    y = Attributes.apply(z, 1)
    with tg.no_grad():
        z += 100.0
    with pytest.raises(GraphError, match=r"backward of Attributes needs .*in-place add"):
        y.sum().backward()


def test_a_result_as_attribute_keeps_nothing_alive() -> None:
    gc.disable()
    try:
        y = Attributes.apply(tg.tensor([1.0], requires_grad=True), 1)
        node = weakref.ref(y)
        del y
        assert node() is None
    finally:
        gc.enable()


class Scaled(tg.autograd.Function):
    """Has an argument that calls may leave out; `backward` answers for it all the same."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float = 3.0) -> Any:
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.factor, None


def test_backward_may_answer_for_arguments_left_out() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (Scaled.apply(x).sum() + Scaled.apply(x, 2.0).sum()).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [5.0, 5.0]
