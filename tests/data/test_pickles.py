"""Weight pickles: what NumPy writes is read, and nothing else can happen."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_nn.data import load_pickle, pickles
from tinygrad_nn.errors import DataError

NUMBERS = st.sampled_from(["?", "i1", "<i2", ">i4", "u8", "f2", "<f4", ">f8", "c8", "c16"])
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles")


def read(folder, data):
    path = folder / "weights.pkl"
    path.write_bytes(data)
    return load_pickle(path)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@given(NUMBERS.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))), st.sampled_from(PROTOCOLS))
def test_arrays_of_every_number_and_protocol(folder, array, protocol):
    result = read(folder, pickle.dumps(array, protocol))
    assert_same(result, array)
    assert result.flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("package", [b"numpy._core", b"numpy.core"])
def test_orders_scalars_and_containers(tmp_path, protocol, package):
    base = np.arange(24.0).reshape(2, 3, 4)
    tree = {
        "fortran": base[0].T,
        "permuted": base.transpose(1, 0, 2),
        "strided": base[:, ::2],
        "scalars": (np.float32(1.5), np.int64(-3), np.bool_(True)),
        "plain": [1, 2.5, "text", b"bytes", None, True, -(2**70)],
        3: base,
        "again": base,
    }
    data = pickle.dumps(tree, protocol)
    if protocol < 4:  # where names are not preceded by their length
        data = data.replace(b"numpy._core", package)
    result = read(tmp_path, data)
    assert_same(result, tree)
    assert result["again"] is result[3]


def test_sets(tmp_path):
    assert read(tmp_path, pickle.dumps([{4, 5}, frozenset([6])], 4)) == [{4, 5}, frozenset([6])]
    with pytest.raises(DataError, match=forbidden(r"builtins\.complex")):
        read(tmp_path, pickle.dumps(1j, 4))


def test_names_of_numpy_1_in_protocol_5(tmp_path):
    data = pickle.dumps(np.ones(3), 5, buffer_callback=None)
    old, new = b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric"
    assert old in data
    frame = struct.pack("<Q", struct.unpack("<Q", data[3:11])[0] - 1)
    np.testing.assert_array_equal(read(tmp_path, data[:3] + frame + data[11:].replace(old, new)), np.ones(3))


def test_pickles_of_python_2(tmp_path):
    # {'W': numpy.array([1., -2.], 'f4')} as Python 2 writes it: names and contents as byte strings
    content = np.array([1, -2], "<f4").tobytes()
    text = "S" + repr(content)[1:]
    head = (
        "(dp0\nS'W'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
    )
    state = (
        "(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nb"
    )
    data = (head + state + "I00\n" + text + "\np15\ntp16\nbs.").encode("latin-1")
    assert_same(read(tmp_path, data), {"W": np.array([1, -2], np.float32)})
    # and in its binary protocol
    binary = b"\x80\x02}U\x01Wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\1K\2\x85"
    binary += b"cnumpy\ndtype\nU\x02f4K\0K\1\x87R(K\3U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
    assert_same(read(tmp_path, binary + b"U\x08" + content + b"tbs."), {"W": np.array([1, -2], np.float32)})


class Call:
    """Pickles as a call."""

    def __init__(self, fn, *args):
        self.call = fn, args

    def __reduce__(self):
        return self.call


def forbidden(name):
    return rf"weights\.pkl names {name}, which no pickle of NumPy arrays needs"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Call(os.system, "touch SHOT"), "(posix|nt)\\.system"),
        (Call(eval, "open('SHOT', 'w')"), "(builtins|__builtin__)\\.eval"),
        (Call(exec, "open('SHOT', 'w')"), "(builtins|__builtin__)\\.exec"),
        (Call(getattr, np.ones(1), "dump"), "(builtins|__builtin__)\\.getattr"),
        (Call(np.load, "x.npy", None, True), "numpy(\\.lib\\S*)?\\.load"),
        (Call(np.frombuffer, b"1234"), "numpy\\S*\\.frombuffer"),
        (Call(np.memmap, "SHOT"), "numpy\\S*\\.memmap"),
        ({"W": [np.ones(2), Call(os.system, "touch SHOT")]}, "(posix|nt)\\.system"),
        (OrderedDict(a=1), "collections\\.OrderedDict"),
        (np.ma.ones(3), "numpy\\.ma\\S*\\._mareconstruct"),
        (np.random.default_rng(0), "numpy\\.random\\S*"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_everything_else_is_refused_by_name(tmp_path, monkeypatch, value, name, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=forbidden(name)):
        read(tmp_path, pickle.dumps(value, protocol))
    assert os.listdir(tmp_path) == ["weights.pkl"]


def test_a_dotted_name_does_not_reach_into_an_allowed_one(tmp_path):
    data = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(DataError, match=forbidden(r"numpy\.ndarray\.tofile")):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x02X\x03\0\0\0abcQ.", "BINPERSID"),
        (b"Pabc\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02Kar\xff\xff\xff\xff.", "wants room for 4294967295 objects"),
        (b"\x80\x02K\x01.rest", "has 4 bytes after its end"),
        (b"\x80\x02cnumpy\nndarray\n.", "holds a bare Inert"),
        (b"\x80\x02cnumpy\nndarray\nK\2\x85\x85R.", "calls numpy.ndarray"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "TypeError|UnpicklingError"),
        (b"\x80\x02cnumpy\ndtype\n}X\x05\0\0\0_callK\1sb.", "tries to change a function"),
        (b"\x80\x02cnumpy\ndtype\nN}X\x05\0\0\0_callK\1s\x86b.", "tries to change a function"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\0\0\0O\x85R.", "of dtype 'O', where only numbers"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\0\0\0f4\x85R.", "holds a bare DType"),
        (b"\x80\x02c__builtin__\nbytes\nK\5\x85R.", "TypeError"),
        (b"\x80\x02c_codecs\nencode\nX\1\0\0\0aX\3\0\0\0rot\x86R.", "encodes something with 'rot'"),
        (b"\x80\x02]q\0h\0a.", "contains itself"),
        (b"\x80\x02" + b"]" * 300 + b"a" * 299 + b".", "nests deeper than 100"),
        (b"", "is no pickle, or is damaged"),
        (b"\x93NUMPY\x01\0", "is no pickle, or is damaged"),
        (b"<html>", "is no pickle, or is damaged"),
        (b"\x80\x05\x96\0\0\0\0\0\0\0\x10.", "is no pickle, or is damaged"),
    ],
)
def test_tricks_and_damage(tmp_path, data, reason):
    with pytest.raises(DataError, match=reason):
        read(tmp_path, data)


def test_inert_names_stay_as_they_are():
    before = {name: inert._call for name, inert in pickles.ALLOWED.items()}
    assert set(before) == {
        "numpy.ndarray",
        "numpy.dtype",
        "_codecs.encode",
        "builtins.bytes",
        "__builtin__.bytes",
        *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in (
            "multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer"
        )),
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [np.array([1, "a", None], object), np.array(["text"]), np.zeros(2, "i4,f4"), np.zeros(1, "M8[s]")]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_other_than_numbers(tmp_path, value, protocol):
    with pytest.raises(DataError, match="where only numbers and booleans can be read"):
        read(tmp_path, pickle.dumps(value, protocol))


class Matrix(np.ndarray):
    pass


def test_subclasses_of_ndarray(tmp_path):
    with pytest.raises(DataError, match=r"names \S*test_pickles\.Matrix"):
        read(tmp_path, pickle.dumps(np.ones(3).view(Matrix), 2))


def array_pickle(*, dtype="f4", order="<", flags=0, shape=(2,), content=b"12345678"):
    """An array as protocol 2 writes it, with parts of our choice."""
    state = pickle.dumps((1, shape, "DTYPE", False, content), 3)[2:-1]
    made = b"cnumpy\ndtype\n" + pickle.dumps((dtype, False, True), 2)[2:-1] + b"R"
    made += pickle.dumps((3, order, None, None, None, -1, -1, flags), 2)[2:-1] + b"b"
    name = pickle.dumps("DTYPE", 2)[2:-1]
    name = name[: name.index(b"q")]
    assert name in state
    head = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    return head + state.replace(name, made) + b"b."


def test_forged_arrays(tmp_path):
    assert read(tmp_path, array_pickle()).dtype == np.float32
    for shape in [(3,), (-2,), (2**62, 2**62), ("2",), 2, (True, 2)]:
        with pytest.raises(DataError, match="holds an array"):
            read(tmp_path, array_pickle(shape=shape))
    for content in [[1.0, 2.0], None, 5, b"1234567"]:
        with pytest.raises(DataError, match="holds an array"):
            read(tmp_path, array_pickle(content=content))
    with pytest.raises(DataError, match="holds a dtype f4 of byte order 'x'"):
        read(tmp_path, array_pickle(order="x"))


def test_forged_dtype_flags_are_without_effect(tmp_path):
    # NumPy's own unpickling takes these flags from the file; with an object dtype they make it follow any address
    np.testing.assert_array_equal(read(tmp_path, array_pickle(flags=63)), np.frombuffer(b"12345678", "f4"))
    with pytest.raises(DataError, match="of dtype 'O8'"):
        read(tmp_path, array_pickle(dtype="O8", flags=0, shape=(1,)))


def test_every_truncation_is_told(tmp_path):
    data = pickle.dumps({"W": np.arange(3.0), "s": np.float32(1)}, 2)
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"weights\.pkl"):
            read(tmp_path, data[:length])


@given(st.data())
def test_random_damage_never_does_more_than_fail(folder, data):
    good = pickle.dumps({"W": np.arange(3.0), "s": [np.float32(1), (2, "x")]}, data.draw(st.sampled_from(PROTOCOLS)))
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DataError):
        read(folder, bytes(bad))


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 are read"):
        read(tmp_path, pickle.dumps(np.zeros(100)))


def test_shared_containers_do_not_multiply(tmp_path):
    tree = []
    for _ in range(60):
        tree = [tree, tree]  # 2**60 leaves if every reference were followed
    result = read(tmp_path, pickle.dumps(tree))
    assert result[0] is result[1]


def test_opcodes_that_this_python_has_are_known():
    names = {opcode.name for opcode in pickletools.opcodes}
    assert names >= pickles.FORBIDDEN_OPCODES
