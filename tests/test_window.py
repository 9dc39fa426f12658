"""Convolution, pooling and embedding: hand-computed numbers, plain loops, PyTorch, layouts, dtypes and errors."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_nn import autograd
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError
from tinygrad_nn.ops.window import avg_pool2d, conv, conv2d, embedding, max_pool2d
from tinygrad_nn.registry import OPS
from tinygrad_nn.tensor import Tensor

from . import window_values
from .contract import trials

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).parent.parent


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(a: Any) -> Tensor:
    return Tensor(np.array(a), requires_grad=True)


# -- numbers worked out by hand ----------------------------------------------------------------------------------------


def test_convolution_by_hand() -> None:
    x = leaf([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    w = leaf([[[[1.0, 0.0], [-1.0, 2.0]]]])
    b = leaf([10.0])
    y = conv2d(x, w, b)
    assert y.data.tolist() == [[[[17.0, 19.0], [23.0, 25.0]]]]  # 1 - 4 + 2·5 + 10, ...
    y.backward(np.array([[[[1.0, 2.0], [0.0, -1.0]]]]))
    assert x.grad.data.tolist() == [[[[1.0, 2.0, 0.0], [-1.0, -1.0, 4.0], [0.0, 1.0, -2.0]]]]
    assert w.grad.data.tolist() == [[[[0.0, 2.0], [6.0, 8.0]]]]  # 1·1 + 2·2 - 5, 2 + 6 - 6, 4 + 10 - 8, 5 + 12 - 9
    assert b.grad.data.tolist() == [2.0]


def test_second_derivatives_of_convolution_by_hand() -> None:
    """y = x·w for a 1×1 image, so ∂²(y²)/∂x² = 2w² and ∂²(y²)/∂x∂w = 4xw."""
    x, w = leaf([[[[3.0]]]]), leaf([[[[5.0]]]])
    y = conv2d(x, w)
    (slope,) = autograd.grad((y * y).sum(), [x], create_graph=True)
    again = autograd.grad(slope.sum(), [x, w])
    assert [g.item() for g in again] == [50.0, 60.0]


def test_largest_by_hand() -> None:
    x = leaf([[[1.0, 5.0, 2.0], [4.0, 3.0, 8.0], [7.0, 0.0, 6.0]]])
    y = max_pool2d(x, 2, stride=1)
    assert y.data.tolist() == [[[5.0, 8.0], [7.0, 8.0]]]
    y.backward(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    assert x.grad.data.tolist() == [[[0.0, 1.0, 0.0], [0.0, 0.0, 6.0], [3.0, 0.0, 0.0]]]


@pytest.mark.parametrize(
    ("window", "first"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0),
        ([0.0, 1.0, 1.0, 1.0], 1),
        ([0.0, 0.0, 1.0, 1.0], 2),
        ([0.0, 1.0, 1.0, 0.0], 1),
        ([-np.inf] * 4, 0),
    ],
)
def test_the_first_of_equal_elements_gets_the_gradient(window: list[float], first: int) -> None:
    x = leaf(np.reshape(window, (1, 2, 2)))
    max_pool2d(x, 2).backward(np.array([[[7.0]]]))
    assert x.grad.data.ravel().tolist() == [7.0 if i == first else 0.0 for i in range(4)]


def test_padding_is_never_the_largest() -> None:
    x = leaf(np.full((1, 1, 3, 3), -np.inf))
    y = max_pool2d(x, 3, stride=2, padding=1)
    y.backward(np.ones((1, 1, 2, 2)))
    assert np.all(np.isneginf(y.data))
    assert x.grad.data.tolist() == [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
    assert max_pool2d(np.full((1, 2, 2), -3), 2, padding=1).tolist() == [[[-3, -3], [-3, -3]]]


def test_nan_is_the_largest() -> None:
    assert np.isnan(max_pool2d(np.array([[[1.0, np.nan], [3.0, 4.0]]]), 2)).all()


def test_mean_by_hand() -> None:
    x = leaf([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    assert avg_pool2d(x, 2, stride=1).data.tolist() == [[[3.0, 4.0], [6.0, 7.0]]]
    assert avg_pool2d(x, 2, padding=1).data.tolist() == [[[0.25, 1.25], [2.75, 7.0]]]
    assert avg_pool2d(x, 2, padding=1, count_include_pad=False).data.tolist() == [[[1.0, 2.5], [5.5, 7.0]]]
    assert avg_pool2d(x, 2, ceil_mode=True).data.tolist() == [[[3.0, 4.5], [7.5, 9.0]]]
    assert avg_pool2d(x, 2, divisor_override=-2).data.tolist() == [[[-6.0]]]
    avg_pool2d(x, 2, padding=1, count_include_pad=False).backward(np.array([[[1.0, 2.0], [4.0, 8.0]]]))
    assert x.grad.data.tolist() == [[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]]


def test_rows_by_hand() -> None:
    weight = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    y = embedding(np.array([[2, 0], [2, 1]]), weight, padding_idx=1)
    assert y.data.tolist() == [[[5.0, 6.0], [1.0, 2.0]], [[5.0, 6.0], [3.0, 4.0]]]
    y.backward(np.array([[[1.0, 2.0], [4.0, 8.0]], [[16.0, 32.0], [64.0, 128.0]]]))
    assert weight.grad.data.tolist() == [[4.0, 8.0], [0.0, 0.0], [17.0, 34.0]]


# -- plain loops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(window_values.VALUES))
def test_operations_equal_plain_loops(name: str) -> None:
    for trial in trials(OPS[name], repeats=2):
        wanted = window_values.VALUES[name](*trial.args, **trial.params)
        np.testing.assert_allclose(trial(*trial.args), wanted, rtol=1e-12, atol=1e-12, err_msg=str(trial))


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = draw(2, 4, 9, 8), draw(6, 2, 3, 2, seed=1)
    how = {"stride": (2, 1), "padding": ((1, 0), (1, 1)), "dilation": (1, 2), "groups": 2}
    y = OPS["conv2d"].forward(x, w, **how)
    whole = (
        y,
        OPS["conv2d_input"].forward(y, w, size=(9, 8), **how),
        OPS["conv2d_weight"].forward(x, y, kernel=(3, 2), **how),
    )
    for size in (1, 3000):
        monkeypatch.setattr(conv, "_BLOCK", size)
        parts = (
            OPS["conv2d"].forward(x, w, **how),
            OPS["conv2d_input"].forward(y, w, size=(9, 8), **how),
            OPS["conv2d_weight"].forward(x, y, kernel=(3, 2), **how),
        )
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def compare(
    mine: Callable[..., Any], theirs: Callable[..., Any], arrays: list[Array], what: object, second: bool = True
) -> None:
    """Value, gradients, and gradients of a function of the gradients."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # on a busy machine, several threads would wait for each other at every small operation
    xs, ts = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = mine(*xs), theirs(*ts)
    np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=1e-11, atol=1e-11, err_msg=str(what))
    g = draw(*y.shape, seed=5)
    grads = autograd.grad(y, xs, g, create_graph=second)
    t_grads = torch.autograd.grad(t, ts, torch.tensor(g), create_graph=second)
    for i, (a, b) in enumerate(zip(grads, t_grads, strict=True)):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-10, atol=1e-10, err_msg=f"{what}: gradient {i}")
    if second:
        again = autograd.grad(_mixed(y, grads), xs)
        t_again = torch.autograd.grad(_mixed(t, t_grads), ts)
        for i, (a, b) in enumerate(zip(again, t_again, strict=True)):
            np.testing.assert_allclose(a.data, b.numpy(), rtol=1e-9, atol=1e-9, err_msg=f"{what}: second gradient {i}")


