"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..tensor import Tensor
from ..writes import writes
from .optimizer import Optimizer, Params

BLOCK = 65536  # elements: what one block of parameter, gradient, velocity and scratch takes stays in the L2 cache
SMALL = 1024  # up to here a fresh array costs less than finding one to use again


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, equal to PyTorch's step for step.

    With g the gradient, p the parameter and v its velocity ("momentum_buffer" of its state, at first g):

    - g is negated if `maximize`, then `weight_decay` · p is added to it;
    - with `momentum` μ, v becomes μ · v + (1 - `dampening`) · g, and g becomes v, or with `nesterov` g + μ · v;
    - p becomes p - `lr` · g, in place.

    >>> import tinygrad_nn as tg
    >>> x = tg.nn.Parameter([1.0, -2.0])
    >>> optimizer = tg.optim.SGD([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    Parameter([ 0.8, -1.6], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        self._scratch = Scratch(), Scratch()
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def check_options(self, group: dict[str, Any]) -> None:
        """Rates must be numbers that are not negative; nesterov needs momentum and no dampening."""
        for key in ("lr", "momentum", "weight_decay"):
            if not isinstance(group[key], int | float | np.number) or not group[key] >= 0:
                raise ArgumentError(f"SGD: {key} must be a number ≥ 0, not {group[key]!r}")
        if group["nesterov"] and (not group["momentum"] > 0 or group["dampening"] != 0):
            raise ArgumentError(
                f"SGD: nesterov needs momentum > 0 and dampening = 0, "
                f"not momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def update(self, group: dict[str, Any], found: list[tuple[Tensor, Any, Any]]) -> None:
        """One step for the parameters of a group."""
        momentum, dtype = group["momentum"], None
        for tensor, p, g in found:
            if p.dtype is not dtype:
                dtype = p.dtype
                rule = _Rule(group, dtype, *self._scratch)
            v, first = None, False
            if momentum:
                state = self.state.setdefault(tensor, {})
                v = state.get("momentum_buffer")
                if v is None:
                    v, first = np.empty_like(p), True
                    state["momentum_buffer"] = v
            if p.ndim and p.size <= SMALL and rule.plain:  # all of a small network: at once, as calls count there
                np.add(p, np.multiply(g, rule.step), p)
            elif p.size <= BLOCK:
                rule.apply(p, g, v, first)
            else:
                by_blocks(rule, p, g, v, first)
        writes.note_all([p for _, p, _ in found], "SGD.step")


def by_blocks(rule: _Rule, p: Any, g: Any, v: Any, first: bool) -> None:
    """`rule.apply` on about `BLOCK` elements at a time."""
    if p.flags.c_contiguous and g.flags.c_contiguous and (v is None or v.flags.c_contiguous):
        p, g, v = p.reshape(-1), g.reshape(-1), v if v is None else v.reshape(-1)
    rows = max(1, BLOCK * len(p) // p.size)
    for i in range(0, len(p), rows):
        part = slice(i, i + rows)
        rule.apply(p[part], g[part], v if v is None else v[part], first)


class _Rule:
    """The update of one group's options in one dtype. Numbers are 0-d arrays: NumPy takes those twice as fast."""

    __slots__ = ("step", "decay", "momentum", "share", "nesterov", "maximize", "plain", "scratch", "second")

    def __init__(self, group: dict[str, Any], dtype: np.dtype[Any], scratch: Scratch, second: Scratch) -> None:
        self.step: Any = np.array(-group["lr"], dtype)
        self.decay: Any = np.array(group["weight_decay"], dtype) if group["weight_decay"] else None
        self.momentum: Any = np.array(group["momentum"], dtype) if group["momentum"] else None
        self.share = np.array(1 - group["dampening"], dtype) if group["dampening"] else None
        self.nesterov = group["nesterov"]
        self.maximize = group["maximize"]
        self.plain = not (group["momentum"] or group["weight_decay"] or group["maximize"])
        self.scratch = scratch
        self.second = second

    def apply(self, p: Any, g: Any, v: Any, first: bool) -> None:
        """Update `p` (and its velocity `v`, if `first` still empty) in place."""
        t = None if p.ndim and p.size <= SMALL else self.scratch.like(p)
        if self.decay is not None:
            pull = np.multiply(p, self.decay, t)
            g = (np.subtract if self.maximize else np.add)(pull, g, pull)
        elif self.maximize:
            g = np.negative(g, t)
        if v is not None:
            if first:
                v[...] = g
            else:
                np.multiply(v, self.momentum, v)
                np.add(v, g if self.share is None else np.multiply(g, self.share, self.second.like(p)), v)
            g = np.add(g, np.multiply(v, self.momentum, self.second.like(p)), t) if self.nesterov else v
        np.add(p, np.multiply(g, self.step, t), p)


class Scratch:
    """Memory for intermediate results, one piece for all shapes of a dtype: a larger need replaces it."""

    def __init__(self) -> None:
        self._memory: dict[np.dtype[Any], Any] = {}
        self._views: dict[tuple[tuple[int, ...], np.dtype[Any]], Any] = {}

    def like(self, array: Any) -> Any:
        """An array of the shape and dtype of `array`, with anything in it; the next call may give the same memory."""
        key = array.shape, array.dtype
        view = self._views.get(key)
        if view is None:
            memory = self._memory.get(array.dtype)
            if memory is None or memory.size < array.size:
                memory = self._memory[array.dtype] = np.empty(array.size, array.dtype)
                self._views = {k: w for k, w in self._views.items() if k[1] != array.dtype}
            view = self._views[key] = memory[: array.size].reshape(array.shape)
        return view

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()  # copies and pickles start empty
