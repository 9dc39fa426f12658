"""Writing in place, and memory that several things share: right or refused, never silently wrong."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError, TinygradError
from tinygrad_nn.views import Views
from tinygrad_nn.writes import WHOLE, contents

from .aliasing_programs import PROGRAMS, Ours, Program, Torch, outcome


def leaf(*values: float) -> tg.Tensor:
    return tg.tensor(list(values), dtype="float64", requires_grad=True)


# -- the programs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", PROGRAMS, ids=lambda p: p.name)
def test_program_is_right_or_refused(p: Program) -> None:
    result, message = outcome(p, Ours())
    assert result != "silently wrong"
    if result == "refused":
        assert message.startswith("GraphError: "), message
        assert "leaf" in message or ("backward of" in message and "wrote into that array" in message)


def test_how_many_of_the_programs_simply_work() -> None:
    results = [outcome(p, Ours())[0] for p in PROGRAMS]
    assert len(PROGRAMS) >= 25
    assert results.count("right") >= 22


@pytest.mark.parametrize("p", PROGRAMS, ids=lambda p: p.name)
def test_program_under_detect_anomaly(p: Program) -> None:
    with tg.autograd.detect_anomaly():
        assert outcome(p, Ours())[0] != "silently wrong"


def test_the_same_programs_in_pytorch() -> None:
    """The truth is right where both agree with it, and the programs are hard: PyTorch gets some silently wrong."""
    pytest.importorskip("torch")
    theirs = {p.name: outcome(p, Torch())[0] for p in PROGRAMS}
    ours = {p.name: outcome(p, Ours())[0] for p in PROGRAMS}
    assert [name for name in theirs if theirs[name] == "right" != ours[name]] == []
    assert sum(result == "right" for result in theirs.values()) >= 15
    assert sum(result == "silently wrong" for result in theirs.values()) >= 5


# -- what errors say ---------------------------------------------------------------------------------------------------


def test_the_error_names_operation_array_and_both_lines() -> None:
    x, c = leaf(1.0, 2.0), tg.tensor([3.0, 4.0])
    with tg.autograd.record_lines():
        y = (x * c).sum()
    c[0] = 7.0
    lines = (
        rf"multiply at {__file__}:\d+ needs its argument 2, float32\(2,\), but x\[index\] = value \({__file__}:\d+\)"
    )
    with pytest.raises(GraphError, match=lines):
        y.backward()


def test_without_lines_the_error_says_how_to_get_them() -> None:
    x, a = leaf(1.0, 2.0), np.array([3.0, 4.0])
    y = (x * a).sum()
    a[0] = 7.0
    with pytest.raises(GraphError, match=r"argument 2, float64\(2,\), but NumPy code wrote .*record_lines"):
        y.backward()


def test_a_view_of_a_leaf_is_named_with_its_leaf() -> None:
    x = leaf(1.0, 2.0, 3.0)
    with pytest.raises(GraphError, match=r"in-place add: float64\(2,\) views float64\(3,\), a leaf.*no_grad"):
        x[:2].__iadd__(1.0)
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_a_write_through_a_read_only_array_is_refused() -> None:
    y = tg.broadcast_to(leaf(1.0, 2.0), (3, 2))
    with pytest.raises(TinygradError, match=r"x\[index\] = value: cannot take \(float64\(3, 2\)\).*read-only"):
        y[0] = 5.0


def test_a_write_through_a_view_that_cannot_be_recorded_is_refused() -> None:
    """What a Function returns of its arguments."""

    class Head(tg.autograd.Function):
        @staticmethod
        def forward(ctx: tg.autograd.FunctionContext, x: tg.Tensor) -> tg.Tensor:
            return x[:2]

        @staticmethod
        def backward(ctx: tg.autograd.FunctionContext, *grads: tg.Tensor) -> tg.Tensor:
            return tg.pad(grads[0], (0, 1))

    x = leaf(1.0, 2.0, 3.0)
    y = x * 1.0
    d = Head.apply(y)
    with pytest.raises(GraphError, match=r"float64\(2,\) shares memory with float64\(3,\) through Head"):
        d += 1.0
    with pytest.raises(GraphError, match=r"float64\(2,\), the result of Head, shares memory with float64\(3,\)"):
        y += 1.0
    d.sum().backward()
    assert x.grad is not None
    assert (x.grad.tolist(), y.tolist()) == ([1.0, 1.0, 0.0], [1.0, 2.0, 3.0])


OPERATORS = ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor"]

# -- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
@pytest.mark.parametrize("other", [2, 3, np.array([2, 3, 1]), 0.5, np.array([0.5, 2.0, 1.0]), True])
@pytest.mark.parametrize("name", OPERATORS)
def test_in_place_operators_are_numpys(name: str, other: Any, dtype: str) -> None:
    """In value, dtype and in what they refuse; views of the same memory see the result."""
    array = np.array([1, 0, 3]).astype(dtype)
    t = tg.tensor(array)
    view = t[:2]
    try:
        with np.errstate(all="ignore"):
            getattr(array, f"__{name}__")(other)
    except TypeError:
        with pytest.raises(TypeError), np.errstate(all="ignore"):
            getattr(t, f"__{name}__")(other)
        return
    with np.errstate(all="ignore"):
        assert getattr(t, f"__{name}__")(other) is t
    assert t.dtype == array.dtype
    np.testing.assert_allclose(t.data, array, rtol=1e-6)
    np.testing.assert_allclose(view.data, array[:2], rtol=1e-6)


def test_matrices_multiply_in_place_where_the_shape_stays() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    x @= x
    assert x.tolist() == [[7.0, 10.0], [15.0, 22.0]]
    v = tg.tensor([1.0, 2.0])
    with pytest.raises(ShapeError, match="in-place matmul"):
        v @= v


def test_a_recorded_write_keeps_the_dtype() -> None:
    y = tg.tensor([1.0, 2.0], dtype="float32", requires_grad=True) * 2.0
    y += leaf(0.5, 0.5)
    assert y.dtype == np.float32
    with pytest.raises(DTypeError, match="in-place add"):
        tg.tensor([1, 2]).__iadd__(leaf(0.5, 0.5))


def test_floor_division_of_a_result_leaves_no_gradient() -> None:
    x = leaf(5.0, 7.0)
    y = x * 1.0
    y //= 2.0
    (y * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 3.0]


def test_out_is_refused_in_words() -> None:
    x, z = tg.tensor([1.0, 2.0]), tg.tensor([0.0, 0.0])
    with pytest.raises(TypeError, match=r"np\.add.*out="):
        np.add(x, x, out=z)
    with pytest.raises(TypeError, match="cannot be written into an ndarray"):
        np.add(x, x, out=z.data)


def test_a_training_step_written_by_hand() -> None:
    w = leaf(1.0, 2.0)
    for _ in range(3):
        (w * w).sum().backward()
        assert w.grad is not None
        w.grad *= 0.5
        with tg.no_grad():
            w -= 0.1 * w.grad
        w.grad[...] = 0.0
    np.testing.assert_allclose(w.data, np.array([1.0, 2.0]) * 0.9**3)


# -- views -------------------------------------------------------------------------------------------------------------


def test_views_that_are_gone_cost_nothing() -> None:
    y = leaf(*range(10)) * 1.0
    for i in range(1000):
        y[i % 9 : i % 9 + 2]
    assert len(y._sharing.views) < 100
    first = y[:3]
    y[0] = 5.0
    assert first.tolist() == [5.0, 1.0, 2.0]


def test_many_living_views_cost_no_more_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    class Counting(Views):
        def clear_up(self) -> None:
            nonlocal looked_at
            looked_at += len(self)
            super().clear_up()

    monkeypatch.setattr("tinygrad_nn.views.Views", Counting)
    y = leaf(*range(5000)) * 1.0
    living = [y[i:] for i in range(5000)]
    assert looked_at < 2 * len(living)


def test_a_view_does_not_keep_what_it_viewed_in_a_circle() -> None:
    gc.disable()
    try:
        y = leaf(1.0, 2.0) * 1.0
        v = y[:1]
        v += 1.0
        gone = weakref.ref(y), weakref.ref(v)
        del y, v
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def test_a_view_made_without_recording_follows_and_keeps_no_graph() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2.0
    with tg.no_grad():
        v = y[:1]
    assert v._sharing.origin is None
    y[0] = 9.0
    assert (v.tolist(), y.tolist()) == ([9.0], [9.0, 4.0])


@pytest.mark.parametrize("of_leaf", [False, True])
def test_a_recorded_write_through_a_view_made_without_recording_is_refused(of_leaf: bool) -> None:
    """The tensor it views would show the new values, and its history would not know of them."""
    x = leaf(1.0, 2.0)
    y = x if of_leaf else x * 1.0
    with tg.no_grad():
        v = y[:1]
    for write in (lambda: v.__iadd__(x[:1]), lambda: v.__setitem__(0, x[1]), lambda: v[:].__imul__(x[:1])):
        with pytest.raises(GraphError, match="made without recording"):
            write()
    v += 1.0  # as through detach()
    assert (v.tolist(), y.tolist()) == ([2.0], [2.0, 2.0])


def test_another_array_makes_a_view_its_own() -> None:
    y = leaf(1.0, 2.0) * 2.0
    v = y[:1]
    v.data = np.array([7.0])
    v += 1.0
    y *= 10.0
    assert (v.tolist(), y.tolist()) == ([8.0], [20.0, 40.0])


def test_numbers_are_values_and_no_views() -> None:
    """As in NumPy: an element is a number."""
    y = leaf(1.0, 2.0) * 1.0
    first = y[0]
    y[0] = 5.0
    first += 1.0
    assert (first.item(), y.tolist()) == (2.0, [5.0, 2.0])


def test_a_write_that_is_refused_changes_nothing() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1.0
    v = y[:1]
    with pytest.raises(ShapeError):
        v += np.ones((2, 2))
    with pytest.raises(TinygradError):
        v[5] = 1.0
    (y + 0.0).sum().backward()
    assert x.grad is not None
    assert (x.grad.tolist(), v.tolist()) == ([1.0, 1.0], [1.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_two_inputs_share_no_memory(create_graph: bool) -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).sum().backward(create_graph=create_graph)
    g, h = tg.autograd.grad((x + y).sum(), (x, y), create_graph=create_graph)
    assert x.grad is not None and y.grad is not None and g is not None and h is not None
    for a, b in ((x.grad, y.grad), (g, h)):
        a *= 2.0
        assert (a.tolist(), b.tolist()) == ([2.0, 2.0], [1.0, 1.0])


# -- writes by NumPy code ----------------------------------------------------------------------------------------------

LAYOUTS = {
    "small": lambda: np.arange(100.0),
    "large": lambda: np.arange(100_000.0),
    "by columns": lambda: np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)),
    "strided": lambda: np.arange(400_000.0).reshape(1000, 400)[::2, ::2],
    "window": lambda: np.ones((8, 4, 60, 61), np.float32)[:, :3, :, ::2],
    "odd bytes": lambda: np.arange(70_001).astype(np.int8),
    "complex": lambda: np.arange(30_000.0) * 1j,
    "empty": lambda: np.zeros((0, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_compared_is_short_and_sees_large_changes(layout: str) -> None:
    array = LAYOUTS[layout]()
    before = contents(array)
    assert contents(array) == before
    assert len(before) <= 2 * WHOLE
    if array.nbytes <= WHOLE:
        for place in np.ndindex(*array.shape):
            array[place] += 1
            assert contents(array) != before
            array[place] -= 1
    else:
        array += 1
        assert contents(array) != before


@pytest.mark.parametrize("size", [WHOLE + 1, 100_003, 1_600_000, 12_345_678])
def test_every_change_of_a_run_of_one_part_in_256_is_seen(size: int) -> None:
    array = np.zeros(size, np.uint8)
    before, run = contents(array), -(-size // 256)
    for start in [*range(0, size - run, 997 + size // 500), *range(size - 2 * run, size - run + 1, 1 + run // 50)]:
        array[start : start + run] += 1
        assert contents(array) != before, start
        array[start : start + run] -= 1


def test_a_change_of_all_but_some_rows_of_a_strided_view_is_seen() -> None:
    buffer = np.ones((16, 4, 64, 64), np.float32)
    view = buffer[:, :3]
    for axis in range(4):
        before = contents(view)
        np.moveaxis(buffer, axis, 0)[1:] += 1
        assert contents(view) != before, axis


def test_one_element_of_a_large_array_is_seen_by_detect_anomaly_only() -> None:
    """The limit of what is compared by default."""

    def gradient() -> tg.Tensor | None:
        x, a = tg.tensor(np.ones((300, 2)), requires_grad=True), np.ones((300, 300))
        y = (tg.asarray(a) @ x).sum()
        a[0, 40] = 7.0
        y.backward()
        return x.grad

    assert gradient() is not None
    with tg.autograd.detect_anomaly(), pytest.raises(GraphError, match="NumPy code wrote"):
        gradient()


def test_no_false_alarm_where_nothing_is_needed_any_more() -> None:
    """Buffers refilled for each step, parameters updated through `.data`, results looked at."""
    w, batch = leaf(1.0, 2.0, 3.0), np.empty((50, 3))
    for step in range(5):
        batch[...] = step
        h = tg.asarray(batch) @ w
        loss = (h * h).sum()
        h.data.sum()
        loss.data.item()
        loss.backward()
        assert w.grad is not None
        w.data[...] -= 0.001 * w.grad.data
        w.grad.data[...] = 0.0
        w.data -= 0.0
        batch[...] = -1


def test_a_write_between_two_looks_is_not_forgotten() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.data[0] = 7.0
    z = (x * 2.0).sum()
    x.data.sum()  # a second look, after the write
    z.backward()
    with pytest.raises(GraphError, match=r"argument 1.*taken by \.data at .*test_aliasing"):
        y.backward()


@pytest.mark.parametrize("of_leaf", [False, True])
def test_arrays_handed_out_are_compared_where_another_view_of_them_is_used(of_leaf: bool) -> None:
    x = leaf(1.0, 2.0)
    y = x if of_leaf else x * 1.0
    views = [y[:], y[:1][:], y.reshape(2, 1)]
    with tg.no_grad():
        views.append(y[:])
    array = views[2].data if not of_leaf else y.data
    for v in views:
        loss = (v * x[: len(v)]).sum()
        array += 1.0
        with pytest.raises(GraphError, match="NumPy code wrote"):
            loss.backward()


@pytest.mark.parametrize("other", ["subclass", "memmap"])
def test_arrays_of_other_classes_are_compared(other: str, tmp_path: Path) -> None:
    class Sub(np.ndarray[Any, Any]):
        pass

    a: Any = np.array([3.0, 4.0]).view(Sub)
    if other == "memmap":
        a = np.memmap(tmp_path / "data", np.float64, "w+", shape=(2,))
    x = leaf(1.0, 2.0)
    losses = [(x * a).sum(), tg.matmul(x, a), tg.einsum("i,i->", a, x)]
    a[0] = 7.0
    for loss in losses:
        with pytest.raises(GraphError, match="NumPy code wrote"):
            loss.backward()


@pytest.mark.parametrize("share", [lambda p: p, tg.asarray, lambda p: [p]])
def test_walks_that_are_returned_do_not_depend_on_arrays_that_were_given(share: Any) -> None:
    def square(x: Any) -> Any:
        (x,) = x if isinstance(x, list) else (x,)
        return x * x

    p = np.array([1.0, 2.0])
    _, pull = tg.func.vjp(square, share(p))
    _, push = tg.func.linearize(square, share(p))
    p[0] = 50.0
    (found,) = pull(np.ones(2))
    assert (found[0] if isinstance(found, list) else found).tolist() == [2.0, 4.0]
    assert push(share(np.ones(2))).tolist() == [2.0, 4.0]


def test_forward_mode_compares_too() -> None:
    a = np.array([3.0, 4.0])

    def fn(x: tg.Tensor) -> tg.Tensor:
        y = x * a
        a[0] += 1.0
        return y

    with pytest.raises(GraphError, match="NumPy code wrote"):
        tg.func.jvp(fn, (np.ones(2),), (np.ones(2),))


@pytest.mark.parametrize("transform", [lambda fn: fn, tg.func.grad])
def test_views_inside_vmap(transform: Any) -> None:
    def fn(x: tg.Tensor) -> Any:
        y = x * 2.0
        v = y[:2]
        v += x[0]
        y[1] = 5.0
        return (v * v).sum() + (y * x).sum()

    batch = tg.tensor(np.arange(6.0).reshape(2, 3))
    each = np.stack([transform(fn)(tg.tensor(row)).data for row in batch.data])
    np.testing.assert_allclose(tg.func.vmap(transform(fn))(batch).data, each)


def test_a_write_into_an_example_inside_vmap_stays_inside() -> None:
    batch = tg.tensor(np.arange(6.0).reshape(2, 3))
    assert tg.func.vmap(lambda x: x.__imul__(2.0).sum())(batch).tolist() == [6.0, 24.0]
    np.testing.assert_array_equal(batch.data, np.arange(6.0).reshape(2, 3))


def test_an_optimizer_step_sees_that_no_one_holds_the_array_any_more() -> None:
    p = tg.nn.Parameter(np.ones(3))
    held = p.data
    sgd = tg.optim.SGD([p], lr=0.1)
    for wrong in (True, False):
        (p * p).sum().backward()
        sgd.step()
        assert p._node.open is wrong  # while `held` is alive, or a view of it
        held = held[:2] if wrong else None
        sgd.zero_grad()
        if wrong:
            (p * p).sum().backward()
            sgd.step()
            assert p._node.open
            held = None
    p.data[0] = 5.0  # known outside again from here on
    loss = (p * p).sum()
    p.data[0] = 6.0
    with pytest.raises(GraphError, match="wrote into that array"):
        loss.backward()


# -- memory that several hold, in every way they may come to it --------------------------------------------------------


def test_another_array_for_a_tensor_leaves_its_views_to_each_other() -> None:
    w = leaf(5.0)
    x = tg.tensor(np.zeros(3))
    first, second = x[:2], x[1:]
    x.data = np.ones(3)
    first[1] = w[0]
    assert (second.tolist(), x.tolist()) == ([5.0, 0.0], [1.0, 1.0, 1.0])
    second.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [1.0]


def test_another_array_for_a_view_leaves_its_views_with_what_it_viewed() -> None:
    w = leaf(5.0)
    x = tg.tensor(np.zeros(3))
    view = x[:2]
    inner = view[:1]
    view.data = np.ones(2)
    inner[0] = w[0]
    assert (x.tolist(), view.tolist()) == ([5.0, 0.0, 0.0], [1.0, 1.0])
    x[0] = w[0] * 2.0
    assert inner.tolist() == [10.0]
    (x.sum() + inner.sum()).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [4.0]


def test_a_view_that_became_a_leaf_is_compared_and_not_written() -> None:
    array = np.array([1.0, 2.0, 3.0])
    v = tg.Tensor(array)[:2]
    v.requires_grad = True
    loss = (v * v).sum()
    array[0] = 9.0
    with pytest.raises(GraphError, match="NumPy code wrote into that array"):
        loss.backward()
    x = tg.zeros(3)
    v = x[:2]
    v.requires_grad = True
    with pytest.raises(GraphError, match="in-place add: this is a leaf"):
        v += 1.0
    with pytest.raises(GraphError, match=r"float32\(3,\) is viewed by float32\(2,\), a leaf"):
        x[0] = v[1]
    assert (v.is_leaf, x.tolist()) == (True, [0.0, 0.0, 0.0])


def test_a_tensor_of_a_tensor_shares_and_says_so() -> None:
    x = tg.tensor(np.array([1.0, 2.0]))
    twin, w = tg.Tensor(x), leaf(1.0, 1.0)
    x[0] = w[1] * 5.0
    assert twin.tolist() == [5.0, 2.0]
    loss = (w * x).sum()
    twin.data[0] = 9.0
    with pytest.raises(GraphError, match="wrote into that array"):
        loss.backward()


def test_a_recorded_walk_keeps_a_copy_of_the_cotangent_given() -> None:
    v, x = np.array([1.0, 2.0]), leaf(1.0, 2.0)
    (g,) = tg.autograd.grad(x**3, [x], v, create_graph=True)
    v[0] = 7.0
    g.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6.0, 24.0]


def test_the_array_that_a_function_returned_is_compared() -> None:
    cache = np.zeros(2)

    class Double(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return np.multiply(x.numpy(), 2.0, out=cache)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2.0 * g

    x = leaf(1.0, 2.0)
    loss = (Double.apply(x) ** 2).sum() + (Double.apply(x * 10.0) ** 2).sum()
    with pytest.raises(GraphError, match="backward of power needs its argument 1.* NumPy code"):
        loss.backward()


def test_an_array_given_to_a_checkpoint_is_compared_whole() -> None:
    array, w = np.ones(1000), tg.tensor(np.ones(1000), requires_grad=True)
    loss = tg.autograd.checkpoint(lambda x, w: x * w, array, w).sum()
    array[1] = 9.0
    with pytest.raises(GraphError, match="backward of checkpoint needs one of its arguments"):
        loss.backward()


def test_a_leaf_that_takes_another_dtype_before_backward() -> None:
    p = tg.nn.Parameter(np.ones(2, np.float32))
    loss = (p[:1] * 2.0).sum() + (p * 3.0).sum()
    p.data = np.ones(2)
    loss.backward()
    assert p.grad is not None
    assert (p.grad.tolist(), p.grad.dtype) == ([5.0, 3.0], np.float64)


def test_an_array_taken_over_from_a_tensor_is_shared_with_it() -> None:
    w, y = leaf(1.0, 2.0), tg.zeros(2)
    y.data = w  # type: ignore[assignment]
    loss = (w**3).sum()
    y.numpy()[0] = 99.0
    with pytest.raises(GraphError, match="wrote into that array"):
        loss.backward()
    v, y = leaf(1.0, 2.0) * 2.0, tg.zeros(2)
    y.data = v  # type: ignore[assignment]
    v += v
    assert v.tolist() == y.tolist() == [4.0, 8.0]


def test_a_gradient_of_another_shape_is_not_added() -> None:
    p = tg.nn.Parameter(np.ones(2))
    (p * p).sum().backward()
    p.data = np.ones(3)
    with pytest.raises(ArgumentError, match=r"float64\(3,\) for a tensor whose .grad is float64\(2,\).*zero_grad"):
        (p * p).sum().backward()
    p.zero_grad()
    (p * p).sum().backward()
    assert p.grad is not None
    assert p.grad.tolist() == [2.0, 2.0, 2.0]
