"""The recorded graph: depth, width, memory, freeing, hooks, modes, threads, writes."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, GraphError
from tinygrad_nn.graph import Node


def leaf(*values: float) -> tg.Tensor:
    return tg.Tensor(np.array(values), requires_grad=True)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Only reference counts free anything inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def live_nodes() -> int:
    # type(), as isinstance() asks an object for its __class__, which runs code of other libraries' lazy objects
    return sum(type(o) is Node for o in gc.get_objects())


# -- depth and width ---------------------------------------------------------------------------------------------------


def chain(length: int) -> tuple[float, float]:
    """Seconds per operation, and the gradient, of adding a constant `length` times."""
    x = tg.Tensor(np.float64(1.0), requires_grad=True)
    begin = time.perf_counter()
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward()
    return (time.perf_counter() - begin) / length, x.grad.item()


def test_a_million_operations_in_a_chain() -> None:
    assert sys.getrecursionlimit() < 10_000
    with without_collector():
        short = min(chain(50_000)[0] for _ in range(2))
        per_operation, gradient = chain(1_000_000)
    assert gradient == 1.0
    assert per_operation < 8 * short, "time must grow linearly"


def test_a_million_operations_dropped_without_backward() -> None:
    with without_collector():
        y = leaf(1.0)
        for _ in range(1_000_000):
            y = -y
        del y  # frees node after node, without recursion in C either


def test_a_node_used_a_hundred_thousand_times() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2.0
    total = y * 0.0
    for i in range(1, 100_000):
        total = total + y * float(i % 7)
    total.sum().backward()
    wanted = 2.0 * sum(i % 7 for i in range(100_000))
    assert x.grad.tolist() == [wanted, wanted]


def test_a_leaf_read_a_hundred_thousand_times() -> None:
    x = leaf(*map(float, range(10)))
    total = x[0]
    for i in range(1, 100_000):
        total = total + x[i % 10]
    total.backward()
    assert x.grad.tolist() == [10_000.0] * 10


def test_a_diamond_of_diamonds() -> None:
    """2**60 paths, 60 nodes: each node is walked once."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.tolist() == [2.0**60]


def test_second_derivative_of_a_deep_chain() -> None:
    x = leaf(0.5)
    y = x
    for _ in range(2000):
        y = y * 1.0
    (y * y).backward(create_graph=True)
    first, x.grad = x.grad, None
    first.backward()
    assert x.grad.tolist() == [2.0]


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_is_flat_over_ten_thousand_steps() -> None:
    w = leaf(*np.linspace(-1, 1, 64))

    def step() -> None:
        w.grad = None
        loss = ((tg.tanh(w) * 2.0 - 1.0) ** 2).sum()
        loss.backward()
        with tg.no_grad():
            w.data -= 0.001 * w.grad.data

    with without_collector():
        for _ in range(200):
            step()
        before = live_nodes()
        tracemalloc.start()
        step()
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            step()
        grown = tracemalloc.get_traced_memory()[0] - start
        tracemalloc.stop()
        assert live_nodes() == before
    assert grown < 20_000, f"{grown} bytes more after 10,000 steps"


def test_dropping_the_result_frees_the_graph_at_once() -> None:
    with without_collector():
        x = leaf(1.0, 2.0)
        middle = tg.exp(x)
        array = weakref.ref(middle.data)
        y = (middle * middle).sum()
        del middle
        assert array() is not None, "exp keeps its result"
        del y
        assert array() is None, "reference counts alone must free it"


@pytest.mark.parametrize("create_graph", [False, True])
def test_nothing_is_left_when_all_is_dropped(create_graph: bool) -> None:
    with without_collector():
        before = live_nodes()
        x = leaf(1.0, 2.0)
        y = (tg.exp(x) * tg.sin(x)).sum()
        y.retain_grad()
        x.register_hook(lambda g: g * 2.0)
        y.backward(create_graph=create_graph)
        x.grad = None  # of a recorded gradient, the way back to x: the one cycle there can be
        del x, y
        if create_graph:
            gc.collect()
        assert live_nodes() == before


def test_backward_frees_as_it_goes() -> None:
    x = leaf(1.0, 2.0)
    middle = tg.exp(x)
    y = (middle * 2.0).sum()
    array = weakref.ref(middle.data)
    del middle
    y.backward()
    assert array() is None, "y is alive, what its graph kept is not"


