"""`Tensor`, and `apply`, through which every operation runs.

A Tensor is two things: an array, and the graph node that made it (None when no gradient is wanted). Its operators and
array methods are the public functions themselves, put on the class by `methods.py`; the declarations here are for
readers and type checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from . import graph, sums, views
from .errors import (
    ArgumentError,
    BatchError,
    DTypeError,
    FloatFlag,
    GraphError,
    TinygradError,
    describe,
    operation_error,
)
from .graph import Leaf, Node, Watch
from .lines import user_line
from .memory import keep_freed_memory
from .modes import inspected_walk, is_grad_enabled, notify, recording
from .registry import OPS, TWINS, Op, Spec
from .strong_zero import Careful

if TYPE_CHECKING:
    from ._types import ArrayLike, Axis, DTypeLike, Index, Shape

_default_dtype: np.dtype[Any] = np.dtype(np.float32)
keep_freed_memory()


def set_default_dtype(dtype: DTypeLike) -> None:
    """Set the dtype that Python floats become; float32 at the start.

    >>> import tinygrad_nn as tg
    >>> tg.tensor(0.5).dtype
    dtype('float32')
    """
    global _default_dtype
    chosen = np.dtype(dtype)
    if chosen.kind != "f":
        raise DTypeError(f"set_default_dtype: {chosen} is not a floating dtype; use float16, float32 or float64")
    _default_dtype = chosen


def get_default_dtype() -> np.dtype[Any]:
    """The dtype that Python floats become.

    >>> import tinygrad_nn as tg
    >>> tg.get_default_dtype()
    dtype('float32')
    """
    return _default_dtype


class Tensor:
    """An n-dimensional array that can record how it was computed.

    `data` is anything NumPy can make an array of; an ndarray with axes is shared, not copied. `dtype` defaults to the
    array's own, or for Python floats to the default dtype. With `requires_grad=True` (floating dtypes only) operations
    on the tensor are recorded, and `backward()` of a result leaves the gradient in `.grad`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = ("_data", "_node", "_sharing", "__weakref__")

    _data: Any  # an ndarray, or a NumPy scalar until `data` is asked for
    _node: Node | Leaf | None
    _sharing: views.Sharing | None  # what is known of others on the same memory

    def __init__(self, data: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> None:
        array = to_array(data, dtype)
        self._data = array[()] if array is data else held(array)  # what is shared as a view of the tensor's own
        self._node = self._sharing = None
        if isinstance(data, Tensor) and array is data._data:
            views.expose(data)
        if array is data or array.base is not None or isinstance(data, Tensor):
            views.sharing(self).exposed = True
        if requires_grad:
            self.requires_grad = True

    # -- what it holds ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The array itself: no copy, nothing recorded. Assigning replaces it."""
        array = self._array()
        self._hand_out(array)
        return array

    @data.setter
    def data(self, value: ArrayLike) -> None:
        array = to_array(value, None)
        if array is self._data:  # as `x.data += 1` assigns it
            graph.writes.note(array, "x.data op= value", user_line())
        else:
            if isinstance(value, Tensor):
                views.expose(value)
            self._set_array(array)
            views.expose(self)

    def _set_array(self, array: np.ndarray[Any, Any]) -> None:
        """Hold another array, which shares no memory with anything that the old one did."""
        if isinstance(self._node, Leaf):
            _require_floating(array.dtype)
            self._node.shape, self._node.dtype = array.shape, array.dtype
        views.part(self)
        self._data = array

    def _hand_out(self, array: np.ndarray[Any, Any]) -> None:
        """NumPy code gets hold of the array: recorded writes must reach it, and its own be noticed."""
        views.expose(self)
        graph.writes.lend(array, user_line())

    def _array(self) -> np.ndarray[Any, Any]:
        """`data`, for use inside the package that does not outlive the call."""
        array = self._data
        if type(array) is not ndarray and isinstance(array, np.generic):
            array = self._data = np.asarray(array)
        return array  # type: ignore[no-any-return]

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. Settable on tensors that no operation made."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value == (self._node is not None):
            return
        if isinstance(self._node, Node):
            raise GraphError(f"requires_grad: this is the result of {self._node.op.name}; use detach() instead")
        if value:
            _require_floating(self._data.dtype)
        self._node = Leaf(self._data.shape, self._data.dtype) if value else None
        if value and self._sharing is not None and self._sharing.exposed:
            self._node.open = True  # type: ignore[union-attr]  # just made

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return not isinstance(self._node, Node)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` accumulated: on leaves, and where `retain_grad` asked for it."""
        node = self._node
        if isinstance(node, Leaf):
            return _gradient_of(node)
        return None if node is None or node.watch is None else node.watch.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is None and self._node is None:
            return
        if isinstance(self._node, Node) and value is None:
            self._watch("grad").grad = None
            return
        if not isinstance(self._node, Leaf):
            raise GraphError("grad: only a leaf that requires a gradient has one that can be set")
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"grad: must be a Tensor or None, not {type(value).__name__}")
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise ArgumentError(f"grad: {describe(value)} given for a tensor {describe(self)}")
        self._node.grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self._data.dtype  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """The bytes that the elements take."""
        return self._data.nbytes  # type: ignore[no-any-return]

    @property
    def device(self) -> str:
        """Where the array lives: "cpu" for NumPy."""
        return str(getattr(self._data, "device", "cpu"))

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array, shared. A tensor that requires a gradient must be detached first, or the graph would be lost.

        >>> import tinygrad_nn as tg
        >>> tg.tensor([1.0, 2.0]).numpy()
        array([1., 2.], dtype=float32)
        """
        self._refuse_to_drop_graph("numpy()")
        return self.data

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self._data.size != 1:
            raise ArgumentError(f"item: {describe(self)} has {self.size} elements, not one")
        if isinstance(self._node, Node):
            sums.read(self._node)
        return self._data.item()

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self._data.tolist()

    # -- the graph ----------------------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """A tensor that shares the array and has no history."""
        twin = wrap(self._array(), None)
        views.sharing(twin).exposed = True
        views.expose(self)
        return twin

    def backward(
        self, gradient: ArrayLike | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf it depends on.

        `gradient` is the cotangent to start from, of this tensor's shape; it may be left out for a single element.
        The graph is freed as the walk goes unless `retain_graph`. With `create_graph` the walk is itself recorded, so
        that gradients can be differentiated again.
        """
        node = self._node
        if node is None:
            raise GraphError(
                f"backward: {describe(self)} requires no gradient: no input of it does, or it was made under "
                "no_grad, or from a gradient without create_graph=True"
            )
        retain = create_graph if retain_graph is None else retain_graph
        ends, owned = pull({node: seed(self, gradient)}, create=create_graph, free=not retain)
        for leaf, g in ends.items():
            if leaf.grad is None and not isinstance(g, Tensor):
                leaf.grad = g if leaf in owned else g.copy("K")
            else:
                _accumulate(leaf, g)

    def retain_grad(self) -> None:
        """Have `backward` add the gradient of this intermediate result to its `.grad`, too, as for a leaf."""
        self._watch("retain_grad").retain = isinstance(self._node, Node)

    def register_hook(self, fn: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call `fn` with the gradient of this tensor whenever one is computed; a returned tensor replaces it.

        >>> import tinygrad_nn as tg
        >>> x = tg.tensor(1.0, requires_grad=True)
        >>> handle = x.register_hook(lambda g: 10 * g)
        >>> (3 * x).backward()
        >>> x.grad
        tensor(30.)
        """
        watch = self._watch("register_hook")
        hooks = watch.hooks = {} if watch.hooks is None else watch.hooks
        key = graph.next_order()
        hooks[key] = fn
        return HookHandle(hooks, key)

    def _watch(self, name: str) -> Watch:
        if self._node is None:
            raise GraphError(f"{name}: {describe(self)} requires no gradient")
        return self._node.watched()

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def _refuse_to_drop_graph(self, what: str) -> None:
        if self._node is not None and is_grad_enabled():
            raise GraphError(
                f"{what}: this tensor requires a gradient, and an array would lose its history without a word. "
                "Use detach().numpy(), or .data."
            )

    # -- writing ------------------------------------------------------------------------------------------------------

    def __setitem__(self, index: Index, value: ArrayLike) -> None:
        """`x[index] = value`. Recorded as a functional update when a gradient is wanted, else written in place."""
        tracked = self._node is not None or (isinstance(value, Tensor) and value._node is not None)
        if tracked and is_grad_enabled():
            if not views.same_place(self, plain_index(index), value):
                result = OPS["index_update"].call(self, value, index=plain_index(index))
                views.write(self, result, "x[index] = value")
            return
        array = self._array()
        try:
            array[plain_index(index)] = value._data if isinstance(value, Tensor) else value
        except (TypeError, ValueError, IndexError) as error:
            raise operation_error("x[index] = value", (self, index, value), error) from None
        graph.writes.note(array, "x[index] = value", user_line())

    def _in_place(self, name: str, other: ArrayLike) -> Tensor:
        """`self op= other`: written into the array, or recorded and taken over when a gradient is wanted."""
        result = OPS[name].call(self, other)
        if not isinstance(result, Tensor):  # `other` refused
            return result  # type: ignore[no-any-return]
        if result.shape != self.shape:
            raise operation_error(f"in-place {name}", (self, other), ValueError(f"the result has shape {result.shape}"))
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise operation_error(f"in-place {name}", (self, other), TypeError(f"the result is {result.dtype}"))
        if result._node is not None or (self._node is not None and is_grad_enabled()):
            if name == "add" and isinstance(result._node, Node):
                sums.added(self._node, result._node.parents[1], result._node)
            if result.dtype != self.dtype:
                result = OPS["astype"].call(result, dtype=self.dtype)
            views.write(self, result, f"in-place {name}")
        else:
            array = self._array()
            try:
                array[...] = result._data
            except ValueError as error:  # read-only
                raise operation_error(f"in-place {name}", (self, other), error) from None
            graph.writes.note(array, f"in-place {name}", user_line())
        return self

    def __iadd__(self, other: ArrayLike) -> Tensor:
        return self._in_place("add", other)

    def __isub__(self, other: ArrayLike) -> Tensor:
        return self._in_place("subtract", other)

    def __imul__(self, other: ArrayLike) -> Tensor:
        return self._in_place("multiply", other)

    def __itruediv__(self, other: ArrayLike) -> Tensor:
        return self._in_place("divide", other)

    def __ipow__(self, other: ArrayLike) -> Tensor:
        return self._in_place("power", other)

    def __ifloordiv__(self, other: ArrayLike) -> Tensor:
        return self._in_place("floor_divide", other)

    def __imod__(self, other: ArrayLike) -> Tensor:
        return self._in_place("remainder", other)

    def __imatmul__(self, other: ArrayLike) -> Tensor:
        return self._in_place("matmul", other)

    def __iand__(self, other: ArrayLike) -> Tensor:
        return self._in_place("bitwise_and", other)

    def __ior__(self, other: ArrayLike) -> Tensor:
        return self._in_place("bitwise_or", other)

    def __ixor__(self, other: ArrayLike) -> Tensor:
        return self._in_place("bitwise_xor", other)

    # -- Python's protocols -------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        text = np.array2string(np.asarray(self._data), separator=", ", prefix="tensor(")
        dtype = self.dtype
        usual = dtype == _default_dtype or (dtype.kind in "ib" and dtype.itemsize in (1, 8) and dtype != np.int8)
        extra = "" if usual and self.size else f", dtype={dtype}"
        if not self.size:
            extra = f", shape={self.shape}{extra}"
        if isinstance(self._node, Node):
            extra += f", from {self._node.op.name}"
        elif self._node is not None:
            extra += ", requires_grad=True"
        return f"tensor({text}{extra})"

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ArgumentError(f"bool: {describe(self)} has {self.size} elements; use any() or all()")
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._data.ndim or self._data.dtype.kind not in "iu":
            raise TypeError(f"only a 0-d integer tensor is an index, not {describe(self)}")
        return int(self._data)

    def __contains__(self, value: ArrayLike) -> bool:
        return bool((self._data == (value._data if isinstance(value, Tensor) else value)).any())

    def __format__(self, spec: str) -> str:
        if spec and self._data.size == 1:
            return format(self.item(), spec)
        try:
            return format(repr(self), spec)
        except ValueError as error:
            raise ArgumentError(
                f"format: {spec!r} is for one number, and {describe(self)} has {self.size} elements ({error})"
            ) from None

    __hash__ = object.__hash__  # == compares elements, so identity is all a hash can go by

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A copy of the data (and of a leaf's gradient), never of the graph."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin._data = self._data.copy()
        twin._node = twin._sharing = None
        if isinstance(self._node, Leaf):
            twin.requires_grad = True
            twin.grad = None if self.grad is None else wrap(self.grad._data.copy(), None)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._array(), isinstance(self._node, Leaf))

    # -- NumPy's protocols --------------------------------------------------------------------------------------------

    __array_priority__ = 1000

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        self._refuse_to_drop_graph("array of a tensor")
        array = np.array(self._data, dtype=dtype, copy=copy)
        if array.base is self._data or array is self._data:
            self._hand_out(array)
        return array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = TWINS.get(ufunc)
        outs = kwargs.get("out", ())
        if method == "__call__" and any(isinstance(out, np.ndarray) for out in outs):
            raise TypeError(
                f"np.{ufunc.__name__} of a tensor, {', '.join(describe(i) for i in inputs)}, cannot be written into an "
                "ndarray, as by array -= tensor; use x.data for the array: p.data -= lr * p.grad.data, or under "
                "no_grad() write through the tensor: p -= lr * p.grad"
            )
        if function is None or method != "__call__" or kwargs:
            asked = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
            raise TypeError(
                f"{asked}({', '.join(describe(i) for i in inputs)}{', ' + ', '.join(kwargs) + '=' if kwargs else ''}): "
                "tensors support ufuncs that tinygrad_nn has, called plainly; use x.data for the array"
            )
        return function(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = TWINS.get(func)
        if function is None:
            place = func.__module__.replace("numpy", "np", 1)
            raise TypeError(
                f"{place}.{func.__name__}: tinygrad_nn has no differentiable twin of it; use x.data for the array"
            )
        return function(*args, **kwargs)

    # -- operators and methods: bound by methods.py -------------------------------------------------------------------

    if TYPE_CHECKING:

        def __add__(self, other: ArrayLike) -> Tensor: ...
        def __radd__(self, other: ArrayLike) -> Tensor: ...
        def __sub__(self, other: ArrayLike) -> Tensor: ...
        def __rsub__(self, other: ArrayLike) -> Tensor: ...
        def __mul__(self, other: ArrayLike) -> Tensor: ...
        def __rmul__(self, other: ArrayLike) -> Tensor: ...
        def __truediv__(self, other: ArrayLike) -> Tensor: ...
        def __rtruediv__(self, other: ArrayLike) -> Tensor: ...
        def __floordiv__(self, other: ArrayLike) -> Tensor: ...
        def __rfloordiv__(self, other: ArrayLike) -> Tensor: ...
        def __mod__(self, other: ArrayLike) -> Tensor: ...
        def __rmod__(self, other: ArrayLike) -> Tensor: ...
        def __pow__(self, other: ArrayLike) -> Tensor: ...
        def __rpow__(self, other: ArrayLike) -> Tensor: ...
        def __matmul__(self, other: ArrayLike) -> Tensor: ...
        def __rmatmul__(self, other: ArrayLike) -> Tensor: ...
        def __and__(self, other: ArrayLike) -> Tensor: ...
        def __rand__(self, other: ArrayLike) -> Tensor: ...
        def __or__(self, other: ArrayLike) -> Tensor: ...
        def __ror__(self, other: ArrayLike) -> Tensor: ...
        def __xor__(self, other: ArrayLike) -> Tensor: ...
        def __rxor__(self, other: ArrayLike) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __lt__(self, other: ArrayLike) -> Tensor: ...
        def __le__(self, other: ArrayLike) -> Tensor: ...
        def __gt__(self, other: ArrayLike) -> Tensor: ...
        def __ge__(self, other: ArrayLike) -> Tensor: ...
        def __eq__(self, other: ArrayLike) -> Tensor: ...  # type: ignore[override]  # element by element
        def __ne__(self, other: ArrayLike) -> Tensor: ...  # type: ignore[override]  # element by element
        def __getitem__(self, index: Index) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...
        @property
        def mT(self) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def square(self) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def sin(self) -> Tensor: ...
        def cos(self) -> Tensor: ...
        def tanh(self) -> Tensor: ...
        def sigmoid(self) -> Tensor: ...
        def relu(self) -> Tensor: ...
        def clip(self, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor: ...
        def sum(self, axis: Axis = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Axis = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor: ...
        def std(self, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
        def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
        def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
        def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
        def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def cumsum(self, axis: int | None = None) -> Tensor: ...
        def cumprod(self, axis: int | None = None) -> Tensor: ...
        def reshape(self, *shape: int | Sequence[int]) -> Tensor: ...
        def transpose(self, *axes: int | Sequence[int] | None) -> Tensor: ...
        def permute(self, *axes: int | Sequence[int]) -> Tensor: ...
        def flatten(self, start_axis: int = 0, end_axis: int = -1) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def squeeze(self, axis: Axis = None) -> Tensor: ...
        def expand_dims(self, axis: int | tuple[int, ...]) -> Tensor: ...
        def broadcast_to(self, shape: Shape) -> Tensor: ...
        def repeat(self, repeats: int | Sequence[int], axis: int | None = None) -> Tensor: ...
        def astype(self, dtype: DTypeLike) -> Tensor: ...
        def copy(self) -> Tensor: ...
        def take(self, indices: ArrayLike, axis: int | None = None) -> Tensor: ...
        def dot(self, b: ArrayLike) -> Tensor: ...
        def diagonal(self, offset: int = 0) -> Tensor: ...
        def trace(self, offset: int = 0) -> Tensor: ...


class HookHandle:
    """Takes a hook off again: `handle.remove()`, or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Take the hook off; doing so twice is harmless."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


# -- making tensors ---------------------------------------------------------------------------------------------------

_new = object.__new__


def wrap(data: Any, node: Node | Leaf | None) -> Tensor:
    """A Tensor of an array and its node, without any check."""
    t = _new(Tensor)
    t._data = data
    t._node = node
    t._sharing = None
    return t


def fresh(array: np.ndarray[Any, Any], requires_grad: bool = False) -> Tensor:
    """A leaf of an array that nobody else holds."""
    made = wrap(held(array), None)
    if requires_grad:
        made.requires_grad = True
    return made


def held(array: np.ndarray[Any, Any]) -> Any:
    """An array as a Tensor holds it: one without axes as a NumPy scalar, which computes five times faster."""
    return array if array.ndim else array[()]


def _rebuild(cls: type[Tensor], data: np.ndarray[Any, Any], requires_grad: bool) -> Tensor:
    t = _new(cls)
    t._data = data
    t._node = t._sharing = None
    t.requires_grad = requires_grad
    return t


def to_array(data: ArrayLike, dtype: DTypeLike | None) -> np.ndarray[Any, Any]:
    """`data` as an array: NumPy values keep their dtype, Python floats take the default one."""
    if isinstance(data, Tensor):
        data = data._array()
    if isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data, dtype=dtype)
    else:
        try:
            array = np.asarray(data)
        except GraphError:
            raise GraphError(
                "tensor: a list with tensors that require gradients, which an array would lose; join them with stack "
                "or concat, which keep their history"
            ) from None
        except (TypeError, ValueError) as error:
            raise operation_error("tensor", (data,), error) from None
        if dtype is not None:
            array = array.astype(dtype, copy=False)
        elif array.dtype == np.float64 and not _holds_numpy(data):
            array = array.astype(_default_dtype)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"tensor: {describe(data)} makes an array of dtype {array.dtype}, which holds no numbers")
    return array


def _holds_numpy(data: Any) -> bool:
    """Whether a nested sequence has NumPy values or tensors at its leaves, which keep their dtype."""
    while isinstance(data, Sequence) and len(data):
        data = data[0]
    return isinstance(data, np.ndarray | np.generic | Tensor) or hasattr(data, "__array__")


def _require_floating(dtype: np.dtype[Any]) -> None:
    if dtype.kind != "f":
        way = "keep real and imaginary part apart" if dtype.kind == "c" else "convert first, as with astype('float32')"
        raise DTypeError(f"requires_grad: {dtype} cannot have a gradient; {way}")


def tensor(data: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of a *copy* of `data`, without history (see `asarray` for one that shares).

    >>> import tinygrad_nn as tg
    >>> tg.tensor([[1, 2], [3, 4]], dtype="float32").shape
    (2, 2)
    """
    return fresh(to_array(data, dtype).copy(), requires_grad)


def asarray(data: ArrayLike, dtype: DTypeLike | None = None, copy: bool | None = None) -> Tensor:
    """`data` as a Tensor, sharing memory where it can; a Tensor keeps its history. `copy=True` copies.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(1.0, requires_grad=True)
    >>> tg.asarray(x) is x
    True
    """
    if isinstance(data, list | tuple) and _holds_tensor(data):
        data = OPS["stack"].call(*(asarray(item) for item in data), axis=0)
    if not isinstance(data, Tensor):
        return tensor(data, dtype) if copy else Tensor(data, dtype)
    if dtype is not None and data.dtype != np.dtype(dtype):
        return OPS["astype"].call(data, dtype=np.dtype(dtype))  # type: ignore[no-any-return]
    return OPS["copy"].call(data) if copy else data


def _holds_tensor(data: Any) -> bool:
    return any(isinstance(d, Tensor) or (isinstance(d, list | tuple) and _holds_tensor(d)) for d in data)


# -- running operations -----------------------------------------------------------------------------------------------


PLAIN = (np.ndarray, float, int, bool, complex, np.generic)  # arguments that forwards take as they are


def constant(value: Any, name: str = "") -> Any:
    """An argument (of the operation `name`) that is no Tensor, as forwards take it: numbers and arrays as they are."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, list | tuple | range):
        with np.errstate(over="warn", invalid="warn"):  # what was written so is no result of an operation
            return to_array(value, None)
    if hasattr(value, "__array_ufunc__") or hasattr(value, "__array_namespace__"):
        return value  # another library's array
    raise DTypeError(f"{name}{': ' if name else ''}{describe(value)} is neither a tensor nor an array nor a number")


def apply(op: Op, *args: Any, **params: Any) -> Any:
    """Run `op` on Tensors, arrays or numbers; record it when a Tensor among them wants a gradient.

    Without any Tensor among `args` the result is a plain array. (`declare.py` has shorter forms of this for one and
    two arguments without parameters.)
    """
    data: list[Any] = []
    nodes: list[Node | Leaf | None] = []
    mask, bit, plain, outside = 0, 1, True, 0  # sets of arguments: tracked; this one; known to NumPy code as well
    try:
        for a in args:
            if isinstance(a, Tensor):
                plain, node = False, a._node
                data.append(a._data)
                nodes.append(node)
                if node is not None:
                    mask |= bit
                    if node.open:
                        outside |= bit
                elif (sharing := a._sharing) is not None and sharing.exposed:
                    outside |= bit
            else:
                data.append(a if isinstance(a, PLAIN) else constant(a, op.name))
                nodes.append(None)
                if isinstance(a, ndarray):
                    outside |= bit
            bit <<= 1
    except BatchError as batch:
        return batch.run(op, args, params)
    try:
        y = op.forward(*data, **params) if params else op.forward(*data)
    except BatchError as batch:  # a parameter differs between the examples
        return batch.run(op, args, params)
    except FloatFlag as flag:
        if plain:
            raise
        y = flag.settle(op, args, params, mask and op.vjps and is_grad_enabled())
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise refused(op, args, error) from None
    if op.residual:
        y, params["residual"] = y
    if plain:
        return y
    shares = y.base is not None or y is data[0]  # maybe
    if not mask or not op.vjps or not (mode := recording()):
        out = wrap(y, None)
        if shares:
            views.link(out, args[0], op, params)
        return out
    keep_y, unread = op.keeps(mask, len(data))
    for i in unread:
        data[i] = nodes[i] or Spec(np.shape(data[i]), np.result_type(data[i]))
    made = Node()
    made.order = graph.next_order()
    made.op = op
    made.parents = tuple(nodes)
    made.saved = (y if keep_y else None, *data)
    made.params = params
    made.shape = y.shape
    made.dtype = y.dtype
    made.watch = None
    out = _new(Tensor)
    out._data = y
    out._node = made
    out._sharing = None
    look = bool(outside)
    if op.takes_arrays:
        for value in params.values():
            look |= type(value) is ndarray or type(value) is tuple  # which may hold one
    if look:
        views.guard(made, outside)
    if shares:
        views.link(out, args[0], op, params)
    if mode is not True:
        notify(mode, op, args, params, out)
    return out


def refused(op: Op, args: tuple[Any, ...], cause: Exception) -> Exception:
    """The error to raise when the forward of `op` failed: its own if worded already, else one naming what was given."""
    return cause if isinstance(cause, TinygradError) else operation_error(op.name, args, cause)


def plain_index(index: Index) -> Any:
    """An index as NumPy takes it: arrays in place of Tensors and lists."""
    if isinstance(index, tuple):
        return tuple(plain_index(i) for i in index)
    if isinstance(index, Tensor):
        try:
            return index._data
        except BatchError:
            return index  # inside vmap: `getitem` knows what to do
    return np.asarray(index, None if len(index) else np.intp) if isinstance(index, list) else index


# -- walking the graph ------------------------------------------------------------------------------------------------


def seed(output: Tensor, gradient: ArrayLike | None) -> Any:
    """The cotangent to start from: `gradient` checked, or 1 for a single element."""
    if gradient is None:
        shape = output.shape
        if not shape:
            return output.dtype.type(1)
        if output.size != 1:
            raise GraphError(
                f"backward: {describe(output)} has {output.size} elements, so say what to start from, with gradient= "
                "of backward() or grad_outputs= of grad() (for the sum of all: tg.ones_like(y))"
            )
        return np.ones(shape, output.dtype)
    if isinstance(gradient, Tensor) and gradient._node is not None:
        start: Any = gradient if gradient.dtype == output.dtype else OPS["astype"].call(gradient, dtype=output.dtype)
    else:
        start = np.asarray(to_array(gradient, None), output.dtype)
    if start.shape != output.shape:
        raise ArgumentError(
            f"backward: the gradient {describe(start)} must have the shape of the tensor {describe(output)}"
        )
    return start


def pull(
    seeds: dict[Any, Any],
    *,
    create: bool,
    free: bool,
    targets: frozenset[Any] = frozenset(),
    wanted: set[Any] | None = None,
) -> tuple[dict[Any, Any], set[Any]]:
    """Run `graph.reverse` on arrays, or with `create` on Tensors so that the walk is recorded."""
    for node, g in seeds.items():
        if isinstance(g, Tensor) is not create:
            seeds[node] = wrap(g.copy(), None) if create else g._data  # a copy, as what is recorded keeps it
    unpack = recorded if create else None
    careful, walk = Careful(seeds), inspected_walk("pulled", seeds, unpack)
    if walk is not None:
        walk.__enter__()
    try:
        ends, owned = graph.reverse(
            seeds,
            targets=targets,
            wanted=wanted,
            unpack=unpack if walk is None else walk.unpack,
            fit=_fit,
            observe=_observe,
            careful=careful,
            free=free,
            inspect=None if walk is None else walk.inspect,
        )
        if walk is not None:
            walk.ends(ends)
        return ends, owned
    except Exception as error:
        _say_where(error)
        raise
    finally:
        careful.close()
        if walk is not None:
            walk.__exit__()


def _say_where(error: Exception) -> None:
    """Note on an error of a walk at which operation it was."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is graph.reverse.__code__:
            node = trace.tb_frame.f_locals.get("node")
            if isinstance(node, Node) and node.name not in str(error):
                error.add_note(f"In backward of {node.name}.")
        trace = trace.tb_next


def recorded(node: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The saved values of a node as Tensors linked into the graph, so that what the rules do is recorded."""
    saved = node.saved
    assert saved is not None
    y = None if saved[0] is None else wrap(saved[0], node)
    args = (a if p is None or a is p else wrap(a, p) for a, p in zip(saved[1:], node.parents, strict=True))
    params = {**node.params, "residual": None} if node.op.residual else node.params
    return (y, *args), params


def _fit(g: Any, node: Node | Leaf) -> Any:
    """A cotangent summed over broadcast axes, in the dtype of its node."""
    if isinstance(g, graph.Scatter) and g.shape == node.shape:  # the leaf was given another dtype meanwhile
        return graph.Scatter(g.index, g.values.astype(node.dtype), g.shape, g.add)
    if g.shape != node.shape:
        op = OPS["sum_to"]
        g = (op.call if isinstance(g, Tensor) else op.forward)(g, shape=node.shape)
    return g if g.dtype == node.dtype else OPS["astype"].call(g, dtype=node.dtype)


def _observe(node: Node | Leaf, g: Any) -> Any:
    """Run the hooks of a node on its gradient, and keep it if that was asked."""
    watch = node.watch
    assert watch is not None
    t = g if isinstance(g, Tensor) else wrap(_read_only(g), None)
    for hook in list((watch.hooks or {}).values()):
        replaced = hook(t)
        if replaced is not None:
            t = asarray(replaced, node.dtype)
            if t.shape != node.shape:
                raise ArgumentError(f"hook: returned {describe(replaced)} for a gradient of shape {node.shape}")
    if watch.retain:
        kept = wrap(np.copy(t._data, order="K"), None) if t._node is None else t
        watch.grad = kept if watch.grad is None else watch.grad + kept
    return t if isinstance(g, Tensor) else t._data


def own(g: Tensor) -> Tensor:
    """A recorded gradient in memory of its own: that of another input may be the same tensor."""
    if type(g) is not Tensor or type(g._node) is Leaf:
        return OPS["copy"].call(g)  # type: ignore[no-any-return]
    return wrap(g._data.copy(), g._node)


def _read_only(g: Any) -> Any:
    """A view that cannot be written through: other gradients of the walk may share the memory of `g`."""
    if isinstance(g, np.ndarray):
        g = g[...]
        g.flags.writeable = False
    return g


def _gradient_of(leaf: Leaf) -> Tensor | None:
    """The gradient of a leaf, which becomes a Tensor when someone asks for it."""
    if leaf.grad is not None and not isinstance(leaf.grad, Tensor):
        leaf.grad = wrap(leaf.grad, None)
    return leaf.grad


def _accumulate(leaf: Leaf, g: Any) -> None:
    """Add a gradient to a leaf's, into the same memory where nothing is recorded."""
    old = _gradient_of(leaf)
    if old is None:
        leaf.grad = own(g)
    elif isinstance(g, Tensor) or old._node is not None:
        leaf.grad = old + g
    elif old.shape != g.shape:
        raise ArgumentError(
            f"backward: a gradient {describe(g)} for a tensor whose .grad is {describe(old)}: it was given another "
            "array since. Call zero_grad() first"
        )
    else:
        total = old._array()
        total += g
        graph.writes.note(total, "backward, adding to .grad,")
