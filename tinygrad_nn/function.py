"""`Function`: operations with a backward of the user's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import graph
from .errors import ArgumentError, GraphError, ShapeError, describe
from .graph import Node
from .modes import enable_grad, is_grad_enabled, no_grad
from .ops.shape import concat, reshape
from .registry import Each, Op
from .tensor import Tensor, asarray, wrap


class FunctionContext:
    """What the forward of a `Function` leaves for its backward: `save_for_backward`, and any attribute."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Tensor | None, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, results or intermediate tensors until backward has run."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`."""
        return self._saved


class Function:
    """An operation with a backward of your own: subclass it, write `forward` and `backward`, call `apply`.

    `forward(ctx, *args)` computes with Tensors (nothing is recorded) and returns a Tensor or a tuple of them;
    `backward(ctx, *grads)` gets one gradient per result and returns one per argument of `forward` (None where there is
    none). Written with this package's functions, `backward` can itself be differentiated.

    >>> import tinygrad_nn as tg
    >>> class Cube(tg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * grad * x * x
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    @staticmethod
    def forward(ctx: FunctionContext, *args: Any) -> Any:
        """Compute the result; override this."""
        raise NotImplementedError("a Function must define forward(ctx, *args), as a staticmethod")

    @staticmethod
    def backward(ctx: FunctionContext, *grads: Tensor) -> Any:
        """Compute the gradients of the arguments from those of the results; override this."""
        raise NotImplementedError("a Function must define backward(ctx, *grads), as a staticmethod")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run `forward` on `args`, and record it if one of them requires a gradient."""
        parents = tuple(a._node if isinstance(a, Tensor) else None for a in args)
        ctx = FunctionContext(tuple(p is not None for p in parents))
        with no_grad():
            result = cls.forward(ctx, *args)
        outputs = result if isinstance(result, tuple) else (result,)
        for y in outputs:
            if not isinstance(y, Tensor):
                raise ArgumentError(
                    f"{cls.__name__}.forward must return Tensors, not {describe(y)}; return tg.asarray(result), and "
                    "call apply with Tensors"
                )
        if not any(ctx.needs_input_grad) or not is_grad_enabled():
            return result
        floating = [y.dtype.kind in "fc" for y in outputs]
        if not any(floating):
            return result
        # The saved results must not refer to the node (a cycle), so they are looked up by position.
        positions = {id(y): i for i, y in enumerate(outputs)}
        kept = tuple(positions.get(id(t), t) for t in ctx._saved)
        ctx._saved = ()
        joined = outputs[0] if len(outputs) == 1 else concat([reshape(y.detach(), (-1,)) for y in outputs])
        specs = [(y.shape, y.dtype) for y in outputs]
        op = Op(cls.__name__, "general", cls.forward, Each(_backward_of(cls, ctx, kept, specs)), Each(_no_tangent(cls)))
        saved = (joined._data, *parents)
        whole = wrap(joined._data, Node(op, parents, saved, {}, joined.shape, joined.dtype))
        if len(outputs) == 1:
            return whole
        pieces = _pieces(whole, specs)  # positions and the like carry no gradient
        return tuple(p if f else y.detach() for y, p, f in zip(outputs, pieces, floating, strict=True))


def _pieces(whole: Tensor, specs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> list[Tensor]:
    """The results of a function with several, cut from their concatenation."""
    cuts = np.cumsum([0, *(math.prod(shape) for shape, _ in specs)]).tolist()
    return [asarray(reshape(whole[a:b], s), dtype) for a, b, (s, dtype) in zip(cuts, cuts[1:], specs, strict=False)]


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether arrays of `shape` stretch to `target`."""
    last = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(shape, last, strict=True))


def _no_tangent(cls: type[Function]) -> Any:
    def rule(_i: int, _t: Any, _y: Any, *_args: Any) -> Any:
        raise GraphError(f"{cls.__name__} is a Function: it has a backward but no forward-mode rule; use vjp or grad")

    return rule


def _backward_of(
    cls: type[Function],
    ctx: FunctionContext,
    kept: tuple[Any, ...],
    specs: list[tuple[tuple[int, ...], np.dtype[Any]]],
) -> Any:
    """The rule of one application: all gradients are computed at the first argument asked for, then handed out."""
    latest: list[Any] = [None, (), -1]
    made = graph.next_order()

    def rule(i: int, g: Any, y: Any, *_args: Any) -> Any:
        if latest[0] is not g or i <= latest[2]:
            recording = isinstance(g, Tensor)
            grad_tensor, whole = (g, y) if recording else (wrap(g, None), wrap(y, None))
            many = len(specs) > 1
            results = _pieces(whole, specs) if many else [whole]
            for k in kept:
                if isinstance(k, Tensor):
                    graph.writes.refuse(k._data, made, cls.__name__, "a tensor saved for it")
            ctx._saved = tuple(results[k] if isinstance(k, int) else k for k in kept)
            with enable_grad() if recording else no_grad():
                found = cls.backward(ctx, *(_pieces(grad_tensor, specs) if many else [grad_tensor]))
            ctx._saved = ()
            found = found if isinstance(found, tuple) else (found,)
            if len(found) != len(ctx.needs_input_grad):
                raise ArgumentError(
                    f"{cls.__name__}.backward returned {len(found)} gradients for {len(ctx.needs_input_grad)} arguments"
                )
            latest[:2] = g, found
        latest[2] = i
        found = latest[1][i]
        parent = _args[i]
        found = wrap(np.zeros(parent.shape, parent.dtype), None) if found is None else asarray(found)
        if found.shape != parent.shape and not _broadcasts(parent.shape, found.shape):
            raise ShapeError(
                f"{cls.__name__}.backward returned {describe(found)} as the gradient of argument {i}, whose shape is "
                f"{parent.shape}"
            )
        if i == max(j for j, needed in enumerate(ctx.needs_input_grad) if needed):
            latest[:] = None, (), -1
        # Without a recording, a view: the walk must not add into an array that is saved, or returned for two arguments.
        return found if isinstance(g, Tensor) else found._data[...]

    return rule
