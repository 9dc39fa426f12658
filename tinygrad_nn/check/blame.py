"""Which operation of a composite is wrong, where it ran, and what its author probably did.

Nodes do not record the line that made them (that would slow every operation down), so the function is run once more
under a profiler hook: the first function to return a Tensor with a new node is the one that made it, and its frame
holds the arguments. Every node is then checked alone, on its own arguments, in the order they ran.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np

from .._types import Array
from ..graph import Node
from ..tensor import Tensor, apply, wrap
from .problem import Problem, Recording, join, random_cotangents
from .verdict import Blame, GradcheckResult

PACKAGE = __name__.split(".")[0]
ALIKE = 3  # nodes of one operation with the same shapes that are checked before the rest is taken to be alike
ONE_ROW = "only one of several contributions is kept: the sum over a broadcast axis is missing"
LARGEST = 40_000  # elements of a Jacobian that is worked out to recognise a mistake


@dataclass
class Call:
    """How a node came to be: what to call with which arguments to run it again, and the user's line."""

    run: Callable[..., Any]
    args: list[Any]
    line: str
    rule: CodeType | None


def trace(problem: Problem) -> tuple[Recording, dict[Node, Call]]:
    """A recorded run of the function, and the call that made each of its nodes."""
    calls: dict[Node, Call] = {}

    def watch(frame: FrameType, event: str, value: Any) -> None:
        if event != "return" or not isinstance(value, Tensor):
            return
        node = value._node
        if isinstance(node, Node) and node not in calls:
            maker = frame.f_back if frame.f_code is wrap.__code__ else frame
            call = _call_of(maker, node) if maker is not None else None
            if call is not None:
                calls[node] = call

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        recording = problem.record()
    finally:
        sys.setprofile(before)
    return recording, calls


def _call_of(frame: FrameType, node: Node) -> Call | None:
    names = frame.f_locals
    params = {k: v for k, v in node.params.items() if not (k == "residual" and node.op.residual)}
    rule = None
    if "cls" in names and hasattr(names["cls"], "backward"):
        run, given = names["cls"].apply, names.get("args", ())
        rule = names["cls"].backward.__code__
    else:
        given = names.get("args") or [names[k] for k in ("a", "b") if k in names and "b" in names] or [names.get("x")]
        rule = next((r.__code__ for r in node.op.vjps if hasattr(r, "__code__")), None) if _finite(node) else None

        def run(*args: Any) -> Any:
            return apply(node.op, *args, **params)

    if len(given) != len(node.parents):
        return None
    args = [np.array(a._data) if isinstance(a, Tensor) else a for a in given]
    return Call(run, args, _user_line(frame), rule)


def _finite(node: Node) -> bool:
    return isinstance(node.op.vjps, tuple | list)


def _user_line(frame: FrameType | None) -> str:
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == PACKAGE:
        frame = frame.f_back
    if frame is None:
        return ""
    file, number = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{number}: {linecache.getline(file, number).strip()}".rstrip(": ")


def blame(problem: Problem, check: Callable[[Problem], GradcheckResult]) -> Blame | None:
    """The first operation whose own gradient `check` finds wrong."""
    recording, calls = trace(problem)
    seen: Counter[Any] = Counter()
    for node in recording.operations():
        call = calls.get(node)
        if call is None:
            continue
        key = (node.op.name, node.shape, tuple(np.shape(a) for a in call.args), str(node.params))
        seen[key] += 1
        if seen[key] > ALIKE:
            continue
        moving = [i for i, p in enumerate(node.parents) if p is not None]
        alone = _alone(call, moving)
        result = check(alone)
        if result.verdict != "fail":
            continue
        k = next(k for k, r in enumerate(result.inputs) if r.verdict == "fail")
        rule = f"{call.rule.co_filename}:{call.rule.co_firstlineno}" if call.rule else None
        argument = moving[k] if len(node.parents) > 1 else None
        try:
            likely = mistake(alone, k)
        except Exception:  # the rule itself raises, which the report says already
            likely = None
        return Blame(node.op.name, argument, call.line or None, rule, likely, result.inputs[k])
    return None


def _alone(call: Call, moving: Sequence[int]) -> Problem:
    """The problem of one node: its call as a function of those arguments that gradients flow to."""

    def run(tensors: Sequence[Tensor]) -> list[Any]:
        args = [wrap(a[()], None) if isinstance(a, np.ndarray) else a for a in call.args]
        for i, t in zip(moving, tensors, strict=True):
            args[i] = t
        result = call.run(*args)
        return list(result) if isinstance(result, tuple) else [result]

    return Problem(run, [f"argument {i}" for i in moving], [call.args[i] for i in moving])


