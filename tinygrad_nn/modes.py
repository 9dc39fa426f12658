"""Whether operations are recorded (`no_grad`, `enable_grad`), and who looks on (inspectors).

The state is in context variables, so each thread (and each asyncio task) has its own, and a `with` block restores
what it found however it ends. `recording()` is False, True, or the tuple of inspectors that want to see each recorded
operation; so that looking on costs nothing where nobody does, operations ask `is not True` after they have recorded.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from .lines import Line, user_line

if TYPE_CHECKING:
    from .graph import AnyNode, Inspect, Unpack
    from .registry import Op

Inspectors = tuple["Inspector", ...]
_recording: ContextVar[bool | Inspectors] = ContextVar("tinygrad_nn_recording", default=True)
_inspectors: ContextVar[Inspectors] = ContextVar("tinygrad_nn_inspectors", default=())
_outer: ContextVar[Any] = ContextVar("tinygrad_nn_outer", default=None)  # what the modes entered here found: a chain
recording = _recording.get  # called by every operation, so nothing is wrapped around it

F = TypeVar("F", bound=Callable[..., Any])


def is_grad_enabled() -> bool:
    """Whether operations are being recorded here.

    >>> import tinygrad_nn as tg
    >>> with tg.no_grad():
    ...     tg.is_grad_enabled()
    False
    """
    return _recording.get() is not False


class Mode:
    """Context manager and decorator that changes the state, and puts back what it found.

    What it found is kept in the context, so one object may be entered inside itself, and in several threads at once.
    """

    def _change(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        _outer.set((_recording.get(), _inspectors.get(), _outer.get()))
        self._change()
        return self

    def __exit__(self, *exc: object) -> None:
        if (found := _outer.get()) is not None:  # None: entered in another context, as a generator may be
            _recording.set(found[0])
            _inspectors.set(found[1])
            _outer.set(found[2])

    def __call__(self, fn: F) -> F:
        """`fn`, run inside the mode."""
        if inspect.isgeneratorfunction(fn):
            # Only the generator's own steps run in the mode; its consumer, between two steps, does not.
            @functools.wraps(fn)
            def steps(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                generator = fn(*args, **kwargs)
                resume, value = generator.send, None
                while True:
                    try:
                        with self:
                            item = resume(value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        value, resume = (yield item), generator.send
                    except GeneratorExit:
                        with self:
                            generator.close()
                        raise
                    except BaseException as error:
                        value, resume = error, generator.throw

            return steps  # type: ignore[return-value]  # same call, typed by what it decorates

        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return fn(*args, **kwargs)

        return wrapped  # type: ignore[return-value]  # same call, typed by what it decorates


class _RecordingMode(Mode):
    """Sets recording on or off."""

    def __init__(self, *args: object) -> None:
        if args:
            raise TypeError(f"{type(self).__name__} takes no arguments; as a decorator write @{type(self).__name__}()")


class no_grad(_RecordingMode):
    """Operations inside are not recorded; results do not require gradients. `with no_grad():` or `@no_grad()`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    def _change(self) -> None:
        _recording.set(False)


class enable_grad(_RecordingMode):
    """Operations inside are recorded again, within a `no_grad` block. `with enable_grad():` or `@enable_grad()`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad(), tg.enable_grad():
    ...     y = x * x
    >>> y.requires_grad
    True
    """

    def _change(self) -> None:
        _recording.set(_inspectors.get() or True)


