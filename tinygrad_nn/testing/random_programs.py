"""Random programs: graphs of registered operations that stay inside their domains, and print as the Python they are.

Nothing here knows an operation: what to call it with comes from its declaration. A value that does not fit the domain
of the next operation is first scaled and shifted into it, by constants that are part of the program.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .._types import DTypeLike
from ..domains import Case, Domain, Reals
from ..errors import ArgumentError
from ..registry import OPS, Op
from .array_shapes import Shape, broadcastable_shapes
from .domain_arrays import Array, Operation, arguments, checked_domains, find_op, intervals, nth

LARGEST = 1e3  # a step with a larger result is not taken: all that depends on it would be ill-conditioned
SMALL = 12  # elements of a shape taken over: so many that must differ, in each argument, fit into every domain


@dataclass(frozen=True)
class Variable:
    """An input of a program or the result of a step, by its position: inputs first."""

    position: int


@dataclass(frozen=True, eq=False)
class Step:
    """One line of a program: an operation, its arguments (variables or constants), its parameters.

    >>> import numpy as np
    >>> import tinygrad_nn as tg
    >>> tg.testing.Step("sum", (np.ones((2, 3)),), {"axis": (0,), "keepdims": False}).run([])
    array([2., 2., 2.])
    """

    op: str
    arguments: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)

    def run(self, variables: Sequence[Any]) -> Any:
        """The result, given the values of the variables so far."""
        args = [variables[a.position] if isinstance(a, Variable) else a for a in self.arguments]
        return OPS[self.op].call(*args, **self.params)


@dataclass(frozen=True, eq=False)
class Program:
    """A function of arrays or Tensors made of registered operations, with inputs to call it on.

    `program(*program.inputs)` is a tuple: each result that no later step uses. `str(program)` is its source.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> program = find(tg.testing.calls("exp"), lambda p: True)
    >>> print(program)
    import numpy as np
    import tinygrad_nn as tg
    <BLANKLINE>
    def program(x0):
        y0 = tg.exp(x0)
        return (y0,)
    <BLANKLINE>
    inputs = (np.array(0.0),)
    >>> program(*program.inputs)
    (np.float64(1.0),)
    """

    inputs: tuple[Array, ...]
    steps: tuple[Step, ...]

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """The results that no step uses."""
        if len(inputs) != len(self.inputs):
            raise ArgumentError(f"program: takes {len(self.inputs)} inputs, not {len(inputs)}")
        variables = list(inputs)
        for step in self.steps:
            variables.append(step.run(variables))
        return tuple(variables[i] for i in self._results())

    def _results(self) -> list[int]:
        used = {a.position for step in self.steps for a in step.arguments if isinstance(a, Variable)}
        first = len(self.inputs)
        return [i for i in range(first, first + len(self.steps)) if i not in used]

    def __str__(self) -> str:
        first, lines = len(self.inputs), []
        names = [f"x{i}" for i in range(first)] + [f"y{i}" for i in range(len(self.steps))]
        values: list[Any] = list(self.inputs)
        for name, step in zip(names[first:], self.steps, strict=True):
            lines.append(f"    {name} = {_call(step, names, values)}")
            values.append(step.run(values))
        results = ", ".join(names[i] for i in self._results())
        head = ["import numpy as np", "import tinygrad_nn as tg"]
        if any("OPS[" in line for line in lines):
            head.append("from tinygrad_nn.registry import OPS")
        inputs = ", ".join(map(_text, self.inputs))
        return "\n".join(
            [
                *head,
                "",
                f"def program({', '.join(names[:first])}):",
                *lines,
                f"    return ({results},)",
                "",
                f"inputs = ({inputs},)",
            ]
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what Hypothesis shows of a failing example
        printer.text(f"# a program of {len(self.steps)} steps\n{self}\n")


# -- strategies -------------------------------------------------------------------------------------------------------


def calls(
    op: Operation, dtype: DTypeLike | st.SearchStrategy[Any] = np.float64, *, kinks: bool = False
) -> st.SearchStrategy[Program]:
    """Programs of one step: an operation called in one of its declared ways, with arguments inside its domain.

    Elementwise operations are called with shapes that broadcast. With `kinks`, arguments lie at its kinks or ties.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> program = find(tg.testing.calls("matmul"), lambda p: p.inputs[0].size)
    >>> [x.shape for x in program.inputs]
    [(2, 3), (3, 4)]
    """
    found = find_op(op)
    if not found.vjps:
        raise ArgumentError(f"calls: {found.name} has no derivative")
    checked_domains(found.name, None, kinks)
    return _calls(found.name, dtype, kinks)


def programs(
    max_steps: int = 6, *, operations: Iterable[Operation] | None = None, dtype: DTypeLike = np.float64
) -> st.SearchStrategy[Program]:
    """Graphs of up to `max_steps` operations: results and inputs used several times or not at all, several results.

    `operations` restricts which ones occur (all differentiable ones of the registry unless told). Besides those, a
    program has the lines that make a value fit: `take` for the shape, `multiply` and `add` for the domain. At its
    inputs, each operation is inside its domain. Shrinks to fewer steps, earlier operations, smaller and rounder inputs.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> program = find(tg.testing.programs(operations=["tanh", "matmul"]), lambda p: len(p.steps) == 2)
    >>> [step.op for step in program.steps]
    ['tanh', 'tanh']
    """
    if max_steps < 1:
        raise ArgumentError(f"programs: max_steps {max_steps}: a program has at least one step")
    named = OPS.values() if operations is None else [find_op(op) for op in operations]
    found = sorted((op for op in named if op.vjps), key=lambda op: op.kind != "elementwise")
    if not found:
        raise ArgumentError("programs: none of these operations has a derivative")
    return _programs(tuple(op.name for op in found), max_steps, np.dtype(dtype))


@st.composite
def _calls(draw: Any, name: str, dtype: Any, kinks: bool) -> Program:
    way = draw(_ways(OPS[name]))
    drawn = draw(arguments(name, way.shapes, dtype, kinks=kinks))
    inputs = tuple(a for a in drawn if a.dtype.kind == "f")
    places = iter(range(len(inputs)))
    args = tuple(Variable(next(places)) if a.dtype.kind == "f" else a for a in drawn)
    return Program(inputs, (Step(name, args, way.params),))


@st.composite
def _programs(draw: Any, names: tuple[str, ...], max_steps: int, dtype: np.dtype[Any]) -> Program:
    draft = _Draft(draw, dtype)
    for _ in range(draw(st.integers(1, max_steps))):
        draft.extend(OPS[draw(st.sampled_from(names))])
    return draft.program()


def _ways(op: Op, known: Sequence[Shape] = ()) -> st.SearchStrategy[Case]:
    """The ways to call an operation: its cases, or for an elementwise one shapes that broadcast, `known` ones first."""
    if op.cases:
        return st.sampled_from(op.cases)
    count = len(op.vjps)
    free = st.one_of(st.just(((),) * count), *[broadcastable_shapes(count, max_dims=2, max_side=3)] * 4)
    if not known:
        return free.map(Case)
    alike = st.sampled_from(list(dict.fromkeys(known))).flatmap(
        lambda shape: st.tuples(*[st.sampled_from([shape, shape[1:], (1,) * len(shape)])] * count)
    )
    return st.one_of(alike, free).map(Case)


class _Draft:
    """A program in the making: its variables in the order they came up, each with its value at the inputs."""

    def __init__(self, draw: Any, dtype: np.dtype[Any]) -> None:
        self._draw, self._dtype = draw, dtype
        self._made: list[tuple[Step | None, Any]] = []  # the step (None: an input) and the value

    def extend(self, op: Op) -> None:
        """Call `op` on variables where they can be made to fit, else on new inputs."""
        before = len(self._made)
        small = [np.shape(value) for _, value in self._made if np.size(value) <= SMALL]
        way = self._draw(_ways(op, small))
        chosen = [self._fitting(nth(op.domain, i), shape) for i, shape in enumerate(way.shapes)]
        if any(a is None for a in chosen) or not self._are_distinct(op, chosen):
            del self._made[before:]
            drawn = self._draw(arguments(op.name, way.shapes, self._dtype))
            chosen = [self._add(None, a) if a.dtype.kind == "f" else a for a in drawn]
        y = np.asarray(self._value(self._step(op.name, *chosen, **way.params)))
        if not np.all(np.isfinite(y)) or np.max(np.abs(y), initial=0.0) > LARGEST:
            del self._made[before:]

    def program(self) -> Program:
        """The finished program: inputs first. Of one step on a new input if none could be taken."""
        if not self._made:
            self._step("positive", self._add(None, np.ones((), self._dtype)))
        order = sorted(range(len(self._made)), key=lambda i: self._made[i][0] is not None)
        place = {old: new for new, old in enumerate(order)}

        def moved(step: Step) -> Step:
            args = (Variable(place[a.position]) if isinstance(a, Variable) else a for a in step.arguments)
            return Step(step.op, tuple(args), step.params)

        inputs = tuple(value for step, value in self._made if step is None)
        return Program(inputs, tuple(moved(step) for step, _ in self._made if step is not None))

    def _add(self, step: Step | None, value: Any) -> Variable:
        self._made.append((step, value))
        return Variable(len(self._made) - 1)

    def _step(self, op: str, *args: Any, **params: Any) -> Variable:
        step = Step(op, args, params)
        return self._add(step, step.run([value for _, value in self._made]))

    def _value(self, variable: Variable) -> Any:
        return self._made[variable.position][1]

    def _fitting(self, domain: Domain, shape: Shape) -> Variable | None:
        """A variable of this shape inside this domain, made from one that exists; None where it must be a new input."""
        if not isinstance(domain, Reals) or not self._made:
            return None
        pick = self._draw(st.integers(0, len(self._made)))
        if pick == len(self._made):
            return None
        by_shape = sorted(range(len(self._made)), key=lambda i: np.shape(self._made[i][1]) != shape)
        found = Variable(by_shape[pick])
        value = np.asarray(self._value(found))
        if value.shape != shape:
            if value.size != math.prod(shape):
                if not value.size:
                    return None
                found = self._step("reshape", found, shape=(-1,))
                found = self._step("getitem", found, index=np.resize(np.arange(value.size), shape))
            else:
                found = self._step("reshape", found, shape=shape)
            value = np.asarray(self._value(found))
        if not is_inside(domain, value):
            scale, shift = _into(domain, value)
            if scale != 1:
                found = self._step("multiply", found, scale)
            if shift:
                found = self._step("add", found, shift)
        return found if is_inside(domain, np.asarray(self._value(found))) else None

    def _are_distinct(self, op: Op, chosen: Sequence[Any]) -> bool:
        """Whether the values of those arguments that must differ do, within and between arguments."""
        domains = [nth(op.domain, i) for i in range(len(chosen))]
        pairs = [(d, a) for d, a in zip(domains, chosen, strict=True) if isinstance(d, Reals) and d.distinct]
        values = [np.ravel(self._value(a)) for _, a in pairs]
        return not pairs or _gap(np.concatenate(values)) >= max(d.margin for d, _ in pairs)


def is_inside(domain: Reals, values: Array) -> bool:
    """Whether all values lie in the domain, up to rounding."""
    slack = 1e-3 * domain.margin
    pieces = [(values >= a - slack) & (values <= b + slack) for a, b in intervals(domain)]
    return bool(np.all(np.any(pieces, axis=0))) and (not domain.distinct or _gap(values) >= domain.margin)


def _gap(values: Array) -> float:
    """The smallest distance between two of the values."""
    return float(np.min(np.diff(np.sort(np.ravel(values).astype(np.float64))), initial=np.inf))


def _into(domain: Reals, values: Array) -> tuple[float, float]:
    """A scale and a shift, as round as may be, that put the values into the widest piece of the domain."""
    low, high = max(intervals(domain), key=lambda piece: piece[1] - piece[0])
    width = high - low
    bottom, top = float(np.min(values)), float(np.max(values))
    scale = 2.0 ** min(0, math.floor(math.log2(0.75 * width / (top - bottom)))) if top > bottom else 1.0
    grain = 2.0 ** math.floor(math.log2(width / 8))
    shift = grain * round(((low + high) / 2 - scale * (bottom + top) / 2) / grain)
    return scale, shift


# -- as source --------------------------------------------------------------------------------------------------------


def _call(step: Step, names: list[str], values: list[Any]) -> str:
    """The call of a step: of the public function where that means the same, else of the registered operation."""
    args = [names[a.position] if isinstance(a, Variable) else _text(a) for a in step.arguments]
    args += [f"{name}={_text(value)}" for name, value in step.params.items()]
    call = f"tg.{step.op}" if _is_public(step, values) else f'OPS["{step.op}"].call'
    return f"{call}({', '.join(args)})"


def _is_public(step: Step, values: list[Any]) -> bool:
    package = sys.modules[__package__.partition(".")[0]]  # runs already; importing it from here would be a circle
    function = getattr(package, step.op, None)
    given = [values[a.position] if isinstance(a, Variable) else a for a in step.arguments]
    try:
        made = function(*given, **step.params)  # type: ignore[misc]
    except Exception:  # another signature
        return False
    return np.array_equal(made, step.run(values), equal_nan=True)


def _text(value: Any) -> str:
    """A constant as Python source."""
    if isinstance(value, np.ndarray):
        kind = "" if value.dtype in (np.float64, np.bool_, np.int64) else f", dtype=np.{value.dtype}"
        if not value.size:
            return f"np.zeros({value.shape}, dtype=np.{value.dtype})"
        return f"np.array({value.tolist()}{kind})"
    if isinstance(value, np.generic):
        return f"np.{value.dtype}({value.item()!r})"
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    return repr(value)