def test_only_what_the_rule_needs_is_kept() -> None:
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    inner = x * 1.0
    array = weakref.ref(inner.data)
    y = inner + z
    del inner
    assert array() is None, "a sum needs neither of its inputs"
    y.backward(np.ones(2))


# -- walking twice -----------------------------------------------------------------------------------------------------


def test_second_backward_names_the_operation() -> None:
    x = leaf(1.0, 2.0)
    y = tg.exp(x).sum()
    y.backward()
    with pytest.raises(GraphError, match=r"backward through sum .*second time.*retain_graph"):
        y.backward()
    assert x.grad.tolist() == pytest.approx([2.718281828459045, 7.38905609893065])


def test_shared_part_freed_by_another_result() -> None:
    x = leaf(1.0)
    shared = tg.exp(x)
    first, second = shared * 2.0, shared * 3.0
    first.backward()
    with pytest.raises(GraphError, match="backward through exp"):
        second.backward()
    assert x.grad.tolist() == pytest.approx([5.43656365691809]), "a refused walk adds nothing"


def test_retain_graph_accumulates() -> None:
    x = leaf(3.0)
    y = x * x
    for times in (1, 2, 3):
        y.backward(retain_graph=True)
        assert x.grad.tolist() == [6.0 * times]
    x.zero_grad()
    assert x.grad is None
    y.backward()
    assert x.grad.tolist() == [6.0]


def test_several_results_of_one_graph() -> None:
    x = leaf(2.0)
    y = x * x
    a, b = y * 3.0, y * y
    a.backward(retain_graph=True)
    b.backward()
    assert x.grad.tolist() == [12.0 + 32.0]
    x.grad = None
    y = x * x
    (g,) = tg.autograd.grad([y * 3.0, y * y], x)
    assert g.tolist() == [44.0]
    assert x.grad is None


def test_grad_of_an_inner_tensor() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * y
    (by_y,) = tg.autograd.grad(z, y, retain_graph=True)
    assert by_y.tolist() == [8.0]
    by_both = tg.autograd.grad(z, [x, y])
    assert [g.tolist() for g in by_both] == [[32.0], [8.0]]


def test_grad_of_what_is_not_used() -> None:
    x, other = leaf(2.0), leaf(1.0)
    y = x * x
    with pytest.raises(GraphError, match="no output depends on input 1"):
        tg.autograd.grad(y, [x, other], retain_graph=True)
    assert tg.autograd.grad(y, [x, other], allow_unused=True)[1] is None


def test_backward_needs_something_to_start_from() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"2 elements.*gradient="):
        (x * x).backward()
    with pytest.raises(ArgumentError, match="shape"):
        (x * x).backward(np.ones(3))
    with pytest.raises(GraphError, match="requires no gradient"):
        tg.tensor([1.0]).backward()
    with pytest.raises(GraphError, match="requires no gradient"):
        (x.detach() * 2.0).sum().backward()
    (g,) = tg.autograd.grad((x * x).sum(), x)
    with pytest.raises(GraphError, match=r"from a gradient without create_graph=True"):
        g.sum().backward()
    with pytest.raises(GraphError, match=r"output 0, .* from a gradient without create_graph=True"):
        tg.autograd.grad(g.sum(), x)
    with pytest.raises(GraphError, match=r"input 0, .* make it with requires_grad=True"):
        tg.autograd.grad((x * x).sum(), x.detach())


def test_backward_of_a_leaf() -> None:
    x = leaf(2.0)
    x.backward()
    x.backward(np.array([10.0]))
    assert x.grad.tolist() == [11.0]


# -- gradients are nobody else's memory --------------------------------------------------------------------------------


def test_gradients_are_not_aliased() -> None:
    a, b, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), np.array([5.0, 6.0])
    y = a + b
    y.retain_grad()
    y.backward(seed)
    arrays = [a.grad.data, b.grad.data, y.grad.data, seed, a.data, b.data, y.data]
    for i, first in enumerate(arrays):
        for second in arrays[:i]:
            assert not np.shares_memory(first, second)
    a.grad.data[...] = 0.0
    assert b.grad.tolist() == seed.tolist() == [5.0, 6.0]


