"""`memory`: who keeps which arrays alive, asked of the garbage collector when someone wants to know."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .errors import BatchError
from .function import FunctionContext
from .graph import Leaf, Node
from .lines import Line
from .tensor import Tensor
from .writes import owner

Keeper = Literal["graph", "guard", "leaf", "gradient", "tensor"]
NAMES: dict[Keeper, str] = {
    "guard": "copies that show writes",
    "leaf": "tensors that require gradients",
    "gradient": "gradients",
    "tensor": "other tensors",
}


@dataclass
class KeptMemory:
    """The arrays that one line of a program keeps alive, or that tensors of one kind do.

    `keeper` is `"graph"` for what an operation saved for backward, `"leaf"` for tensors that require a gradient, such
    as parameters, `"gradient"` for their gradients, `"tensor"` for other tensors, `"guard"` for the copies of arrays by
    which backward notices writes of NumPy code. `operation` and `line` are given for `"graph"`; the line is "" unless
    it was recorded, as `record_lines` and `detect_anomaly` do.
    """

    keeper: Keeper
    operation: str
    line: str
    nbytes: int = 0
    arrays: list[tuple[str, tuple[int, ...], np.dtype[Any]]] = field(default_factory=list)  # what it is, shape, dtype


class MemoryReport:
    """What `memory` found: `entries`, the largest first, and their sums. As text, a table."""

    def __init__(self, entries: list[KeptMemory]) -> None:
        self.entries = entries

    @property
    def total(self) -> int:
        """The bytes of all arrays."""
        return sum(e.nbytes for e in self.entries)

    @property
    def graph(self) -> int:
        """The bytes that operations saved for backward, and that it frees (as far as nothing else holds them)."""
        return sum(e.nbytes for e in self.entries if e.keeper == "graph")

    def __str__(self) -> str:
        rows = [(_size(e.nbytes), str(len(e.arrays)), _title(e), _contents(e)) for e in self.entries]
        rows = [("bytes", "arrays", "kept by", "what"), *rows]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{b:>{widths[0]}}  {n:>{widths[1]}}  {who:<{widths[2]}}  {what}" for b, n, who, what in rows]
        return "\n".join([*lines, f"{_size(self.total)} in all, {_size(self.graph)} for backward"])

    __repr__ = __str__


def memory() -> MemoryReport:
    """Which arrays are alive because of tensors and graphs, and what keeps them. Garbage is collected first.

    Recorded operations are grouped by name and line; lines are known where the forward pass ran under
    `record_lines()` or `detect_anomaly()`. Memory that several keep is counted once: for a leaf before a gradient,
    then for the oldest operation that keeps it, then for another tensor. A view counts with the whole array it looks
    into. Not counted: arrays that only your own variables or an optimizer hold, and Python's objects themselves.

    >>> import numpy as np
    >>> import tinygrad_nn as tg
    >>> w = tg.tensor(np.ones((100, 10)), requires_grad=True)
    >>> loss = tg.exp(np.ones((5, 100)) @ w).sum()
    >>> before = tg.autograd.memory()
    >>> before.graph == 5 * 100 * 8 + 5 * 10 * 8  # the first factor of the product, and the result of exp
    True
    >>> loss.backward()
    >>> tg.autograd.memory().graph == before.graph - (5 * 100 * 8 + 5 * 10 * 8)
    True
    """
    gc.collect()  # what nobody keeps, such as the frames of an exception that was caught
    objects = gc.get_objects()
    # by type: `isinstance` asks an object for its class, and the lazy ones of other libraries answer with warnings
    tensors = [t for t in objects if issubclass(type(t), Tensor)]
    nodes = sorted((n for n in objects if issubclass(type(n), Node)), key=lambda n: n.order)
    leaves = {id(t._node): t._node for t in tensors if isinstance(t._node, Leaf)}
    leaves |= {id(p): p for n in nodes for p in n.parents if isinstance(p, Leaf)}
    ledger = _Ledger()
    for t in tensors:
        if isinstance(t._node, Leaf):
            ledger.add("leaf", "", None, "data", t)
    for grad in [leaf.grad for leaf in leaves.values()] + [n.watch.grad for n in nodes if n.watch is not None]:
        ledger.add("gradient", "", None, "grad", grad)
    for node in nodes:
        line = node.known.line
        for k, value in enumerate(node.saved or ()):
            ledger.add("graph", node.op.name, line, f"input {k - 1}" if k else "result", value)
        for name, value in node.params.items():
            ledger.add("graph", node.op.name, line, name, value)
        if node.watch is not None and node.watch.kept is not None:
            ledger.add("guard", "", None, "copy", [copy for _, _, copy in node.watch.kept])
    for t in tensors:
        ledger.add("tensor", "", None, "data", t)
    return MemoryReport(sorted(ledger.entries.values(), key=lambda e: -e.nbytes))


class _Ledger:
    """Entries by keeper, operation and line; each array is entered once."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, str], KeptMemory] = {}
        self._seen: set[int] = set()

    def add(self, keeper: Keeper, operation: str, line: Line | None, what: str, value: Any) -> None:
        """Enter the arrays in `value` that are not entered yet."""
        place = "" if line is None else str(line)
        for array in _arrays_in(value):
            whole = owner(array) if isinstance(array, np.ndarray) else array
            if id(whole) in self._seen:
                continue
            self._seen.add(id(whole))
            entry = self.entries.setdefault((keeper, operation, place), KeptMemory(keeper, operation, place))
            if isinstance(whole, bytes):
                entry.arrays.append((what, (len(whole),), np.dtype(np.uint8)))
                entry.nbytes += len(whole)
            else:
                entry.arrays.append((what, whole.shape, whole.dtype))
                entry.nbytes += whole.nbytes


def _arrays_in(value: Any) -> Iterator[Any]:
    """The arrays in what a node or a tensor holds, however nested."""
    if isinstance(value, np.ndarray | bytes):
        yield value
    elif isinstance(value, Tensor):
        try:
            yield from _arrays_in(value._data)
        except BatchError:
            return  # inside vmap: the batch itself is another tensor
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _arrays_in(item)
    elif isinstance(value, dict):
        yield from _arrays_in(list(value.values()))
    elif isinstance(context := getattr(value, "ctx", value), FunctionContext):  # of one use of a `Function`
        yield from _arrays_in(vars(context))


def _size(n: int) -> str:
    return f"{n:,}"


def _title(e: KeptMemory) -> str:
    if e.keeper != "graph":
        return NAMES[e.keeper]
    return f"{e.operation} at {e.line}" if e.line else e.operation


def _contents(e: KeptMemory) -> str:
    """The largest arrays of an entry in words."""
    found: dict[str, int] = {}
    for what, shape, dtype in sorted(e.arrays, key=lambda a: -a[2].itemsize * int(np.prod(a[1], dtype=np.int64))):
        text = f"{what} {dtype}{shape}" if e.keeper == "graph" else f"{dtype}{shape}"
        found[text] = found.get(text, 0) + 1
    shown = [text if n == 1 else f"{n} x {text}" for text, n in list(found.items())[:3]]
    return ", ".join(shown) + (", ..." if len(found) > 3 else "")
