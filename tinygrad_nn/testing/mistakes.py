"""Recognise the usual mistakes of gradients derived by hand, from the wrong numbers alone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._types import Array
from ..graph import AnyNode, Node, dependents
from ..registry import Each

MOST_TRIALS = 2000  # walks over the graph; a deeper one is searched nearest to the wrong gradient


def alike(a: Array, b: Array) -> bool:
    """Equal far beyond chance: to half of the digits, relative to the largest element."""
    if a.shape != b.shape or not a.size:
        return False
    size = np.max(np.abs(b))
    tight = max(float(np.finfo(x.dtype).eps) for x in (a, b)) ** 0.5
    return bool(size > 0 and np.max(np.abs(a - b)) <= tight * size)


# -- from the two arrays -----------------------------------------------------------------------------------------------


def array_mistake(given: Array, exact: Array, sizes: set[int]) -> str:
    """What is wrong with `given`, where the numbers alone tell; "" otherwise.

    `sizes` are the lengths of axes that a sum or mean may have run over.
    """
    if given.shape == exact.shape:
        bad = int(np.sum(~np.isfinite(given)))
        if bad:
            return f"{bad} of {given.size} elements are not finite"
        if not np.any(given):
            return "zero everywhere: never written, or stale"
        return _factor(given, exact, sizes) or _rearranged(given, exact)
    return f"shape {given.shape} instead of {exact.shape}" + _reshaped(given, exact, sizes)


def _ratio(given: Array, exact: Array) -> float:
    """The number that `given` is too large by; 0 if there is none."""
    square = float(np.sum(exact * exact, dtype=np.float64))
    ratio = float(np.sum(given * exact, dtype=np.float64)) / square if square else 0.0
    return ratio if alike(given, np.asarray(ratio * exact)) else 0.0


def _factor(given: Array, exact: Array, sizes: set[int]) -> str:
    """A factor that has a reason."""
    ratio = _ratio(given, exact)
    size, found = abs(ratio), []
    if ratio < 0:
        found.append("the sign is wrong")
    if abs(size / 2 - 1) < 1e-3:
        found.append("twice too large: a factor 1/2 is missing, or it was added up twice")
    elif abs(size * 2 - 1) < 1e-3:
        found.append("half as large as it should be: a factor 2, as of a square, is missing")
    for n in sorted(sizes - {1, 2}):
        if abs(size / n - 1) < 1e-3:
            found.append(f"{n} times too large: a mean over {n} taken as a sum, the 1/{n} is missing")
        elif abs(size * n - 1) < 1e-3:
            found.append(f"{n} times too small: divided by {n} once too often")
    reasons = len(found) > (ratio < 0)
    return " and ".join(found) if reasons or abs(size - 1) < 1e-3 else ""


def any_factor(given: Array, exact: Array) -> str:
    """A factor without a known reason; of a single number everything is a multiple."""
    ratio = _ratio(given, exact) if exact.size > 1 else 0.0
    return f"{ratio:.9g} times what it should be" if ratio else ""


def _rearranged(given: Array, exact: Array) -> str:
    for n in range(1, exact.ndim + 1):
        for axes in itertools.combinations(range(exact.ndim), n):
            if alike(np.flip(given, axes), exact):
                return f"reversed along axis {', '.join(map(str, axes))}"
    for axes in itertools.permutations(range(exact.ndim)):
        if alike(np.transpose(given, axes), exact):
            return "transposed" if exact.ndim == 2 else f"axes in the wrong order: it should be transposed by {axes}"
    for axis in range(exact.ndim):
        for shift in (1, -1):
            if alike(np.roll(given, shift, axis), exact):
                return f"shifted by one along axis {axis}"
    return ""


def elsewhere(given: Array, others: Mapping[str, Array]) -> str:
    """Whether the numbers are the gradient of something else."""
    return next((f"this is the gradient of {name}" for name, other in others.items() if alike(given, other)), "")


def _reshaped(given: Array, exact: Array, sizes: set[int]) -> str:
    """Which step leads from the one shape to the other."""
    flat = np.ravel(given)
    if flat.size == exact.size:
        if given.ndim == exact.ndim == 2 and alike(np.ascontiguousarray(given.T), exact):
            return ": transposed"
        if alike(flat, np.ravel(exact)):
            return ": the same numbers, only the shape differs"
    for array, other, text in (
        (given, exact, ": the sum over axis {} is missing"),
        (exact, given, ": summed over axis {} too"),
    ):
        for n in range(1, array.ndim + 1):
            for axes in itertools.combinations(range(array.ndim), n):
                total = np.sum(array, axes)
                if total.size != other.size:
                    continue
                total = total.reshape(other.shape)
                shown = text.format(", ".join(map(str, axes)))
                if alike(total, other):
                    return shown
                if array is given and (more := _factor(total, exact, sizes)):
                    return f"{shown} and then it is {more}"
    return ""


# -- from the graph: repeat backward with a mistake planted ------------------------------------------------------------

Mistake = Callable[..., Any]  # (rule, g, saved, params) -> what the wrong rule gives


class Recorded(Protocol):
    """A recorded loss, as `manual` has it."""

    nodes: list[AnyNode]
    tensors: dict[str, Any]

    def gradients_of(self, names: list[str]) -> dict[str, Array]:
        """The gradients of these tensors by one walk."""


class Plant(NamedTuple):
    """A mistake in the rules of one node for the arguments `edges`; `everywhere`: not to be planted at one alone."""

    text: str
    node: Node
    edges: list[int]
    mistake: Mistake
    everywhere: bool = False


def backward_mistakes(run: Recorded, name: str, wrong: dict[str, Array]) -> tuple[str, list[str]]:
    """A single mistake in backward that gives the wrong gradient of `name`, and all the wrong ones that it gives.

    A mistake is made at one operation, or at all of the kind, as in a function that every layer uses.
    """
    reach = dependents(run.nodes, [run.tensors[name]._node])
    path = dependents(run.nodes, [run.tensors[n]._node for n in wrong])
    names = {t._node: n for n, t in run.tensors.items()}
    uses = Counter(parent for node in run.nodes if node in path for parent in node.parents)
    nodes = [node for node in run.nodes if isinstance(node, Node) and node in path]
    kinds: dict[str, list[Plant]] = {}
    for node in nodes:
        for plant in _plants(node, path, names, uses):
            kinds.setdefault(plant.text, []).append(plant)
    trials: list[tuple[str, list[Plant]]] = []  # those that can change the gradient of `name`
    for text, plants in kinds.items():
        if not any(plant.node in reach for plant in plants):
            continue
        if len(plants) > 1:
            trials.append((f"{text}, everywhere", plants))
        for plant in plants:
            if plant.node in reach and not plant.everywhere:
                where = f", where the result is {plant.node.shape}" if len(plants) > 1 else ""
                trials.append((text + where, [plant]))
    best: tuple[str, list[str]] = ("", [])
    for text, plants in sorted(trials, key=lambda trial: trial[1][0].node.order)[:MOST_TRIALS]:
        with ExitStack() as stack, np.errstate(all="ignore"):
            for plant in plants:
                stack.enter_context(_planted(plant))
            found = run.gradients_of(list(wrong))
        explained = [n for n, g in wrong.items() if alike(g, found[n])]
        if name in explained and len(explained) > len(best[1]):
            best = text, explained
            if len(explained) == len(wrong):
                break
    return best


def _plants(node: Node, path: set[AnyNode], names: Mapping[Any, str], uses: Mapping[Any, int]) -> Iterator[Plant]:
    """The mistakes one could make at this node: in words, and where and how to plant them."""
    op = node.op
    edges = [i for i, parent in enumerate(node.parents) if parent is not None and parent in path]
    tracked = [parent for parent in node.parents if parent is not None]
    known = [names[parent] for parent in tracked if parent in names]
    at = f"{op.name} with {' and '.join(known)}" if known else op.name
    if len(tracked) == 1 and op.kind != "linear" and tracked[0].shape == node.shape and len(node.parents) == 1:
        yield Plant(f"the derivative of {op.name} is missing", node, edges, lambda rule, g, saved, params: g)
        y = node.saved[0] if node.saved else None
        if op.kind == "elementwise" and y is not None and not op.residual:
            after = np.asarray(op.forward(y, **node.params))[()]
            text = f"the derivative of {op.name} is taken at its result instead of its argument"
            yield Plant(text, node, edges, lambda rule, g, saved, params: rule(g, after, y, **params))
    yield Plant(
        f"the gradient from above is missing at {at}: ones went in its place",
        node,
        edges,
        lambda rule, g, saved, params: rule(np.ones(g.shape, g.dtype)[()], *saved, **params),
    )
    for i in edges:
        parent = node.parents[i]
        assert parent is not None
        zero = np.zeros(parent.shape, parent.dtype)[()]
        through = f"the gradient through argument {i} of {at}"
        branch = uses[parent] > 1
        yield Plant(f"{through} is not added", node, [i], lambda rule, g, saved, params, z=zero: z, not branch)
        if branch:
            yield Plant(
                f"{through} has the wrong sign", node, [i], lambda rule, g, saved, params: rule(-g, *saved, **params)
            )
        j = 1 - i
        other = node.saved[j + 1] if op.name in ("matmul", "linear") and i < 2 and node.saved else None
        if isinstance(other, np.ndarray) and other.ndim == 2 and other.shape[0] == other.shape[1]:
            yield Plant(
                f"argument {j} of {at} is transposed the wrong way for the gradient of argument {i}",
                node,
                [i],
                lambda rule, g, saved, params, j=j, other=other: rule(
                    g, *(other.T if k == j + 1 else s for k, s in enumerate(saved)), **params
                ),
            )


@contextmanager
def _planted(plant: Plant) -> Iterator[None]:
    """Let one recorded node have wrong rules for some of its arguments."""
    node = plant.node
    right = node.op

    def rule(i: int, g: Any, *saved: Any, **params: Any) -> Any:
        if i in plant.edges:
            return plant.mistake(right.vjps[i], g, saved, params)
        return right.vjps[i](g, *saved, **params)

    node.op = replace(right, vjps=Each(rule))
    try:
        yield
    finally:
        node.op = right
