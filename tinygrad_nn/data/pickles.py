"""Reading weights from pickles, without running any code that the file names.

A pickle is a program that builds objects by calling what it names. Here every name but those that NumPy's arrays need
is refused, and those few stand for inert objects of this file: NumPy itself is called only at the end, with values that
were checked (its own unpickling trusts the file: a forged dtype makes it read any address).
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..errors import DataError

MAX_BYTES = 1 << 30
MAX_DEPTH = 100
CONTAINERS = (list, tuple, dict, set, frozenset)
PLAIN = (type(None), bool, int, float, str, bytes, bytearray)
NUMBERS = {"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))}
NUMBERS |= {"f2", "f4", "f8", "f12", "f16", "c8", "c16", "c24", "c32"}
FORBIDDEN_OPCODES = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """What a pickle of NumPy arrays holds: arrays and plain values in lists, tuples, dicts and sets.

    Reads what NumPy 1 and 2 write in every pickle protocol, and Python 2's pickles (its strings are taken as Latin-1).
    Runs nothing that the file asks for: whatever else it names is a `DataError` that says what, and so are arrays of
    objects, damaged files, and files beyond 1 GiB.

    >>> import pickle, tempfile, pathlib
    >>> import numpy as np, tinygrad_nn as tg
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.pkl"
    >>> _ = path.write_bytes(pickle.dumps({"W1": np.ones((2, 3))}))
    >>> tg.data.load_pickle(path)["W1"].shape
    (2, 3)
    >>> _ = path.write_bytes(pickle.dumps(print))
    >>> tg.data.load_pickle(path)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    tinygrad_nn.errors.DataError: load_pickle: weights.pkl names builtins.print, ...
    """
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            allowed = ALLOWED.get(f"{module}.{name}")
            if allowed is None:
                raise DataError(
                    f"names {module}.{name}, which no pickle of NumPy arrays needs: it may be an attempt to run code, "
                    "and was not followed"
                )
            return allowed

    size = os.stat(path).st_size
    if size > MAX_BYTES:
        raise DataError(f"load_pickle: {path} has {size} bytes; at most {MAX_BYTES} are read")
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES)
    try:
        _scan(data)
        return _finished(Unpickler(io.BytesIO(data), encoding="latin-1").load(), {}, 0)
    except DataError as error:
        raise DataError(f"load_pickle: {path} {error}") from None
    except Exception as error:  # a damaged pickle can fail with nearly anything
        raise DataError(f"load_pickle: {path} is no pickle, or is damaged: {type(error).__name__}: {error}") from None


def _scan(data: bytes) -> None:
    """Refuse what must not even be tried: foreign references, and memory asked for that the file cannot fill."""
    import pickletools

    opcodes = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
    stream = io.BytesIO(data)
    while code := stream.read(1):
        opcode = opcodes[code[0]]
        argument: Any = None
        if opcode.name == "STRING":
            stream.readline()  # pickletools wants ASCII here, and Python 2 wrote any bytes
        elif opcode.arg is not None:
            argument = opcode.arg.reader(stream)
        if opcode.name in FORBIDDEN_OPCODES:
            raise DataError(f"refers to an object outside the file ({opcode.name} before byte {stream.tell()})")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise DataError(f"wants room for {argument} objects in {len(data)} bytes")
        if opcode.name == "STOP":
            break
    if stream.tell() < len(data):
        raise DataError(f"has {len(data) - stream.tell()} bytes after its end")


class _Inert:
    """What an allowed name stands for. A pickle can call it, and cannot change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise DataError("tries to change a function")


class _DType:
    """A dtype in the making: `dtype('f4')`, then its state, which tells the byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not (isinstance(code, str) and code in NUMBERS):
            raise DataError(f"holds an array of dtype {code!r}, where only numbers and booleans can be read")
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise DataError(f"holds a dtype {self.code} of byte order {order!r:.40}")
        self.order = order

    def finished(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """An array in the making: created empty, then its state tells what it holds."""

    __slots__ = ("shape", "dtype", "order", "axes", "content")

    def __init__(self) -> None:
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        if len(state) == 5:  # the first tells the version of this form; NumPy's first release had none
            state = state[1:]
        self.shape, self.dtype, fortran, self.content = state
        self.order, self.axes = "F" if fortran else "C", None

    def finished(self) -> Any:
        content, shape = self.content, self.shape
        if isinstance(content, str):  # Python 2's bytes
            content = content.encode("latin-1")
        if not isinstance(content, bytes | bytearray) or not isinstance(self.dtype, _DType):
            raise DataError("holds an array without content, or of something else than numbers")
        dtype = self.dtype.finished()
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise DataError(f"holds an array of shape {shape!r:.200}")
        if math.prod(shape) * dtype.itemsize != len(content):
            raise DataError(f"holds an array {dtype}{shape} with {len(content)} bytes")
        array = np.frombuffer(bytearray(content), dtype)
        if self.axes is not None:
            return array.reshape(shape).transpose(self.axes)
        return array.reshape(shape, order="F" if self.order == "F" else "C")


class _Scalar(_Array):
    """A NumPy scalar in the making."""

    __slots__ = ()

    def __init__(self, dtype: Any, content: Any) -> None:
        self.shape, self.dtype, self.order, self.axes, self.content = (), dtype, "C", None, content

    def finished(self) -> Any:
        return super().finished()[()]


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    if subtype is not NDARRAY:
        raise DataError("holds an array of another class than numpy.ndarray")
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    array = _Array()
    array.shape, array.dtype, array.order, array.axes, array.content = shape, dtype, order, axes, content
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes: as text to be encoded."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DataError(f"encodes something with {encoding!r:.40}")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    """How protocols 0 to 2 write bytes of which there are none: as a call of `bytes`."""
    return b""


def _no_call(*args: Any) -> NoReturn:
    raise DataError("calls numpy.ndarray")


NDARRAY = _Inert(_no_call)
ALLOWED = {"numpy.ndarray": NDARRAY, "numpy.dtype": _Inert(_DType), "_codecs.encode": _Inert(_encode)}
for _builtins in ("__builtin__", "builtins"):  # protocols 0 to 2, protocol 3
    ALLOWED[f"{_builtins}.bytes"] = _Inert(_empty_bytes)
for _core in ("numpy.core", "numpy._core"):  # NumPy 1, NumPy 2
    ALLOWED[f"{_core}.multiarray._reconstruct"] = _Inert(_reconstruct)
    ALLOWED[f"{_core}.multiarray.scalar"] = _Inert(_Scalar)
    ALLOWED[f"{_core}.numeric._frombuffer"] = _Inert(_from_buffer)


def _finished(value: Any, done: dict[int, tuple[Any, Any]], depth: int) -> Any:
    """`value` with real arrays for those in the making. What occurs twice is made once (`done`: id to old and new)."""
    if type(value) in PLAIN:
        return value
    if id(value) in done:
        made = done[id(value)][1]
        if made is None:
            raise DataError("holds a container that contains itself")
        return made
    if depth > MAX_DEPTH:
        raise DataError(f"nests deeper than {MAX_DEPTH} containers")
    done[id(value)] = value, None
    kind = type(value)
    made = None
    if isinstance(value, _Array):
        made = value.finished()
    elif kind is dict:
        made = {_finished(k, done, depth + 1): _finished(v, done, depth + 1) for k, v in value.items()}
    elif kind in CONTAINERS:
        made = kind([_finished(item, done, depth + 1) for item in value])
    else:
        raise DataError(f"holds a bare {kind.__name__.strip('_')}, which is no value")
    done[id(value)] = value, made
    return made
