"""Losses: hand-computed constants, extremes, edge cases and errors, and PyTorch's values and gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
import tinygrad_nn.nn.functional as F
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, AxisError, DTypeError, ShapeError
from tinygrad_nn.graph import Node

RNG = np.random.default_rng(0)
LOG2, LOG3 = math.log(2.0), math.log(3.0)


def leaf(x: Any, dtype: Any = np.float64) -> tg.Tensor:
    return tg.tensor(np.array(x, dtype), requires_grad=True)


# -- cross entropy -----------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand() -> None:
    x = leaf([[0.0, 0.0], [0.0, LOG3]])  # softmax: (1/2, 1/2), (1/4, 3/4)
    loss = F.cross_entropy(x, np.array([0, 0]))
    assert loss.item() == pytest.approx((LOG2 + 2 * LOG2) / 2)
    loss.backward()
    np.testing.assert_allclose(x.grad.data, [[-0.25, 0.25], [-0.375, 0.375]], rtol=1e-15)


def test_cross_entropy_weighted_by_hand() -> None:
    x = leaf([[0.0, 0.0], [0.0, LOG3]])
    loss = F.cross_entropy(x, tg.tensor([0, 1]), [1.0, 3.0])
    assert loss.item() == pytest.approx((1 * LOG2 + 3 * math.log(4 / 3)) / 4)
    loss.backward()
    np.testing.assert_allclose(x.grad.data, [[-1 / 8, 1 / 8], [3 / 16, -3 / 16]], rtol=1e-15)


def test_one_node() -> None:
    x = leaf(np.zeros((4, 3)))
    for reduction in ("mean", "sum", "none"):
        node = F.cross_entropy(x, np.zeros(4, int), reduction=reduction)._node
        assert isinstance(node, Node)
        assert node.parents[0] is x._node
    assert F.mse_loss(x, np.zeros((4, 3)))._node.parents[0] is x._node


@pytest.mark.parametrize("target", [np.array([0, 1, 2]), np.eye(3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_huge_logits(dtype: Any, target: Any) -> None:
    x = leaf([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype)
    loss = F.cross_entropy(x, target.astype(dtype) if target.ndim == 2 else target, reduction="none")
    assert loss.dtype == dtype
    assert loss.tolist() == pytest.approx([0.0, 2e4, LOG3], rel=1e-3)
    loss.backward(np.ones(3, dtype))
    assert x.grad.dtype == dtype
    np.testing.assert_allclose(
        x.grad.data, [[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [1 / 3, 1 / 3, -2 / 3]], atol=1e-3, rtol=0
    )


def test_many_float16_samples_do_not_overflow() -> None:
    x = leaf(np.zeros((50_000, 10)), np.float16)  # the losses add up to 115,000, and float16 ends at 65,504
    loss = F.cross_entropy(x, np.zeros(50_000, int))
    assert loss.dtype == np.float16
    assert loss.item() == pytest.approx(math.log(10), rel=1e-3)
    assert F.mse_loss(x, 4.0).item() == 16.0


def test_all_ignored() -> None:
    for weight in (None, np.ones(3)):
        for smoothing in (0.0, 0.1):
            x = leaf(np.zeros((2, 3)))
            loss = F.cross_entropy(x, np.full(2, -100), weight, label_smoothing=smoothing)
            assert math.isnan(loss.item())
    x = leaf(np.zeros((2, 3)))
    F.cross_entropy(x, np.full(2, -100)).backward()
    assert x.grad.tolist() == [[0.0] * 3] * 2
    assert F.cross_entropy(x, np.full(2, -100), reduction="sum").item() == 0.0
    assert math.isnan(F.nll_loss(x, np.full(2, -100)).item())


def test_ignored_samples_may_hold_anything() -> None:
    x = np.array([[np.inf, 0.0], [0.0, 0.0]])
    x[0, 0] = 1e308
    assert F.cross_entropy(x, np.array([-100, 1])) == pytest.approx(LOG2)
    logs = np.array([[-np.inf, 0.0], [-1.0, -1.0]])
    assert F.nll_loss(logs, np.array([7, 1]), ignore_index=7) == 1.0
    assert F.nll_loss(logs, np.array([0, 1]), ignore_index=0) == 1.0


def test_masked_classes() -> None:
    x = leaf([[0.0, -np.inf, 0.0]])
    loss = F.cross_entropy(x, np.array([0]))
    loss.backward()
    assert loss.item() == pytest.approx(LOG2)
    assert x.grad.tolist() == [[-0.5, 0.0, 0.5]]


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_empty_batch(loss: Any) -> None:
    x = leaf(np.zeros((0, 3)), np.float32)
    y = np.zeros(0, int)
    assert math.isnan(loss(x, y).item())
    assert loss(x, y, reduction="sum").item() == 0.0
    assert loss(x, y, reduction="none").shape == (0,)
    loss(x, y, reduction="sum").backward()
    assert x.grad.shape == (0, 3)


def test_arrays_in_arrays_out() -> None:
    x, y = RNG.normal(size=(4, 3)).astype(np.float32), np.array([0, 1, 2, 0])
    for value in (F.cross_entropy(x, y), F.nll_loss(x, y), F.mse_loss(x, x)):
        assert not isinstance(value, tg.Tensor)
        assert value.dtype == np.float32
    assert isinstance(F.cross_entropy(x, tg.tensor(y)), tg.Tensor)


def test_nothing_is_modified() -> None:
    for shape in ((4, 3), (4, 70), (2, 3, 2), (3,)):
        x = RNG.normal(size=shape)
        y = np.zeros(shape[:1] * (len(shape) > 1) + shape[2:], int)
        for layout in (x, np.asfortranarray(x)):
            before = layout.copy()
            t = tg.Tensor(layout, requires_grad=True)
            loss = F.cross_entropy(t, y)
            loss.backward(retain_graph=True)
            first = t.grad.data.copy()
            loss.backward()
            assert np.array_equal(layout, before)
            np.testing.assert_allclose(t.grad.data, 2 * first)


def test_second_derivative() -> None:
    """The Hessian of one sample is diag(p) - p pᵀ."""
    x = leaf([0.1, -0.4, 0.7])
    F.cross_entropy(x, 2).backward(create_graph=True)
    grad, x.grad = x.grad, None
    grad[0].backward()
    p = tg.softmax(x.data)
    np.testing.assert_allclose(x.grad.data, p[0] * (np.eye(3)[0] - p), rtol=1e-12)


def test_class_target_errors() -> None:
    x = np.zeros((2, 10), np.float32)
    with pytest.raises(AxisError, match="target 10, but 10 classes are numbered 0 to 9"):
        F.cross_entropy(x, np.array([0, 10]))
    with pytest.raises(AxisError, match="target -1"):
        F.nll_loss(x, np.array([-1, 0]))
    with pytest.raises(IndexError, match="target 10"):
        F.cross_entropy(x, np.array([-100, 10]))
    with pytest.raises(DTypeError, match="class numbers must be integers"):
        F.cross_entropy(x, np.zeros(2))
    with pytest.raises(DTypeError, match="integers"):
        F.nll_loss(x, x)
    with pytest.raises(ShapeError, match=r"int64\(3,\) for input float32\(2, 10\)"):
        F.cross_entropy(x, np.zeros(3, int))
    with pytest.raises(ShapeError, match="One-hot targets must be floating"):
        F.cross_entropy(x, np.zeros((2, 10), int))
    with pytest.raises(ShapeError, match="without the class axis"):
        F.cross_entropy(np.float32(1.0), np.array(0))
    with pytest.raises(DTypeError, match="must be floating"):
        F.cross_entropy(np.zeros((2, 3), int), np.zeros(2, int))
    with pytest.raises(ShapeError, match=r"weight float32\(3,\) must have shape \(10,\)"):
        F.cross_entropy(x, np.zeros(2, int), np.ones(3))
    with pytest.raises(ArgumentError, match="requires a gradient"):
        F.cross_entropy(x, np.zeros(2, int), leaf(np.ones(10)))
    with pytest.raises(ArgumentError, match="label_smoothing 2"):
        F.cross_entropy(x, np.zeros(2, int), label_smoothing=2)
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(ArgumentError, match="reduction 'average'"):
            loss(x, np.zeros(2, int), reduction="average")


def agree(name: str, x: Any, *rest: Any, track: tuple[int, ...] = (), **how: Any) -> None:
    """Value and gradients (of the input, and of the arguments in `track`) are PyTorch's."""
    torch = pytest.importorskip("torch")

    def theirs(a: Any) -> Any:
        return torch.tensor(a) if isinstance(a, np.ndarray) else a

    args = [x, *rest]
    moving = [0, *track]
    ours = [tg.tensor(a, requires_grad=i in moving) if isinstance(a, np.ndarray) else a for i, a in enumerate(args)]
    others = [theirs(a) for a in args]
    for i in moving:
        others[i].requires_grad_()
    given = getattr(F, name)(*ours, **how)
    wanted = getattr(torch.nn.functional, name)(*others, **{k: theirs(v) for k, v in how.items()})
    tolerance = 1e-11 if x.dtype == np.float64 else 1e-5
    # cross entropy is the logarithm of a sum, which rounds by eps where it is near 1
    atol = 2 * float(np.finfo(x.dtype).eps)
    np.testing.assert_allclose(given.data, wanted.detach().numpy(), rtol=tolerance, atol=max(atol, tolerance / 100))
    assert given.dtype == x.dtype
    w = np.asarray(np.random.default_rng(1).normal(size=given.shape), x.dtype)
    given.backward(w, retain_graph=True)
    wanted.backward(torch.tensor(w))
    for create in (False, True):
        for i in moving:
            wanted_grad = others[i].grad.numpy()
            assert ours[i].grad.dtype == x.dtype
            np.testing.assert_allclose(ours[i].grad.data, wanted_grad, rtol=tolerance, atol=tolerance / 100)
            ours[i].grad = None
        if not create:
            given.backward(w, create_graph=True)  # the other form of the rules


