"""Exact zeros in gradients: what a selection did not take stays 0 behind any slope.

`where(x > 0, sqrt(x), x)` at -1 sends the cotangent 0 to the root, whose slope is NaN there, and 0 · NaN is NaN. But
that 0 says "not used", so the gradient is 0 whatever the slope. The walks therefore know which cotangents are *loose*:
they come from an operation that selects (`where`, indexing, `maximum`, ...), or from an infinite slope (`sqrt` at 0).
What a rule makes of a loose cotangent is looked at, and where it is NaN, products of 0 and something infinite or NaN
are replaced by 0. All other cotangents cost one test of an empty dict.

Only NaNs are replaced, so a cotangent that is 0 by accident still has its own derivative. The repair runs on arrays
or, when the walk is recorded, on Tensors; it looks at values, so it is a constant to later derivatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import graph
from .errors import BatchError
from .graph import AnyNode, Fit, Node, Unpack
from .modes import walk_inspector
from .registry import OPS, Op, Rule, reads

ZEROS, INFINITE = 1, 2  # what a loose cotangent may hold


class Careful:
    """The careful part of one reverse walk: which nodes have a loose cotangent, and their rules."""

    __slots__ = ("loose", "_quiet")

    def __init__(self) -> None:
        self.loose: dict[AnyNode, int] = {}
        self._quiet: Any = None

    def pull(
        self,
        node: Node,
        i: int,
        rule: Rule,
        g: Any,
        saved: tuple[Any, ...],
        params: dict[str, Any],
    ) -> Any:
        """`rule` on the cotangent `g` of `node`, repaired; notes what the cotangent of argument i may hold."""
        op, loose = node.op, self.loose
        known = loose.get(node, 0)
        if known and self._quiet is None:  # once for the rest of the walk: for every rule it would take as long as one
            self._quiet = np.errstate(invalid="ignore")
            self._quiet.__enter__()
        pulled = rule(g, *saved, **params)
        if known > op.sure and has_nan(pulled):
            pulled = _repaired(op, i, rule, g, pulled, saved, params)
        if op.selects:
            known |= ZEROS
        if op.singular and has_infinity(pulled):
            known |= INFINITE
        if known:
            parent = node.parents[i]
            loose[parent] = loose.get(parent, 0) | known
        return pulled

    def close(self) -> None:
        """The walk is over: NumPy warns again."""
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)


def forward(
    nodes: Sequence[AnyNode], tangents: dict[AnyNode, Any], ends: Iterable[AnyNode | None], *, unpack: Unpack, fit: Fit
) -> None:
    """`graph.forward`; if the tangent of one of `ends` then holds a NaN, once more with every rule's result repaired."""
    inspect = walk_inspector("pushed")
    starts = dict(tangents)
    with np.errstate(invalid="ignore"):
        if inspect is None:  # whoever looks at each step is shown the right ones only
            graph.forward(nodes, tangents, unpack=unpack, fit=fit)
            if not any(has_nan(tangents[node]) for node in ends if node in tangents):
                return
            tangents.clear()
            tangents.update(starts)
        graph.forward(nodes, tangents, unpack=unpack, fit=fit, push=push, inspect=inspect)


def push(op: Op, i: int, t: Any, saved: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """The rule by argument i on the tangent `t`, with products of 0 and something infinite or NaN replaced by 0."""
    rule = op.jvps[i]
    pushed = rule(t, *saved, **params)
    repairable = op.products or op.kind == "elementwise"  # others add up: rules that could meet NaN select
    return _repaired(op, i, rule, t, pushed, saved, params) if repairable and has_nan(pushed) else pushed


def has_nan(x: Any) -> bool:
    """Whether a cotangent holds a NaN: `argmax` stops at one, makes no temporary, and raises no warning."""
    data = values(x)
    if not data.size:
        return False
    top = data.item(data.argmax())
    return bool(top != top)


def has_infinity(x: Any) -> bool:
    """Whether a cotangent holds an infinity."""
    data = values(x)
    return bool(data.size) and not np.isfinite(data).all()


def values(x: Any) -> Any:
    """The array of a Tensor (inside vmap: of the whole batch), or an array itself."""
    try:
        return getattr(x, "_data", x)
    except BatchError:
        return values(x.full)


def _repaired(op: Op, i: int, rule: Rule, g: Any, pulled: Any, saved: tuple[Any, ...], params: Any) -> Any:
    """`pulled` with 0 for each NaN that is nothing but products of 0 and something infinite or NaN."""
    with np.errstate(all="ignore"):
        if op.products:
            return _repaired_sums(i, rule, g, pulled, saved, params)
        zero = _call("equal", g, 0.0)
        if op.silent is not None:
            zero = op.silent(zero, **params)
        elif np.isinf(values(g)).any():
            slope = rule(_ones(g), *saved, **params)
            zero = zero | (_call("isinf", g) & _call("equal", slope, 0.0))
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
    try:
        condition = getattr(condition, "_data", condition)
    except BatchError:
        pass  # the rule for batches takes it as it is
    return OPS["where"].call(a, b, condition=condition)


def _finite(x: Any) -> Any:
    return _where(_call("isfinite", x), x, 0.0)


def _count(condition: Any) -> Any:
    return _where(condition, 1.0, 0.0)


def _ones(x: Any) -> Any:
    return _where(_call("isnan", x), 1.0, 1.0)
