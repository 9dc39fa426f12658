"""Derivatives of functions as functions: `grad`, `value_and_grad`, `vjp`, `jvp`. They nest to any order.

Each runs the function on fresh inputs and walks the graph it recorded: backwards, or forwards. A walk is itself
recorded only if something outside (an enclosing transform, a parameter that requires a gradient) could want to
differentiate it. Tangents and cotangents belong to one walk, never to a tensor, so nested transforms cannot mix up
whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import graph
from ._types import ArrayLike
from .errors import ArgumentError, DTypeError, describe
from .graph import Leaf, Node
from .modes import enable_grad, is_grad_enabled
from .registry import OPS
from .tensor import Tensor, asarray, recorded, seed, wrap
from .transforms import gradients
from .tree import LEAF, flatten, unflatten

__all__ = ["grad", "jvp", "value_and_grad", "vjp"]


def grad(fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `fn` by the argument at `argnums` (a tuple of gradients for a tuple).

    The argument is a Tensor or an array, or a list, tuple or dict of them, nested as you like; the gradient has its
    form. `fn` returns a single element; with `has_aux` (value, anything), and the result is (gradient, anything).

    >>> import tinygrad_nn as tg
    >>> tg.func.grad(tg.func.grad(lambda x: x**3))(2.0)
    tensor(12.)
    >>> tg.func.grad(lambda p: p["a"] * p["b"])({"a": tg.tensor(2.0), "b": tg.tensor(5.0)})
    {'a': tensor(5.), 'b': tensor(2.)}
    """
    both = value_and_grad(fn, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """As `grad`, but the function returns (value, gradient), with `has_aux` ((value, anything), gradient).

    >>> import tinygrad_nn as tg
    >>> tg.func.value_and_grad(lambda x: x * x)(3.0)
    (tensor(9.), tensor(6.))
    """
    chosen = (argnums,) if isinstance(argnums, int) else argnums

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if any(not -len(args) <= i < len(args) for i in chosen):
            raise ArgumentError(f"grad: argnums {argnums} for {len(args)} arguments")
        traced = {i: _Traced(args[i]) for i in chosen}
        sources = [s for i in chosen for s in traced[i].sources]
        inputs = list(args)
        for i in chosen:
            inputs[i] = traced[i].tree
        with enable_grad():
            result = fn(*inputs, **kwargs)
        value, aux = result if has_aux else (result, None)
        if not isinstance(value, Tensor) or value.size != 1:
            raise ArgumentError(f"grad: the function must return one number as a Tensor, not {describe(value)}")
        found = _in_form([traced[i] for i in chosen], _pull(value, None, sources))
        value = _leave(value, sources)
        return (value, aux) if has_aux else value, found[0] if isinstance(argnums, int) else found

    return both


def vjp(fn: Callable[..., Tensor], *primals: Any) -> tuple[Tensor, Callable[[ArrayLike], tuple[Any, ...]]]:
    """The value of `fn` at `primals`, and the function from a cotangent to the cotangents of the arguments.

    Arguments may be nested lists, tuples and dicts of arrays, as for `grad`.

    >>> import tinygrad_nn as tg
    >>> y, pull = tg.func.vjp(lambda x: x * x, tg.tensor([1.0, 2.0]))
    >>> pull(tg.tensor([1.0, 10.0]))
    (tensor([ 2., 40.]),)
    """
    traced = [_Traced(p) for p in primals]
    sources = [s for t in traced for s in t.sources]
    with enable_grad():
        value = _one_tensor("vjp", fn(*(t.tree for t in traced)))

    def pull_back(cotangent: ArrayLike) -> tuple[Any, ...]:
        return _in_form(traced, _pull(value, cotangent, sources))

    return _leave(value, sources), pull_back


def jvp(fn: Callable[..., Tensor], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """The value of `fn` at `primals`, and its derivative in the direction `tangents`, of the same form.

    Arguments may be nested lists, tuples and dicts of arrays, as for `grad`.

    >>> import tinygrad_nn as tg
    >>> tg.func.jvp(lambda x: x**3, (2.0,), (1.0,))
    (tensor(8.), tensor(12.))
    """
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        raise ArgumentError(
            f"jvp: primals and tangents are tuples with one entry per argument, such as (x,), not {describe(primals)} "
            f"and {describe(tangents)}"
        )
    if len(primals) != len(tangents):
        raise ArgumentError(f"jvp: {len(primals)} primals but {len(tangents)} tangents")
    traced = [_Traced(p) for p in primals]
    sources = [s for t in traced for s in t.sources]
    moves = [asarray(m) for t, tangent in zip(traced, tangents, strict=True) for m in t.leaves_of(tangent)]
    for s, m in zip(sources, moves, strict=True):
        if s.shape != m.shape:
            raise ArgumentError(f"jvp: tangent {describe(m)} for primal {describe(s)}")
    with enable_grad():
        value = _one_tensor("jvp", fn(*(t.tree for t in traced)))
    return _leave(value, sources), _push(value, sources, moves)


class _Traced:
    """An argument as a trace sees it: the same tree, with fresh tensors (`sources`) for its leaves."""

    def __init__(self, argument: Any) -> None:
        leaves, structure = flatten(argument)
        # A list of plain numbers is an array, a list of arrays a tree.
        if isinstance(argument, list | tuple) and not any(hasattr(leaf, "dtype") for leaf in leaves):
            leaves, structure = [argument], LEAF
        self.structure = structure
        self.sources = [_fresh(leaf) for leaf in leaves]
        self.tree = unflatten(structure, self.sources)

    def leaves_of(self, tangent: Any) -> list[Any]:
        """The leaves of a tangent, which must have the form of the argument."""
        if self.structure is LEAF:
            return [tangent]
        leaves, structure = flatten(tangent)
        if structure != self.structure:
            raise ArgumentError(f"jvp: the tangent {tangent!r:.200} has not the form of its primal")
        return leaves


def _in_form(traced: Sequence[_Traced], found: Sequence[Tensor]) -> tuple[Any, ...]:
    """The gradients of all sources, each argument's in its own form."""
    rest = iter(found)
    return tuple(unflatten(t.structure, [next(rest) for _ in t.sources]) for t in traced)


def _fresh(x: ArrayLike) -> Tensor:
    """A tensor that stands for `x` in one trace only, linked to the history of `x` if it has one."""
    t = asarray(x)
    if t.dtype.kind != "f":
        raise DTypeError(f"cannot differentiate by {describe(t)}: only floating dtypes have derivatives")
    if t._node is None or not is_grad_enabled():
        return wrap(t._data, Leaf(t.shape, t.dtype))
    return wrap(t._data, Node(OPS["positive"], (t._node,), (None, None), {}, t.shape, t.dtype))


def _one_tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ArgumentError(f"{name}: the function must return a Tensor, not {describe(value)}")
    return value


def _observed(nodes: Sequence[Any], sources: Sequence[Tensor]) -> bool:
    """Whether someone outside the trace could differentiate a walk over these nodes."""
    ours = {s._node for s in sources}
    return is_grad_enabled() and any(isinstance(n, Leaf) and n not in ours for n in nodes)


def _leave(value: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """The result of a trace as the caller sees it: with the history that it has outside the trace, if any."""
    if value._node is None or _observed(graph.reachable((value._node,)), sources):
        return value
    return value.detach()


def _pull(value: Tensor, cotangent: ArrayLike | None, sources: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if value._node is None:
        return tuple(wrap(np.zeros(s.shape, s.dtype), None) for s in sources)
    start = seed(value, cotangent)
    create = isinstance(start, Tensor) or _observed(graph.reachable((value._node,)), sources)
    found = gradients({value._node: start}, [s._node for s in sources], create=create, free=False)
    return tuple(
        wrap(np.zeros(s.shape, s.dtype), None) if g is None else g for s, g in zip(sources, found, strict=True)
    )


def _push(value: Tensor, sources: Sequence[Tensor], moves: Sequence[Tensor]) -> Tensor:
    zero = wrap(np.zeros(value.shape, value.dtype), None)
    if value._node is None:
        return zero
    nodes = graph.reachable((value._node,))
    create = is_grad_enabled() and (any(t._node is not None for t in moves) or _observed(nodes, sources))
    tangents: dict[Any, Any] = {}
    for s, t in zip(sources, moves, strict=True):
        tangents[s._node] = _fit(t if create else t._data, s._node)
    graph.forward(nodes, tangents, unpack=recorded if create else _as_saved, fit=_fit)
    found = tangents.get(value._node, zero)
    return found if isinstance(found, Tensor) else wrap(found, None)


def _as_saved(node: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    assert node.saved is not None
    return node.saved, node.params


def _fit(t: Any, node: Any) -> Any:
    """A tangent broadcast to the shape of its node, in its dtype."""
    if t.shape != node.shape:
        t = OPS["broadcast_to"].call(t, shape=node.shape)
    return t if t.dtype == node.dtype else OPS["astype"].call(t, dtype=node.dtype)
