"""`check_gradients`: draw inputs, check the gradients there, and shrink a failure to the smallest input with it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, event, given, reject, settings, strategies as st

from ..check import gradcheck
from ..errors import ArgumentError, GradcheckError
from . import effort


def check_gradients(
    *strategies: st.SearchStrategy[Any],
    order: int = 1,
    tolerance: float = 1.0,
    max_examples: int | None = None,
    **named: st.SearchStrategy[Any],
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Turn a function into a test that its gradients are right, wherever the strategies draw its arguments.

    The strategies belong to the arguments in order, or by name; pytest fixtures fill the others. Each example runs
    `tg.autograd.gradcheck` with this `order` and `tolerance`: floating arrays and Tensors are checked, what else was
    drawn is passed on. A wrong gradient raises `GradcheckError` for the smallest input that Hypothesis found: fewest
    axes, shortest, roundest numbers. An example on which the check is inconclusive counts as not drawn; if there is
    no other, that fails, too.

    Hypothesis takes the rest from its active profile, `max_examples` from there as well unless given; there is no
    deadline. Under `pytest --gradcheck-deep` there are 20 times as many examples, new ones each time.

    As a decorator the body is the function to differentiate. Or hand it one that exists, and call the test:

    >>> import tinygrad_nn as tg
    >>> from tinygrad_nn.testing import arrays, check_gradients
    >>> @check_gradients(arrays("log", shape=3))
    ... def test_entropy(p):
    ...     return -(p * tg.log(p)).sum()
    >>> test_entropy()
    >>> check_gradients(arrays(tg.sqrt))(tg.sqrt)()
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., None]:
        in_order, parameters = _parameters(fn, strategies, named)
        drawn = {**dict(zip(in_order, strategies, strict=True)), **named}

        @functools.wraps(fn)
        def test(*bound: Any, **values: Any) -> None:
            __tracebackhide__ = True
            fixtures = {name: value for name, value in values.items() if name not in drawn}

            def body(*inputs: Any) -> Any:
                given_in_order, by_name = (
                    inputs[: len(in_order)],
                    dict(zip(named, inputs[len(in_order) :], strict=True)),
                )
                return fn(*bound, *given_in_order, **fixtures, **by_name)

            as_positional = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in drawn]
            body.__signature__ = inspect.Signature(as_positional)  # type: ignore[attr-defined]  # for the report
            inputs = tuple(values[name] for name in drawn)
            result = gradcheck(body, inputs, order=order, tolerance=tolerance, raise_exception=False)
            event(f"verdict: {result.verdict}")
            if result.verdict == "inconclusive":
                reject()
            if not result:
                raise GradcheckError(result)

        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return _settings(max_examples)(given(**drawn)(test))

    return decorate


def _settings(max_examples: int | None) -> settings:
    """The active profile, with no deadline, one failure reported, and more examples in a deep run."""
    profile = settings()
    examples = profile.max_examples if max_examples is None else max_examples
    return settings(
        max_examples=effort.times(examples),
        derandomize=profile.derandomize and not effort.deep,
        deadline=None,
        report_multiple_bugs=False,
        phases=[phase for phase in profile.phases if phase is not Phase.explain],  # that would explain the checker
        suppress_health_check=list(HealthCheck),
    )


def _parameters(
    fn: Callable[..., Any], strategies: tuple[Any, ...], named: dict[str, Any]
) -> tuple[list[str], list[inspect.Parameter]]:
    """The names of the arguments that strategies draw in order, and all arguments that the test then has."""
    label = f"{getattr(fn, '__qualname__', fn)}{inspect.signature(fn)}"
    parameters = list(inspect.signature(fn).parameters.values())
    own = parameters[:1] if parameters and parameters[0].name == "self" else []
    plain = [p for p in parameters[len(own) :] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    extra = len(strategies) - len(plain)
    if extra > 0 and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        plain += [inspect.Parameter(f"arg{i}", inspect.Parameter.POSITIONAL_OR_KEYWORD) for i in range(extra)]
    in_order = [p.name for p in plain[: len(strategies)]]
    if len(strategies) > len(in_order):
        raise ArgumentError(
            f"check_gradients: {len(strategies)} strategies for the {len(in_order)} arguments of {label}"
        )
    if not strategies and not named:
        raise ArgumentError(f"check_gradients: no strategy given for {label}; try check_gradients(tg.testing.arrays())")
    for name in named:
        if name in in_order or name not in [p.name for p in plain]:
            raise ArgumentError(
                f"check_gradients: {name} {'is given twice' if name in in_order else f'is no argument of {label}'}"
            )
    for name, strategy in [*zip(in_order, strategies, strict=True), *named.items()]:
        if not isinstance(strategy, st.SearchStrategy):
            raise ArgumentError(
                f"check_gradients: {name} must be drawn by a strategy, such as arrays(), not {strategy!r}"
            )
    wanted = [p for p in plain if p.default is p.empty or p.name in in_order or p.name in named]
    return in_order, [*own, *(p.replace(kind=p.KEYWORD_ONLY, default=p.empty) for p in wanted)]
