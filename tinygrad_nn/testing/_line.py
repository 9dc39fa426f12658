"""A function cut along a line through a point: what the experiments with steps look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._types import Array
from ..errors import ArgumentError, describe
from ..modes import enable_grad, no_grad
from ..tensor import Tensor
from ..transforms import grad
from ..tree import flatten, unflatten


class Line:
    """φ(h) = <w, f(x + h·d)> for the function f, the point x and the direction d; w is drawn, or 1 for one number.

    `x` and `d` are an array or a tree (lists, tuples, dicts) of arrays; those that are not floating stand still. With
    `plain` the function is called with arrays, else with Tensors.
    """

    def __init__(self, name: str, fn: Callable[..., Any], x: Any, direction: Any, seed: int, plain: bool) -> None:
        self.fn, self.name, self.plain = fn, name, plain
        leaves, self.structure = flatten(x)
        self.point = [_array(leaf) for leaf in leaves]
        self.moving = [i for i, a in enumerate(self.point) if a.dtype.kind == "f" and a.size]
        if not self.moving:
            raise ArgumentError(f"{name}: nothing to move in {describe(x)}; give floating-point arrays")
        rng = np.random.default_rng(seed)
        self.direction = self._direction(direction, rng)
        self.value = np.asarray(self.at([self.point[i] for i in self.moving]))
        if self.value.dtype.kind != "f" or not np.all(np.isfinite(self.value)):
            raise ArgumentError(f"{name}: the function must return finite real numbers at x, not {self.value!r:.200}")
        self.cotangent = np.ones(self.value.shape) if self.value.size == 1 else rng.standard_normal(self.value.shape)
        self.eps = float(max(np.finfo(a.dtype).eps for a in [self.value, *(self.point[i] for i in self.moving)]))

    def _direction(self, given: Any, rng: np.random.Generator) -> list[Array]:
        if given is None:
            single = len(self.moving) == 1 and self.point[self.moving[0]].size == 1
            return [np.asarray(1.0 if single else rng.standard_normal(p.shape)).reshape(p.shape) for p in self._moved()]
        return self.leaves_like("direction", given)

    def _moved(self) -> list[Array]:
        return [self.point[i] for i in self.moving]

    def leaves_like(self, what: str, tree: Any) -> list[Array]:
        """The arrays of `tree` that belong to the moving arrays of x, checked to be of their shapes."""
        leaves, structure = flatten(tree)
        if structure != self.structure:
            raise ArgumentError(f"{self.name}: {what} must be built as x is, of arrays of the same shapes")
        found = [np.asarray(_array(leaves[i]), np.float64) for i in self.moving]
        for a, p in zip(found, self._moved(), strict=True):
            if a.shape != p.shape:
                raise ArgumentError(f"{self.name}: {what} has the shape {a.shape} for an x of shape {p.shape}")
        return found

    def at(self, moved: list[Any]) -> Any:
        """The value of the function where its moving arguments are `moved`: as an array."""
        leaves: list[Any] = list(self.point)
        for i, a in zip(self.moving, moved, strict=True):
            leaves[i] = a
        tree = unflatten(self.structure, leaves if self.plain else [Tensor(a) for a in leaves])
        with no_grad():
            return _array(self.fn(tree))

    def step(self, h: float) -> tuple[Array, list[Array]]:
        """f(x + h·d), and by how much x really moved, which rounding makes a little different from h·d."""
        moved = [np.asarray(p + (h * d).astype(p.dtype)) for p, d in zip(self._moved(), self.direction, strict=True)]
        shift = [np.subtract(m, p, dtype=np.float64) for m, p in zip(moved, self._moved(), strict=True)]
        with np.errstate(all="ignore"):
            return np.asarray(self.at(moved)), shift

    def complex_step(self, h: float) -> float:
        """Im φ(ih) / h."""
        moved = [np.asarray(p + 1j * (h * d)) for p, d in zip(self._moved(), self.direction, strict=True)]
        with np.errstate(all="ignore"):
            return float(np.sum(self.cotangent * np.imag(self.at(moved))) / h)

    def weighed(self, values: Array) -> float:
        """<w, values>."""
        return float(np.sum(self.cotangent * values))

    def weighed_size(self, values: Array) -> float:
        """The same without cancellation: what rounding errors are relative to."""
        return float(np.sum(np.abs(self.cotangent * values)))

    def recorded(self) -> tuple[list[Tensor], Tensor]:
        """The moving arguments as Tensors that require gradients, and f of them, with its graph."""
        inputs = [Tensor(p, requires_grad=True) for p in self._moved()]
        leaves: list[Any] = [Tensor(p) for p in self.point]
        for i, t in zip(self.moving, inputs, strict=True):
            leaves[i] = t
        with enable_grad(), np.errstate(all="ignore"):
            y = self.fn(unflatten(self.structure, leaves))
        if not isinstance(y, Tensor) or not y.requires_grad:
            raise ArgumentError(
                f"{self.name}: the function returned {describe(y)}, which autodiff cannot trace back to x. Compute "
                "with Tensors, or give the derivative yourself"
            )
        return inputs, y

    def derivatives(self, order: int) -> tuple[list[Array], float]:
        """The gradient of <w, f> by autodiff, and dᵀHd; 0 for the latter unless `order` is 2."""
        with np.errstate(all="ignore"):  # at a pole the derivatives are not finite, and the caller says so
            return self._derivatives(order)

    def _derivatives(self, order: int) -> tuple[list[Array], float]:
        inputs, y = self.recorded()
        w = Tensor(self.cotangent.astype(y.dtype))
        slopes = grad(y, inputs, w, retain_graph=True, allow_unused=True)
        gradient = [
            np.zeros(p.shape) if g is None else np.asarray(g.data, np.float64)
            for g, p in zip(slopes, self._moved(), strict=True)
        ]
        if order < 2:
            return gradient, 0.0
        again = grad(y, inputs, w, create_graph=True, allow_unused=True)
        curved = [(g, d) for g, d in zip(again, self.direction, strict=True) if g is not None and g.requires_grad]
        if not curved:
            return gradient, 0.0
        bent = grad([g for g, _ in curved], inputs, [d.astype(g.dtype) for g, d in curved], allow_unused=True)
        bends = [np.sum(h.data * d) for h, d in zip(bent, self.direction, strict=True) if h is not None]
        return gradient, float(sum(bends))


def _array(value: Any) -> Array:
    return value.detach().data if isinstance(value, Tensor) else np.asarray(value)
