"""`operation`: the decorator that makes a function of arrays an operation like those of the package."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from . import differences
from .errors import ArgumentError, GraphError, describe
from .function import transposed
from .graph import Leaf
from .modes import enable_grad
from .ops import declare
from .ops.shape import sum_to
from .registry import OPS, Each, Op, Rule
from .tensor import apply, asarray, wrap

F = TypeVar("F", bound=Callable[..., Any])
Rules = Sequence[Rule] | Each | Rule


def operation(
    *,
    elementwise: Rules | None = None,
    linear: Rules | None = None,
    vjps: Rules | None = None,
    jvps: Rules | None = None,
    fallback: Literal["numeric"] | None = None,
    **facts: Any,
) -> Callable[[F], F]:
    """A decorator: a function of arrays becomes an operation on Tensors and arrays, registered under its name.

    The function takes arrays by position and parameters by keyword (those after `*`), and returns an array. What its
    derivative is, one of these says, with one rule for each array (or the rule itself, if there is one array):

    - `elementwise=`: each result depends on the elements at its own place, arguments broadcast. `rule(t, y, *arrays)`
      is `t` times the partial derivative.
    - `linear=`: linear in each array alone, or with `joint=True` in all together. `rule(g, y, *arrays)` is the
      transpose applied to `g`.
    - `vjps=`: anything else. `rule(g, y, *arrays)` is the gradient of `sum(g * y)`; forward mode is worked out from
      it, or `jvps=` gives `rule(t, y, *arrays)`, the change of `y` as the array changes by `t`.
    - `fallback="numeric"`: nothing is known, as of a function in SciPy or C. Derivatives are differences, with steps
      chosen by their error. First derivatives only; a gradient runs the function 4 to 12 times for each element of
      each array, forward mode as often in all. Relative errors are about 1e-10 in float64, 1e-4 in float32.

    Rules also get the parameters, and are written with this package's functions, so that derivatives of any order
    follow. What a rule does not read it names with a leading underscore, and it is then not kept: of such an array the
    rule gets shape and dtype only. `y` is the result. `facts` are further entries of the declaration, such as
    `domain=`, `cases=` and `ties=`: see `tinygrad_nn.registry.Op`.

    >>> import numpy as np
    >>> import tinygrad_nn as tg
    >>> @tg.autograd.operation(elementwise=lambda t, y, x: -2.0 * t * x * y * y)
    ... def witch(x):
    ...     return 1 / (1 + x * x)
    >>> tg.func.grad(witch)(1.0), witch(np.array([0.0, 1.0]))
    (tensor(-0.5), array([1. , 0.5]))

    >>> @tg.autograd.operation(fallback="numeric")
    ... def bessel(x):
    ...     return np.i0(x)  # stands for code that nobody can look into
    >>> round(tg.func.grad(bessel)(np.float64(1.0)).item(), 9)
    0.565159104
    """
    given = [name for name, rules in (("elementwise", elementwise), ("linear", linear), ("vjps", vjps)) if rules]
    if fallback is not None:
        if fallback != "numeric":
            raise ArgumentError(f"operation: fallback={fallback!r}; there is 'numeric' only")
        given.append("fallback")
    if len(given) != 1 or (jvps is not None and vjps is None):
        raise ArgumentError(
            f"operation: give one of elementwise=, linear=, vjps= (and jvps= with it) and fallback=, not {given}"
        )

    def decorate(fn: F) -> F:
        name = fn.__name__
        _forget_same(name, fn)
        forward = _checked(fn)
        keywords = _keywords(fn)
        for rules in (elementwise, linear, vjps, jvps):
            _one_rule_for_each(fn, rules)
        declared = {"formula": (inspect.getdoc(fn) or "").partition("\n")[0], **facts}
        call: Any
        if elementwise is not None:
            call = declare.elementwise(name, forward, _several(elementwise), params=bool(keywords), **declared)
        elif linear is not None:
            call = declare.linear(name, forward, _each(linear), **declared)
        elif vjps is not None:
            rules = _each(vjps)
            call = declare.general(
                name, forward, rules, _forward_of(rules) if jvps is None else _each(jvps), **declared
            )
        else:
            call = declare.general(name, forward, *_numeric_rules(name, forward), **declared)
        if isinstance(call, functools.partial):
            call = _by_position(OPS[name], keywords)
            OPS[name].call = call
        functools.update_wrapper(call, fn)
        return call  # type: ignore[no-any-return]  # same call, typed by what it decorates

    return decorate


def _several(rules: Rules) -> tuple[Rule, ...]:
    return (rules,) if callable(rules) else tuple(rules)  # type: ignore[arg-type]  # no `Each` for elementwise ones


def _each(rules: Rules) -> tuple[Rule, ...] | Each:
    return rules if isinstance(rules, Each) else _several(rules)


def _one_rule_for_each(fn: Callable[..., Any], rules: Rules | None) -> None:
    """Raise unless there are as many rules as arrays, which are the parameters that go by position."""
    parameters = inspect.signature(fn).parameters.values()
    arrays = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not rules or isinstance(rules, Each) or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return
    if len(_several(rules)) != len(arrays):
        raise ArgumentError(
            f"{fn.__name__}: {len(_several(rules))} rules for {len(arrays)} arrays ({', '.join(arrays)}); there must "
            "be one for each. Parameters that are no arrays come after * in the function's head"
        )


def _forget_same(name: str, fn: Callable[..., Any]) -> None:
    """Let a definition run again, as a notebook's cell does; one of that name in another module is an error."""
    known = OPS.get(name)
    if known is not None:
        before = inspect.unwrap(known.forward)
        if (before.__module__, before.__qualname__) == (fn.__module__, fn.__qualname__):
            del OPS[name]