@np.errstate(all="ignore")
def mistake(problem: Problem, k: int) -> str | None:
    """The usual mistake that turns the right gradient of input `k` into the one given, if it is one of those known."""
    recording = problem.record()
    values = join(recording.values)
    shape, place = problem.shapes[k], problem.slices[k]
    count = place.stop - place.start
    if not 0 < count * values.size <= LARGEST:
        return None
    rng = np.random.default_rng(0)
    cotangents = random_cotangents(recording.values, rng)
    if values.size == 1:
        cotangents = [2.5 * g for g in cotangents]
    g = join(cotangents)
    given = np.ravel(recording.vjp(cotangents)[k]).astype(float)
    twice = np.ravel(recording.vjp([2 * c for c in cotangents])[k]).astype(float)
    jacobian = _jacobian(problem, place, count)
    terms = jacobian * g[:, None]
    right = terms.sum(axis=0)
    if not (np.isfinite(given).all() and np.isfinite(right).all()):
        return None
    if _close(given, right):
        return None  # something else than its values was wrong, or the error is too small to tell
    if not given.any():
        return "the gradient is zero: dropped, or lost through a value without history"
    if _close(given, twice):
        if _close(given, jacobian.sum(axis=0)):
            return "the incoming gradient is missing: the local derivative was returned, not its product with it"
        return "the gradient does not depend on the incoming gradient"
    if not right.any():
        return "the function does not depend on this, but a gradient is returned"
    if _close(given, -right):
        return "the sign is wrong"
    if _one_row(problem, k, given, g):
        return ONE_ROW
    factor = float(given @ right / (right @ right))
    if _close(given, factor * right):
        return f"{factor:.6g} times what it should be"
    return _rearranged(given, right, jacobian, terms, g, shape)


def _one_row(problem: Problem, k: int, given: Array, g: Array) -> bool:
    """Whether the gradient is that of one row alone, where input `k` is broadcast to the shape of another input."""
    shape = problem.shapes[k]
    for other in problem.shapes:
        rows = math.prod(other[: len(other) - len(shape)])
        if not (len(other) > len(shape) and other[len(other) - len(shape) :] == shape and rows > 1):
            continue
        arrays = [np.broadcast_to(a, other) if i == k else a for i, a in enumerate(problem.arrays)]
        each = Problem(problem.call, problem.names, arrays)
        if each.size * g.size > LARGEST:
            return False
        try:
            jacobian = _jacobian(each, each.slices[k], math.prod(other))
        except Exception:  # it takes no such shape
            continue
        if len(jacobian) == g.size and any(_close(given, row) for row in (g @ jacobian).reshape(rows, -1)):
            return True
    return False


def _rearranged(
    given: Array, right: Array, jacobian: Array, terms: Array, g: Array, shape: tuple[int, ...]
) -> str | None:
    if len(shape) == 2 and shape[0] == shape[1] and _close(given.reshape(shape).T.ravel(), right):
        return "the gradient is transposed"
    if given.size == g.size:
        if _close(given, jacobian @ g):
            return "the Jacobian is applied, not its transpose (not permuted back, not reversed, or not transposed)"
        if _close(given, g) and not _close(np.sort(right), np.sort(g)):
            return "the incoming gradient is passed on unchanged: the local derivative is missing"
    for by in range(1, min(given.size, 64)):
        if _close(np.roll(right, by), given):
            return f"the gradient is shifted by {by}"
    if _close(right[::-1], given):
        return "the gradient is in reverse order"
    if _close(np.sort(given), np.sort(right)):
        return "the right values stand at wrong places: not permuted back"
    wrong = np.flatnonzero(np.abs(given - right) > 1e-4 * np.max(np.abs(right)))
    several = [k for k in wrong if np.count_nonzero(terms[:, k]) > 1]
    kept = [k for k in several if np.min(np.abs(terms[:, k] - given[k])) <= 1e-5 * abs(given[k])]
    if wrong.size and len(kept) == wrong.size:
        counts = {np.count_nonzero(terms[:, k]) for k in range(given.size)}
        if len(counts) == 1 and len(kept) == given.size:
            return ONE_ROW
        return "only one of several contributions is kept: an index that occurs twice must add twice"
    if _close(given - right, np.full_like(right, np.mean(given - right))):
        return f"a constant {np.mean(given - right):.6g} is added"
    if 0 < wrong.size <= max(1, given.size // 4):
        ratios = given[wrong] / right[wrong]
        places = [list(map(int, np.unravel_index(k, shape))) for k in wrong[:3]]
        same = np.allclose(ratios, ratios[0], rtol=1e-4)
        return f"wrong at {places} only" + (f": {ratios[0]:.6g} times what it should be" if same else "")
    return None


def _jacobian(problem: Problem, place: slice, count: int) -> Array:
    """The Jacobian by one input, column by column, by extrapolated central differences: good to about 1e-9."""
    x = problem.x
    scale = float(np.max(np.abs(x[place]))) or 1.0
    columns = []
    for k in range(count):
        d = np.zeros_like(x)
        d[place.start + k] = scale

        def central(h: float, d: Array = d) -> Array:
            return (problem.at(x + h * d) - problem.at(x - h * d)) / (2 * h * scale)

        columns.append((4 * central(2.0**-12) - central(2.0**-11)) / 3)
    return np.array(columns).T


def _close(a: Array, b: Array) -> bool:
    return bool(np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b))