def _mixed(y: Any, grads: Any) -> Any:
    total = (y * y).sum()
    for g in grads:
        total = total + (g * g).sum()
    return total


@pytest.mark.parametrize(("groups", "features"), [(1, 3), (2, 6), (4, 8), (4, 4)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1), "same", "valid"])
def test_convolution_equals_torch(padding: Any, groups: int, features: int) -> None:
    F = pytest.importorskip("torch.nn.functional")
    x, w, b = draw(2, 4, 7, 8), draw(features, 4 // groups, 3, 2, seed=1), draw(features, seed=2)
    for stride, dilation in itertools.product([1, 2, (1, 3)], [1, (2, 1)]):
        if padding == "same" and stride != 1:
            continue
        rest = (stride, padding, dilation, groups)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that it copies for an even kernel and padding="same"
            compare(lambda *a, r=rest: conv2d(*a, *r), lambda *a, r=rest: F.conv2d(*a, *r), [x, w, b], rest)
            compare(
                lambda x, w, r=rest: conv2d(x, w, None, *r),
                lambda x, w, r=rest: F.conv2d(x, w, None, *r),
                [x, w],
                rest,
                second=False,
            )


@pytest.mark.parametrize("shape", [(4, 7, 8), (0, 4, 7, 8), (1, 4, 3, 3), (3, 4, 3, 2)])
def test_convolution_of_other_batches_equals_torch(shape: tuple[int, ...]) -> None:
    F = pytest.importorskip("torch.nn.functional")
    w, b = draw(5, 4, 3, 2, seed=1), draw(5, seed=2)
    compare(conv2d, F.conv2d, [draw(*shape), w, b], shape)
    compare(lambda x: max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), [draw(*shape)], shape)
    if shape[0]:
        compare(lambda x: avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), [draw(*shape)], shape)


