"""Gradients derived by hand beside those by autodiff: which goes wrong first, and by what mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .._types import Array
from ..errors import ArgumentError, describe
from ..graph import reachable
from ..modes import enable_grad
from ..nn.module import Module
from ..tensor import Tensor, to_array
from ..transforms import gradients
from .mistakes import any_factor, array_mistake, backward_mistakes, elsewhere


@dataclass
class GradientComparison:
    """One gradient by hand beside that by autodiff.

    `error` is the largest difference of an element, relative to the largest element of autodiff's gradient; `tolerance`
    is what rounding may make of it. `wrong` counts elements, `worst` is the index of the one that is most off.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    verdict: Literal["right", "wrong", "not given"]
    error: float = 0.0
    tolerance: float = 0.0
    wrong: int = 0
    worst: tuple[int, ...] = ()
    by_hand: float = 0.0
    by_autodiff: float = 0.0
    mistake: str = ""


@dataclass
class ManualGradientReport:
    """What `compare_manual_gradients` found; true when every gradient given is right.

    `gradients` are in the order in which backward finishes them: nearest to the loss first. `mistake` is what went
    wrong first, in words.
    """

    gradients: list[GradientComparison]
    mistake: str = ""

    def __bool__(self) -> bool:
        return self.first_wrong is None and any(g.verdict == "right" for g in self.gradients)

    @property
    def first_wrong(self) -> GradientComparison | None:
        """The wrong gradient nearest to the loss: those behind it may be wrong because of it."""
        return next((g for g in self.gradients if g.verdict == "wrong"), None)

    @property
    def first_wrong_layer(self) -> str | None:
        """The layer of the first wrong gradient."""
        return self.first_wrong.layer if self.first_wrong else None

    def __str__(self) -> str:
        first = self.first_wrong
        given = [g for g in self.gradients if g.verdict != "not given"]
        wrong = sum(g.verdict == "wrong" for g in given)
        head = (
            f"manual gradients: {wrong} of {len(given)} wrong" if wrong else f"manual gradients: all {len(given)} right"
        )
        if first is not None:
            head += f"; layer {first.layer} is the first to go wrong, at {first.name}"
        rows = [("layer", "gradient", "shape", "off by", "")]
        for g in self.gradients:
            off = "-" if g.verdict == "not given" or g.wrong < 0 else f"{g.error:.1e}"
            note = g.verdict.upper() if g.verdict == "wrong" else g.verdict
            rows.append((g.layer, g.name, str(g.shape), off, note + (f": {g.mistake}" if g.mistake else "")))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [head] + ["  " + "  ".join([*(f"{c:<{w}}" for c, w in zip(row, widths, strict=False)), row[4]]).rstrip()
                          for row in rows]  # fmt: skip
        if self.mistake:
            lines.append(self.mistake)
        return "\n".join(lines)


def compare_manual_gradients(
    loss: Callable[[Any], Any],
    parameters: Module | Mapping[str, Any],
    manual: Mapping[str, Any] | Sequence[Any],
    *,
    tolerance: float = 1.0,
) -> ManualGradientReport:
    """Hold gradients derived by hand against autodiff, and say which goes wrong first, and how.

    `parameters` is a module, or a dict of arrays by name. `loss` gets it, the arrays made Tensors, and returns the
    loss; or (loss, dict of intermediate Tensors by name), to compare the gradients of intermediate results, too.

    `manual` has the gradients by name. Or it is a list of layers, the one nearest to the loss first: each a dict, or
    the gradients in the order in which the layer's parameters are defined. A layer is what a name has before its last
    dot ("hidden.0.weight"), or its number at the end ("W2", "b2").

    The gradients are compared in the order in which backward finishes them. How much rounding may change each is
    measured, by moving the parameters by it; `tolerance` multiplies that. Mistakes that are recognised are named: sign
    and factors, transposed, summed over the wrong axes, zero, another parameter's gradient, and by repeating backward
    with a mistake planted at each operation: a missing derivative of an activation, a missing gradient from above, a
    missing branch.

    >>> import numpy as np, tinygrad_nn as tg
    >>> x, p = np.ones((4, 3)), {"W1": np.full((3, 2), 0.1), "b1": np.zeros(2)}
    >>> h = np.tanh(x @ p["W1"] + p["b1"])
    >>> by_hand = {"b1": 2 * h.sum(axis=0), "W1": x.T @ (2 * h)}  # tanh' forgotten
    >>> report = compare_manual_gradients(lambda p: (tg.tanh(x @ p["W1"] + p["b1"]) ** 2).sum(), p, by_hand)
    >>> report.first_wrong_layer, report.first_wrong.mistake
    ('1', 'the derivative of tanh is missing')
    """
    run = _Run(loss, parameters)
    again = _Run(loss, parameters)
    if run.value != again.value:
        raise ArgumentError(
            f"compare_manual_gradients: the loss is {run.value!r} and then {again.value!r}; it must be the same each "
            "time (dropout on? a new batch?)"
        )
    names = run.in_backward_order()
    by_hand = _by_name(manual, names, run)
    eps = max(np.finfo(a.dtype).eps for a in [*run.gradient.values(), *by_hand.values()] if a.dtype.kind == "f")
    blur = _rounding(loss, parameters, run, float(eps))
    largest = max((float(np.max(np.abs(a), initial=0.0)) for a in run.gradient.values()), default=0.0)
    compared = []
    for name in names:
        exact = run.gradient[name]
        allowed = tolerance * (64 * eps * np.max(np.abs(exact), initial=0.0) + 4 * eps * largest + 32 * blur[name])
        if name in by_hand or name in run.parameters:
            compared.append(_compare(name, exact, by_hand.get(name), float(allowed)))
    report = ManualGradientReport(compared)
    _explain(report, run, by_hand, names)
    return report


