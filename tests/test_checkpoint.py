"""`checkpoint`: gradients equal to the bit, right randomness, less memory, and errors instead of wrong gradients."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.autograd import checkpoint, checkpoint_sequential
from tinygrad_nn.errors import ArgumentError, GraphError

Fn = Callable[..., Any]


def directly(fn: Fn, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def leaf(*shape: int, seed: int = 0) -> tg.Tensor:
    return tg.randn(*shape, generator=np.random.default_rng(seed), requires_grad=True)


def bits(t: Any) -> bytes:
    assert isinstance(t, tg.Tensor)
    return t.detach().numpy().tobytes()


def same(program: Callable[[Fn], Any]) -> None:
    """`program(checkpoint)` and `program(directly)` return Tensors that are equal to the bit."""
    first, second = program(checkpoint), program(directly)
    assert len(first) == len(second) > 0
    assert [bits(t) for t in first] == [bits(t) for t in second]


# -- equal gradients ---------------------------------------------------------------------------------------------------


def test_arguments_and_captured_parameters() -> None:
    def program(c: Fn) -> Any:
        x, w, b = leaf(5, 3), leaf(3, 3, seed=1), leaf(3, seed=2)
        y = x
        for _ in range(4):
            y = c(lambda a: tg.tanh(a @ w + b) * a, y)
        (y * x).sum().backward()
        return y, x.grad, w.grad, b.grad

    same(program)


def test_a_network_with_dropout_repeats_its_random_numbers() -> None:
    def program(c: Fn) -> Any:
        tg.manual_seed(7)
        net = tg.nn.Sequential(tg.nn.Linear(6, 8), tg.nn.ReLU(), tg.nn.Dropout(0.5), tg.nn.Linear(8, 2))
        x = tg.randn(10, 6)
        loss = c(net, x).square().mean() + c(net, x).sum() * 0.1
        loss.backward()
        return loss, tg.rand(3), *(p.grad for p in net.parameters())  # and the numbers after it are the same

    same(program)


def test_nested_containers_in_and_out() -> None:
    def fn(state: dict[str, Any], scale: float, *, more: list[tg.Tensor]) -> dict[str, Any]:
        h = state["h"] * scale
        return {"h": h, "parts": [h.sin() + more[0], (h.exp(), "name", 3)]}

    def program(c: Fn) -> Any:
        h, m = leaf(4), leaf(4, seed=1)
        out = c(fn, {"h": h}, 2.0, more=[m])
        assert out["parts"][1][1:] == ("name", 3)
        (out["h"] * out["parts"][0] + out["parts"][1][0]).sum().backward()
        return out["h"], h.grad, m.grad

    same(program)


def test_one_within_another() -> None:
    def program(c: Fn) -> Any:
        x, w = leaf(4), leaf(4, seed=1)

        def inner(a: tg.Tensor) -> tg.Tensor:
            return tg.sin(a * w) * tg.exp(a * 0.1)

        def middle(a: tg.Tensor) -> tg.Tensor:
            return c(inner, c(inner, a) + a).tanh()

        def outer(a: tg.Tensor) -> tg.Tensor:
            return c(middle, c(middle, a)) * w

        y = c(outer, c(outer, x))
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        return y, x.grad, w.grad

    same(program)


def test_one_within_another_with_random_numbers() -> None:
    def program(c: Fn) -> Any:
        tg.manual_seed(3)
        x = leaf(50)

        def inner(a: tg.Tensor) -> tg.Tensor:
            return tg.nn.functional.dropout(a * tg.rand(50), 0.3)

        y = c(lambda a: c(inner, c(inner, a) * tg.rand(50)), x)
        y.square().sum().backward()
        return y, x.grad, tg.rand(2)

    same(program)


def test_higher_orders_and_both_modes() -> None:
    def program(c: Fn) -> Any:
        x, w = leaf(3), leaf(3, seed=1)

        def f(a: tg.Tensor) -> tg.Tensor:
            y: tg.Tensor = c(lambda b: tg.sin(b * w) * tg.exp(b), a)
            return (y * y).sum()

        (first,) = tg.autograd.grad(f(x), x, create_graph=True)
        assert first is not None
        second = tg.autograd.grad(first.sum(), (x, w))
        grad, jvp = tg.func.grad, tg.func.jvp
        return (
            first,
            *second,
            jvp(f, (x,), (w,))[1],
            jvp(grad(f), (x,), (w,))[1],
            grad(lambda a: jvp(f, (a,), (w,))[1])(x),
            tg.func.hessian(f)(x),
            tg.func.vmap(tg.func.grad(f))(tg.stack([x, w])),
            grad(lambda a: tg.func.vmap(f)(tg.stack([a, w])).sum())(x),
        )

    same(program)


def test_a_graph_that_is_walked_in_parts_and_again() -> None:
    def program(c: Fn) -> Any:
        x, w = leaf(3), leaf(3, seed=1)
        y = c(lambda a: (tg.sin(a * w), tg.exp(a), w * 2), x)
        found = [tg.autograd.grad(part.sum(), (x, w), retain_graph=True, allow_unused=True) for part in y]
        found.append(tg.autograd.grad(sum(part.sum() for part in y), (x, w)))
        return [g for gs in found for g in gs if g is not None]

    same(program)


def test_functions_of_ones_own_and_hooks_inside() -> None:
    class Scaled(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: tg.Tensor, b: tg.Tensor) -> Any:
            y = tg.exp(a) * b
            ctx.save_for_backward(a, b, y)
            return y, a * b

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor, h: tg.Tensor) -> Any:
            a, b, y = ctx.saved_tensors
            return g * y + h * b, g * tg.exp(a) + h * a

    def program(c: Fn) -> Any:
        x, w = leaf(3), leaf(3, seed=1)
        seen: list[tg.Tensor] = []

        def fn(a: tg.Tensor) -> tg.Tensor:
            h = a * w
            if h.requires_grad:
                h.register_hook(lambda g: seen.append(g.detach()) or g * 2)  # type: ignore[func-returns-value]
            p, q = Scaled.apply(h, w)
            return p * q

        (first,) = tg.autograd.grad(c(fn, x).sum(), x, create_graph=True)
        assert first is not None
        assert len(seen) == 1
        return first, seen[0], *tg.autograd.grad(first.sum(), (x, w))

    same(program)


def test_without_recording_it_just_runs() -> None:
    x = leaf(3)
    calls: list[int] = []

    def fn(a: Any) -> Any:
        calls.append(1)
        return a * 2

    with tg.no_grad():
        assert not checkpoint(fn, x).requires_grad
    assert checkpoint(fn, np.ones(2)).tolist() == [2, 2]
    assert checkpoint(fn, x)._node.saved is None
    assert len(calls) == 3


def test_modes_at_the_second_run_are_those_of_the_first() -> None:
    x = leaf(3)
    modes: list[bool] = []

    def fn(a: tg.Tensor) -> tg.Tensor:
        modes.append(tg.is_grad_enabled())
        return a.exp()

    y = checkpoint(fn, x).sum()
    with tg.no_grad():
        y.backward()
    assert modes == [True, True]


def test_checkpoint_sequential() -> None:
    net = tg.nn.Sequential(*(tg.nn.Linear(4, 4) for _ in range(7)))
    x = leaf(2, 4)
    wanted = tg.autograd.grad(net(x).sum(), (x, *net.parameters()))
    for segments in (1, 2, 3, 7):
        found = tg.autograd.grad(checkpoint_sequential(net, segments, x).sum(), (x, *net.parameters()))
        assert [bits(f) for f in found] == [bits(w) for w in wanted]
    for segments in (0, 8):
        with pytest.raises(ArgumentError, match=f"checkpoint_sequential: {segments} segments of 7 functions"):
            checkpoint_sequential(net, segments, x)
    with pytest.raises(ArgumentError, match=r"segments is float.*, no number; call it with \(functions, segm"):
        checkpoint_sequential(net, x, 2)  # type: ignore[arg-type]


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_argument_that_was_overwritten_is_refused() -> None:
    x = tg.tensor([1.0, 2.0])
    w = leaf(2)
    y = checkpoint(lambda a: a + w * a, x).sum()
    x[0] = 5.0
    with pytest.raises(GraphError, match=r"checkpoint needs one of its arguments, .* but x\[index\] = value"):
        y.backward()


def test_an_argument_whose_name_moved_on_is_no_matter() -> None:
    x = leaf(2)
    h = x * 1.0
    y = checkpoint(tg.exp, h).sum()
    h += 100.0
    y.backward()
    assert bits(x.grad) == bits(tg.exp(x))


def test_a_parameter_that_was_stepped_is_refused() -> None:
    x, w = leaf(2), leaf(2, seed=1)
    y = checkpoint(lambda a: (a + w) * (a + w), x).sum()
    with tg.no_grad():
        w -= 1e-6
    with pytest.raises(GraphError, match="gave another result when it ran again .*a parameter stepped"):
        y.backward()


def test_random_numbers_from_elsewhere_are_refused() -> None:
    generator = np.random.default_rng(0)
    x = leaf(20)
    y = checkpoint(lambda a: tg.nn.functional.dropout(a, 0.5, generator=generator).exp(), x).sum()
    with pytest.raises(GraphError, match="draws random numbers from another generator"):
        y.backward()


def test_a_difference_of_rounding_is_no_other_result() -> None:
    """Libraries may add up in another order the second time."""
    runs = itertools.count()
    x = tg.ones(3, requires_grad=True)
    y = checkpoint(lambda a: a.exp() * (1 + 1e-6 * next(runs)), x).sum()
    y.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, np.e, rtol=1e-5)


def test_other_shapes_or_dtypes_are_another_result() -> None:
    for change in (lambda a: a[:2], lambda a: a.astype("float64")):
        runs = itertools.count()
        x = leaf(3)
        y = checkpoint(lambda a, c=change, r=runs: (a.exp(), c(a.detach()) if next(r) else a.detach()), x)
        with pytest.raises(GraphError, match="gave another result"):
            y[0].sum().backward()


def test_another_program_at_the_second_run_is_refused() -> None:
    x = leaf(2)
    runs = itertools.count()
    y = checkpoint(lambda a: a.sin() if next(runs) else a.exp(), x).sum()
    with pytest.raises(GraphError, match="gave another result"):
        y.backward()


def test_a_second_walk_without_retain_graph() -> None:
    x = leaf(2)
    y = checkpoint(lambda a: a.exp().sin(), x).sum()
    y.backward()
    with pytest.raises(GraphError, match="a second time"):
        y.backward()
    z = checkpoint(lambda a: a.exp().sin(), x)
    z.sum().backward()
    with pytest.raises(GraphError, match="a second time"):
        z.sum().backward()
    with pytest.raises(GraphError, match="no output depends on input"):
        tg.autograd.grad(checkpoint(tg.exp, x).sum(), leaf(2))


# -- memory ------------------------------------------------------------------------------------------------------------


def peak(run: Callable[[], Any]) -> int:
    """The most bytes that arrays took at once while `run` ran."""
    gc.collect()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def chain(n: int, segments: int | None, walk: Callable[[tg.Tensor, tg.Tensor], Any]) -> int:
    x = tg.tensor(np.linspace(0, 1, 16384, dtype=np.float32), requires_grad=True)
    layers = [tg.sin] * n

    def run() -> None:
        y = x
        if segments is None:
            for layer in layers:
                y = layer(y)
        else:
            y = checkpoint_sequential(layers, segments, x)
        walk(y.sum(), x)
        x.grad = None

    return peak(run)


WALKS = [
    lambda y, x: y.backward(),
    lambda y, x: y.backward(retain_graph=True),
    lambda y, x: tg.autograd.grad(y, x),
    lambda y, x: tg.autograd.grad(y, x, retain_graph=True),
    lambda y, x: y.register_hook(lambda g: None) and y.backward(),
]


@pytest.mark.parametrize("walk", WALKS)
def test_a_long_chain_takes_a_fraction_of_the_memory(walk: Callable[..., Any]) -> None:
    n = 400  # overhead of nodes and of the interpreter included
    assert chain(n, 20, walk) <= 0.25 * chain(n, None, walk)


def test_memory_grows_as_the_root_of_the_length() -> None:
    short, long = (chain(n, segments, WALKS[0]) for n, segments in ((225, 15), (900, 30)))
    assert long <= 2.5 * short  # 2, and nodes, whose number grows as n
    assert long <= 0.15 * chain(900, None, WALKS[0])


def test_walks_that_stop_early_hold_little() -> None:
    """Each walk takes one gradient in each part only, and leaves the rest that the part computed."""
    ws = [tg.ones(4096, requires_grad=True) for _ in range(20)]
    x = tg.ones(4096)

    def run() -> None:
        y = x
        for w in ws:
            y = checkpoint(lambda a, w=w: (a * w).sin().sin().sin().sin().sin().sin(), y)
        tg.autograd.grad(y.sum(), ws[:1], retain_graph=True)

    def whole() -> None:
        y = x
        for w in ws:
            y = (y * w).sin().sin().sin().sin().sin().sin()
        tg.autograd.grad(y.sum(), ws[:1], retain_graph=True)

    assert peak(run) <= 0.45 * peak(whole)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: checkpoint(lambda a: a.exp() * a, x),
        lambda x: checkpoint(lambda a: a.exp() * a, x).sum().backward(),
        lambda x: checkpoint(lambda a: checkpoint(tg.sin, a.exp()) * a, x).sum().backward(retain_graph=True),
        lambda x: tg.autograd.grad(checkpoint(lambda a: [a.exp() * a, a * 2], x)[1].sum(), x),
        lambda x: tg.autograd.grad(checkpoint(lambda a: checkpoint(tg.exp, a) * a, x).sum(), x, create_graph=True),
        lambda x: tg.func.jvp(lambda b: checkpoint(lambda a: checkpoint(tg.exp, a) * a, b), (x,), (x,)),
    ],
)
def test_no_cycle_keeps_a_graph(make: Callable[[tg.Tensor], Any]) -> None:
    gc.collect()
    gc.disable()
    try:
        x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
        gone = weakref.ref(x.data)
        made = make(x)
        del made, x
        assert gone() is None
    finally:
        gc.enable()


def test_an_argument_written_afterwards_inside_vmap() -> None:
    """A recorded write gives the batch behind an example another array; the checkpoint keeps the one it had."""

    def fn(x: tg.Tensor, run: Any) -> tg.Tensor:
        y = x * 1.0
        z = run(lambda a: tg.sin(a) * a, y)
        y *= 2.0
        y[0] = x[1]
        return (z * y).sum()  # type: ignore[no-any-return]

    batch = np.arange(6.0).reshape(3, 2)
    plain = tg.func.vmap(tg.func.grad(lambda x: fn(x, lambda part, a: part(a))))(batch)
    less = tg.func.vmap(tg.func.grad(lambda x: fn(x, tg.autograd.checkpoint)))(batch)
    assert less.tolist() == plain.tolist()


def test_another_result_inside_vmap_is_noticed() -> None:
    scale = np.ones(2)

    def fn(x: tg.Tensor) -> tg.Tensor:
        y = tg.autograd.checkpoint(lambda a: tg.sin(a) * scale, x)
        scale[...] += 1.0
        return y.sum()  # type: ignore[no-any-return]

    with pytest.raises(GraphError, match="gave another result"):
        tg.func.vmap(tg.func.grad(fn))(np.ones((3, 2)))