SHAPES = [
    ((5, 4), (5,)),
    ((4,), ()),
    ((2, 4, 3), (2, 3)),
    ((2, 4, 3, 2), (2, 3, 2)),
    ((3, 100), (3,)),
    ((1, 4, 1), (1, 1)),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "places"), SHAPES)
def test_cross_entropy_agrees(shape: Any, places: Any, weighted: bool, reduction: str) -> None:
    classes = shape[min(len(shape) - 1, 1)]
    x, y = RNG.normal(size=shape) * 3, RNG.integers(0, classes, places)
    weight = RNG.uniform(0.5, 2.0, classes) if weighted else None
    q = np.exp(RNG.normal(size=shape))
    for smoothing in (0.0, 0.2):
        how = {"reduction": reduction, "label_smoothing": smoothing}
        agree("cross_entropy", x, y, weight, ignore_index=1, **how)
        agree("cross_entropy", x, np.where(np.arange(y.size).reshape(places) % 2, -100, y), weight, **how)
        agree("cross_entropy", x.astype(np.float32), y, None, **how)
        agree("cross_entropy", x, q, weight, track=(1,), **how)
    agree("nll_loss", x, y, weight, ignore_index=1, reduction=reduction)
    agree("nll_loss", x, y, weight, reduction=reduction)


