"""Tensor as a Python object: construction, numbers, operators, copies, NumPy's protocols, errors."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError, TinygradError

# -- construction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([[1.0], [2]], "float32"),
        ((0.5, 1.5), "float32"),
        ([], "float32"),
        (3, "int64"),
        ([1, 2], "int64"),
        (range(3), "int64"),
        (True, "bool"),
        ([True, False], "bool"),
        (np.float64(1.0), "float64"),
        (np.float16(1.0), "float16"),
        ([np.float64(1.0), 2.0], "float64"),
        ([np.ones(2), np.ones(2)], "float64"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float32), "float32"),
        (np.ones(2, np.int8), "int8"),
        (np.array(1.0), "float64"),
    ],
)
def test_dtype_of_what_is_given(data: Any, dtype: str) -> None:
    for make in (tg.tensor, tg.asarray, tg.Tensor):
        assert make(data).dtype == dtype
        assert make(data).shape == np.shape(data)


def test_dtype_asked_for() -> None:
    assert tg.tensor([1, 2], dtype="float32").dtype == np.float32
    assert tg.tensor(np.ones(2), dtype=np.float16).dtype == np.float16
    assert tg.tensor(1.9, dtype=int).item() == 1


def test_default_dtype() -> None:
    tg.set_default_dtype("float64")
    try:
        assert tg.get_default_dtype() == np.float64
        assert tg.tensor(1.0).dtype == tg.zeros(2).dtype == np.float64
        assert tg.tensor(1).dtype == np.int64
    finally:
        tg.set_default_dtype("float32")
    for wrong in ("int32", "bool"):
        with pytest.raises(DTypeError, match="float16, float32 or float64"):
            tg.set_default_dtype(wrong)


def test_sharing_and_copying() -> None:
    a = np.array([1.0, 2.0])
    assert np.shares_memory(tg.Tensor(a).data, a)
    assert np.shares_memory(tg.asarray(a).data, a)
    assert not np.shares_memory(tg.tensor(a).data, a)
    assert not np.shares_memory(tg.asarray(a, copy=True).data, a)
    t = tg.Tensor(a, requires_grad=True)
    assert tg.asarray(t) is t
    assert not tg.tensor(t).requires_grad
    copied = tg.asarray(t, copy=True)
    assert copied.requires_grad
    assert not np.shares_memory(copied.data, a)


def test_asarray_of_tensors_keeps_their_history() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = tg.asarray([x, x * 3.0])
    assert y.tolist() == [2.0, 6.0]
    y.sum().backward()
    assert x.grad.item() == 4.0
    assert tg.asarray(x, dtype="float64").requires_grad


@pytest.mark.parametrize("bad", ["text", ["a", "b"], None, object(), [[1.0], [1.0, 2.0]], {"a": 1}])
def test_what_is_no_array(bad: Any) -> None:
    with pytest.raises((TinygradError, TypeError)):
        tg.tensor(bad)


@pytest.mark.parametrize("data", [1, [True], np.ones(2, np.int32)])
def test_integers_cannot_require_gradients(data: Any) -> None:
    with pytest.raises(DTypeError, match=r"cannot have a gradient.*astype"):
        tg.tensor(data, requires_grad=True)
    t = tg.tensor(data)
    with pytest.raises(DTypeError):
        t.requires_grad = True
    assert not t.requires_grad


def test_requires_grad_can_be_set_on_leaves_only() -> None:
    x = tg.tensor([1.0]).requires_grad_()
    assert x.requires_grad
    assert x.is_leaf
    y = x * 2.0
    assert not y.is_leaf
    y.requires_grad = True  # it does already
    with pytest.raises(GraphError, match=r"multiply.*detach"):
        y.requires_grad = False
    x.requires_grad_(False)
    assert not (x * 2.0).requires_grad


def test_grad_can_be_set_on_leaves_only() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    x.grad = tg.tensor([3.0, 4.0])
    (x * 1.0).sum().backward()
    assert x.grad.tolist() == [4.0, 5.0]
    for wrong in (tg.tensor([1.0]), tg.tensor(np.ones(2))):
        with pytest.raises(ArgumentError, match="grad"):
            x.grad = wrong
    with pytest.raises(GraphError, match="leaf"):
        (x * 2.0).grad = tg.tensor([1.0, 1.0])
    x.zero_grad()
    assert x.grad is None


def test_data_can_be_replaced() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    x.data = np.array([5.0, 6.0, 7.0])
    (x * x).sum().backward()
    assert x.grad.tolist() == [10.0, 12.0, 14.0]
    assert x.grad.dtype == np.float64
    with pytest.raises(DTypeError):
        x.data = np.array([1, 2])


def test_attributes() -> None:
    t = tg.zeros((2, 3))
    assert (t.shape, t.ndim, t.size, t.dtype, t.nbytes, t.device) == ((2, 3), 2, 6, np.float32, 24, "cpu")
    assert isinstance(t.data, np.ndarray)
    assert isinstance(tg.tensor(1.0).data, np.ndarray)
    assert isinstance((tg.tensor(1.0) * 2.0).data, np.ndarray)
    assert t.T.shape == (3, 2)
    assert tg.zeros((5, 2, 3)).mT.shape == (5, 3, 2)
    with pytest.raises(AttributeError):
        t.colour = "red"


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tg.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (lambda: tg.tensor(3.0), "tensor(3.)"),
        (lambda: tg.tensor([1, 2]), "tensor([1, 2])"),
        (lambda: tg.tensor([True]), "tensor([ True])"),
        (lambda: tg.tensor(np.array([1.0])), "tensor([1.], dtype=float64)"),
        (lambda: tg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: tg.tensor([1.0], requires_grad=True) * 2.0, "tensor([2.], from multiply)"),
        (lambda: tg.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
        (lambda: tg.zeros((0, 3)), "tensor([], shape=(0, 3), dtype=float32)"),
    ],
)
def test_repr(make: Callable[[], Any], text: str) -> None:
    assert repr(make()) == str(make()) == text


def test_format() -> None:
    assert f"{tg.tensor(3.14159):.2f}" == "3.14"
    assert f"{tg.tensor([2.0]):.1f}" == "2.0"
    assert f"{tg.tensor([1.0, 2.0])}" == "tensor([1., 2.])"


# -- Python's protocols ------------------------------------------------------------------------------------------------


def test_numbers() -> None:
    for t in (tg.tensor(2.5), tg.tensor([[2.5]])):
        assert (float(t), int(t), t.item(), bool(t)) == (2.5, 2, 2.5, True)
    assert isinstance(tg.tensor(2.5).item(), float)
    assert isinstance(tg.tensor(2).item(), int)
    assert not tg.tensor(0.0)
    assert tg.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    many = tg.tensor([1.0, 2.0])
    for convert in (float, int, bool, lambda t: t.item()):
        with pytest.raises(ArgumentError, match="2 elements"):
            convert(many)
    assert [10, 20, 30][tg.tensor(1)] == 20
    assert list(range(tg.tensor(3))) == [0, 1, 2]
    for wrong in (tg.tensor(1.0), tg.tensor([1])):
        with pytest.raises(TypeError, match="index"):
            operator.index(wrong)


def test_sequences() -> None:
    t = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1.0, 2.0], [3.0, 4.0]]
    assert 3.0 in t
    assert 5.0 not in t
    _, b = t
    assert b.tolist() == [3.0, 4.0]
    for use in (len, iter, list):
        with pytest.raises(TypeError, match="0-d"):
            use(tg.tensor(1.0))


def test_iteration_is_recorded() -> None:
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    total = sum(row * float(i) for i, row in enumerate(x))
    total.backward()
    assert x.grad.tolist() == [0.0, 1.0, 2.0]


def test_identity_is_the_hash() -> None:
    a, b = tg.tensor([1.0]), tg.tensor([1.0])
    assert len({a, b}) == 2
    assert {a: "a"}[a] == "a"


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_carry_data_never_the_graph(duplicate: Callable[[Any], Any]) -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    for original, tracked in (
        (x, True),
        (y, False),
        (y.detach(), False),
        (tg.tensor(3.0), False),
        (tg.tensor([1]), False),
    ):
        twin = duplicate(original)
        assert type(twin) is tg.Tensor
        assert twin.tolist() == original.tolist()
        assert twin.dtype == original.dtype
        assert twin.is_leaf
        assert twin.requires_grad == tracked
        assert not np.shares_memory(twin.data, original.data)


def test_deepcopy_carries_the_gradient() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    twin = copy.deepcopy(x)
    assert twin.grad.tolist() == [2.0, 4.0]
    twin.grad.data[...] = 0.0
    assert x.grad.tolist() == [2.0, 4.0]


def test_deepcopy_keeps_sharing() -> None:
    x = tg.tensor([1.0])
    first, second = copy.deepcopy([x, x])
    assert first is second


# -- operators ---------------------------------------------------------------------------------------------------------

ARITHMETIC = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
]  # fmt: skip
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
OTHERS: list[Any] = [
    2,
    2.5,
    True,
    np.float32(2.5),
    np.float64(2.5),
    np.int64(2),
    np.array([2.0, 4.0]),
    [2.0, 4.0],
    (2.0, 4.0),
]


@pytest.mark.parametrize("op", ARITHMETIC + COMPARISONS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", OTHERS, ids=lambda o: f"{type(o).__name__}-{np.shape(o)}")
def test_operators_with_what_is_no_tensor(op: Callable[..., Any], other: Any) -> None:
    array = np.array([3.0, 5.0], np.float32)
    plain = np.array(other, np.float32) if isinstance(other, list | tuple) else other
    t = tg.Tensor(array)
    for given, wanted in ((op(t, other), op(array, plain)), (op(other, t), op(plain, array))):
        assert isinstance(given, tg.Tensor), f"{op.__name__} with {other!r} gave {type(given)}"
        assert given.dtype == wanted.dtype
        np.testing.assert_array_equal(given.data, wanted)


@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
def test_operators_on_either_side_are_recorded(op: Callable[..., Any]) -> None:
    for other in (2.5, np.float64(2.5), np.array([2.5, 1.5])):
        x = tg.Tensor(np.array([3.3, 5.2]), requires_grad=True)
        for result in (op(x, other), op(other, x)):
            assert result.requires_grad
            result.sum().backward()
        assert np.all(np.isfinite(x.grad.data))


def test_unary_operators() -> None:
    t = tg.tensor([-1.0, 2.0])
    assert (-t).tolist() == [1.0, -2.0]
    assert (+t).tolist() == [-1.0, 2.0]
    assert abs(t).tolist() == [1.0, 2.0]
    assert (~tg.tensor([True, False])).tolist() == [False, True]


def test_matrix_product_on_either_side() -> None:
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
    for product in (tg.Tensor(a) @ b, a @ tg.Tensor(b), tg.Tensor(a) @ tg.Tensor(b)):
        assert isinstance(product, tg.Tensor)
        assert product.tolist() == [[19.0, 22.0], [43.0, 50.0]]


def test_bits() -> None:
    a, b = tg.tensor([True, False]), tg.tensor([True, True])
    assert (a & b).tolist() == [True, False]
    assert (a | b).tolist() == [True, True]
    assert (a ^ b).tolist() == [False, True]
    assert (tg.tensor([6]) & 3).tolist() == (3 & tg.tensor([6])).tolist() == [2]


def test_comparison_with_what_is_no_array() -> None:
    t = tg.tensor([1.0])
    assert (t == None) is False  # noqa: E711
    assert (t != None) is True  # noqa: E711
    assert (t == "text") is False
    with pytest.raises(TypeError):
        assert t < "text"


@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.matmul], ids=lambda op: op.__name__)
@pytest.mark.parametrize("bad", ["text", None, object(), {}], ids=lambda b: type(b).__name__)
def test_operators_refuse_what_is_no_array(op: Callable[..., Any], bad: Any) -> None:
    for a, b in ((tg.tensor([1.0]), bad), (bad, tg.tensor([1.0]))):
        with pytest.raises(TypeError):
            op(a, b)


def test_in_place_operators() -> None:
    t = tg.Tensor(np.array([1.0, 2.0], np.float32))
    array = t.data
    t += 1
    t *= 2.0
    t -= np.array([1.0, 1.0], np.float32)
    t /= 3
    t **= 2
    assert t.data is array
    assert t.dtype == np.float32
    assert t.tolist() == [1.0, pytest.approx(25 / 9)]
    with pytest.raises(ShapeError, match="in-place add"):
        t += np.ones((2, 2))
    integers = tg.tensor([1, 2])
    with pytest.raises(DTypeError, match="in-place divide"):
        integers /= 2
    assert integers.tolist() == [1, 2]


def test_setitem_errors() -> None:
    t = tg.tensor([1.0, 2.0])
    for index, value in ((5, 1.0), (slice(None), [1.0, 2.0, 3.0]), ("a", 1.0), (0, "text")):
        with pytest.raises((TinygradError, TypeError, ValueError, IndexError)):
            t[index] = value
    assert t.tolist() == [1.0, 2.0]


# -- NumPy -------------------------------------------------------------------------------------------------------------


def test_numpy_ufuncs_are_recorded() -> None:
    x = tg.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = np.add(np.exp(x), np.multiply(2.0, x))
    assert isinstance(y, tg.Tensor)
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([4.718281828459045, 9.38905609893065])


def test_numpy_functions_are_recorded() -> None:
    x = tg.Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    for y in (np.sum(x), np.sum(x, axis=0).sum(), np.mean(x) * 4.0, np.reshape(x, (4,)).sum(), np.transpose(x).sum()):
        assert isinstance(y, tg.Tensor)
        x.grad = None
        y.backward()
        assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_numpy_what_has_no_twin() -> None:
    t = tg.tensor([1.0, 2.0])
    for call in (
        lambda: np.gcd(t, t),
        lambda: np.add.reduce(t),
        lambda: np.exp(t, out=np.empty(2)),
        lambda: np.exp(t, where=np.array([True, False])),
        lambda: np.unwrap(t),
    ):
        with pytest.raises(TypeError, match=r"x\.data"):
            call()


def test_numpy_array_of_a_tensor() -> None:
    t = tg.tensor([1.0, 2.0])
    assert np.asarray(t).dtype == np.float32
    assert np.asarray(t, dtype=np.float64).tolist() == [1.0, 2.0]
    assert np.shares_memory(t.numpy(), t.data)
    assert not np.shares_memory(np.array(t), t.data)
    x = tg.tensor([1.0], requires_grad=True)
    for convert in (np.asarray, lambda v: v.numpy()):
        with pytest.raises(GraphError, match="detach"):
            convert(x)
    assert x.detach().numpy().tolist() == [1.0]
    with tg.no_grad():
        assert np.asarray(x).tolist() == [1.0]


def test_detach_shares_the_array() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    d = x.detach()
    assert not d.requires_grad
    assert np.shares_memory(d.data, x.data)


def test_arrays_in_arrays_out() -> None:
    assert isinstance(tg.exp(np.ones(2)), np.ndarray)
    assert isinstance(tg.add(np.ones(2), 1.0), np.ndarray)
    assert isinstance(tg.sum(np.ones(2)), np.generic | np.ndarray)
    assert isinstance(tg.exp(tg.ones(2)), tg.Tensor)
    assert isinstance(tg.add(np.ones(2), tg.ones(2)), tg.Tensor)


# -- errors say what was asked, what was given -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: tg.ones((2, 3)) + tg.ones(4), ShapeError, ["add", "(2, 3)", "(4,)"]),
        (lambda: tg.ones((2, 3)) @ tg.ones((4, 5)), ShapeError, ["matmul", "(2, 3)", "(4, 5)"]),
        (lambda: tg.ones((2, 3)).reshape(5), ShapeError, ["reshape", "(2, 3)"]),
        (lambda: tg.ones((2, 3)).sum(axis=2), ShapeError, ["sum", "axis 2"]),
        (lambda: tg.ones(3)[5], IndexError, ["getitem", "5"]),
        (lambda: tg.add(tg.ones(2), "text"), TypeError, ["text"]),
        (lambda: tg.sin("text"), TypeError, ["text"]),
        (lambda: tg.invert(tg.ones(2)), DTypeError, ["invert", "float32"]),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
