"""Gradients through a solver by the implicit function theorem: `custom_root`, `fixed_point`.

Where f(x, θ) = 0 defines x as a function of θ, its derivative is x' = -(∂f/∂x)⁻¹ ∂f/∂θ: no matter how x was found, and
without the memory of the iterations. The rule is written with recorded operations, so it has derivatives of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import graph
from .batched import Batched, lower, new_level, run, within
from .errors import ArgumentError, BatchError, ConvergenceError, DTypeError, GraphError, ShapeError, describe
from .function import Function
from .modes import enable_grad, is_grad_enabled
from .ops.matrix import solve
from .ops.shape import concat, reshape
from .tensor import Tensor, asarray, wrap
from .transforms import gradients
from .tree import LEAF, flatten, tree_map, unflatten

__all__ = ["custom_root", "fixed_point"]


def custom_root(residual: Callable[..., Any], solve: Callable[..., Any], tolerance: float = 1e-4) -> Callable[..., Any]:
    """A function `root(*params)`: the x with `residual(x, *params) = 0`, found by `solve(*params)`, with derivatives.

    `solve` may do anything: its steps are not recorded, and keyword arguments (a start, a number of steps) go to it
    alone. Derivatives of any order, in both modes, come from `residual` by the implicit function theorem. x and the
    params are Tensors or arrays, or nested lists, tuples and dicts of them; `residual` returns the form of x. What
    `residual` takes from outside is a constant, so a tensor that requires a gradient must be one of the params.

    The Jacobian of `residual` by x is formed, and solved with: n² numbers for n unknowns. It must not be singular. An x
    from which Newton's method would step further than `tolerance` · (1 + |x|) is no root: ConvergenceError.

    >>> import tinygrad_nn as tg
    >>> def newton(a):
    ...     x = tg.ones_like(a)
    ...     for _ in range(20):
    ...         x = (x + a / x) / 2
    ...     return x
    >>> root = tg.func.custom_root(lambda x, a: x * x - a, newton)
    >>> tg.func.grad(root)(9.0)
    tensor(0.16666667)
    >>> tg.func.jvp(root, (9.0,), (6.0,))
    (tensor(3.), tensor(1.))
    """

    @functools.wraps(solve)
    def root(*params: Any, **options: Any) -> Any:
        problem = _Problem(residual, functools.partial(solve, **options), tolerance, params)
        return problem.in_form(_Root.apply(problem, *problem.values))

    return root


def fixed_point(
    fn: Callable[..., Any],
    start: Any,
    *params: Any,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Any:
    """The x with `x = fn(x, *params)`, by iterating `fn` from `start`, with derivatives by `params`.

    The iteration ends where no element moves by more than `tolerance` · (1 + largest |x|), with 16 roundings as the
    tolerance unless told; otherwise it is a ConvergenceError. Derivatives as for `custom_root`; the start has none.

    >>> import tinygrad_nn as tg
    >>> tg.func.fixed_point(lambda x, a: (x + a / x) / 2, 1.0, tg.tensor(9.0))
    tensor(3.)
    >>> tg.func.grad(lambda a: tg.func.fixed_point(lambda x, a: (x + a / x) / 2, 1.0, a))(9.0)
    tensor(0.16666667)
    """

    def iterate(*params: Any) -> Any:
        old, form = flatten(start)
        old = [asarray(leaf).detach() for leaf in old]
        step = np.inf
        for count in range(1, max_iterations + 1):
            new, new_form = flatten(fn(unflatten(form, old), *params))
            new = [asarray(leaf) for leaf in new]
            if new_form != form or [t.shape for t in new] != [t.shape for t in old]:
                raise ShapeError(f"fixed_point: fn made {_listed(new)} of {_listed(old)}; it must keep the form")
            step = max([_largest(b._data - a._data) for a, b in zip(old, new, strict=True)], default=0.0)
            size = max([_largest(b._data) for b in new], default=0.0)
            if not math.isfinite(step + size):
                raise ConvergenceError(
                    f"fixed_point: after {count} iterations x is not finite any more. The iteration converges where "
                    "|fn'| < 1; start there, or make fn's steps shorter"
                )
            old = new
            if step <= (1 + size) * (16 * np.finfo(_joined(new).dtype).eps if tolerance is None else tolerance):
                return unflatten(form, new)
        raise ConvergenceError(
            f"fixed_point: after {max_iterations} iterations the last step is still {step:.3g}. It converges "
            "where |fn'| < 1; there, start nearer, allow more iterations or a larger tolerance"
        )

    def residual(x: Any, *params: Any) -> Any:
        return tree_map(lambda new, old: new - old, fn(x, *params), x)

    return custom_root(residual, iterate)(*params)


class _Problem:
    """What is solved: the leaves of the params at `moving` are arguments of `_Root`, the others constants."""

    def __init__(self, residual: Callable[..., Any], solve: Callable[..., Any], tolerance: float, params: Any) -> None:
        leaves, self._structure = flatten(params)
        self._residual, self._solve, self._tolerance = residual, solve, tolerance
        self._moving = [i for i, leaf in enumerate(leaves) if _is_floating(leaf)]
        self.values = [leaves[i] for i in self._moving]
        self._constants = [None if i in self._moving else leaf for i, leaf in enumerate(leaves)]
        self._wanted = is_grad_enabled()
        self._form = LEAF
        self._shapes: list[tuple[int, ...]] = []

    def _params(self, values: Sequence[Tensor]) -> Any:
        leaves = list(self._constants)
        for i, value in zip(self._moving, values, strict=True):
            leaves[i] = value
        return unflatten(self._structure, leaves)

    def solve(self, values: Sequence[Tensor]) -> Tensor:
        """The x that the solver finds, as one vector."""
        with within(()):
            parts, self._form = flatten(self._solve(*self._params(values)))
        tensors = [asarray(part).detach() for part in parts]
        self._shapes = [t.shape for t in tensors]
        if not tensors or any(t.dtype.kind != "f" for t in tensors):
            raise DTypeError(f"custom_root: solve returned {_listed(tensors) or 'nothing'}; x is made of floats")
        return _joined(tensors)

    def in_form(self, x: Any) -> Any:
        """The vector `x` in the form that the solver returned."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes]).tolist()
        parts = [x] if len(ends) == 1 else [x[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        return unflatten(self._form, [reshape(part, s) for part, s in zip(parts, self._shapes, strict=True)])

    def residual(self, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """The residual at the vector `x`, as a vector."""
        with within(()):
            found, form = flatten(self._residual(self.in_form(x), *self._params(values)))
        tensors = [asarray(part) for part in found]
        if form != self._form or [t.shape for t in tensors] != self._shapes:
            raise ShapeError(
                f"custom_root: residual returned {_listed(tensors)}, where x has the shapes "
                f"{', '.join(map(str, self._shapes))}; there must be one equation for each unknown, in the form of x"
            )
        y = _joined(tensors)
        if isinstance(y, Batched):
            raise BatchError(
                run, "custom_root: inside vmap, what residual takes from the batch must be one of the params"
            )
        return y

    def jacobian_at(self, x: Tensor, values: Sequence[Tensor], needed: bool) -> Any:
        """The Jacobian of the residual by x where derivatives are `needed`; raises where they would be wrong."""
        if not self._wanted:
            return None
        with enable_grad():
            source = x.detach().requires_grad_()
            found = self.residual(source, values)
        nodes = graph.reachable([found._node]) if found._node is not None else []
        if any(isinstance(node, graph.Leaf) and node is not source._node for node in nodes):
            raise GraphError(
                "custom_root: residual uses a tensor from outside that requires a gradient, which would get none; make "
                "it one of the params"
            )
        if not needed:
            return None
        jacobian = _jacobian(found, source)
        far = _largest(_solve_linear(jacobian, found.detach())._data)
        if not far <= self._tolerance * (1 + _largest(x._data)):
            raise ConvergenceError(
                f"custom_root: solve returned an x that is no root of residual: Newton's method would move it by "
                f"{far:.3g}, so derivatives there would be wrong; let solve run longer, or allow a larger tolerance"
            )
        return jacobian


class _Root(Function):
    """From the params to the solution, as a vector."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        problem, *values = args
        values = [v.detach() for v in values]
        x = problem.solve(values)
        ctx.problem = problem
        ctx.jacobian = problem.jacobian_at(x, values, any(ctx.needs_input_grad))
        ctx.save_for_backward(x, *args[1:])
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        recorded = is_grad_enabled()
        with enable_grad():
            x, *values = (+t if t._node is not None else t.detach().requires_grad_() for t in ctx.saved_tensors)
            found = ctx.problem.residual(x, values)
        w = -_solve_linear((_jacobian(found, x) if recorded else ctx.jacobian).mT, grads[0])
        if found._node is None:
            return (None,) * (1 + len(values))
        return None, *gradients({found._node: w}, [v._node for v in values], create=recorded, free=False)


def _jacobian(y: Tensor, x: Tensor) -> Tensor:
    """The derivative of the vector `y` by the vector `x`, a source of its graph; recorded if that is on."""
    rows = None
    with new_level(y.size) as level:
        if y._node is not None:
            basis = Batched(wrap(np.eye(y.size, dtype=y.dtype), None), level)
            (rows,) = gradients({y._node: basis}, [x._node], create=True, free=False)
        jacobian: Tensor = wrap(np.zeros((y.size, x.size), x.dtype), None) if rows is None else lower(rows, level)
    return jacobian


def _solve_linear(a: Tensor, b: Tensor) -> Tensor:
    try:
        x: Tensor = solve(a, b)
    except ArgumentError:
        raise ArgumentError(
            "custom_root: the Jacobian of residual by x is singular at the solution, where x has no derivative"
        ) from None
    return x


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor | np.ndarray | np.generic) and leaf.dtype.kind == "f"


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    flat: list[Tensor] = [reshape(t, (-1,)) for t in tensors]
    joined: Tensor = flat[0] if len(flat) == 1 else concat(flat)
    return joined


def _largest(x: Any) -> float:
    return float(np.max(np.abs(x), initial=0.0))


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(describe, tensors))
