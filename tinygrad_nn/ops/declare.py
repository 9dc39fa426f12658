"""`elementwise`, `linear`, `general`, `constant`: declare an operation and get its public function.

The function is generic: a Tensor among the arguments makes the result a Tensor (recorded if one wants a gradient);
without any, it is the plain NumPy computation. Elementwise operations run most often, so their function is `apply`
written out for one or two arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..domains import Domain, Reals
from ..errors import ArgumentError, BatchError, FloatFlag
from ..graph import Node, next_order
from ..modes import is_grad_enabled, notify, recording
from ..registry import Each, Op, Rule, register
from ..tensor import PLAIN, Tensor, apply, constant, refused
from ..views import foreign, guard
from . import batching

_NO_PARAMS: dict[str, Any] = {}
_new = object.__new__
ndarray = np.ndarray


def elementwise(
    name: str,
    forward: Callable[..., Any],
    rules: Sequence[Rule],
    *,
    domain: Sequence[Domain] | None = None,
    params: bool = False,
    **facts: Any,
) -> Any:
    """Declare an operation that acts element by element: `rules[i](t, y, *args)` is t · ∂y/∂argument i.

    With `params` the forward and the rules take keyword parameters as well.
    """
    domain = tuple(domain) if domain is not None else (Reals(),) * len(rules)
    if len(domain) != len(rules):
        raise ArgumentError(f"{name}: {len(rules)} rules but {len(domain)} domains; one of each for every argument")
    facts.setdefault("batch", batching.aligned)
    op = Op(name, "elementwise", forward, tuple(rules), tuple(rules), domain=domain, **facts)
    if params or len(rules) > 2:
        return publish(op, partial(apply, op))
    return publish(op, _unary(op) if len(rules) == 1 else _binary(op))


def linear(
    name: str, forward: Callable[..., Any], transposes: Sequence[Rule] | Each, *, joint: bool = False, **facts: Any
) -> Any:
    """Declare an operation linear in each argument, or with `joint` in all together; its jvp is the forward itself."""
    variadic = joint and isinstance(transposes, Each)
    op = Op(name, "linear", forward, transposes, joint=joint, variadic=variadic, analytic=True, **facts)

    def push(i: int, t: Any, _y: Any, *args: Any, **params: Any) -> Any:
        if joint:
            args = tuple(_zeros_for(a) for a in args)
        return apply(op, *args[:i], t, *args[i + 1 :], **params)

    def together(tangents: dict[int, Any], *args: Any, **params: Any) -> Any:
        return apply(op, *(tangents[i] if i in tangents else _zeros_for(a) for i, a in enumerate(args)), **params)

    op.jvps = Each(push)
    op.together = together if variadic else None
    return publish(op, partial(apply, op))


def general(
    name: str, forward: Callable[..., Any], vjps: Sequence[Rule] | Each, jvps: Sequence[Rule] | Each, **facts: Any
) -> Any:
    """Declare an operation whose cotangent rules and tangent rules are both written out."""
    op = Op(name, "general", forward, vjps, jvps, **facts)
    return publish(op, partial(apply, op))


def nondifferentiable(name: str, forward: Callable[..., Any], **facts: Any) -> Any:
    """Declare an operation without derivative: comparisons, positions, tests. Its results carry no history."""
    facts.setdefault("batch", batching.aligned)  # most act element by element
    op = Op(name, "constant", forward, **facts)

    def call(*args: Any, **params: Any) -> Any:  # not a `partial`: comparisons become methods of Tensor
        return apply(op, *args, **params)

    return publish(op, call)


def publish(op: Op, call: Callable[..., Any]) -> Callable[..., Any]:
    """Register `op`, with `call` as its public function; returns `call`."""
    op.call = call
    call.__name__ = call.__qualname__ = op.name
    if op.formula:
        call.__doc__ = (
            f"{op.formula}, element by element; arguments broadcast." if op.kind == "elementwise" else op.formula
        )
        if op.ties:
            call.__doc__ += f" At a kink or tie: {op.ties}."
    register(op)
    return call


def _zeros_for(arg: Any) -> Any:
    return np.zeros(arg.shape, arg.dtype)


# The two functions below are the hot path of every network: what `wrap` and `apply` do is written out in them.


def _unary(op: Op) -> Callable[..., Any]:
    forward = op.forward
    keep_y, unread = op.keeps(1, 1)
    keep_x = not unread

    def call(x: Any) -> Any:
        try:
            if not isinstance(x, Tensor):
                return forward(constant(x, op.name))
            a, node = x._data, x._node
            y = forward(a)
        except BatchError as batch:
            return batch.run(op, (x,), {})
        except FloatFlag as flag:
            if not isinstance(x, Tensor):
                raise
            y = flag.settle(op, (x,), _NO_PARAMS, node is not None and is_grad_enabled())
        except (TypeError, ValueError, OverflowError) as error:
            raise refused(op, (x,), error) from None
        out = _new(Tensor)
        out._data = y
        out._sharing = None
        if node is None or not (mode := recording()):
            out._node = None
            return out
        out._node = made = Node()
        made.order = next_order()
        made.op = op
        made.parents = (node,)
        made.saved = (y if keep_y else None, a if keep_x else None)
        made.params = _NO_PARAMS
        made.shape = y.shape
        made.dtype = y.dtype
        made.watch = None
        if keep_x and node.open:
            guard(made, 1)
        if mode is not True:
            notify(mode, op, (x,), _NO_PARAMS, out)
        return out

    return call


def _binary(op: Op) -> Callable[..., Any]:
    forward, plain = op.forward, op.twin or op.forward
    keeps = []  # of (result, first, second), if a gradient is wanted by the first (1), the second (2), both (3)
    for mask in range(4):
        keep_z, unread = op.keeps(mask, 2)
        keeps.append((keep_z, 0 not in unread, 1 not in unread))
    keeps_nothing = not any(keeps[3])
    nothing = (None, None, None)

    def call(a: Any, b: Any) -> Any:
        try:
            if isinstance(a, Tensor):
                x, node_a = a._data, a._node
                if isinstance(b, Tensor):
                    y, node_b = b._data, b._node
                else:
                    y, node_b = b if isinstance(b, PLAIN) else constant(b, op.name), None
            elif isinstance(b, Tensor):
                x, node_a = constant(a, op.name), None
                y, node_b = b._data, b._node
            else:
                return plain(constant(a, op.name), constant(b, op.name))
            z = forward(x, y)
        except BatchError as batch:
            return batch.run(op, (a, b), {})
        except FloatFlag as flag:
            if not (isinstance(a, Tensor) or isinstance(b, Tensor)):
                raise
            tracked = node_a is not None or node_b is not None
            z = flag.settle(op, (a, b), _NO_PARAMS, tracked and is_grad_enabled())
        except (TypeError, ValueError, OverflowError) as error:
            raise refused(op, (a, b), error) from None
        out = _new(Tensor)
        out._data = z
        out._sharing = None
        if (node_a is None and node_b is None) or not (mode := recording()):
            out._node = None
            return out
        out._node = node = Node()
        node.order = next_order()
        node.op = op
        node.parents = (node_a, node_b)
        node.params = _NO_PARAMS
        node.shape = z.shape
        node.dtype = z.dtype
        node.watch = None
        if keeps_nothing:
            node.saved = nothing
        else:
            if node_b is None:
                keep_z, keep_x, keep_y = keeps[1]
                outside = node_a.open  # type: ignore[union-attr]
                if keep_y and isinstance(y, ndarray) and foreign(b):
                    outside |= 2
            elif node_a is None:
                keep_z, keep_x, keep_y = keeps[2]
                outside = 2 * node_b.open
                if keep_x and isinstance(x, ndarray) and foreign(a):
                    outside |= 1
            else:
                keep_z, keep_x, keep_y = keeps[3]
                outside = node_a.open + 2 * node_b.open
            node.saved = (z if keep_z else None, x if keep_x else None, y if keep_y else None)
            if outside:
                guard(node, outside)
        if mode is not True:
            notify(mode, op, (a, b), _NO_PARAMS, out)
        return out

    return call