class _Run:
    """One evaluation of the loss: its graph, and autodiff's gradients of the parameters and intermediate results."""

    def __init__(
        self, loss: Callable[[Any], Any], parameters: Module | Mapping[str, Any], moved: dict[str, Array] | None = None
    ) -> None:
        if isinstance(parameters, Module):
            subject: Any = parameters
            self.parameters: dict[str, Tensor] = {n: p for n, p in parameters.named_parameters() if p.requires_grad}
        elif isinstance(parameters, Mapping):
            arrays = {n: to_array(p, None) for n, p in parameters.items()}
            subject = {
                n: Tensor(moved[n] if moved and n in moved else a, requires_grad=a.dtype.kind == "f")
                for n, a in arrays.items()
            }
            self.parameters = {n: t for n, t in subject.items() if t.requires_grad}
        else:
            raise ArgumentError(
                f"compare_manual_gradients: parameters are a Module or a dict of arrays, not {describe(parameters)}"
            )
        old = {n: p.data for n, p in self.parameters.items()}
        try:
            if isinstance(parameters, Module) and moved:
                for n, p in self.parameters.items():
                    p.data = moved[n]
            with enable_grad():
                result = loss(subject)
        finally:
            if isinstance(parameters, Module) and moved:
                for n, p in self.parameters.items():
                    p.data = old[n]
        value, named = result if isinstance(result, tuple) else (result, {})
        if not isinstance(value, Tensor) or value.size != 1 or value._node is None:
            raise ArgumentError(
                "compare_manual_gradients: loss must return one number that depends on the parameters, as a Tensor "
                f"(and, if wanted, a dict of intermediate Tensors), not {describe(value)}"
            )
        self.value = value.item()
        if not np.isfinite(self.value):
            raise ArgumentError(
                f"compare_manual_gradients: the loss is {self.value}; start from parameters where it is finite"
            )
        self.root = value._node
        self.one = np.ones(value.shape, value.dtype)[()]
        self.tensors = {**self.parameters, **named}
        for n, t in named.items():
            if not isinstance(t, Tensor) or t._node is None or n in self.parameters:
                raise ArgumentError(
                    f"compare_manual_gradients: the intermediate {n!r} must be a Tensor computed from the parameters, "
                    f"under a name of its own, not {describe(t)}"
                )
        self.nodes = reachable([self.root])
        self.gradient = self.gradients_of(list(self.tensors))

    def gradients_of(self, names: Sequence[str]) -> dict[str, Array]:
        """The gradients of these tensors by one walk over the graph; zero where the loss does not depend on one."""
        found = gradients({self.root: self.one}, [self.tensors[n]._node for n in names], create=False, free=False)
        return {
            n: np.zeros(self.tensors[n].shape, self.tensors[n].dtype) if g is None else np.asarray(g.data)
            for n, g in zip(names, found, strict=True)
        }

    def in_backward_order(self) -> list[str]:
        """The names in the order in which backward finishes their gradients: when it has met the oldest use of each."""
        wanted = {t._node for t in self.tensors.values()}
        oldest: dict[Any, int] = {}
        for node in self.nodes:  # oldest first
            for parent in node.parents:
                if parent in wanted:
                    oldest.setdefault(parent, node.order)
        order = {name: -oldest.get(t._node, -1) for name, t in self.tensors.items()}
        return sorted(self.tensors, key=order.__getitem__)  # stable: parameters of one operation as they are defined


def _layer(name: str) -> str:
    if "." in name:
        return name.rpartition(".")[0]
    number = re.search(r"\d+$", name)
    return number.group() if number else name


def _by_name(manual: Any, names: Sequence[str], run: _Run) -> dict[str, Array]:
    """The gradients by hand as arrays by name, however they were given; those that are None left out."""
    if isinstance(manual, Mapping):
        given = dict(manual)
    elif isinstance(manual, Sequence):
        given = dict(_from_layers(manual, names, run))
    else:
        raise ArgumentError(f"compare_manual_gradients: manual is a dict or a list of layers, not {describe(manual)}")
    unknown = [n for n in given if n not in run.tensors]
    if unknown:
        raise ArgumentError(f"compare_manual_gradients: no parameter is called {unknown}; there are {list(names)}")
    return {n: _numbers(n, g) for n, g in given.items() if g is not None}


