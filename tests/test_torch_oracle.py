"""PyTorch as a second opinion: values, gradients and second derivatives that nobody here computed.

Known differences, by design: a 0-d array counts as any other (PyTorch lets it give way to arrays of lower precision),
and integers divide to float64, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_nn as tg
from tinygrad_nn.registry import OPS

from . import contract, strategies

torch = pytest.importorskip("torch")

RENAMED = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "arctan2": "atan2", "rint": "round",
}  # fmt: skip
THERE: dict[str, Callable[..., Any]] = {
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
    "clip": lambda x, low, high: torch.clip(*torch.broadcast_tensors(x, low, high)),
    "binary_cross_entropy": lambda p, t: torch.nn.functional.binary_cross_entropy(
        *torch.broadcast_tensors(p, t), reduction="none"
    ),
    "binary_cross_entropy_with_logits": lambda x, t: torch.nn.functional.binary_cross_entropy_with_logits(
        *torch.broadcast_tensors(x, t), reduction="none"
    ),
    "cbrt": lambda x: torch.sign(x) * torch.abs(x) ** (1 / 3),
}


def counterpart(name: str) -> Callable[..., Any] | None:
    return THERE.get(name) or getattr(torch, RENAMED.get(name, name), None)


ELEMENTWISE = [
    name
    for name, op in sorted(OPS.items())
    if op.kind == "elementwise" and name != "floor_divide" and counterpart(name) is not None
]  # PyTorch has no derivative of floor_divide


def both(
    ours: Callable[..., Any], theirs: Callable[..., Any], args: Any, w: Any, rtol: float = 1e-10, order: int = 2
) -> None:
    """Equal value, gradient, and gradient of the squared gradient."""
    xs = [tg.Tensor(a, requires_grad=True) for a in args]
    ts = [torch.tensor(a, requires_grad=True) for a in args]
    y, t = ours(*xs), theirs(*ts)
    np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=rtol, atol=1e-12)
    gx = tg.autograd.grad(y, xs, w, create_graph=True, allow_unused=True)
    gt = torch.autograd.grad(t, ts, torch.tensor(w), create_graph=True, allow_unused=True)
    for a, b in zip(gx, gt, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(force=True), rtol=rtol, atol=1e-12)
    if order < 2:
        return
    second, other = sum((g * g).sum() for g in gx), sum((g * g).sum() for g in gt)
    if not other.requires_grad or not second.requires_grad:
        return
    hx = tg.autograd.grad(second, xs, allow_unused=True)
    ht = torch.autograd.grad(other, ts, allow_unused=True)
    for x, a, b in zip(xs, hx, ht, strict=True):
        ours_h = np.zeros(x.shape) if a is None else a.data
        np.testing.assert_allclose(
            ours_h, np.zeros(x.shape) if b is None else b.numpy(force=True), rtol=10 * rtol, atol=1e-10
        )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str) -> None:
    for trial in contract.trials(OPS[name]):
        flat = contract.is_flat(OPS[name], 0)
        both(trial.op.call, counterpart(name), trial.args, trial.cotangent, order=1 if flat else 2)


def test_most_elementwise_operations_have_a_counterpart() -> None:
    assert len(ELEMENTWISE) > 45


X = np.random.default_rng(0).normal(size=(3, 4))
V = np.random.default_rng(1).normal(size=(4,))
A = np.random.default_rng(2).normal(size=(2, 3, 4))
M = np.random.default_rng(4).normal(size=(4, 4)) + 4 * np.eye(4)
B = np.random.default_rng(3).normal(size=(4, 3))

PAIRS: list[tuple[str, Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = [
    ("sum", lambda x: x.sum(), lambda x: x.sum(), (X,)),
    ("sum of an axis", lambda x: x.sum(axis=1, keepdims=True), lambda x: x.sum(1, keepdim=True), (X,)),
    ("mean", lambda x: x.mean(axis=(0, 2)), lambda x: x.mean((0, 2)), (A,)),
    ("var", lambda x: x.var(axis=1, correction=1), lambda x: x.var(1), (X,)),
    ("std", lambda x: x.std(axis=0, correction=1), lambda x: x.std(0), (X,)),
    ("max", lambda x: x.max(axis=1), lambda x: x.amax(1), (X,)),
    ("max of all, tied", lambda x: x.max(), lambda x: x.amax(), (np.array([1.0, 3.0, 3.0]),)),
    ("min", lambda x: x.min(axis=0), lambda x: x.amin(0), (X,)),
    ("prod", lambda x: x.prod(axis=1), lambda x: x.prod(1), (X,)),
    ("prod with zeros", lambda x: x.prod(), lambda x: x.prod(), (np.array([2.0, 0.0, 3.0]),)),
    ("cumsum", lambda x: tg.cumsum(x, 1), lambda x: x.cumsum(1), (X,)),
    ("cumprod", lambda x: tg.cumprod(x, 1), lambda x: x.cumprod(1), (X,)),
    ("reshape", lambda x: x.reshape(2, 6) ** 2, lambda x: x.reshape(2, 6) ** 2, (X,)),
    ("transpose", lambda x: x.transpose(2, 0, 1) ** 2, lambda x: x.permute(2, 0, 1) ** 2, (A,)),
    ("stack", lambda x, y: tg.stack([x, y], 1) ** 2, lambda x, y: torch.stack([x, y], 1) ** 2, (X, X)),
    ("concat", lambda x, y: tg.concat([x, y]) ** 2, lambda x, y: torch.cat([x, y]) ** 2, (X, X[:1])),
    ("flip", lambda x: tg.flip(x, 1) ** 2, lambda x: torch.flip(x, [1]) ** 2, (X,)),
    ("roll", lambda x: tg.roll(x, 2, 1) ** 2, lambda x: torch.roll(x, 2, 1) ** 2, (X,)),
    ("tril", lambda x: tg.tril(x) ** 2, lambda x: torch.tril(x) ** 2, (X,)),
    ("index", lambda x: x[[0, 2, 0]] ** 2, lambda x: x[[0, 2, 0]] ** 2, (X,)),
    ("slice", lambda x: x[1:, ::2] ** 2, lambda x: x[1:, ::2] ** 2, (X,)),
    ("matmul", lambda a, b: a @ b, lambda a, b: a @ b, (X, B)),
    ("matmul, batched", lambda a, b: a @ b, lambda a, b: a @ b, (A, B)),
    ("matrix vector", lambda a, b: a @ b, lambda a, b: a @ b, (X, V)),
    ("vector matrix", lambda a, b: a @ b, lambda a, b: a @ b, (V, B)),
    ("dot", lambda a, b: a @ b, lambda a, b: a @ b, (V, V + 1)),
    ("einsum", lambda a, b: tg.einsum("bij,jk->bki", a, b), lambda a, b: torch.einsum("bij,jk->bki", a, b), (A, B)),
    ("einsum trace", lambda a: tg.einsum("ii->", a @ a.T), lambda a: torch.einsum("ii->", a @ a.T), (X,)),
    ("solve", tg.linalg.solve, torch.linalg.solve, (M, V)),
    ("solve, batch", tg.linalg.solve, torch.linalg.solve, (M + A[:, :1, :], B[None, :, :2])),
    ("inv", tg.linalg.inv, torch.linalg.inv, (M,)),
    ("det", tg.linalg.det, torch.linalg.det, (M,)),
    ("slogdet", lambda a: tg.linalg.slogdet(a)[1], lambda a: torch.linalg.slogdet(a)[1], (M,)),
    ("norm", tg.linalg.norm, torch.linalg.norm, (V,)),
    ("3-norm", lambda x: tg.linalg.vector_norm(x, 1, ord=3), lambda x: torch.linalg.vector_norm(x, 3, 1), (X,)),
    ("inf-norm", lambda x: tg.linalg.norm(x, np.inf), lambda x: torch.linalg.norm(x, torch.inf), (X,)),
    ("sort", lambda x: tg.sort(x, 1) ** 2, lambda x: torch.sort(x, 1)[0] ** 2, (X,)),
    ("sort, tied", tg.sort, lambda x: torch.sort(x, stable=True)[0], (np.array([2.0, 1.0, 2.0, 1.0]),)),
    ("diff", lambda x: tg.diff(x, 2) ** 2, lambda x: torch.diff(x, 2) ** 2, (X,)),
    ("linear", tg.linear, torch.nn.functional.linear, (X, A[0], V[:3])),
    ("softmax", lambda x: tg.softmax(x, 1), lambda x: torch.softmax(x, 1), (X,)),
    ("log_softmax", lambda x: tg.log_softmax(x, 0), lambda x: torch.log_softmax(x, 0), (X,)),
    ("logsumexp", lambda x: tg.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), (X,)),
    ("where", lambda a, b: tg.where(X > 0, a * b, b), lambda a, b: torch.where(torch.tensor(X > 0), a * b, b), (X, X)),
    ("clip at its bounds", lambda x: tg.clip(x, -1, 1), lambda x: x.clamp(-1, 1), (np.array([-2.0, -1, 0, 1, 2]),)),
    ("maximum, tied", tg.maximum, torch.maximum, (np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))),
    ("relu at 0", tg.relu, torch.relu, (np.array([-1.0, 0.0, 1.0]),)),
    ("abs at 0", tg.abs, torch.abs, (np.array([-1.0, 0.0, 1.0]),)),
    ("power of 0", lambda a: a**2, lambda a: a**2, (np.array([0.0, 1.0]),)),
]


@pytest.mark.parametrize(("ours", "theirs", "args"), [p[1:] for p in PAIRS], ids=[p[0] for p in PAIRS])
def test_operations(ours: Callable[..., Any], theirs: Callable[..., Any], args: tuple[Any, ...]) -> None:
    shape = theirs(*map(torch.tensor, args)).shape
    both(ours, theirs, args, np.random.default_rng(7).normal(size=tuple(shape)))


# -- random compositions -----------------------------------------------------------------------------------------------

STEPS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (tg.sin, torch.sin),
    (tg.tanh, torch.tanh),
    (tg.sigmoid, torch.sigmoid),
    (tg.relu, torch.relu),
    (lambda x: x * x * 0.1, lambda x: x * x * 0.1),
    (lambda x: tg.exp(-x * x), lambda x: torch.exp(-x * x)),
    (lambda x: tg.log(x * x + 1.0), lambda x: torch.log(x * x + 1.0)),
    (lambda x: x - x.mean(axis=0), lambda x: x - x.mean(0)),
    (lambda x: x / (1.0 + tg.abs(x).sum()), lambda x: x / (1.0 + torch.abs(x).sum())),
    (lambda x: x @ x.T @ x * 0.1, lambda x: x @ x.T @ x * 0.1),
    (lambda x: tg.softmax(x, 1), lambda x: torch.softmax(x, 1)),
    (lambda x: tg.concat([x[:, 1:], x[:, :1]], 1), lambda x: torch.cat([x[:, 1:], x[:, :1]], 1)),
    (lambda x: tg.maximum(x, x[0]), lambda x: torch.maximum(x, x[0].expand(x.shape))),
]


@given(picks=st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_random_compositions(picks: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    args = [rng.normal(size=(3, 3)), rng.normal(size=(3, 3))]

    def run(side: int) -> Callable[..., Any]:
        def fn(a: Any, b: Any) -> Any:
            for k, pick in enumerate(picks):
                a, b = STEPS[pick][side](a) + b * (0.5 if k % 2 else -0.3), a
            return a * b

        return fn

    both(run(0), run(1), args, rng.normal(size=(3, 3)), rtol=1e-8)


# -- dtypes ------------------------------------------------------------------------------------------------------------

DTYPES = ["float16", "float32", "float64"]


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", DTYPES)
def test_promotion_of_arrays(a: str, b: str) -> None:
    x, y = tg.ones(2, dtype=a), tg.ones(2, dtype=b)
    t, u = torch.ones(2, dtype=getattr(torch, a)), torch.ones(2, dtype=getattr(torch, b))
    assert str((x * y).dtype) == str((t * u).dtype).removeprefix("torch.")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [2, 2.5, -1])
def test_python_numbers_are_weak(dtype: str, number: Any) -> None:
    t = torch.ones(2, dtype=getattr(torch, dtype))
    for fn in (lambda v: v * number, lambda v: number - v, lambda v: v / number, lambda v: v**number):
        assert str(fn(tg.ones(2, dtype=dtype)).dtype) == str(fn(t).dtype).removeprefix("torch.") == dtype


def test_where_promotion_differs() -> None:
    """0-d arrays of higher precision: NumPy 2 promotes, PyTorch does not; integers divide to float64 here."""
    assert (tg.ones(2) * tg.tensor(np.float64(1.0))).dtype == np.float64
    assert (torch.ones(2) * torch.tensor(1.0, dtype=torch.float64)).dtype == torch.float32
    assert (tg.tensor([1, 2]) / 2).dtype == np.float64
    assert (torch.tensor([1, 2]) / 2).dtype == torch.float32


@given(data=st.data())
def test_float32_gradients(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ELEMENTWISE))
    op = OPS[name]
    args = data.draw(strategies.arrays(op.domain, ((2, 3),) * len(op.vjps)))
    small = [a.astype(np.float32) for a in args]
    xs = [tg.Tensor(a, requires_grad=True) for a in small]
    ts = [torch.tensor(a, requires_grad=True) for a in small]
    op.call(*xs).sum().backward()
    y = counterpart(name)(*ts).sum()
    if y.requires_grad:
        y.backward()
    for x, t in zip(xs, ts, strict=True):
        assert x.grad.dtype == np.float32
        wanted = np.zeros(x.shape) if t.grad is None else t.grad.numpy(force=True)
        np.testing.assert_allclose(x.grad.data, wanted, rtol=2e-4, atol=2e-5)
