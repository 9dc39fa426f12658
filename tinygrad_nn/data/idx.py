"""IDX, the format of the MNIST files: a magic number, the length of each axis, the elements in big-endian order.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import numpy as np

from .._types import Array
from ..errors import DataError

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MAX_DEFLATE_RATIO = 1032  # zlib's technical notes: no deflate stream grows by more


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, plain or gzip-compressed, in native byte order.

    The dtypes are those of the format: uint8, int8, int16, int32, float32, float64. Raises `DataError` with the reason
    for a file that is no IDX file, that is damaged, or that holds fewer or more bytes than its header says; no more
    than that is ever decompressed.

    >>> import tempfile, pathlib
    >>> import tinygrad_nn as tg
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "three.idx"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1]) + bytes([0, 0, 0, 3]) + bytes([7, 8, 9]))
    >>> tg.data.read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    with decompressed(path) as (stream, most):
        magic = stream.read(4)
        if len(magic) < 4:
            raise DataError(f"read_idx: {path} is truncated: {len(magic)} bytes, where the magic number takes 4")
        code, ndim = magic[2], magic[3]
        if magic[:2] != b"\0\0" or code not in DTYPES:
            raise DataError(f"read_idx: {path} is no IDX file: it starts with {magic!r}")
        lengths = stream.read(4 * ndim)
        if len(lengths) < 4 * ndim:
            raise DataError(f"read_idx: {path} is truncated inside its header of {ndim} axes")
        shape = struct.unpack(f">{ndim}I", lengths)
        dtype = np.dtype(DTYPES[code])
        size = math.prod(shape) * dtype.itemsize
        says = f"its header says {dtype.newbyteorder('=')}{shape}, which takes {size} bytes"
        if size > most:  # before memory for it is asked for
            raise DataError(f"read_idx: {path} is truncated: {says}, more than the file can hold")
        data = bytearray(stream.read(size))
        if len(data) < size:
            raise DataError(f"read_idx: {path} is truncated: {says}, but only {len(data)} follow")
        if stream.read(1):
            raise DataError(f"read_idx: {path} is oversized: {says}, but more follow")
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:
        raise DataError(f"read_idx: {path}: NumPy cannot hold an array of {ndim} axes: {error}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def decompressed(path: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of a file, decompressed if it is gzip, and how many there can be at most.

    A damaged gzip file raises `DataError`, whenever in the block that is found.
    """
    most = os.stat(path).st_size
    with open(path, "rb") as raw:
        if raw.peek(2)[:2] != GZIP_MAGIC:
            yield raw, most
            return
        import gzip
        import zlib

        try:
            with gzip.open(raw) as stream:
                yield cast("IO[Any]", stream), most * MAX_DEFLATE_RATIO
        except EOFError:
            raise DataError(f"{path} is truncated: its gzip stream ends early") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is damaged: {error}") from None
