"""The table of operations, and the three kinds an operation can be.

*elementwise*: `rules[i](t, y, *args)` is t times the partial derivative by argument i. That one function is the
cotangent rule and the tangent rule; the engine sums over broadcast axes.

*linear*: the forward is its own tangent rule, and only `transposes[i](g, y, *args, **params)` is written.
`joint=True` means linear in all arguments together (`concat`), otherwise in each alone (`matmul`).

*general*: `vjps[i]` and `jvps[i]` are both written out.

Rules are written with this package's own functions, so they run on arrays (nothing recorded), or on Tensors to be
differentiated again. A rule names what it does not need with a leading underscore: such values are not kept for it,
and of an argument it then sees only `shape` and `dtype`.

An operation with `residual=True` returns `(y, residual)`; rules get the keyword `residual`, which is None when the
walk is itself recorded: then the rule must compute the thing again, in operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from .domains import Case, Domain, Reals
from .errors import ArgumentError

Rule = Callable[..., Any]
Rules = Sequence[Rule]


# What a cotangent may hold that has to be looked out for (see `strong_zero`): zeros for elements that were not used, be
# they anything; zeros for elements that came out too small or too large, which are not NaN (`maximum` and its like let
# NaN through); infinities.
UNUSED, SATURATED, INFINITE = 1, 2, 4


class Spec(NamedTuple):
    """Shape and dtype of a constant argument whose values no rule needs."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Each:
    """The rules of an operation with any number of arguments: `fn(i, g, y, *args, **params)` for argument i."""

    def __init__(self, fn: Rule) -> None:
        self.fn = fn

    def __getitem__(self, i: int) -> Rule:  # also makes it iterable, without end
        return partial(self.fn, i)


@dataclass(eq=False, slots=True)
class Op:
    """One declared operation. `vjps` and `jvps` are empty where no derivative exists (comparisons, argmax)."""

    name: str
    kind: Literal["elementwise", "linear", "general", "constant"]
    forward: Callable[..., Any]
    vjps: Any = ()
    jvps: Any = ()
    together: Callable[..., Any] | None = (
        None  # the tangent of the result from those of all arguments at once, by number
    )
    twin: Callable[..., Any] | None = None  # the NumPy function with the same meaning
    domain: tuple[Domain, ...] = (Reals(),)
    cases: tuple[Case, ...] = ()
    ties: str = ""  # what the gradient is at a kink or a tie
    kink: Callable[..., Any] | None = None  # (y, *arguments, **params), arrays: where in y the arguments are at one
    slopes: tuple[float, float] | None = None  # the range of slopes by the first argument one may choose there instead
    formula: str = ""
    analytic: bool = False  # the forward accepts complex numbers and is complex-differentiable
    residual: bool = False
    joint: bool = False
    selects: int = 0  # sends exact zeros back to what it did not use: a constant of `strong_zero`
    singular: Callable[..., bool] | None = None  # (y, *arguments): whether slopes of finite values may be infinite
    products: bool = False  # each element of a cotangent is a sum of products; linear operations that multiply are so
    silent: Callable[..., Any] | None = None  # (cotangent == 0, **params): where no element of it reaches an argument
    variadic: bool = False  # joint, of any number of arguments: the rules are given none of them
    reference: Callable[..., Any] | None = None  # where there is no twin: the same value, written plainly with NumPy
    batch: Callable[..., Any] | None = None  # how it acts on batches, for vmap: see `ops/batching.py`
    call: Callable[..., Any] = field(init=False)  # the public function
    ordinary: bool = field(init=False)  # nothing of what a walk has to look out for
    takes_arrays: bool = field(init=False)  # whether a parameter may be, or hold, an array, such as an index
    looks: int = field(init=False)  # what in a cotangent its rules may make NaN of: constants of `strong_zero`
    _keeps: dict[tuple[int, int], tuple[bool, tuple[int, ...]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.ordinary = not (self.variadic or self.selects or self.singular)
        if self.kind == "linear" and not self.joint:
            self.products = isinstance(self.vjps, Each) or len(self.vjps) > 1
        given = [value for case in self.cases for value in case.params.values()]
        parts = [part for value in given for part in (value if isinstance(value, tuple) else (value,))]
        undeclared = not self.cases and self.kind != "elementwise"
        self.takes_arrays = undeclared or any(isinstance(part, np.ndarray) for part in parts)
        alike = isinstance(self.vjps, Each)
        if self.kind == "elementwise" and (alike or any(any(reads(rule, len(self.vjps))) for rule in self.vjps)):
            self.looks = INFINITE if self.selects else UNUSED | SATURATED | INFINITE
        elif self.products:
            self.looks = UNUSED | INFINITE
        else:
            self.looks = UNUSED | SATURATED | INFINITE if self.silent is not None else 0

    def keeps(self, mask: int, count: int) -> tuple[bool, tuple[int, ...]]:
        """Whether the output must be kept, and which of `count` arguments need not, if those in `mask` are tracked."""
        known = self._keeps.get((mask, count))
        if known is None:
            output, arguments = False, [False] * count
            alike = isinstance(self.vjps, Each)  # then every argument's rule reads the same
            for i in range(1 if alike else count):
                if alike or mask >> i & 1:
                    for names in self._wanted_by(i, count):
                        output |= names[0]
                        arguments = [a or b for a, b in zip(arguments, names[1:], strict=True)]
            known = self._keeps[mask, count] = output, tuple(i for i, read in enumerate(arguments) if not read)
        return known

    def _wanted_by(self, i: int, count: int) -> list[list[bool]]:
        """What the vjp and the jvp by argument i read of (output, *arguments)."""
        wanted = [reads(self.vjps[i], count)]
        if self.kind == "linear":
            wanted.append([False] + [not self.joint and j != i for j in range(count)])
        else:
            wanted.append(reads(self.jvps[i], count))
        return wanted


def reads(rule: Rule, count: int) -> list[bool]:
    """Which of (output, *arguments) a rule reads: those it does not name with a leading underscore."""
    skip = 1  # the cotangent or tangent
    if isinstance(rule, partial):
        rule, skip = rule.func, 2
    code = rule.__code__
    names = code.co_varnames[: code.co_argcount]
    wanted = [not n.startswith("_") for n in names[skip:]]
    if code.co_flags & 0x04:  # *args stands for all remaining ones
        star = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        wanted += [not star.startswith("_")] * (count + 1 - len(wanted))
    if len(wanted) != count + 1:
        raise ArgumentError(
            f"the rule {code.co_name} at {code.co_filename}:{code.co_firstlineno} takes ({', '.join(names)}), which "
            f"must be 2 + {count} names: what comes in, the result, and the {count} arguments"
        )
    return wanted


OPS: dict[str, Op] = {}
TWINS: dict[Callable[..., Any], Callable[..., Any]] = {}  # NumPy function -> ours, for NumPy's own protocols


def register(op: Op) -> Op:
    """Put an operation into the table; a name can be taken once."""
    if op.name in OPS:
        raise ArgumentError(f"operation {op.name!r} is registered already; give the function another name")
    OPS[op.name] = op
    return op