def _keywords(fn: Callable[..., Any]) -> dict[str, Any]:
    """The keyword parameters of a function, and their defaults."""
    parameters = inspect.signature(fn).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _by_position(op: Op, keywords: dict[str, Any]) -> Callable[..., Any]:
    """The public function of `op`; its rules get the parameters that a call leaves out as well."""
    defaults = {name: default for name, default in keywords.items() if default is not inspect.Parameter.empty}

    def call(*arrays: Any, **params: Any) -> Any:
        if params and not params.keys() <= keywords.keys():
            wrong = sorted(params.keys() - keywords.keys())
            raise ArgumentError(
                f"{op.name}: {', '.join(wrong)} given by keyword; arrays are given by position, and parameters by "
                f"keyword, which the function must declare after *: {list(keywords)}"
            )
        return apply(op, *arrays, **{**defaults, **params})

    return call


def _checked(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, made sure to return an array."""

    @functools.wraps(fn)
    def forward(*arrays: Any, **params: Any) -> Any:
        y = fn(*arrays, **params)
        if isinstance(y, np.ndarray | np.generic):
            return y
        if isinstance(y, bool | int | float):
            return np.asarray(y)[()]
        advice = "; for several results there is tg.autograd.Function" if isinstance(y, tuple) else ""
        raise ArgumentError(f"{fn.__name__}: an operation must return an array, not {describe(y)}{advice}")

    return forward


# -- rules made from others --------------------------------------------------------------------------------------------


def _forward_of(vjps: tuple[Rule, ...] | Each) -> Each:
    """The tangent rules that follow from cotangent rules: those are linear in g, and their transposes are wanted."""

    def push(i: int, t: Any, y: Any, *args: Any, **params: Any) -> Any:
        probe = Leaf(y.shape, y.dtype)
        with enable_grad():
            g = asarray(vjps[i](wrap(np.zeros(y.shape, y.dtype)[()], probe), y, *args, **params))
            g = sum_to(g, shape=args[i].shape)
        pushed = transposed(g, probe, t)
        if pushed is None:
            raise GraphError(
                "forward mode cannot be worked out from a rule of vjps= that does not compute with g in this "
                "package's functions; give jvps="
            )
        return pushed

    return Each(push)


def _numeric_rules(name: str, fn: Callable[..., Any]) -> tuple[Each, Each]:
    """A vjp and a jvp by differences. What they compute is linear in g and t, so those have derivatives, too."""

    def along(which: int, args: Sequence[Any], params: dict[str, Any]) -> tuple[Callable[[Any], Any], Any]:
        def of_one(x: Any) -> Any:
            return fn(*args[:which], x, *args[which + 1 :], **params)

        return of_one, np.asarray(args[which])

    def refuse(*_: Any, **__: Any) -> Any:
        raise GraphError(
            f"{name}: its derivative is numeric, and has no derivative of its own; for second derivatives give the "
            "operation rules: elementwise=, linear= or vjps="
        )

    def pull(g: Any, *args: Any, which: int, params: dict[str, Any]) -> Any:
        return differences.gradient(*along(which, args, params), np.asarray(g), name)[()]

    def push(t: Any, *args: Any, which: int, params: dict[str, Any]) -> Any:
        return differences.tangent(*along(which, args, params), np.asarray(t), name)[()]

    def run(op: Op, moving: Any, args: tuple[Any, ...], which: int, params: dict[str, Any]) -> Any:
        return apply(op, moving, *args, which=which, params=params)

    def linear_rule(other: Callable[[], Op]) -> Each:
        def rule(i: int, moving: Any, _y: Any, _g: Any, *args: Any, which: int, params: dict[str, Any]) -> Any:
            return refuse() if i else run(other(), moving, args, which, params)

        return Each(rule)

    pulling: Op = Op(
        f"the numeric gradient of {name}", "general", pull, linear_rule(lambda: pushing), linear_rule(lambda: pulling)
    )
    pushing: Op = Op(
        f"the numeric tangent of {name}", "general", push, linear_rule(lambda: pulling), linear_rule(lambda: pushing)
    )
    for op in (pulling, pushing):
        op.call = functools.partial(apply, op)

    def vjp(i: int, g: Any, _y: Any, *args: Any, **params: Any) -> Any:
        return run(pulling, g, args, i, params)

    def jvp(i: int, t: Any, _y: Any, *args: Any, **params: Any) -> Any:
        return run(pushing, t, args, i, params)

    return Each(vjp), Each(jvp)