def test_results_of_grad_are_not_aliased() -> None:
    a, b, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), np.array([5.0, 6.0])
    y = a + b
    found = tg.autograd.grad(y, [a, b, y], seed)
    arrays = [*(g.data for g in found), seed]
    for i, first in enumerate(arrays):
        for second in arrays[:i]:
            assert not np.shares_memory(first, second)


def test_gradient_keeps_its_array_when_more_is_added() -> None:
    x = leaf(1.0)
    (x * 2.0).backward()
    array = x.grad.data
    (x * 3.0).backward()
    assert x.grad.data is array
    assert array.tolist() == [5.0]


def test_gradient_has_the_dtype_and_shape_of_its_tensor() -> None:
    x = tg.Tensor(np.ones((2, 1), np.float32), requires_grad=True)
    y = x * np.ones(3, np.float64)
    assert y.dtype == np.float64
    y.sum().backward()
    assert (x.grad.dtype, x.grad.shape) == (np.float32, (2, 1))
    assert x.grad.tolist() == [[3.0], [3.0]]


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_hook_sees_and_replaces_the_gradient() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3.0
    seen: list[Any] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10.0)
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 2.0).sum().backward()
    assert seen == [[2.0, 2.0], [20.0, 20.0]]
    assert x.grad.tolist() == [60.0, 60.0]


def test_hook_sees_the_sum_over_all_uses() -> None:
    x = leaf(1.0)
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 2.0 + x * 3.0).backward()
    assert seen == [[5.0]]


def test_hook_handles() -> None:
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * 10.0)
    (x * 1.0).backward()
    handle.remove()
    handle.remove()
    (x * 1.0).backward()
    with x.register_hook(lambda g: g * 100.0):
        (x * 1.0).backward()
    (x * 1.0).backward()
    assert x.grad.tolist() == [10.0 + 1.0 + 100.0 + 1.0]


def test_hook_with_a_wrong_shape() -> None:
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ArgumentError, match="hook"):
        (x * 1.0).sum().backward()
    assert x.grad is None


def test_hook_that_raises_leaves_gradients_alone() -> None:
    x = leaf(1.0)
    y = x * 2.0

    def refuse(_: Any) -> None:
        raise KeyError("no")

    y.register_hook(refuse)
    with pytest.raises(KeyError):
        (y * 1.0).backward()
    assert x.grad is None


def test_hook_and_retain_grad_need_a_gradient() -> None:
    for ask in (lambda t: t.register_hook(print), lambda t: t.retain_grad()):
        with pytest.raises(GraphError, match="requires no gradient"):
            ask(tg.tensor(1.0))


def test_retain_grad() -> None:
    x = leaf(2.0)
    y = x * x
    assert y.grad is None
    y.retain_grad()
    z = y * 3.0
    z.backward()
    assert (x.grad.tolist(), y.grad.tolist(), z.grad) == ([12.0], [3.0], None)


def test_hooks_see_recorded_gradients() -> None:
    x = leaf(2.0)
    seen: list[bool] = []
    x.register_hook(lambda g: seen.append(g.requires_grad))
    (x * x).backward(create_graph=True)
    x.grad = None
    (x * x).backward()
    assert seen == [True, False]


# -- modes -------------------------------------------------------------------------------------------------------------


def test_modes_nest_and_restore() -> None:
    x = leaf(1.0)
    assert tg.is_grad_enabled()
    with tg.no_grad():
        assert not tg.is_grad_enabled()
        assert not (x * 2.0).requires_grad
        with tg.enable_grad():
            assert (x * 2.0).requires_grad
            with tg.no_grad():
                assert not tg.is_grad_enabled()
            assert tg.is_grad_enabled()
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()


def test_one_mode_object_entered_twice() -> None:
    mode = tg.no_grad()
    with mode:
        with tg.enable_grad(), mode:
            assert not tg.is_grad_enabled()
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()


def test_exceptions_restore_modes() -> None:
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert tg.is_grad_enabled()

    @tg.no_grad()
    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert tg.is_grad_enabled()


def test_modes_as_decorators() -> None:
    @tg.no_grad()
    def off(x: tg.Tensor) -> tg.Tensor:
        """Doubles."""
        return tg.enable_grad()(lambda: x * 2.0)() if x.size == 1 else x * 2.0

    assert off.__name__ == "off"
    assert off.__doc__ == "Doubles."
    assert off(leaf(1.0)).requires_grad
    assert not off(leaf(1.0, 2.0)).requires_grad


