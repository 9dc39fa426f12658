"""`save` and `load`: what goes in comes out, or the error says why not."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_nn.errors import ArgumentError, DataError
from tinygrad_nn.serialize import TREE, load, save
from tinygrad_nn.tensor import Tensor

DTYPES = st.sampled_from(["?", "i1", "u2", "i4", ">i8", "f2", "f4", "<f8", ">f4", "c8", "c16"])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers()
KEYS = st.text(max_size=8) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
LEAVES = PLAIN | ARRAYS | ARRAYS.map(lambda a: a.T) | ARRAYS.map(Tensor) | ARRAYS.map(lambda a: a.reshape(-1)[:1].sum())
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.requires_grad == b.requires_grad
        a, b = a.data, b.data
    if isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert repr(a) == repr(b)  # also for NaN and -0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("save")


@given(TREES)
def test_round_trip(folder, tree):
    save(folder / "tree", tree)
    assert_same(load(folder / "tree"), tree)
    assert os.listdir(folder) == ["tree"]  # the name as given, and nothing besides


def test_a_checkpoint(tmp_path):
    model = OrderedDict([("0.weight", Tensor(np.ones((2, 3), np.float32))), ("0.bias", Tensor(np.float16(2.5)))])
    optimizer = {
        "state": {0: {"step": 7, "momentum": np.zeros((0, 3))}},
        "param_groups": [{"lr": 0.1, "params": [0, 1]}],
    }
    path = tmp_path / "run.ckpt"
    save(path, {"model": model, "optimizer": optimizer, "best": np.float64(0.98), "betas": (0.9, 0.999)})
    back = load(path)
    assert_same(back["model"], dict(model))
    assert_same(back["optimizer"], optimizer)
    assert_same((back["best"], back["betas"]), (np.float64(0.98), (0.9, 0.999)))
    with np.load(path) as plain:  # NumPy alone can read it
        np.testing.assert_array_equal(plain["model/0.weight"], np.ones((2, 3)))
        assert plain["optimizer/state/0/momentum"].shape == (0, 3)


def test_names_that_read_alike_stay_apart(tmp_path):
    tree = {"a/b": np.array(1), "a": {"b": np.array(2)}, "a_b": np.array(3), "": np.array(4), "..": [np.array(5)]}
    tree |= {"é\0\ud800" * 300: np.array(6), 1: np.array(7), "1": np.array(8), TREE: np.array(9)}
    save(tmp_path / "f", tree)
    assert_same(load(tmp_path / "f"), tree)


def test_views_and_gradients(tmp_path):
    base = np.arange(24.0).reshape(2, 3, 4)
    leaf = Tensor(base[:, ::-2], requires_grad=True)
    save(tmp_path / "f", [leaf, leaf * 2.0, base.T, base[0, 0, 0]])
    loaded = load(tmp_path / "f")
    assert_same(loaded[0], leaf)
    assert not loaded[1].requires_grad  # a result is stored without its history
    np.testing.assert_array_equal(loaded[1].data, 2 * base[:, ::-2])
    assert_same(loaded[2:], [base.T, np.float64(0)])
    assert loaded[0].data.flags.writeable


def test_equal_trees_give_equal_files(tmp_path):
    for name in "ab":
        save(tmp_path / name, {"w": np.ones(3), "n": [1, "two"]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Unknown:
    def __repr__(self):
        return "<unknown>"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": [1, Unknown()]}, r"save: at \['model'\]\[1\], a Unknown cannot be stored: <unknown>"),
        (Unknown(), "save: at the root, a Unknown"),
        ({"s": {1, 2}}, r"at \['s'\], a set cannot be stored"),
        ({"b": b"bytes"}, r"at \['b'\], a bytes cannot be stored"),
        ({"m": np.ma.ones(2)}, r"at \['m'\], a MaskedArray cannot be stored"),
        ({"o": np.array([None])}, r"at \['o'\], an array of dtype object cannot be stored"),
        ({"r": np.zeros(2, "i4,f4")}, r"at \['r'\], an array of dtype .* cannot be stored"),
        ({"d": {(1, 2): 3}}, r"at \['d'\], a key \(1, 2\): tuple is no key"),
        ({"d": {np.int64(1): 3}}, r"at \['d'\], a key np.int64\(1\): int64 is no key"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_the_old_file_stays(tmp_path, tree, message):
    path = tmp_path / "f"
    save(path, "old")
    with pytest.raises(ArgumentError, match=message):
        save(path, tree)
    assert load(path) == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_containers_inside_themselves(tmp_path):
    tree = []
    tree.append(tree)
    with pytest.raises(ArgumentError, match="one inside itself"):
        save(tmp_path / "f", tree)
    deep = 1
    for _ in range(100):
        deep = {"k": [deep]} if _ % 2 else (deep,)
    with pytest.raises(ArgumentError, match="more than 100 containers"):
        save(tmp_path / "f", [deep, deep])


def test_the_deepest_tree_comes_back(tmp_path):
    tree = 1
    for i in range(100):
        tree = {"k": tree} if i % 2 else (tree,)
    save(tmp_path / "f", tree)
    assert load(tmp_path / "f") == tree


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    save(path, {"w": np.ones(3)})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space"):
        save(path, {"w": np.zeros(3)})
    np.testing.assert_array_equal(load(path)["w"], np.ones(3))
    assert os.listdir(tmp_path) == ["f"]


def test_a_killed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    save(path, "old")
    program = (
        "import os, signal, sys, numpy as np\n"
        "from tinygrad_nn.serialize import save\n"
        "np.lib.format.write_array = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save(sys.argv[1], {'w': np.ones(10)})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert killed.returncode != 0
    assert load(path) == "old"


def test_saving_through_a_link_keeps_the_link(tmp_path):
    save(tmp_path / "real", 1)
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link", 2)
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "real") == 2


SMALL = {"w": np.arange(3, dtype=np.float32), "n": [1, "two"], "t": Tensor(np.float32(2))}


def test_every_truncation_is_told(tmp_path):
    path = tmp_path / "f"
    save(path, SMALL)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"f is truncated, damaged, or no \.npz file"):
            load(path)


def test_damage_anywhere_is_told_or_harmless(tmp_path):
    path = tmp_path / "f"
    save(path, SMALL)
    whole = path.read_bytes()
    told = []
    for i in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :])
            try:
                assert_same(load(path), SMALL)  # a bit of a time stamp, say
            except DataError as error:
                told.append(str(error))
    assert len(told) > len(whole)
    assert all(str(path) in message for message in told)


def test_foreign_files(tmp_path):
    path = tmp_path / "f"
    for content in (b"", b"text", b"\x80\x04]."):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"no \.npz file"):
            load(path)
    with open(path, "wb") as file:
        np.savez(file, w=np.ones(3))
    with pytest.raises(DataError, match=r"was not written by tinygrad_nn\.save: it has no member __tree__\.json"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")


def forge(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(header, content=b""):
    text = repr(header).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (
            '{"format": "tinygrad_nn 9", "tree": 1}',
            "of another format than 'tinygrad_nn 1': written by a later version",
        ),
        ("[]", "of another format"),
        ("{", "is damaged: JSONDecodeError"),
        ('{"format": "tinygrad_nn 1"}', "is damaged: KeyError"),
        ('{"format": "tinygrad_nn 1", "tree": {"array": "absent.npy"}}', "is damaged: KeyError"),
        ('{"format": "tinygrad_nn 1", "tree": {"array": 5}}', "is damaged: KeyError"),
        ('{"format": "tinygrad_nn 1", "tree": {"call": "w.npy"}}', "holds a 'call', which this version does not know"),
        ('{"format": "tinygrad_nn 1", "tree": {"leaf": "w.npy"}}', "is damaged: DTypeError: requires_grad: int64"),
        ('{"format": "tinygrad_nn 1", "tree": {"dict": [[[], 1]]}}', "is damaged: TypeError"),
        ('{"format": "tinygrad_nn 1", "tree": {"a": 1, "b": 2}}', "is damaged: ValueError"),
        ('{"format": "tinygrad_nn 1", "tree": ' + "[" * 150 + "]" * 150 + "}", "nests too deep"),
        ('{"format": "tinygrad_nn 1", "tree": ' + "[" * 99999 + "]" * 99999 + "}", "is damaged: RecursionError"),
    ],
)
def test_forged_trees(tmp_path, tree, reason):
    path = tmp_path / "f"
    forge(path, {TREE: tree, "w.npy": npy({"descr": "<i8", "fortran_order": False, "shape": (1,)}, bytes(8))})
    with pytest.raises(DataError, match=reason):
        load(path)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (npy({"descr": "<f8", "fortran_order": False, "shape": (2**40,)}), "header does not fit its size"),
        (npy({"descr": "<f8", "fortran_order": False, "shape": (1,)}, bytes(9)), "header does not fit its size"),
        (npy({"descr": "|O", "fortran_order": False, "shape": (1,)}, bytes(8)), "of dtype object, which is not read"),
        (npy({"descr": [("a", "<f8")], "fortran_order": False, "shape": (1,)}, bytes(8)), "which is not read"),
        (b"\x93NUMPY\x03\x00" + bytes(8), "in version \\(3, 0\\) of the .npy format"),
        (b"PK", "is damaged: ValueError"),
    ],
)
def test_forged_members(tmp_path, member, reason):
    path = tmp_path / "f"
    forge(path, {TREE: '{"format": "tinygrad_nn 1", "tree": {"array": "w.npy"}}', "w.npy": member})
    with pytest.raises(DataError, match=reason):
        load(path)


def test_a_zip_bomb_is_not_opened(tmp_path):
    path = tmp_path / "f"
    forge(path, {TREE: bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="is compressed"):
        load(path)


def test_large_arrays_go_through_in_pieces(tmp_path):
    big = np.arange(300_000, dtype=np.float64).reshape(300, 1000).T
    save(tmp_path / "f", big)
    assert_same(load(tmp_path / "f"), big)
    assert math.isclose((tmp_path / "f").stat().st_size, big.nbytes, rel_tol=0.01)