@pytest.mark.parametrize("kernel", [2, 3, (2, 3), (4, 1)])
def test_largest_equals_torch(kernel: Any) -> None:
    F = pytest.importorskip("torch.nn.functional")
    x = np.random.default_rng(3).integers(0, 4, (2, 3, 7, 8)).astype(float)  # many ties
    for stride, padding, dilation, ceil in itertools.product(
        [None, 1, 2, (3, 2)], [0, 1, (1, 0)], [1, 2, (1, 2)], [False, True]
    ):
        if np.any(np.broadcast_to(padding, 2) > np.broadcast_to(kernel, 2) // 2):
            continue
        rest = (kernel, stride, padding, dilation, ceil)
        compare(lambda x, r=rest: max_pool2d(x, *r), lambda x, r=rest: F.max_pool2d(x, *r), [x], rest)


@pytest.mark.parametrize("kernel", [2, 3, (2, 3)])
def test_mean_equals_torch(kernel: Any) -> None:
    F = pytest.importorskip("torch.nn.functional")
    for stride, padding, ceil, include, divisor in itertools.product(
        [None, 1, 2, (3, 2)], [0, 1, (1, 0)], [False, True], [False, True], [None, 5]
    ):
        rest = (kernel, stride, padding, ceil, include, divisor)
        compare(lambda x, r=rest: avg_pool2d(x, *r), lambda x, r=rest: F.avg_pool2d(x, *r), [draw(2, 3, 7, 8)], rest)


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_rows_equal_torch(padding_idx: int | None) -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    for shape in [(), (0,), (40,), (3, 5)]:
        indices = np.random.default_rng(4).integers(0, 6, shape)
        compare(
            lambda w, i=indices: embedding(i, w, padding_idx),
            lambda w, i=indices: F.embedding(torch.tensor(i), w, padding_idx),
            [draw(6, 3)],
            shape,
            second=False,
        )


# -- memory: layouts, dtypes -------------------------------------------------------------------------------------------


def images_last(a: Array) -> bool:
    return a.transpose(1, 2, 3, 0).flags.c_contiguous


def test_the_layout_goes_through_a_network_and_back() -> None:
    """The images stay last in memory from the first convolution on, forward and backward."""
    x, w1, w2 = Tensor(draw(8, 1, 12, 12)), leaf(draw(4, 1, 3, 3)), leaf(draw(6, 4, 2, 2))
    first = conv2d(x, w1)
    pooled = max_pool2d(first, 2)
    second = conv2d(pooled, w2)
    meaned = avg_pool2d(second, 2)
    last: list[bool] = []
    for t in (first, pooled, second, meaned):
        assert images_last(t.data)
        t.register_hook(lambda g: last.append(images_last(g.data)))
    meaned.backward(np.ones(meaned.shape))
    assert last == [False, True, True, True]  # from the array given, back to the first layer
    assert w1.grad.data.flags.c_contiguous
    assert np.shares_memory(meaned.data.reshape(8, -1), meaned.data)  # flattening is free


@pytest.mark.parametrize("layout", [lambda a: a[:, :, ::-1, ::2], lambda a: a.transpose(0, 1, 3, 2), np.asfortranarray])
def test_any_memory_order_gives_the_same(layout: Callable[[Array], Array]) -> None:
    x = layout(draw(3, 2, 6, 6))
    w, same = draw(4, 2, 2, 2, seed=1), np.ascontiguousarray(x)
    for fn in (lambda a: conv2d(a, w), lambda a: max_pool2d(a, 2), lambda a: avg_pool2d(a, 3, 1, 1)):
        a, b = leaf(x), leaf(same)
        a._data = x
        y, z = fn(a), fn(b)
        np.testing.assert_allclose(y.data, z.data, rtol=1e-14, atol=1e-14)
        g = draw(*y.shape, seed=2)
        y.backward(layout(g) if layout is np.asfortranarray else g)
        z.backward(g)
        np.testing.assert_allclose(a.grad.data, b.grad.data, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_is_kept(dtype: str) -> None:
    x, w, b = (leaf(draw(*s).astype(dtype)) for s in [(2, 3, 6, 6), (4, 3, 3, 3), (4,)])
    y = avg_pool2d(max_pool2d(conv2d(x, w, b, padding=1), 2), 3, 2, 1)
    assert y.dtype == dtype
    y.backward(np.ones(y.shape))
    assert {t.grad.dtype for t in (x, w, b)} == {np.dtype(dtype)}
    table = leaf(draw(3, 2).astype(dtype))
    embedding([0, 2], table).backward(np.ones((2, 2)))
    assert table.grad.dtype == dtype


def test_half_precision_sums_in_single() -> None:
    """2049 ones: in half precision the sum stops at 2048."""
    x = np.ones((1, 1, 3, 683), np.float16)
    assert conv2d(x, x).item() == 2048.0  # 2049, rounded once to the nearest half
    assert avg_pool2d(x * np.float16(100), (3, 683)).item() == 100.0  # the sum alone would overflow
    table = leaf(np.zeros((1, 1), np.float16))
    embedding(np.zeros(4096, int), table).backward(np.ones((4096, 1)))
    assert table.grad.item() == 4096.0


def test_arrays_give_arrays_and_inputs_stay() -> None:
    x, w = draw(2, 2, 5, 5), draw(3, 2, 2, 2, seed=1)
    before = x.copy(), w.copy()
    for y in (conv2d(x, w), conv2d(x, w, np.ones(3)), max_pool2d(x, 2), avg_pool2d(x, 2), embedding([1], w[0, 0])):
        assert isinstance(y, np.ndarray)
        assert not np.shares_memory(y, x)
    assert np.array_equal(x, before[0])
    assert np.array_equal(w, before[1])
    assert avg_pool2d(np.arange(4).reshape(1, 2, 2), 2).tolist() == [[[1.5]]]


def test_the_first_layer_asks_for_no_gradient_of_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_how: Any) -> Any:
        raise AssertionError("the images want no gradient")

    monkeypatch.setattr(OPS["conv2d_input"], "forward", refuse)
    x, w, b = Tensor(draw(2, 1, 4, 4)), leaf(draw(3, 1, 2, 2)), leaf(draw(3))
    conv2d(x, w, b).sum().backward()
    assert w.grad is not None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways to keep memory")
def test_freed_memory_is_kept() -> None:
    """Once touched, 40 MiB that are freed and asked for again cause hardly a page fault (of 10240 pages)."""
    code = """
import resource, numpy as np, tinygrad_nn
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1 << 20) for _ in range(5)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 500


# -- errors ------------------------------------------------------------------------------------------------------------

X, W = np.ones((2, 4, 5, 6), np.float32), np.ones((6, 4, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv2d(X[0, 0], W), ShapeError, r"conv2d: x float32\(5, 6\) must have axes"),
        (lambda: conv2d(X, W[0]), ShapeError, r"weight float32\(4, 3, 3\) axes"),
        (lambda: conv2d(X[:, :3], W), ShapeError, r"x float32\(2, 3, 5, 6\) has 3 channels .* takes 4·1 = 4"),
        (lambda: conv2d(X, W, groups=2), ShapeError, r"groups=2 takes 4·2 = 8"),
        (lambda: conv2d(X, W, groups=4), ArgumentError, r"groups=4 must divide the 6 output channels"),
        (lambda: conv2d(X, W, groups=0), ArgumentError, r"groups=0"),
        (lambda: conv2d(X, W, np.ones(4)), ShapeError, r"bias float64\(4,\) must have shape \(6,\)"),
        (lambda: conv2d(X, W, dilation=3), ShapeError, r"covers windows of \(7, 7\).*float32\(2, 4, 5, 6\).*\(5, 6\)"),
        (lambda: conv2d(X, W[..., :0]), ShapeError, r"weight float32\(6, 4, 3, 0\)"),
        (lambda: conv2d(X, W, stride=0), ArgumentError, r"conv2d: stride must be at least 1, not 0"),
        (lambda: conv2d(X, W, padding=-1), ArgumentError, r"conv2d: padding must be at least 0, not -1"),
        (lambda: conv2d(X, W, padding=(1, 2, 3)), ArgumentError, r"integer or a pair of integers, not \(1, 2, 3\)"),
        (lambda: conv2d(X, W, stride=1.5), ArgumentError, r"integer or a pair of integers, not 1.5"),
        (lambda: conv2d(X, W, padding="full"), ArgumentError, r"'same' or 'valid', not 'full'"),
        (lambda: conv2d(X, W, stride=2, padding="same"), ArgumentError, r"padding='same' .* stride 1, not \(2, 2\)"),
        (lambda: max_pool2d(X[0, 0], 2), ShapeError, r"max_pool2d: x float32\(5, 6\) must have axes"),
        (lambda: max_pool2d(X, 6), ShapeError, r"window of 6 elements .* does not fit into x float32\(2, 4, 5, 6\)"),
        (lambda: max_pool2d(X, 3, padding=2), ArgumentError, r"padding \(2, 2\) must be at most half of the window, 3"),
        (lambda: max_pool2d(X, 0), ArgumentError, r"max_pool2d: kernel_size must be at least 1, not 0"),
        (lambda: avg_pool2d(X[..., :0], 1), ShapeError, r"avg_pool2d: .* does not fit into x float32\(2, 4, 5, 0\)"),
        (lambda: avg_pool2d(X, 2, divisor_override=0), ArgumentError, r"divisor_override must not be 0"),
        (lambda: embedding([0], X), ShapeError, r"weight float32\(2, 4, 5, 6\) must have axes \(rows, columns\)"),
        (lambda: embedding([0.5], X[0, 0]), DTypeError, r"indices must be integers, not float64\(1,\)"),
        (lambda: embedding([0, 5], X[0, 0]), ArgumentError, r"index 5 .* rows are 0 to 4"),
        (lambda: embedding([0, -1], X[0, 0]), ArgumentError, r"index -1 in indices int64\(2,\)"),
        (lambda: embedding([0], X[0, 0], 5), ArgumentError, r"padding_idx=5 is not a row of weight float32\(5, 6\)"),
    ],
)
def test_errors_say_what_was_given(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
