"""Faults found by attacking the package, each with the smallest case that showed it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError


def leaf(*values: float, dtype: str = "float32") -> tg.Tensor:
    return tg.tensor(list(values), dtype=dtype, requires_grad=True)


# -- arrays written after they were recorded ---------------------------------------------------------------------------


def test_backward_into_a_gradient_that_another_graph_kept_is_noticed() -> None:
    x, w = leaf(1, 2), leaf(1, 1)
    (x * x).sum().backward()
    assert x.grad is not None
    later = (x.grad * w).sum()
    (x * x).sum().backward()
    with pytest.raises(GraphError, match=r"backward, adding to \.grad, wrote into"):
        later.backward()


def test_writing_into_an_index_that_backward_needs_is_noticed() -> None:
    x, index, mask = leaf(1, 2, 3), tg.tensor([0, 1]), tg.tensor([True, False, True])
    read, chosen, both = x[index], tg.where(mask, x, 0.0), x[(index,)]
    index[0] = 2
    mask[0] = False
    for result, what in ((read, "index"), (chosen, "condition"), (both, "index")):
        with pytest.raises(GraphError, match=f"needs its {what}"):
            result.sum().backward()


def test_forward_mode_notices_a_write() -> None:
    def scaled(x: tg.Tensor) -> tg.Tensor:
        factor = tg.ones(2)
        y: tg.Tensor = x * factor
        factor += 5.0
        return y

    with pytest.raises(GraphError, match="wrote into"):
        tg.func.jvp(scaled, (tg.tensor([1.0, 2.0]),), (tg.tensor([1.0, 1.0]),))


# -- hooks and starting gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [lambda g: g.astype("float64"), lambda g: g.data.astype("float64")])
def test_a_hook_that_returns_another_dtype_or_an_array(convert: Any) -> None:
    x = leaf(1, 2, 3)
    part = x[0:2]
    part.register_hook(convert)
    x.register_hook(convert)
    part.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [1, 1, 0]


def test_a_hook_that_returns_something_else_is_told() -> None:
    x = leaf(1, 2)
    x.register_hook(lambda g: 2.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ArgumentError, match=r"hook: returned float 2.0 for a gradient of shape \(2,\)"):
        (x * x).sum().backward()


def test_a_hook_cannot_write_into_a_gradient_that_others_share() -> None:
    x, y = leaf(1, 2), leaf(3, 4)

    def scale(g: tg.Tensor) -> None:
        g *= 10

    x.register_hook(scale)
    with pytest.raises(ArgumentError, match="read-only"):
        ((x + y) * 2.0).sum().backward()


def test_a_gradient_that_a_hook_gave_is_not_handed_out_itself() -> None:
    x, own = leaf(1, 2), tg.tensor([5.0, 6.0])
    y = x * 2.0
    y.register_hook(lambda g: own)
    (g,) = tg.autograd.grad((y * y + y).sum(), y)
    assert g is not None
    g *= 0.0
    assert own.tolist() == [5, 6]


def test_a_recorded_starting_gradient_is_cast_to_the_result() -> None:
    x, start = leaf(1, 2, 3), leaf(1, 1, dtype="float64")
    x[0:2].backward(start)
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [1, 1, 0]


def test_grad_takes_tensors_only() -> None:
    x = leaf(1, 2)
    for wrong in (np.zeros(2, np.float32), 0):
        with pytest.raises(TypeError, match="grad: must be a Tensor or None, not "):
            x.grad = wrong  # type: ignore[assignment]


# -- operations of one's own -------------------------------------------------------------------------------------------


class Shared(tg.autograd.Function):
    """a + b, whose backward returns one and the same array for both."""

    @staticmethod
    def forward(ctx: tg.autograd.FunctionContext, a: tg.Tensor, b: tg.Tensor) -> tg.Tensor:
        return a + b

    @staticmethod
    def backward(ctx: tg.autograd.FunctionContext, g: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        h = g * 2
        return h, h


class KeepsInput(tg.autograd.Function):
    """a²/2 with the kept input itself as gradient."""

    @staticmethod
    def forward(ctx: tg.autograd.FunctionContext, a: tg.Tensor) -> tg.Tensor:
        ctx.save_for_backward(a)
        return a * a * 0.5

    @staticmethod
    def backward(ctx: tg.autograd.FunctionContext, g: tg.Tensor) -> Any:
        return ctx.saved_tensors[0]


class Several(tg.autograd.Function):
    """Results of three dtypes."""

    @staticmethod
    def forward(ctx: tg.autograd.FunctionContext, a: tg.Tensor) -> Any:
        return a * 2, tg.argmax(a), a.astype("float64")

    @staticmethod
    def backward(ctx: tg.autograd.FunctionContext, g: tg.Tensor, _: tg.Tensor, wide: tg.Tensor) -> Any:
        assert (g.dtype, wide.dtype) == (np.float32, np.float64)
        return g * 2 + wide.astype("float32")


def test_a_backward_that_returns_one_array_twice() -> None:
    a, b = leaf(1, 2), leaf(3, 4)
    other = a * 3
    (other + Shared.apply(a, b)).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert (a.grad.tolist(), b.grad.tolist()) == ([5, 5], [2, 2])


def test_a_backward_that_returns_what_it_kept() -> None:
    a = leaf(1, 2)
    middle = a * 1.0
    (KeepsInput.apply(middle) + middle * 3).sum().backward()
    assert middle.tolist() == [1, 2]
    assert a.grad is not None
    assert a.grad.tolist() == [4, 5]


def test_writing_into_what_a_function_kept_is_noticed() -> None:
    a = leaf(1, 2)
    result = KeepsInput.apply(a).sum()
    with tg.no_grad():
        a[...] = 100.0
    with pytest.raises(GraphError, match="KeepsInput needs its saved_tensors"):
        result.backward()


def test_results_of_a_function_keep_their_dtypes() -> None:
    a = leaf(1, 3, 2)
    double, position, wide = Several.apply(a)
    assert [t.dtype for t in (double, position, wide)] == [np.float32, np.int64, np.float64]
    assert [t.requires_grad for t in (double, position, wide)] == [True, False, True]
    (double.sum() + wide.sum()).backward()
    assert a.grad is not None
    assert a.grad.tolist() == [3, 3, 3]


def test_forward_mode_of_a_function_is_refused_in_words() -> None:
    with pytest.raises(GraphError, match=r"KeepsInput.backward: .* forward mode cannot be worked out from it"):
        tg.func.jvp(KeepsInput.apply, (tg.tensor([1.0]),), (tg.tensor([1.0]),))


def test_a_backward_with_a_gradient_of_the_wrong_shape_is_told() -> None:
    class Wrong(KeepsInput):
        @staticmethod
        def backward(ctx: tg.autograd.FunctionContext, g: tg.Tensor) -> Any:
            return g[:1].reshape(1, 1)[:, :0]

    with pytest.raises(ShapeError, match=r"Wrong.backward returned float32\(1, 0\) as the gradient of argument 0"):
        Wrong.apply(leaf(1, 2)).sum().backward()


# -- values and shapes -------------------------------------------------------------------------------------------------


def test_sigmoid_of_unsigned_integers() -> None:
    x = np.array([0, 2], np.uint8)
    np.testing.assert_allclose(tg.sigmoid(x), [0.5, 1 / (1 + np.exp(-2))])
    np.testing.assert_allclose(tg.silu(tg.tensor(x)).data, [0, 2 / (1 + np.exp(-2))])
    np.testing.assert_allclose(tg.sigmoid(tg.tensor([True])).data, [1 / (1 + np.exp(-1))])


def test_softplus_of_a_python_number() -> None:
    np.testing.assert_allclose([tg.softplus(2.0), tg.softplus(0)], np.log1p(np.exp([2.0, 0.0])))


def test_comparing_shapes_that_do_not_broadcast_is_an_error() -> None:
    with pytest.raises(ShapeError, match="equal"):
        _ = tg.tensor([1, 2, 3]) == tg.tensor([1, 2])
    assert (tg.tensor([1]) == None) is False  # noqa: E711
    assert (tg.tensor([1]) != "a") is True


def test_gradients_of_products_with_no_inner_element() -> None:
    for function, shapes in ((tg.matmul, [(5, 2, 0), (0, 3)]), (tg.linear, [(5, 2, 0), (3, 0), (3,)])):
        xs = [tg.zeros(shape, requires_grad=True) for shape in shapes]
        function(*xs).sum().backward()
        assert [x.grad.shape for x in xs if x.grad is not None] == shapes


@pytest.mark.parametrize(("subscripts", "shapes"), [("ij,jk->ik", [(2, 3), (1, 4)]), ("ij,ij->", [(2, 3), (1, 3)])])
def test_einsum_stretches_length_one(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    xs = [tg.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
    stretched = [(2, 3), (3, 4) if "k" in subscripts else (2, 3)]
    ys = [tg.tensor(np.broadcast_to(x.data, s), requires_grad=True) for x, s in zip(xs, stretched, strict=True)]
    for arguments in (xs, ys):
        (tg.einsum(subscripts, *arguments) ** 2).sum().backward()
    for x, y in zip(xs, ys, strict=True):
        assert x.grad is not None and y.grad is not None
        np.testing.assert_allclose(x.grad.data, tg.sum_to(y.grad.data, x.shape))


def test_lengths_and_cuts_as_arrays() -> None:
    x = tg.arange(6.0)
    assert tg.reshape(x, np.array([2, 3])).shape == (2, 3)
    assert [p.shape for p in tg.split(x, np.array([1, 3]))] == [(1,), (2,), (3,)]
    assert tg.tensordot(x, x, np.int64(1)).item() == 55
    assert tg.tensordot(x, x, (np.int64(0), np.int64(0))).item() == 55


def test_a_recorded_write_of_a_float_into_integers_is_refused() -> None:
    x = tg.zeros(3, dtype="int64")
    with pytest.raises(DTypeError, match="would lose its fraction in int64"):
        x[0] = tg.tensor(2.5, requires_grad=True)
    assert x.tolist() == [0, 0, 0]


# -- NumPy's functions given tensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.concatenate([x, x], axis=1),
        lambda x: np.stack([x, x]),
        lambda x: np.einsum("ij,kj->ik", x, x),
        lambda x: np.tensordot(x, x, axes=2),
        lambda x: np.outer(x, x),
        lambda x: np.dot(x, x.T),
        lambda x: np.where(x.data > 2, x, 0.0),
        lambda x: np.var(x, axis=0, ddof=1),
        lambda x: np.std(x, axis=1, keepdims=True),
        lambda x: np.flip(x, 0),
        lambda x: np.roll(x, 1, axis=1),
        lambda x: np.squeeze(np.expand_dims(x, 0), 0),
        lambda x: np.moveaxis(x, 0, 1),
        lambda x: np.tile(x, 2),
        lambda x: np.repeat(x, 2, axis=0),
        lambda x: np.pad(x, 1),
        lambda x: np.split(x, 2)[1],
        lambda x: np.take(x, [1], axis=1),
        lambda x: np.clip(x, 2.0, 3.0),
    ],
)
def test_numpy_functions_take_tensors(call: Any) -> None:
    plain = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 7.0]])

    class Array(np.ndarray[Any, Any]):
        @property
        def data(self) -> Any:  # type: ignore[override]
            return np.asarray(self)

    result = call(tg.tensor(plain, requires_grad=True))
    assert isinstance(result, tg.Tensor)
    assert result.requires_grad
    np.testing.assert_allclose(result.data, np.asarray(call(plain.view(Array))))


def test_numpy_asks_tensors_for_facts() -> None:
    x = tg.tensor([[1.0, 2.0]], requires_grad=True)
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((1, 2), 2, 2)
    assert np.allclose(x, x + 1e-9)
    assert np.array_equal(x, x.data)


def test_clip_by_the_names_of_the_standard() -> None:
    assert tg.clip(tg.tensor([-2.0, 3.0]), max=1.0).tolist() == [-2, 1]
    assert tg.tensor([-2.0, 3.0]).clip(min=0.0).tolist() == [0, 3]


# -- errors that say what is wrong -------------------------------------------------------------------------------------


def plain_tensor() -> tg.Tensor:
    return tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tg.concat(x, x), r"concat: an axis must be an integer, not float32\(2, 3\)"),
        (lambda x: x.sum(axis="rows"), "sum: an axis must be an integer, not str 'rows'"),
        (lambda x: tg.cumsum(x, 1.0), "cumsum: an axis must be an integer, not float 1.0"),
        (lambda x: x.transpose(0.0, 1), "transpose: an axis must be an integer"),
        (lambda x: x.reshape(2.0, 3), r"tuple \(2.0, 3\) must be an integer, or a tuple of them"),
        (lambda x: tg.repeat(x, [1, 2, 3], axis=0), r"repeat: cannot take \(float32\(2, 3\), list \[1, 2, 3\]\)"),
        (lambda x: x + "a", "add: str 'a' is neither a tensor nor an array nor a number"),
        (lambda x: None * x, "multiply: NoneType None is neither"),
        (lambda x: tg.logsumexp({}), "is neither a tensor nor an array nor a number"),
        (lambda x: tg.tensor([x[0, 0], x[0, 1]]), "join them with stack or concat"),
        (
            lambda x: tg.zeros(2, 3),
            r"zeros: cannot take 3 as a dtype; give the shape as one tuple, as in zeros\(\(2, 3\)\)",
        ),  # type: ignore[arg-type]
        (lambda x: tg.func.jvp(lambda v: v, 1.0, 1.0), r"jvp: primals and tangents are tuples"),  # type: ignore[arg-type]
        (lambda x: tg.func.jvp(lambda v: v, x, x), r"such as \(x,\), not float32\(2, 3\)"),  # type: ignore[arg-type]
        (lambda x: tg.optim.SGD([x], lr="0.1"), "SGD: lr must be a number ≥ 0, not '0.1'"),  # type: ignore[arg-type]
        (lambda x: tg.nn.ReLU().load_state_dict("net.npz"), "load_state_dict: takes names and their arrays"),  # type: ignore[arg-type]
        (lambda x: tg.save(tg.nn.ReLU(), "net.npz"), "save: the path comes first"),  # type: ignore[arg-type]
        (lambda x: tg.data.DataLoader(iter([1, 2])), "a list of the samples will do"),  # type: ignore[arg-type]
    ],
)
def test_the_message_names_the_fault(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, GraphError), match=message):
        call(plain_tensor())


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_network_that_is_dropped_is_freed_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        net = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.ReLU(), tg.nn.Linear(3, 1))
        optimizer = tg.optim.SGD(net.parameters(), lr=0.1)
        net(tg.ones((4, 2))).sum().backward()
        optimizer.step()
        net.eval().load_state_dict(net.state_dict())
        seen = weakref.ref(net)
        del net, optimizer
        assert seen() is None
    finally:
        gc.enable()


def test_adding_to_the_array_of_a_tensor_is_noticed() -> None:
    x = leaf(1, 2)
    y = (x * x).sum()
    x.data += 1
    with pytest.raises(GraphError, match=r"x\.data op= value"):
        y.backward()


# -- faster paths that must stay right ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[3, 0, -2], [3, 0, -1], [1, 1, 1], [[0, 1], [2, 3]]])
def test_gradient_of_few_long_rows(rows: Any) -> None:
    x = tg.tensor(np.arange(240.0).reshape(4, 60), requires_grad=True)
    (x[rows] ** 2).sum().backward()
    counts = np.bincount(np.asarray(rows).reshape(-1) % 4, minlength=4)
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, 2 * x.data * counts[:, None])


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2))])
def test_products_with_vectors_agree_with_einsum(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    subscripts = "...i,i->..." if len(shapes[1]) == 1 else "i,...ij->...j"
    grads = []
    for product in (tg.matmul, lambda a, b: tg.einsum(subscripts, a, b)):
        rng = np.random.default_rng(0)
        a, b = (tg.tensor(rng.normal(size=s), requires_grad=True) for s in shapes)
        first = tg.autograd.grad((product(a, b) ** 2).sum(), (a, b), create_graph=True)
        second = tg.autograd.grad(sum((g**2).sum() for g in first if g is not None), (a, b))  # type: ignore[arg-type]
        grads.append([g.data for g in (*first, *second) if g is not None])
    for found, expected in zip(*grads, strict=True):
        np.testing.assert_allclose(found, expected)


# -- recorded walks over constants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", [lambda x, w: x @ w.mT, lambda x, w: tg.linear(x, w, tg.zeros(2))])
def test_second_derivative_of_a_product_with_a_constant_array(product: Any) -> None:
    x, w = np.array([[1.0, 2.0, 3.0]]), tg.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], "float64", requires_grad=True)
    (g,) = tg.autograd.grad((product(x, w) ** 2).sum(), w, create_graph=True)
    (second,) = tg.autograd.grad((g**2).sum(), w)  # g = 2 (w x) xᵀ, so this is 8 |x|² (w x) xᵀ
    assert second is not None
    np.testing.assert_allclose(second.data, 8 * 14 * np.outer([7, 5], x))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_relu_of_large_arrays(dtype: str) -> None:
    """They take another way than small ones."""
    x = np.random.default_rng(0).normal(size=(100, 200)).astype(dtype)
    x[0, :4] = np.nan, np.inf, -np.inf, -0.0
    for layout in (x, np.asfortranarray(x), x[:, ::-1]):
        y = tg.relu(layout)
        np.testing.assert_array_equal(y, np.maximum(layout, 0))
        assert not np.signbit(y[y == 0]).any()
        assert y.dtype == x.dtype
        assert y.flags.f_contiguous == layout.flags.f_contiguous
