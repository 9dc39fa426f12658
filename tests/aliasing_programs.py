"""Programs that write in place, or into memory that two things share; and what each library makes of them.

A program takes a library `L` and two inputs, and returns its loss, or (loss, things seen): it runs on NumPy arrays as
well, so its value and, by differences, its gradient are known. Writing into something after it was used does not change
a loss that is computed already, so the truth needs no idea of what "in place" means but NumPy's.

`outcome` says "right", "refused" (an exception), or "silently wrong".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import tinygrad_nn as tg

Array = np.ndarray[Any, Any]
X = np.array([[0.5, -1.0, 1.5], [2.0, 0.25, -0.75]])
W = np.array([[1.0, 3.0, -2.0], [0.5, -1.5, 0.75]])


class Numpy:
    """The truth: plain arrays."""

    exp, tanh = staticmethod(np.exp), staticmethod(np.tanh)
    no_grad = contextlib.nullcontext

    @staticmethod
    def zeros(*shape: int) -> Any:
        return np.zeros(shape)

    @staticmethod
    def same(t: Any) -> Any:
        return t

    const = index = detach = data = same


class Ours:
    """This package."""

    exp, tanh, no_grad = staticmethod(tg.exp), staticmethod(tg.tanh), tg.no_grad
    const = index = staticmethod(tg.asarray)

    @staticmethod
    def zeros(*shape: int) -> Any:
        return tg.zeros(shape, dtype="float64")

    @staticmethod
    def leaf(array: Array) -> Any:
        return tg.tensor(array, requires_grad=True)

    @staticmethod
    def detach(t: Any) -> Any:
        return t.detach()

    @staticmethod
    def data(t: Any) -> Array:
        return t.data  # type: ignore[no-any-return]

    values = data


class Torch:
    """PyTorch."""

    def __init__(self) -> None:
        import torch

        self.exp, self.tanh, self.no_grad = torch.exp, torch.tanh, torch.no_grad
        self.const = self.index = torch.from_numpy
        self.zeros = lambda *shape: torch.zeros(shape, dtype=torch.float64)
        self.leaf = lambda array: torch.tensor(array, requires_grad=True)

    @staticmethod
    def detach(t: Any) -> Any:
        return t.detach()

    @staticmethod
    def data(t: Any) -> Array:
        return t.detach().numpy()  # type: ignore[no-any-return]

    values = data


class Program(NamedTuple):
    """`run(L, x, w)`; `after(L, x, w)` comes after backward, when the gradients must be `scale` times the truth."""

    name: str
    run: Callable[[Any, Any, Any], Any]
    after: Callable[[Any, Any], None] | None = None
    scale: tuple[float, float] = (1.0, 1.0)


PROGRAMS: list[Program] = []


def program(name: str, **more: Any) -> Callable[[Any], Any]:
    def add(run: Any) -> Any:
        PROGRAMS.append(Program(name, run, **more))
        return run

    return add


# -- recorded writes ---------------------------------------------------------------------------------------------------


@program("`y[0] = 5` in a result")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    y[0] = 5
    return (y * y * w).sum()


@program("`y += 1` after `exp`, which keeps its result")
def _(L: Any, x: Any, w: Any) -> Any:
    y = L.exp(x)
    y += 1
    return (y * w).sum()


@program("`y *= w`, `y /= w`, `y **= 2` one after the other")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x + 3
    y *= w
    y /= w + 5
    y **= 2
    return y.sum()


@program("`y[x < 0] = 0`: a mask")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * w
    y[x < 0] = 0
    return (y * y).sum()


@program("`y[1, ...] += w[0]`")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * x
    y[1, ...] += w[0]
    return (y * y).sum()


@program("`y[[0, 0, 1]] = v`: an element named twice, the last value stays")
def _(L: Any, x: Any, w: Any) -> Any:
    y = (x * 2)[0]
    y[L.index(np.array([0, 0, 1]))] = w[0]
    return (y * y).sum()


@program("`y[1:] = y[:-1]`: source and target overlap")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x.reshape(6) * 2
    y[1:] = y[:-1] * 1
    return (y * w.reshape(6)).sum()


@program("a buffer of states, written and read in a loop")
def _(L: Any, x: Any, w: Any) -> Any:
    states = L.zeros(4, 3)
    for t in range(3):
        states[t + 1] = L.tanh(states[t] * w[0] + x[1])
    return (states * states).sum()


# -- views -------------------------------------------------------------------------------------------------------------


@program("`v = y[:1]; v += 1`: does it reach `y`?")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    v = y[:1]
    v += w[:1]
    return (y * y).sum()


@program("`v = y[:1]; y[...] = ...`: does it reach `v`?")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    v = y[:1]
    y[0] = w[1]
    return (v * v).sum()


@program("two views that overlap")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x.reshape(6) * 2
    a, b = y[:4], y[2:]
    a *= w.reshape(6)[:4]
    return (b * b).sum()


@program("`y.T[0] = v`: through a transpose")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    y.T[0] = w[:, 1]
    return (y * y).sum()


@program("a view of a view of a reshape")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    v = y.reshape(6)[1:5]
    v.reshape(2, 2)[0] *= w[0, :2]
    return (y * y).sum() + (v * v * v).sum()


@program("rows swapped through a view, as NumPy does it (both end up equal)")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * w
    row = y[0]
    y[0] = y[1]
    y[1] = row
    return (y * y).sum()


@program("`b[0][1] = v` into a constant buffer")
def _(L: Any, x: Any, w: Any) -> Any:
    b = L.zeros(2, 3)
    b[0][1] = x[0, 0] * x[0, 0]
    return (b * w).sum()


@program("a view of a constant buffer that is then written into")
def _(L: Any, x: Any, w: Any) -> Any:
    b = L.zeros(2, 3)
    v = b[0]
    b[0] = x[0]
    return (v * v * w[0]).sum()


@program("a constant buffer written through its view")
def _(L: Any, x: Any, w: Any) -> Any:
    b = L.zeros(6)
    v = b.reshape(2, 3)
    v[0] = x[0]
    return (b * b).sum()


# -- leaves ------------------------------------------------------------------------------------------------------------


@program("`x += 1` on a leaf")
def _(L: Any, x: Any, w: Any) -> Any:
    x += 1
    return (x * x).sum()


@program("`v = x[0]; v *= 2` on a view of a leaf")
def _(L: Any, x: Any, w: Any) -> Any:
    v = x[0]
    v *= 2
    return (x * x).sum()


@program("a step under no_grad between forward and backward")
def _(L: Any, x: Any, w: Any) -> Any:
    loss = (x * w).sum()
    with L.no_grad():
        w -= 0.1
    return loss


@program("a step under no_grad on a view, between forward and backward")
def _(L: Any, x: Any, w: Any) -> Any:
    loss = (x @ w.T).sum()
    with L.no_grad():
        w[0] *= 0.5
    return loss


# -- constants, and arrays that NumPy code writes into -----------------------------------------------------------------


@program("a constant written into after it was used")
def _(L: Any, x: Any, w: Any) -> Any:
    c = L.const(np.full((2, 3), 3.0))
    loss = (x * c).sum()
    c[0] = 7
    return loss


@program("the NumPy array behind a constant overwritten after it was used")
def _(L: Any, x: Any, w: Any) -> Any:
    a = np.full((2, 3), 3.0)
    loss = (x * L.const(a)).sum()
    a[...] = 7
    return loss


@program("one element of it overwritten")
def _(L: Any, x: Any, w: Any) -> Any:
    a = np.full((2, 3), 3.0)
    loss = (x @ L.const(a).T).sum()
    a[1, 1] = 7
    return loss


@program("a large batch array filled with the next batch before backward")
def _(L: Any, x: Any, w: Any) -> Any:
    a = np.random.default_rng(0).random((200, 2))
    a = np.repeat(a, 100, axis=0)
    loss = (L.const(a) @ x).sum()
    a[...] = np.random.default_rng(1).random(a.shape)
    return loss


@program("an array of indices overwritten after it was used")
def _(L: Any, x: Any, w: Any) -> Any:
    i = np.array([0, 1, 0])
    loss = (x[L.index(i)] * 2).sum() + (w * w).sum()
    i[...] = 1
    return loss


@program("`x.data[...] = 7` after `x` was used")
def _(L: Any, x: Any, w: Any) -> Any:
    loss = (x * x).sum()
    L.data(x)[...] = 7
    return loss


@program("`a = x.data` taken before `x` was used, written into after")
def _(L: Any, x: Any, w: Any) -> Any:
    a = L.data(x)
    loss = (x * x * w).sum()
    a[0] = 7
    return loss


@program("`y.data[...] = 0` of an intermediate result that backward needs")
def _(L: Any, x: Any, w: Any) -> Any:
    y = L.exp(x)
    loss = y.sum()
    L.data(y)[...] = 0
    return loss


@program("`a = y.data` of an intermediate result, written into after its use")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    a = L.data(y)
    loss = (y * y).sum()
    a[...] = 0
    return loss


@program("a NumPy array sees a recorded write into the tensor that shares it")
def _(L: Any, x: Any, w: Any) -> Any:
    a = np.zeros((2, 3))
    b = L.const(a)
    b[0] = x[0]
    return (b * b).sum(), a


@program("`a = y.data` sees `y += 1`")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    a = L.data(y)
    y += 1
    return (y * y).sum(), a


# -- detach ------------------------------------------------------------------------------------------------------------


@program("`d = y.detach()` sees `y += 1`")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * 2
    d = L.detach(y)
    y += w
    return (y * y).sum(), d


@program("`d = y.detach(); d[0] = 9` after `y` was used")
def _(L: Any, x: Any, w: Any) -> Any:
    y = x * w
    loss = (y * y).sum()
    L.detach(y)[0] = 9
    return loss


# -- gradients ---------------------------------------------------------------------------------------------------------


def _double(x: Any, w: Any) -> None:
    x.grad *= 2


def _clear_rows(x: Any, w: Any) -> None:
    w.grad[...] = 0


@program("`x.grad *= 2` where `x` and `w` get the same gradient", after=_double, scale=(2.0, 1.0))
def _(L: Any, x: Any, w: Any) -> Any:
    return (x + w).sum()


@program("`w.grad[...] = 0` where `x` gets a view of the same gradient", after=_clear_rows, scale=(1.0, 0.0))
def _(L: Any, x: Any, w: Any) -> Any:
    return ((x.T + w.T) * (x + w).T).sum()


# -- what they must give, and what they do -----------------------------------------------------------------------------


def split(result: Any) -> tuple[Any, list[Any]]:
    return (result[0], list(result[1:])) if isinstance(result, tuple) else (result, [])


def truth(run: Any) -> tuple[float, list[Array], list[Array]]:
    """The loss, what is seen, and both gradients by central differences: each run starts from fresh copies."""

    def loss_at(x: Array, w: Array) -> float:
        return float(split(run(Numpy, x.copy(), w.copy()))[0])

    loss, seen = split(run(Numpy, X.copy(), W.copy()))
    step, grads = 1e-5, []
    for i in range(2):
        g = np.zeros_like(X)
        for place in np.ndindex(*g.shape):
            ends = []
            for sign in (1, -1):
                moved = [X.copy(), W.copy()]
                moved[i][place] += sign * step
                ends.append(loss_at(*moved))
            g[place] = (ends[0] - ends[1]) / (2 * step)
        grads.append(g)
    return float(loss), [np.array(s) for s in seen], grads


def outcome(p: Program, L: Any) -> tuple[str, str]:
    """What becomes of a program, and the message if it is refused."""
    loss, seen, grads = truth(p.run)
    x, w = L.leaf(X), L.leaf(W)
    try:
        got, got_seen = split(p.run(L, x, w))
        got.backward()
        if p.after is not None:
            p.after(x, w)
    except Exception as error:  # any refusal counts
        return "refused", f"{type(error).__name__}: {error}"
    numbers = [(np.array(L.values(got)), np.array(loss))]
    numbers += [(s if isinstance(s, np.ndarray) else L.values(s), t) for s, t in zip(got_seen, seen, strict=True)]
    for leaf, g, factor in zip((x, w), grads, p.scale, strict=True):
        numbers.append((np.zeros_like(g) if leaf.grad is None else L.values(leaf.grad), factor * g))
    right = all(np.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in numbers)
    return ("right" if right else "silently wrong"), ""


def outcomes(L: Any) -> Iterator[tuple[Program, str, str]]:
    for p in PROGRAMS:
        yield p, *outcome(p, L)