def test_generator_under_no_grad_switches_only_its_own_steps() -> None:
    ended: list[bool] = []

    @tg.no_grad()
    def numbers() -> Iterator[Any]:
        try:
            sent = yield tg.is_grad_enabled()
            yield sent
            try:
                yield tg.is_grad_enabled()
            except KeyError:
                yield "caught"
        finally:
            ended.append(tg.is_grad_enabled())

    g: Any = numbers()
    assert next(g) is False
    assert tg.is_grad_enabled(), "its consumer records"
    assert g.send("hello") == "hello"
    assert next(g) is False
    assert g.throw(KeyError()) == "caught"
    g.close()
    assert ended == [False]
    assert tg.is_grad_enabled()


def test_generator_return_value_passes_through() -> None:
    @tg.no_grad()
    def inner() -> Any:
        yield 1
        return 2

    def outer() -> Any:
        result = yield from inner()
        yield result

    assert list(outer()) == [1, 2]


def test_setting_requires_grad_under_no_grad() -> None:
    with tg.no_grad():
        x = leaf(1.0)
        assert x.requires_grad
        assert not (x + 1.0).requires_grad


# -- threads -----------------------------------------------------------------------------------------------------------


def run_in_threads(work: Any, count: int = 8) -> list[Any]:
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def run(i: int) -> None:
        start.wait()
        try:
            results[i] = work(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_eight_threads_build_and_walk_their_own_graphs() -> None:
    def work(i: int) -> float:
        x = leaf(float(i + 1))
        for _ in range(20):
            y = x
            for _ in range(100):
                y = y * 1.0 + x * 0.0
            (y * y).backward()
        return float(x.grad.item())

    assert run_in_threads(work) == [20 * 2.0 * (i + 1) for i in range(8)]


def test_modes_belong_to_a_thread() -> None:
    entered = threading.Barrier(8)

    def work(i: int) -> tuple[bool, bool]:
        with tg.no_grad() if i % 2 else tg.enable_grad():
            entered.wait()
            inside = (leaf(1.0) * 2.0).requires_grad
            entered.wait()
        return inside, tg.is_grad_enabled()

    with tg.no_grad():
        assert run_in_threads(work) == [(i % 2 == 0, True) for i in range(8)]


def test_threads_share_a_leaf_without_losing_the_graph() -> None:
    x = leaf(3.0)
    grads = run_in_threads(lambda i: tg.autograd.grad(x * x * float(i), x)[0].item())
    assert grads == [6.0 * i for i in range(8)]


# -- writes ------------------------------------------------------------------------------------------------------------


def test_write_into_what_backward_needs_is_refused() -> None:
    x, c = leaf(1.0, 2.0), tg.Tensor(np.array([3.0, 4.0]))
    y = (x * c).sum()
    c[0] = 100.0
    with pytest.raises(GraphError, match=r"backward of multiply needs its argument 2.*x\[index\] = value.*test_graph"):
        y.backward()
    assert x.grad is None


def test_write_names_the_line() -> None:
    x = leaf(1.0, 2.0)
    y = tg.exp(x)
    with tg.no_grad():
        y += 1.0
    with pytest.raises(GraphError, match=r"backward of exp needs its result.*in-place add \(.*test_graph\.py:\d+\)"):
        y.backward(np.ones(2))


def test_write_into_what_backward_does_not_need_is_fine() -> None:
    x, c = leaf(1.0, 2.0), tg.Tensor(np.array([3.0, 4.0]))
    y = (x + c).sum()
    c[0] = 100.0
    y.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_write_through_a_view_is_noticed() -> None:
    x, c = leaf(1.0, 2.0), tg.Tensor(np.array([3.0, 4.0]))
    y = (x * c).sum()
    c.reshape(2, 1)[0] = 100.0
    with pytest.raises(GraphError, match="multiply"):
        y.backward()


def test_write_into_the_base_of_a_saved_view_is_noticed() -> None:
    x, c = leaf(1.0, 2.0), tg.Tensor(np.array([3.0, 4.0, 5.0]))
    y = (x * c[1:]).sum()
    c[2] = 100.0
    with pytest.raises(GraphError, match="multiply"):
        y.backward()


def test_write_before_the_operation_is_fine() -> None:
    x, c = leaf(1.0, 2.0), tg.Tensor(np.array([3.0, 4.0]))
    c[0] = 100.0
    (x * c).sum().backward()
    assert x.grad.tolist() == [100.0, 4.0]


def test_step_on_a_leaf_after_backward() -> None:
    x = leaf(1.0, 2.0)
    for wanted in ([0.8, 1.6], [0.64, 1.28]):
        x.grad = None
        (x * x).sum().backward()
        with tg.no_grad():
            x -= 0.1 * x.grad
        assert x.tolist() == pytest.approx(wanted)
    assert x.is_leaf


def test_recorded_writes_give_right_gradients() -> None:
    x, v = leaf(1.0, 2.0, 3.0), tg.Tensor(np.float64(5.0), requires_grad=True)
    y = x * 2.0
    y[1] = v * v
    y *= 3.0
    y[0] += 1.0
    assert y.tolist() == [7.0, 75.0, 18.0]
    y.sum().backward()
    assert (x.grad.tolist(), v.grad.item()) == ([6.0, 0.0, 6.0], 30.0)


def test_constant_becomes_recorded_when_written_with_a_tensor() -> None:
    v = tg.Tensor(np.float64(5.0), requires_grad=True)
    buffer = tg.Tensor(np.zeros(3))
    for i in range(3):
        buffer[i] = v * float(i)
    assert buffer.requires_grad
    buffer.sum().backward()
    assert v.grad.item() == 3.0


def test_writing_into_a_leaf_is_refused() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"leaf.*no_grad"):
        x[0] = 5.0
    with pytest.raises(GraphError, match=r"leaf.*no_grad"):
        x += 1.0
    assert x.tolist() == [1.0, 2.0]