def test_cross_entropy_of_no_weight_agrees() -> None:
    x = RNG.normal(size=(3, 4))
    loss = F.cross_entropy(leaf(x), np.zeros(3, int), np.array([0.0, 1.0, 1.0, 1.0]))
    assert math.isnan(loss.item())


# -- binary cross entropy ----------------------------------------------------------------------------------------------


def test_binary_by_hand() -> None:
    x = leaf([0.0, LOG3])  # probabilities 1/2 and 3/4
    loss = F.binary_cross_entropy_with_logits(x, np.array([1.0, 0.0]))
    assert loss.item() == pytest.approx((LOG2 + 2 * LOG2) / 2)
    loss.backward()
    assert x.grad.tolist() == pytest.approx([-0.25, 0.375])
    p = leaf([0.5, 0.75])
    loss = F.binary_cross_entropy(p, np.array([1.0, 0.0]))
    assert loss.item() == pytest.approx((LOG2 + 2 * LOG2) / 2)
    loss.backward()
    assert p.grad.tolist() == pytest.approx([-1.0, 2.0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_binary_extremes(dtype: Any) -> None:
    x = leaf([1e4, -1e4, 1e4, -1e4], dtype)
    t = np.array([1, 0, 0, 1], dtype)
    for how in ({}, {"pos_weight": np.ones(1, dtype)}):
        loss = F.binary_cross_entropy_with_logits(x, t, reduction="none", **how)
        assert loss.dtype == dtype
        assert loss.tolist() == pytest.approx([0.0, 0.0, 1e4, 1e4], rel=1e-3)
        x.grad = None
        loss.backward(np.ones(4, dtype))
        assert x.grad.tolist() == [0.0, 0.0, 1.0, -1.0]
    assert F.binary_cross_entropy_with_logits(x, t, 0.5, pos_weight=3.0, reduction="none").dtype == dtype
    p = leaf([0.0, 1.0], dtype)
    loss = F.binary_cross_entropy(p, np.array([1.0, 0.0], dtype), reduction="none")
    assert loss.tolist() == [100.0, 100.0]
    loss.backward(np.ones(2, dtype))
    assert np.isfinite(p.grad.data).all()
    assert F.binary_cross_entropy(p, np.array([0.0, 1.0], dtype), reduction="sum").item() == 0.0


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2), (3, 70)])
def test_nothing_comes_back_to_ignored_samples(loss: Any, reduction: str, shape: tuple[int, ...]) -> None:
    logits = np.random.default_rng(0).normal(size=shape)
    target = np.array([-100, 1, 3])
    if len(shape) == 3:
        target = np.stack([target, target], 1)
    gradients = []
    for first in (1.0, np.nan):
        logits[0] = first
        x = tg.tensor(logits, requires_grad=True)
        total = loss(x, target, reduction=reduction).sum()
        (recorded,) = tg.autograd.grad(total, [x], create_graph=True)
        total.backward()
        assert x.grad is not None
        assert not x.grad.data[0].any()
        np.testing.assert_allclose(recorded.data, x.grad.data, atol=1e-15)
        _, pushed = tg.func.jvp(lambda t: loss(t, target, reduction=reduction).sum(), (x,), (tg.ones_like(x),))
        gradients.append((x.grad.data, pushed.data))
    for of_number, of_nan in zip(*gradients, strict=True):
        np.testing.assert_allclose(of_nan, of_number, atol=1e-15)


