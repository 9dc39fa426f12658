"""`load_mnist`, `load_digits` and where files are looked for."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_nn.data import find_file, load_digits, load_mnist, load_pickle, mnist, read_csv
from tinygrad_nn.data.files import cache_folder, replacing
from tinygrad_nn.errors import DataError, MissingExtraError

DATA = Path(os.environ.get("TINYGRAD_NN_DATA", "/nonexistent"))
needs_mnist = pytest.mark.skipif(
    not (DATA / "mnist").is_dir(), reason="TINYGRAD_NN_DATA names no folder with the MNIST files in mnist/"
)
needs_book = pytest.mark.skipif(
    not (DATA / "book").is_dir(), reason="TINYGRAD_NN_DATA names no folder with the book's files in book/"
)

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write(folder, images=IMAGES, labels=LABELS, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(parents=True)
    for part, take in (("train", slice(0, 5)), ("t10k", slice(5, None))):
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images[take])))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels[take])))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty world: no data, no cache, no mirror."""
    monkeypatch.delenv("TINYGRAD_NN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:1/",))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


@pytest.fixture
def small(home, monkeypatch):
    write(home / "data" / "mnist")
    monkeypatch.setenv("TINYGRAD_NN_DATA", str(home / "data"))
    return home / "data" / "mnist"


def test_every_form(small):
    (x, t), (x_test, t_test) = load_mnist()
    assert (x.dtype, x.shape, x_test.shape) == (np.float32, (5, 784), (2, 784))
    np.testing.assert_array_equal(x, (IMAGES[:5] / np.float32(255)).astype(np.float32).reshape(5, 784))
    assert t.dtype == np.int64
    assert (t.tolist(), t_test.tolist()) == ([0, 1, 2, 3, 4], [5, 6])
    (x, t), _ = load_mnist(flatten=False, normalize=False, one_hot_label=True)
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, IMAGES[:5, None])
    assert t.dtype == np.float32
    np.testing.assert_array_equal(t, np.eye(10)[:5])
    (x, _), _ = load_mnist(True, False)
    assert x.shape == (5, 784)
    x[0] = 1  # the caller's own, to change
    assert load_mnist(normalize=False)[0][0][0].max() > 1


def test_files_without_gzip(home, monkeypatch):
    write(home / "data" / "mnist", pack=bytes, suffix="")
    monkeypatch.setenv("TINYGRAD_NN_DATA", str(home / "data"))
    assert load_mnist()[0][0].shape == (5, 784)


def test_the_chosen_folder_comes_before_the_cache(small, home):
    write(home / "cache" / "tinygrad_nn" / "mnist", labels=LABELS[::-1])
    assert load_mnist()[0][1].tolist() == [0, 1, 2, 3, 4]
    for path in small.iterdir():
        path.unlink()
    assert load_mnist()[0][1].tolist() == [6, 5, 4, 3, 2]


def test_the_cache_folder(home, monkeypatch):
    assert cache_folder() == home / "cache" / "tinygrad_nn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert cache_folder() == home / ".cache" / "tinygrad_nn"


def test_no_data_and_no_network(home):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is not in .* could not be downloaded") as caught:
        load_mnist()
    assert "http://127.0.0.1:1/train-images-idx3-ubyte.gz" in str(caught.value)
    assert "set TINYGRAD_NN_DATA" in str(caught.value)


def test_damaged_and_foreign_files_are_named(small):
    labels = small / "t10k-labels-idx1-ubyte.gz"
    for bad, reason in [
        (gzip.compress(idx(LABELS[5:]))[:-3], "truncated"),
        (gzip.compress(idx(LABELS)), "does not hold one digit for each of 2 images"),
        (gzip.compress(idx(LABELS[5:] + 5)), "does not hold one digit"),
        (gzip.compress(idx(IMAGES[5:])), "does not hold one digit"),
    ]:
        labels.write_bytes(bad)
        with pytest.raises(DataError, match=rf"t10k-labels-idx1-ubyte\.gz.*{reason}"):
            load_mnist()
    (small / "train-images-idx3-ubyte.gz").write_bytes(idx(LABELS))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz holds uint8\(7,\), not images of 28x28 bytes"):
        load_mnist()


@needs_mnist
def test_the_real_files():
    for file in mnist.FILES:
        with gzip.open(DATA / "mnist" / f"{file.name}.gz") as stream:
            content = stream.read()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
    (x_train, t_train), (x_test, t_test) = load_mnist(normalize=False)
    assert (x_train.shape, x_test.shape) == ((60000, 784), (10000, 784))
    assert t_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert t_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(t_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert round(float(x_train.mean() / 255), 4) == 0.1307


@needs_book
@needs_mnist
def test_the_rows_in_csv_are_those_of_the_real_files():
    (x_train, t_train), (x_test, t_test) = load_mnist(normalize=False)
    for name, x, t in (("train_100", x_train[:100], t_train[:100]), ("test_10", x_test[:10], t_test[:10])):
        pixels, labels = read_csv(find_file(f"book/mnist_{name}.csv"))
        np.testing.assert_array_equal(pixels, x)
        np.testing.assert_array_equal(labels, t)


@needs_book
@needs_mnist
def test_the_published_weights_read_digits():
    w = load_pickle(find_file("book/sample_weight.pkl"))
    assert {key: (a.dtype.name, a.shape) for key, a in w.items()} == {
        "W1": ("float32", (784, 50)),
        "b1": ("float32", (50,)),
        "W2": ("float32", (50, 100)),
        "b2": ("float32", (100,)),
        "W3": ("float32", (100, 10)),
        "b3": ("float32", (10,)),
    }
    _, (x, t) = load_mnist()
    for i in "12":
        x = 1 / (1 + np.exp(-(x @ w["W" + i] + w["b" + i])))
    assert np.mean((x @ w["W3"] + w["b3"]).argmax(1) == t) == 0.9352


def test_find_file(home, monkeypatch):
    monkeypatch.setenv("TINYGRAD_NN_DATA", str(home / "data"))
    (home / "data" / "book").mkdir(parents=True)
    (home / "data" / "book" / "rows.csv").write_text("1,2\n")
    assert find_file("book/rows.csv") == home / "data" / "book" / "rows.csv"
    with pytest.raises(DataError, match=r"no book/other\.csv in .*data or .*tinygrad_nn\. Set TINYGRAD_NN_DATA"):
        find_file("book/other.csv")


def test_replacing_leaves_nothing_behind(tmp_path):
    path = tmp_path / "f"
    with replacing(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(bytes(1 // 0))
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "absent" / "f"):
        pass


def test_digits():
    pytest.importorskip("sklearn")
    (x, t), (x_test, t_test) = load_digits()
    assert (x.dtype, x.shape, x_test.shape) == (np.float32, (1437, 64), (360, 64))
    assert (x.min(), x.max()) == (0, 1)
    assert t.dtype == np.int64
    assert set(t_test.tolist()) == set(range(10))
    assert np.bincount(np.concatenate([t, t_test])).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    (raw, hot), _ = load_digits(flatten=False, normalize=False, one_hot_label=True)
    assert (raw.dtype, raw.shape, raw.max()) == (np.uint8, (1437, 1, 8, 8), 16)
    np.testing.assert_array_equal(raw.reshape(-1, 64) / np.float32(16), x)  # the same split each time
    np.testing.assert_array_equal(hot.argmax(1), t)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"load_digits needs scikit-learn: pip install 'tinygrad_nn\[digits\]'"):
        load_digits()
