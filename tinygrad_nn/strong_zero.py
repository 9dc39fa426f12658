"""Exact zeros in gradients: what a selection did not take stays 0 behind any slope.

`where(x > 0, sqrt(x), x)` at -1 sends the cotangent 0 to the root, whose slope is NaN there, and 0 · NaN is NaN. But
that 0 says "not used", so the gradient is 0 whatever the slope. The walks therefore know which cotangents are *loose*:
they come from an operation that selects (`where`, indexing, `maximum`, ...), or from an infinite slope (`sqrt` at 0).
What a rule makes of a loose cotangent is looked at, and where it is NaN, products of 0 and something infinite or NaN
are replaced by 0. All other cotangents cost one test of an empty dict.

In forward mode a tangent of 0 says "does not move", and what an operation did not use may be anything.

Only NaNs are replaced, so a cotangent that is 0 by accident still has its own derivative. The repair runs on arrays
or, when the walk is recorded, on Tensors; it looks at values, so it is a constant to later derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from . import graph
from .errors import BatchError
from .graph import AnyNode, Fit, Node, Unpack
from .modes import inspected_walk
from .registry import INFINITE, OPS, UNUSED, Op, Rule, reads

WATCHED = 8  # beside what a cotangent holds: what a rule makes of it may be infinite
_ARRAYS = (np.ndarray, np.generic)


class Careful:
    """The careful part of one reverse walk: which nodes have a loose cotangent, and what their rules make of it."""

    __slots__ = ("loose", "_quiet")

    def __init__(self, seeds: dict[AnyNode, Any]) -> None:
        # zeros among given cotangents (the rows of a Jacobian, say) ask for nothing of these elements
        self.loose: dict[AnyNode, int] = {}
        for node, g in seeds.items():
            if g.shape and has_zero(values(g)):
                self.loose[node] = UNUSED
        self._quiet: Any = None

    def enter(self, op: Op, known: int, saved: tuple[Any, ...]) -> int:
        """The walk has come to `op` with a cotangent of which this is known. What to look out for, or 0."""
        care = known & op.looks
        if care and self._quiet is None:  # once for the rest of the walk: it takes as long as a small rule
            self._quiet = np.errstate(invalid="ignore")
            self._quiet.__enter__()
        return care | WATCHED if op.singular is not None and op.singular(*saved) else care

    def mend(
        self, care: int, node: Node, i: int, g: Any, pulled: Any, saved: tuple[Any, ...], params: dict[str, Any]
    ) -> Any:
        """`pulled`, the cotangent of argument i that a rule made of `g`, repaired; notes if it is infinite."""
        op = node.op
        if care & op.looks and has_nan(pulled):
            weak = _call("isinf", g) if care & INFINITE else None
            pulled = _repaired(op, i, op.vjps[i], g, weak, pulled, saved, params)
        if care & WATCHED and has_infinity(pulled):
            parent = node.parents[i]
            if parent is not None:
                self.loose[parent] = self.loose.get(parent, 0) | INFINITE
        return pulled

    def close(self) -> None:
        """The walk is over: NumPy warns again."""
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)


def forward(
    nodes: Sequence[AnyNode], tangents: dict[AnyNode, Any], ends: Iterable[AnyNode | None], *, unpack: Unpack, fit: Fit
) -> None:
    """`graph.forward`; if the tangent of one of `ends` then holds a NaN, once more with what rules give repaired."""
    starts = dict(tangents)
    walk = inspected_walk("pushed", (), unpack)
    with np.errstate(invalid="ignore"):
        if walk is not None:  # whoever looks at each step is shown the right ones only
            with walk:
                graph.forward(nodes, tangents, unpack=walk.unpack, fit=fit, push=push, inspect=walk.inspect)
                walk.ends({node: tangents[node] for node in ends if node is not None and node in tangents})
            return
        graph.forward(nodes, tangents, unpack=unpack, fit=fit)
        if any(has_nan(tangents[node]) for node in ends if node in tangents):
            tangents.clear()
            tangents.update(starts)
            graph.forward(nodes, tangents, unpack=unpack, fit=fit, push=push)


def push(op: Op, i: int, t: Any, saved: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """The rule by argument i on the tangent `t`, repaired: 0 where `t` is 0, or where the operation does not use it."""
    rule = op.jvps[i]
    pushed = rule(t, *saved, **params)
    if op.kind == "elementwise" and has_nan(pushed):  # other operations that select do so in their rules
        weak = _call("logical_not", _call("isfinite", t)) if op.selects else None
        pushed = _repaired(op, i, rule, t, weak, pushed, saved, params)
    return pushed


def has_zero(data: Any) -> bool:
    """Whether an array holds a 0: of a small one `count_nonzero` says so five times sooner than `all`."""
    return np.count_nonzero(data) < data.size if data.size < 2000 else not data.all()


def has_nan(x: Any) -> bool:
    """Whether a cotangent holds a NaN: `argmax` stops at one, makes no temporary, and raises no warning."""
    data = values(x)
    if not data.ndim:
        return bool(data != data)
    if not data.size:
        return False
    top = data.item(data.argmax())
    return bool(top != top)


def has_infinity(x: Any) -> bool:
    """Whether a cotangent holds an infinity (or a NaN, which counts as larger and smaller than all)."""
    data = values(x)
    return data.size > 0 and not (data.item(data.argmax()) < math.inf and data.item(data.argmin()) > -math.inf)


def values(x: Any) -> Any:
    """The array of a Tensor (inside vmap: of the whole batch), or an array itself."""
    if isinstance(x, _ARRAYS):
        return x
    while hasattr(x, "full"):  # inside vmap, where asking for the array raises an error
        x = x.full
    return getattr(x, "_data", x)


def _repaired(
    op: Op, i: int, rule: Rule, g: Any, weak: Any, pulled: Any, saved: tuple[Any, ...], params: dict[str, Any]
) -> Any:
    """`pulled` with 0 for each NaN where `g` is 0; where it is `weak`, also if the slope is 0."""
    with np.errstate(all="ignore"):
        if op.products:
            return _repaired_sums(i, rule, g, pulled, saved, params)
        zero = _call("equal", g, 0.0)
        if op.silent is not None:
            zero = op.silent(zero, **params)
        elif weak is not None:
            zero = zero | (weak & _call("equal", rule(_ones(g), *saved, **params), 0.0))
        return _where(_call("isnan", pulled) & zero, 0.0, pulled)


def _repaired_sums(i: int, rule: Rule, g: Any, pulled: Any, saved: tuple[Any, ...], params: Any) -> Any:
    """As `_repaired`, where each element of the result is a sum of products: of elements of `g` and of the arguments.

    Which sums have a product that is truly infinite or NaN the rule itself says, given 1 for each factor that makes
    it so and 1 for each that is not 0.
    """
    y, *args = saved
    read = [k for k, used in enumerate(reads(rule, len(args))[1:]) if used and k != i]

    def on(cotangent: Any, changed: dict[int, Any]) -> Any:
        return rule(cotangent, y, *(changed.get(k, a) for k, a in enumerate(args)), **params)

    ones = {k: _ones(args[k]) for k in read}
    count = on(_count(_call("isnan", g)), ones)
    count = count + on(_count(_call("isinf", g)), {k: _count(_call("not_equal", args[k], 0.0)) for k in read})
    for k in read:
        beyond = _count(_call("logical_not", _call("isfinite", args[k])))
        count = count + on(_count(_call("not_equal", g, 0.0)), {**ones, k: beyond})
    rest = on(_finite(g), {k: _finite(args[k]) for k in read})
    return _where(_call("isnan", pulled) & _call("equal", count, 0.0), rest, pulled)


def _call(name: str, *args: Any) -> Any:
    return OPS[name].call(*args)


def _where(condition: Any, a: Any, b: Any) -> Any:
    with suppress(BatchError):  # the rule for batches takes it as it is
        condition = getattr(condition, "_data", condition)
    return OPS["where"].call(a, b, condition=condition)


def _finite(x: Any) -> Any:
    return _where(_call("isfinite", x), x, 0.0)


def _count(condition: Any) -> Any:
    return _where(condition, 1.0, 0.0)


def _ones(x: Any) -> Any:
    return _where(_call("isnan", x), 1.0, 1.0)