def test_binary_keeps_small_losses() -> None:
    """ln(1 + e⁻²⁰) rounds to 0 beside 20 in float32; the loss must not."""
    x = np.array([20.0, -20.0], np.float32)
    loss = F.binary_cross_entropy_with_logits(x, np.array([1.0, 0.0], np.float32), reduction="none")
    np.testing.assert_allclose(loss, math.exp(-20.0), rtol=1e-6)
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=100) * 10, rng.uniform(size=100)
    wanted = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    given = F.binary_cross_entropy_with_logits(x.astype(np.float32), t.astype(np.float32), reduction="none")
    # x and t are rounded to float32 themselves, and x - x·t loses digits where t is near 1
    assert (np.abs(given - wanted) <= 4 * np.finfo(np.float32).eps * (np.abs(x) + wanted)).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_agrees(reduction: str) -> None:
    x, t, w = RNG.normal(size=(4, 3)) * 3, RNG.uniform(size=(4, 3)), RNG.uniform(0.5, 2.0, (4, 3))
    p = 1 / (1 + np.exp(-x))
    p[0] = [1e-6, 1.0 - 1e-6, 0.5]
    for weight in (None, w):
        agree("binary_cross_entropy", p, t, weight, reduction=reduction, track=(1,))
        agree("binary_cross_entropy_with_logits", x, t, weight, reduction=reduction, track=(1,))
        agree(
            "binary_cross_entropy_with_logits", x, t, weight, reduction=reduction, pos_weight=np.array([0.5, 1.0, 3.0])
        )


def test_binary_errors() -> None:
    with pytest.raises(ArgumentError, match="-0.5 to 2.0 holds no probabilities"):
        F.binary_cross_entropy(np.array([-0.5, 2.0]), np.zeros(2))
    with pytest.raises(ArgumentError, match="nan"):
        F.binary_cross_entropy(np.array([np.nan]), np.zeros(1))
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        with pytest.raises(ShapeError, match=r"float64\(2, 1\) and target float64\(2,\)"):
            loss(np.zeros((2, 1)), np.zeros(2))
        with pytest.raises(ArgumentError, match="reduction 'all'"):
            loss(np.zeros(2), np.zeros(2), reduction="all")


# -- differences -------------------------------------------------------------------------------------------------------


