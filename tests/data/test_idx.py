"""The IDX reader: every dtype, plain and gzip, and files that are not what they say."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_nn.data import read_idx
from tinygrad_nn.errors import DataError

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx_bytes(array):
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


SMALL = idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3))


def read(folder, data):
    path = folder / "file"
    path.write_bytes(data)
    return read_idx(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


@given(
    st.sampled_from(sorted(CODES)).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))),
    st.booleans(),
)
def test_reads_what_was_written(folder, array, compress):
    data = idx_bytes(array)
    result = read(folder, gzip.compress(data) if compress else data)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.flags.writeable
    np.testing.assert_array_equal(result, array)


def test_known_bytes(tmp_path):
    data = bytes.fromhex("00000b02 00000002 00000002 0001 0002 ffff 0100")
    np.testing.assert_array_equal(read(tmp_path, data), [[1, 2], [-1, 256]])


@pytest.mark.parametrize("length", range(len(SMALL)))
def test_every_truncation_is_told(tmp_path, length):
    with pytest.raises(DataError, match=r"file is truncated"):
        read(tmp_path, SMALL[:length])


@pytest.mark.parametrize("length", range(2, len(gzip.compress(SMALL))))
def test_every_truncation_of_gzip_is_told(tmp_path, length):
    with pytest.raises(DataError, match=r"file is truncated"):
        read(tmp_path, gzip.compress(SMALL)[:length])


def test_oversized(tmp_path):
    reason = r"file is oversized: its header says int16\(2, 3\), which takes 12 bytes, but more follow"
    with pytest.raises(DataError, match=reason):
        read(tmp_path, SMALL + b"\0")
    with pytest.raises(DataError, match=reason):
        read(tmp_path, gzip.compress(SMALL + b"\0"))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"<html></html>", b"\0\0\x0a\1\0\0\0\0", b"\0\1\x08\1\0\0\0\0"])
def test_foreign(tmp_path, data):
    with pytest.raises(DataError, match="is no IDX file: it starts with b'"):
        read(tmp_path, data)


def test_damaged_gzip(tmp_path):
    data = bytearray(gzip.compress(SMALL))
    data[-6] ^= 1  # in the checksum
    with pytest.raises(DataError, match="is damaged: CRC check failed"):
        read(tmp_path, bytes(data))
    with pytest.raises(DataError, match="is damaged: "):
        read(tmp_path, b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff\xff\xff")
    with pytest.raises(DataError, match="is damaged: Not a gzipped file"):
        read(tmp_path, gzip.compress(SMALL) + b"rubbish")


def test_a_header_cannot_ask_for_memory_that_the_file_does_not_fill(tmp_path):
    header = b"\0\0\x0e\4" + b"\xff" * 16
    with pytest.raises(DataError, match=r"truncated: .* more than the file can hold"):
        read(tmp_path, header)
    with pytest.raises(DataError, match=r"truncated: .* more than the file can hold"):
        read(tmp_path, gzip.compress(header))


def test_a_gzip_bomb_is_not_decompressed_beyond_its_header(tmp_path):
    import tracemalloc

    path = tmp_path / "bomb"
    with gzip.open(path, "wb") as file:
        file.write(SMALL)
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="oversized"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_more_axes_than_numpy_has(tmp_path):
    with pytest.raises(DataError, match="cannot hold an array of 200 axes"):
        read(tmp_path, b"\0\0\x08\xc8" + struct.pack(">I", 1) * 200 + b"\7")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
