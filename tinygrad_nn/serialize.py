"""`save` and `load`: nested containers of Tensors, arrays and plain values in one `.npz` file, without pickle.

The file is a zip archive that `numpy.load` reads, too: one `.npy` member per array, named after its place in the tree,
and a member `__tree__.json` with everything else. In it a list is a JSON list, and an object has one key that says what
it is: `{"dict": [[key, value], ...]}`, `{"tuple": [...]}`, `{"complex": [re, im]}`, `{"array": member}`,
`{"scalar": member}`, `{"tensor": member}`, `{"leaf": member}` (a tensor that requires a gradient).
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .data.files import replacing
from .errors import ArgumentError, DataError
from .tensor import Tensor
from .tree import describe_path

if TYPE_CHECKING:
    from zipfile import ZipFile

    from ._types import Array

TREE = "__tree__.json"
FORMAT = "tinygrad_nn 1"
KINDS = "biufcmMSU"  # what an .npy file holds without pickle
MAX_DEPTH = 100


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write `tree` into the file `path`, named as given, for `load` to read.

    `tree` is nested dicts (keys: strings, numbers, booleans, None), lists and tuples of Tensors, NumPy arrays and
    scalars, numbers, strings, booleans and None. Tensors are written without their history. The file takes its place
    whole: a save that fails, for whatever reason, leaves the old one. Raises `ArgumentError` for what cannot be stored,
    and says where in the tree it is.

    >>> import os, tempfile
    >>> import tinygrad_nn as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> tg.save(path, {"w": tg.ones((2, 3)), "epoch": 7})
    >>> tg.load(path)["w"].shape
    (2, 3)
    """
    import json
    from zipfile import ZipFile, ZipInfo

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"save: the path comes first, then what to save, not {type(path).__name__} as the path")
    members: dict[str, Array] = {}
    text = json.dumps({"format": FORMAT, "tree": _encode(tree, (), members)})
    # Members are stored as they are (weights hardly compress) and carry no date: equal trees give equal files.
    with replacing(path) as file, ZipFile(file, "w") as archive:
        archive.writestr(ZipInfo(TREE), text)
        for name, array in members.items():
            with archive.open(ZipInfo(name), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: str | os.PathLike[str]) -> Any:
    """The tree that `save` wrote into `path`; Tensors come back as Tensors, arrays as arrays, all with dtype and shape.

    Runs no code from the file. Raises `DataError` with the reason for a file that is truncated, damaged, or was not
    written by `save`.

    >>> import os, tempfile
    >>> import tinygrad_nn as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "state.npz")
    >>> tg.save(path, {"loss": [0.5, 0.25], "x": tg.tensor(1.5)})
    >>> tg.load(path)
    {'loss': [0.5, 0.25], 'x': tensor(1.5)}
    """
    from zipfile import BadZipFile, ZipFile

    with open(path, "rb") as file:
        try:
            with ZipFile(file) as archive:
                return _decode(_read_tree(archive, os.fstat(file.fileno()).st_size), archive, 0)
        except BadZipFile as error:
            raise DataError(f"load: {path} is truncated, damaged, or no .npz file: {error}") from None
        except DataError as error:
            raise DataError(f"load: {path} {error}") from None
        except Exception as error:  # a damaged archive can fail with nearly anything
            raise DataError(f"load: {path} is damaged: {type(error).__name__}: {error}") from None


def _encode(value: Any, path: tuple[Any, ...], members: dict[str, Array]) -> Any:
    """`value` as JSON; its arrays go into `members`."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if isinstance(value, Tensor):
        return {"leaf" if value.requires_grad and value.is_leaf else "tensor": _add(value._array(), path, members)}
    if isinstance(value, np.generic):
        return {"scalar": _add(np.asarray(value), path, members)}
    if kind is np.ndarray or kind is np.memmap:
        return {"array": _add(value, path, members)}
    if len(path) >= MAX_DEPTH:
        raise ArgumentError(f"save: more than {MAX_DEPTH} containers inside each other, or one inside itself")
    if isinstance(value, dict):
        for key in value:
            if key is not None and type(key) not in (bool, int, float, str):
                raise ArgumentError(
                    f"save: at {describe_path(path)}, a key {key!r:.60}: {type(key).__name__} is no key"
                )
        return {"dict": [[key, _encode(item, (*path, key), members)] for key, item in value.items()]}
    if kind is list or kind is tuple:
        items = [_encode(item, (*path, i), members) for i, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    raise ArgumentError(f"save: at {describe_path(path)}, a {kind.__name__} cannot be stored: {value!r:.100}")


def _add(array: Array, path: tuple[Any, ...], members: dict[str, Array]) -> str:
    """Give `array` a member name made of its path, which is for readers; only that it is unique counts."""
    if array.dtype.kind not in KINDS:
        raise ArgumentError(f"save: at {describe_path(path)}, an array of dtype {array.dtype} cannot be stored")
    readable = "/".join([re.sub(r"[^A-Za-z0-9_.-]", "_", str(key)) for key in path])[-200:] or "root"
    name, n = f"{readable}.npy", 1
    while name in members:
        n += 1
        name = f"{readable}~{n}.npy"
    members[name] = array
    return name


def _read_tree(archive: ZipFile, size: int) -> Any:
    import json

    if TREE not in archive.namelist():
        raise DataError(f"was not written by tinygrad_nn.save: it has no member {TREE}")
    for info in archive.infolist():
        if info.compress_type or info.file_size > size:  # never ask for more memory than the file has bytes
            raise DataError(f"was not written by tinygrad_nn.save: {info.filename} is compressed, or its size is wrong")
    header = json.loads(archive.read(TREE))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"is of another format than {FORMAT!r}: written by a later version?")
    return header["tree"]


def _decode(value: Any, archive: ZipFile, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise DataError("nests too deep")
    if isinstance(value, list):
        return [_decode(item, archive, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _decode(item, archive, depth + 1) for key, item in content}
    if kind == "tuple":
        return tuple([_decode(item, archive, depth + 1) for item in content])
    if kind == "complex":
        return complex(*content)
    array = _read_array(archive, content)
    if kind == "array":
        return array
    if kind == "scalar":
        return array[()]
    if kind in ("tensor", "leaf"):
        return Tensor(array, requires_grad=kind == "leaf")
    raise DataError(f"holds a {kind!r}, which this version does not know")


def _read_array(archive: ZipFile, name: str) -> Array:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"has a member {name} in version {version} of the .npy format")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
        if dtype.kind not in KINDS:
            raise DataError(f"has a member {name} of dtype {dtype}, which is not read")
        if math.prod(shape) * dtype.itemsize != archive.getinfo(name).file_size - member.tell():
            raise DataError(f"has a member {name} whose header does not fit its size: {dtype}{shape}")
        member.seek(0)
        array: Array = np.lib.format.read_array(member, allow_pickle=False)  # to its end, where the checksum is checked
    return array