class Inspector(Mode):
    """A mode that looks on: subclasses override what they want to see. Inside, every recorded node knows its line.

    Inspectors nest; each sees everything, the outermost first. What they raise goes to the user.
    """

    def _change(self) -> None:
        inspectors = (*_inspectors.get(), self)
        _inspectors.set(inspectors)
        if _recording.get() is not False:
            _recording.set(inspectors)

    def recorded(self, op: Op, args: tuple[Any, ...], params: dict[str, Any], result: Any) -> None:
        """`op` has run on `args` with `params`, and made the Tensor `result` with its node."""

    def starts(self, nodes: Iterable[AnyNode]) -> None:
        """A backward walk is about to start at these nodes."""

    def pulled(self, node: AnyNode, i: int, g: Any, pulled: Any) -> None:
        """A backward walk made the cotangent `pulled` of argument `i` from `g`, that of the result of `node`."""

    def pushed(self, node: AnyNode, i: int, t: Any, pushed: Any) -> None:
        """A forward walk made `pushed`, a part of the tangent of `node`, from `t`, the tangent of argument `i`."""

    def ends(self, found: dict[AnyNode, Any]) -> None:
        """A walk is over: the cotangents of all leaves and targets it met, or the tangents of the results."""


class record_lines(Inspector):
    """Operations recorded inside know the line of the program that ran them, and errors of `backward` name it.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.autograd.record_lines():
    ...     y = x * x
    >>> y.backward()
    >>> y.backward()  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    tinygrad_nn.errors.GraphError: backward through multiply at file.py:12 (result float32()) a second time ...
    """


def notify(inspectors: Any, op: Op, args: tuple[Any, ...], params: dict[str, Any], result: Any) -> None:
    """Show a recorded operation to those that look on (`inspectors` is what `recording()` gave, and not a bool)."""
    walk = _walk.get()
    result._node.watched().line = user_line() if walk is None else walk.line()
    for inspector in inspectors:
        inspector.recorded(op, args, params, result)


class Walk:
    """A walk that inspectors look at. What it records has the line of the operation whose derivative it computes."""

    def __init__(self, inspectors: Inspectors, method: Literal["pulled", "pushed"], unpack: Any) -> None:
        base = getattr(Inspector, method)
        self._seen_by = [getattr(i, method) for i in inspectors if getattr(type(i), method) is not base]
        self._unpack = unpack
        self._method = method
        self._inspectors = inspectors
        self.notes: dict[Inspector, dict[AnyNode, Any]] = {i: {} for i in inspectors}  # what each wants to remember
        self._node: Any = None
        self._outer: Walk | None = None

    def __enter__(self) -> None:
        self._outer = _walk.get()
        _walk.set(self)

    def __exit__(self, *exc: object) -> None:
        _walk.set(self._outer)

    # Not attributes: methods that an object holds of itself are a cycle, which would keep graphs alive.

    @property
    def inspect(self) -> Inspect | None:
        """What the walk is to call at each step."""
        return self._show if self._seen_by else None

    @property
    def unpack(self) -> Any:
        """What the walk is to open nodes with."""
        return None if self._unpack is None else self._open

    def ends(self, found: dict[AnyNode, Any]) -> None:
        """Show what the walk found."""
        for inspector in self._inspectors:
            inspector.ends(found)

    def line(self) -> Line:
        """The line of the operation the walk has come to; if that is not known, of the walk."""
        line: Line | None = None if self._node is None else self._node.known.line
        if line is None:
            return user_line()
        kind = "backward" if self._method == "pulled" else "tangent"
        return Line(line.file, line.number, line.within or f" ({kind} of {self._node.op.name})")

    def _open(self, node: Any) -> Any:
        self._node = node
        return self._unpack(node)

    def _show(self, *step: Any) -> None:
        for see in self._seen_by:
            see(*step)


_walk: ContextVar[Walk | None] = ContextVar("tinygrad_nn_walk", default=None)
in_walk = _walk.get


def inspected_walk(method: Literal["pulled", "pushed"], nodes: Iterable[AnyNode], unpack: Unpack | None) -> Walk | None:
    """The walk from `nodes` as inspectors see it, to be entered before it; None where nobody looks on."""
    inspectors = _inspectors.get()
    if not inspectors:
        return None
    if method == "pulled":
        for inspector in inspectors:
            inspector.starts(nodes)
    return Walk(inspectors, method, unpack)
