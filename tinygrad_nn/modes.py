"""Whether operations are recorded: `no_grad`, `enable_grad`, `is_grad_enabled`.

The state is a context variable, so each thread (and each asyncio task) has its own, and a `with` block restores what
it found however it ends.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

_recording: ContextVar[bool] = ContextVar("tinygrad_nn_recording", default=True)
is_grad_enabled = _recording.get  # called by every operation, so nothing is wrapped around it

F = TypeVar("F", bound=Callable[..., Any])


class _RecordingMode:
    """Context manager and decorator that sets recording to `enabled` and puts back what it found."""

    enabled: bool

    def __init__(self, *args: object) -> None:
        if args:
            raise TypeError(f"{type(self).__name__} takes no arguments; as a decorator write @{type(self).__name__}()")
        self._outer: list[bool] = []  # a stack: one instance may be entered again inside itself

    def __enter__(self) -> None:
        self._outer.append(_recording.get())
        _recording.set(self.enabled)

    def __exit__(self, *exc: object) -> None:
        _recording.set(self._outer.pop())

    def __call__(self, fn: F) -> F:
        mode = type(self)
        if inspect.isgeneratorfunction(fn):
            # Only the generator's own steps run in the mode; its consumer, between two steps, does not.
            @functools.wraps(fn)
            def steps(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                generator = fn(*args, **kwargs)
                resume, value = generator.send, None
                while True:
                    try:
                        with mode():
                            item = resume(value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        value, resume = (yield item), generator.send
                    except GeneratorExit:
                        with mode():
                            generator.close()
                        raise
                    except BaseException as error:
                        value, resume = error, generator.throw

            return steps  # type: ignore[return-value]  # same call, typed by what it decorates

        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with mode():
                return fn(*args, **kwargs)

        return wrapped  # type: ignore[return-value]  # same call, typed by what it decorates


class no_grad(_RecordingMode):
    """Operations inside are not recorded; results do not require gradients. `with no_grad():` or `@no_grad()`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    enabled = False


class enable_grad(_RecordingMode):
    """Operations inside are recorded again, within a `no_grad` block. `with enable_grad():` or `@enable_grad()`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad(), tg.enable_grad():
    ...     y = x * x
    >>> y.requires_grad
    True
    """

    enabled = True