def test_differences_by_hand() -> None:
    a, b = leaf([1.0, 2.0, 5.0]), np.array([1.0, 4.0, 2.0])  # differences 0, -2, 3
    for loss, how, value, grad in (
        (F.mse_loss, {}, 13 / 3, [0.0, -4 / 3, 2.0]),
        (F.mse_loss, {"reduction": "sum"}, 13.0, [0.0, -4.0, 6.0]),
        (F.l1_loss, {}, 5 / 3, [0.0, -1 / 3, 1 / 3]),
        (F.huber_loss, {}, (1.5 + 2.5) / 3, [0.0, -1 / 3, 1 / 3]),
        (F.huber_loss, {"delta": 2.0}, (2.0 + 4.0) / 3, [0.0, -2 / 3, 2 / 3]),
        (F.smooth_l1_loss, {"beta": 2.0}, (1.0 + 2.0) / 3, [0.0, -1 / 3, 1 / 3]),
    ):
        a.grad = None
        given = loss(a, b, **how)
        given.backward()
        assert given.item() == pytest.approx(value)
        assert a.grad.tolist() == pytest.approx(grad)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("huber_loss", {}),
        ("huber_loss", {"delta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.4}),
        ("smooth_l1_loss", {"beta": 0.0}),
    ],
)
def test_differences_agree(name: str, how: dict[str, Any], reduction: str) -> None:
    a, b = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
    a[0] = b[0]
    for x, y in ((a, b), (a.T, b.T), (a.astype(np.float32), b.astype(np.float32)), (a[0, 0, None], b[1, 0, None])):
        agree(name, x, y, reduction=reduction, track=(1,), **how)


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss])
def test_difference_manners(loss: Any) -> None:
    with pytest.raises(ShapeError, match=r"input float32\(5, 1\) and target float32\(5,\)"):
        loss(tg.zeros((5, 1)), tg.zeros(5))
    with pytest.raises(ArgumentError, match="reduction 'avg'"):
        loss(np.zeros(2), np.zeros(2), reduction="avg")
    empty = leaf(np.zeros((0, 2)), np.float32)
    assert math.isnan(loss(empty, empty).item())
    assert loss(empty, empty, reduction="sum").item() == 0.0
    for dtype in (np.float16, np.float32, np.float64):
        x = leaf([0.5, -2.0], dtype)
        y = loss(x, 0.25)  # a number stands for all
        y.backward()
        assert y.dtype == x.grad.dtype == dtype
    x, number = leaf([1.0, 3.0]), leaf(2.0)
    loss(x, number).backward()
    assert number.grad.shape == ()
    assert number.grad.item() == pytest.approx(0.0)


def test_difference_errors() -> None:
    with pytest.raises(ArgumentError, match="delta 0 must be positive"):
        F.huber_loss(np.zeros(2), np.zeros(2), delta=0)
    with pytest.raises(ArgumentError, match="beta -1 must not be negative"):
        F.smooth_l1_loss(np.zeros(2), np.zeros(2), beta=-1)


# -- modules -----------------------------------------------------------------------------------------------------------


def test_modules_call_the_functions() -> None:
    x, y = RNG.normal(size=(4, 3)).astype(np.float32), np.array([0, 1, 2, 0])
    w = np.array([0.5, 1.0, 2.0], np.float32)
    logs, p, t = tg.log_softmax(x), tg.sigmoid(x), np.round(tg.sigmoid(x))
    for module, function, args, how in (
        (nn.CrossEntropyLoss, F.cross_entropy, (x, y), {"weight": w, "ignore_index": 1, "label_smoothing": 0.1}),
        (nn.NLLLoss, F.nll_loss, (logs, y), {"weight": w, "ignore_index": 1}),
        (nn.BCELoss, F.binary_cross_entropy, (p, t), {"weight": w}),
        (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, (x, t), {"weight": w, "pos_weight": w}),
        (nn.MSELoss, F.mse_loss, (x, p), {}),
        (nn.L1Loss, F.l1_loss, (x, p), {}),
        (nn.HuberLoss, F.huber_loss, (x, p), {"delta": 0.1}),
    ):
        for reduction in ("mean", "sum", "none"):
            given = module(**how, reduction=reduction)(*args)
            np.testing.assert_array_equal(np.asarray(given), function(*args, **how, reduction=reduction))
        np.testing.assert_array_equal(np.asarray(module()(*args)), function(*args))


def test_module_weights_are_state() -> None:
    given = np.ones(3, np.float32)
    criterion = nn.CrossEntropyLoss(given)
    given[0] = 7.0  # the module has its own copy
    assert criterion.state_dict()["weight"].tolist() == [1.0, 1.0, 1.0]
    assert not list(criterion.parameters())
    assert nn.CrossEntropyLoss().state_dict() == {}
    assert criterion.to("float64").weight.dtype == np.float64


def test_module_repr() -> None:
    assert repr(nn.MSELoss()) == "MSELoss()"
    assert repr(nn.HuberLoss(delta=2.0, reduction="sum")) == "HuberLoss(delta=2.0, reduction='sum')"
    assert repr(nn.NLLLoss(ignore_index=0)) == "NLLLoss(ignore_index=0)"
