"""Data sets and batches."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_nn.data import DataLoader, Dataset, Subset, TensorDataset, collate, random_split
from tinygrad_nn.errors import ArgumentError, ShapeError
from tinygrad_nn.random import manual_seed
from tinygrad_nn.tensor import Tensor

X = np.arange(20, dtype=np.float32).reshape(10, 2)
T = np.arange(10)
DATA = TensorDataset(X, T)


class Squares(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"x": np.float32([index, index + 1]), "square": index**2, "name": f"n{index}"}


def labels(loader):
    return [t.tolist() for _, t in loader]


def test_tensor_dataset():
    assert len(DATA) == 10
    x, t = DATA[3]
    assert (type(x), x.tolist(), t.item()) == (Tensor, [6, 7], 3)
    assert DATA[2:4][1].tolist() == [2, 3]
    assert DATA[-1][1].item() == 9
    with pytest.raises(IndexError):
        DATA[10]
    leaf = Tensor(X, requires_grad=True)
    assert not TensorDataset(leaf)[0][0].requires_grad
    assert TensorDataset([[1.0], [2.0]])[1][0].dtype == np.float32


@pytest.mark.parametrize("arrays", [(X, T[:5]), (X, np.array(1.0))])
def test_tensor_dataset_needs_one_length(arrays):
    with pytest.raises(ShapeError, match=r"one common length are needed, not float32\(10, 2\), "):
        TensorDataset(*arrays)


def test_tensor_dataset_needs_an_array():
    with pytest.raises(ArgumentError, match="at least one array"):
        TensorDataset()


def test_batches_in_order():
    loader = DataLoader(DATA, batch_size=4)
    assert len(loader) == 3
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    x, t = next(iter(loader))
    assert (type(x), x.dtype, x.shape, t.dtype) == (Tensor, np.float32, (4, 2), np.int64)
    np.testing.assert_array_equal(x.data, X[:4])
    assert labels(DataLoader(DATA, 4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(DataLoader(DATA, 4, drop_last=True)) == 2
    assert len(DataLoader(DATA, 5)) == len(DataLoader(DATA, 5, drop_last=True)) == 2
    assert labels(DataLoader(DATA)) == [[i] for i in range(10)]
    assert list(DataLoader(TensorDataset(X[:0]), 3)) == []


def test_a_batch_is_a_copy():
    loader = DataLoader(DATA, batch_size=10)
    for x, _ in loader:
        x += 100.0
    assert X[0, 0] == 0


@given(st.integers(0, 30), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(0, 5))
def test_every_sample_once(n, batch_size, shuffle, drop_last, seed):
    rows = np.arange(n)
    loader = DataLoader(TensorDataset(rows, -rows), batch_size, shuffle, drop_last, generator=seed)
    batches = [(a.tolist(), b.tolist()) for a, b in loader]
    assert len(batches) == len(loader)
    assert all(a == [-i for i in b] for a, b in batches)
    seen = [i for a, _ in batches for i in a]
    assert len(seen) == (n // batch_size * batch_size if drop_last else n)
    assert len(set(seen)) == len(seen)
    assert shuffle or seen == list(range(len(seen)))


def test_each_epoch_has_its_own_order_and_a_seed_settles_them_all():
    first, second = (DataLoader(DATA, 3, shuffle=True, generator=7) for _ in range(2))
    epochs = [labels(first) for _ in range(3)]
    assert epochs == [labels(second) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs != [labels(DataLoader(DATA, 3, shuffle=True, generator=8)) for _ in range(3)]


def test_a_given_generator_and_the_packages_own():
    def orders(**how):
        loader = DataLoader(DATA, 3, shuffle=True, **how)
        return [labels(loader) for _ in range(2)]

    assert orders(generator=np.random.default_rng(5)) == orders(generator=5)
    manual_seed(5)
    assert orders() == orders(generator=5)
    loader = DataLoader(DATA, 3, shuffle=True)
    manual_seed(1)
    once = labels(loader)
    manual_seed(1)
    assert labels(loader) == once


def test_two_walks_at_once_do_not_disturb_each_other():
    loader = DataLoader(DATA, 1, shuffle=True, generator=0)
    pairs = list(zip(loader, loader, strict=True))
    for walk in (0, 1):
        assert sorted(pair[walk][1].item() for pair in pairs) == list(range(10))


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_bad_batch_sizes(size):
    with pytest.raises(ArgumentError, match="batch_size must be a positive integer, not"):
        DataLoader(DATA, size)


@pytest.mark.parametrize("generator", [-1, "7", 1.0, True, np.random.RandomState(0)])
def test_bad_generators(generator):
    with pytest.raises(ArgumentError, match="a NumPy Generator, a seed from 0 up, or None is needed"):
        DataLoader(DATA, generator=generator)


def test_a_data_set_of_ones_own():
    batches = list(DataLoader(Squares(), batch_size=2))
    assert len(batches) == 3
    assert batches[1]["x"].tolist() == [[2, 3], [3, 4]]
    assert batches[1]["square"].tolist() == [4, 9]
    assert batches[2]["name"] == ["n4"]
    with pytest.raises(NotImplementedError, match="Dataset must define __len__"):
        len(Dataset())
    with pytest.raises(NotImplementedError, match="Dataset must define __getitem__"):
        Dataset()[0]


def test_a_plain_list_will_do():
    batches = list(DataLoader([(1.0, "a"), (2.0, "b"), (3.0, "c")], batch_size=2))
    assert batches[0][0].tolist() == [1, 2]
    assert batches[1][1] == ["c"]


class List(list):
    def batch(self, indices):
        raise AssertionError("a method of this name means something else here")


def test_only_a_dataset_is_asked_for_batches():
    assert [b.tolist() for b in DataLoader(List([1, 2, 3]), 2)] == [[1, 2], [3]]
    parts = random_split(List([1, 2, 3]), [2, 1], generator=0)
    assert sorted(b.item() for part in parts for b in DataLoader(part)) == [1, 2, 3]


def test_collate_fn_gets_the_samples():
    got = list(DataLoader(DATA, 4, collate_fn=lambda samples: [t.item() for _, t in samples]))
    assert got == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


Pair = namedtuple("Pair", "a b")


def test_collate():
    batch = collate([(1, Pair(np.float64(1), True), [np.ones(2), None])] * 3)
    assert type(batch) is tuple
    assert (batch[0].dtype, batch[0].tolist()) == (np.int64, [1, 1, 1])
    assert type(batch[1]) is Pair
    assert (batch[1].a.dtype, batch[1].b.dtype) == (np.float64, np.bool_)
    assert batch[2][0].shape == (3, 2)
    assert batch[2][1] == [None, None, None]
    assert collate([1.0, 2.0]).dtype == np.float32
    assert collate([Tensor(1.0, requires_grad=True)]).requires_grad is False


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([], ArgumentError, "no samples"),
        ([np.ones(2), np.ones(3)], ShapeError, r"shapes \(2,\), \(3,\) do not stack"),
        ([{"a": 1}, {"b": 1}], ShapeError, r"do not all have the keys \['a'\]"),
        ([{"a": 1}, 5], ShapeError, r"do not all have the keys \['a'\]"),
        ([(1, 2), (1,)], ShapeError, "do not all have 2 items"),
        ([(1, 2), 3], ShapeError, "do not all have 2 items"),
    ],
)
def test_samples_that_do_not_fit(samples, error, message):
    with pytest.raises(error, match=message):
        collate(samples)


def test_subsets():
    part = Subset(DATA, [7, -1, 0])
    assert len(part) == 3
    assert part[1][1].item() == 9
    assert labels(DataLoader(part, 2)) == [[7, 9], [0]]
    assert labels(DataLoader(Subset(part, [2, 0]), 2)) == [[0, 7]]
    assert DataLoader(Subset(Squares(), [3]), 1).__iter__().__next__()["square"].tolist() == [9]
    assert len(Subset(DATA, [])) == 0
    for bad in ([10], [-11]):
        with pytest.raises(ArgumentError, match="an index is outside the 10 samples"):
            Subset(DATA, bad)


def test_random_split():
    parts = random_split(DATA, [7, 0, 3], generator=0)
    assert [len(part) for part in parts] == [7, 0, 3]
    assert sorted(np.concatenate([part.indices for part in parts]).tolist()) == list(range(10))
    assert parts[0].indices.tolist() == random_split(DATA, [7, 3], generator=0)[0].indices.tolist()
    assert parts[0].indices.tolist() != list(range(7))
    for bad in ([5, 4], [11, -1]):
        with pytest.raises(ArgumentError, match="do not add up to the 10 samples"):
            random_split(DATA, bad)


def test_the_fast_path_takes_no_sample_by_itself(monkeypatch):
    def no_sample(self, index):
        raise AssertionError("a single sample was taken")

    monkeypatch.setattr(TensorDataset, "__getitem__", no_sample)
    assert labels(DataLoader(Subset(DATA, range(4)), 3)) == [[0, 1, 2], [3]]