def _from_layers(layers: Sequence[Any], names: Sequence[str], run: _Run) -> Iterator[tuple[str, Any]]:
    members: dict[str, list[str]] = {}  # of each layer, nearest to the loss first
    for name in names:
        if name in run.parameters:
            members.setdefault(_layer(name), []).append(name)
    if len(layers) > len(members):
        raise ArgumentError(
            f"compare_manual_gradients: {len(layers)} layers given, but the parameters are of {len(members)}: {members}"
        )
    for given, (layer, own) in zip(layers, members.items(), strict=False):
        if isinstance(given, Mapping):
            yield from ((n if n in run.tensors else f"{layer}.{n}", g) for n, g in given.items())
            continue
        parts = list(given) if isinstance(given, list | tuple) else [given]
        defined = [n for n in run.parameters if n in own]
        if len(parts) != len(defined):
            raise ArgumentError(
                f"compare_manual_gradients: {len(parts)} gradients for layer {layer}, which has {defined}"
            )
        yield from zip(defined, parts, strict=True)


def _numbers(name: str, gradient: Any) -> Array:
    array = gradient.detach().data if isinstance(gradient, Tensor) else np.asarray(gradient)
    if array.dtype.kind not in "fiu":
        raise ArgumentError(f"compare_manual_gradients: the gradient of {name} is {describe(array)}, not real numbers")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _rounding(
    loss: Callable[[Any], Any], parameters: Module | Mapping[str, Any], run: _Run, eps: float
) -> dict[str, float]:
    """By how much the gradients change when every parameter is moved by as much as rounding would."""
    rng = np.random.default_rng(0)
    blur = dict.fromkeys(run.gradient, 0.0)
    for _ in range(2):
        moved = {
            n: np.asarray(p.data * (1 + eps * rng.uniform(-2, 2, p.shape)), p.dtype) for n, p in run.parameters.items()
        }
        other = _Run(loss, parameters, moved).gradient
        for n, g in run.gradient.items():
            blur[n] = max(blur[n], float(np.max(np.abs(other[n] - g), initial=0.0)))
    return blur


def _compare(name: str, exact: Array, given: Array | None, allowed: float) -> GradientComparison:
    result = GradientComparison(name, _layer(name), exact.shape, "not given")
    if given is None:
        return result
    result.verdict = "wrong"
    if given.shape != exact.shape:
        result.wrong = -1
        return result
    off = np.abs(given - exact)
    off[~np.isfinite(off)] = np.inf
    size = float(np.max(np.abs(exact), initial=0.0)) or 1.0
    result.error, result.tolerance = float(np.max(off, initial=0.0)) / size, allowed / size
    result.wrong = int(np.sum(off > allowed))
    if not result.wrong:
        result.verdict = "right"
        return result
    worst = np.unravel_index(int(np.argmax(off)), off.shape)
    result.worst = tuple(int(i) for i in worst)
    result.by_hand, result.by_autodiff = float(given[worst]), float(exact[worst])
    return result


def _explain(report: ManualGradientReport, run: _Run, by_hand: dict[str, Array], names: Sequence[str]) -> None:
    """Name the mistake of every wrong gradient; that of the first in a sentence, with what it did to the others."""
    wrong = [g for g in report.gradients if g.verdict == "wrong"]
    if not wrong:
        return
    sizes = {n for node in run.nodes for n in node.shape} - {1}
    for g in wrong:
        g.mistake = array_mistake(by_hand[g.name], run.gradient[g.name], sizes)
    told = {g.name for g in wrong if g.mistake}
    first = wrong[0]
    for g in wrong:
        if g.mistake:
            continue
        open_ = [h.name for h in wrong if h.name not in told]
        found, explained = backward_mistakes(run, g.name, {n: by_hand[n] for n in open_})
        for h in wrong:
            if h.name in explained:
                h.mistake = found
                told.add(h.name)
        if not g.mistake:
            others = {n: run.gradient[n] for n in names if n != g.name}
            given, exact = by_hand[g.name], run.gradient[g.name]
            g.mistake = any_factor(given, exact) or elsewhere(given, others) or _elements(g)
    alike = [g.name for g in wrong if g.mistake == first.mistake]
    report.mistake = f"first mistake, in the gradient of {first.name}: {first.mistake}."
    if len(wrong) == 1:
        report.mistake += " All others are right: look at the formula of this one alone."
    elif len(alike) == len(wrong):
        report.mistake += f" It explains all {len(wrong)} that are wrong: look at what is passed down to {first.name}."
    else:
        report.mistake += " Mend it first: those behind it may be wrong because of it."


def _elements(g: GradientComparison) -> str:
    total = int(np.prod(g.shape))
    at = f"[{', '.join(map(str, g.worst))}]" if g.worst else "it"
    some = f"{g.wrong} of {total} elements differ, most at {at}" if total > 1 else "it differs"
    return f"{some}: {g.by_hand:.6g} by hand, {g.by_autodiff:.6g} by autodiff"