def test_many_arguments_of_one_operation() -> None:
    x = leaf(1.0)
    tg.stack([x]).sum().backward()
    parts = [x, *(tg.Tensor(np.array([1.0])) for _ in range(256))]
    (g,) = tg.autograd.grad((tg.stack(parts) ** 2).sum(), x, create_graph=True)
    assert g.tolist() == [2.0]
    assert tg.autograd.grad(g, x)[0].tolist() == [2.0]
    total = tg.concat([x * float(i) for i in range(2000)]).sum()
    x.grad = None
    total.backward()
    assert x.grad.tolist() == [1999.0 * 1000.0]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_number_read_at_an_index_and_used_besides() -> None:
    for fn in (lambda x: x[()] + x * 2.0, lambda x: x * 2.0 + x[()], lambda x: x[...] + x[()] + x):
        x = tg.Tensor(np.float64(2.0), requires_grad=True)
        fn(x).backward()
        assert x.grad.item() == 3.0


def test_power_is_smooth_at_exponent_zero() -> None:
    """∂²(aᵇ)/∂a∂b = aᵇ⁻¹ (1 + b ln a): 1/2 at a = 2, b = 0."""
    a, b = leaf(2.0), leaf(0.0)
    (g,) = tg.autograd.grad(a**b, a, create_graph=True)
    assert tg.autograd.grad(g, b)[0].tolist() == [0.5]


def test_tangent_of_a_broadcast_argument_has_the_shape_of_the_result() -> None:
    y, dy = tg.func.jvp(lambda b: tg.ones((2, 3)) + b, (np.zeros(3),), (np.ones(3),))
    assert dy.shape == y.shape == (2, 3)


@pytest.mark.parametrize("join", [tg.stack, tg.concat])
def test_one_operation_of_100_000_arguments(join: Any) -> None:
    """In quadratic time this would take minutes."""
    x = tg.tensor([2.0], requires_grad=True)
    join([x] * 100_000).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [100_000.0]


def test_detached_number_shares_memory() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = x.detach()
    with tg.no_grad():
        x *= 5.0
    assert y.item() == 10.0


def test_kept_gradients_add_up() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.retain_grad()
    z = y.sum()
    z.backward(retain_graph=True)
    z.backward()
    assert y.grad is not None
    assert y.grad.tolist() == [2.0, 2.0]
    y.grad = None
    assert y.grad is None


def test_gradient_by_a_result_whose_own_graph_is_freed() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    h = x * x
    h.sum().backward()
    (slope,) = tg.autograd.grad((h * 3.0).sum(), h)
    assert slope is not None
    assert slope.tolist() == [3.0, 3.0]
    with pytest.raises(GraphError, match="a second time"):
        tg.autograd.grad((h * 3.0).sum(), x)
