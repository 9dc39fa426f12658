"""`check_gradients`: draw inputs, check the gradients there, and shrink a failure to the smallest input that shows it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, event, given, reject, settings, strategies as st

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
        drawn = _by_name(fn, strategies, named)

        @functools.wraps(fn)
        def test(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            names = list(kwargs)

            def body(*values: Any) -> Any:
                return fn(*args, **dict(zip(names, values, strict=True)))

            inputs = tuple(kwargs.values())
            result = gradcheck(body, inputs, order=order, tolerance=tolerance, raise_exception=False)
            event(f"verdict: {result.verdict}")
            if result.verdict == "inconclusive":
                reject()
            if not result:
                raise GradcheckError(result)

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
        suppress_health_check=list(HealthCheck),
    )


def _by_name(
    fn: Callable[..., Any], strategies: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, st.SearchStrategy[Any]]:
    """The strategies by the name of the argument that they draw."""
    label = getattr(fn, "__qualname__", repr(fn))
    parameters = list(inspect.signature(fn).parameters)
    if parameters[:1] == ["self"]:
        parameters = parameters[1:]
    if len(strategies) > len(parameters):
        raise ArgumentError(f"check_gradients: {len(strategies)} strategies, but {label} takes {len(parameters)} arguments")
    drawn = dict(zip(parameters, strategies, strict=False))
    for name, strategy in named.items():
        if name in drawn or name not in parameters:
            why = "is given twice" if name in drawn else f"is no argument of {label}({', '.join(parameters)})"
            raise ArgumentError(f"check_gradients: {name} {why}")
        drawn[name] = strategy
    if not drawn:
        raise ArgumentError(f"check_gradients: no strategy given for {label}; try check_gradients(tg.testing.arrays())")
    for name, strategy in drawn.items():
        if not isinstance(strategy, st.SearchStrategy):
            raise ArgumentError(f"check_gradients: {name} must be drawn by a strategy, such as arrays(), not {strategy!r}")
    return drawn
