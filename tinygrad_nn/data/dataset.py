"""Data sets: something with a length, and a sample for each index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, ShapeError, describe
from ..random import default_generator
from ..tensor import Tensor, wrap
from .collate import collate

if TYPE_CHECKING:
    from .._types import Array, ArrayLike


class Dataset:
    """Base of data sets: a subclass says how many samples there are, and what each is.

    >>> import tinygrad_nn as tg
    >>> class Squares(tg.data.Dataset):
    ...     def __len__(self):
    ...         return 10
    ...
    ...     def __getitem__(self, index):
    ...         return float(index), index**2
    >>> Squares().batch(np.array([2, 3]))
    (tensor([2., 3.]), tensor([4, 9]))
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def batch(self, indices: Array) -> Any:
        """The samples at `indices` as one batch. A subclass that can do this at once, faster, overrides it."""
        return collate([self[i] for i in indices.tolist()])


class TensorDataset(Dataset):
    """Arrays or Tensors of the same length, shared; sample i is a tuple with row i of each, as Tensors.

    Errors: `ShapeError` when the lengths differ, `ArgumentError` without any array.

    >>> import tinygrad_nn as tg
    >>> data = tg.data.TensorDataset(np.arange(6.0).reshape(3, 2), np.array([7, 8, 9]))
    >>> data[1]
    (tensor([2., 3.], dtype=float64), tensor(8))
    """

    def __init__(self, *arrays: ArrayLike) -> None:
        if not arrays:
            raise ArgumentError("TensorDataset: give at least one array")
        self.arrays = tuple([a.data if isinstance(a, Tensor) else Tensor(a).data for a in arrays])
        if any(a.ndim == 0 for a in self.arrays) or len({len(a) for a in self.arrays}) > 1:
            given = ", ".join(describe(a) for a in self.arrays)
            raise ShapeError(f"TensorDataset: arrays of one common length are needed, not {given}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple([wrap(a[index], None) for a in self.arrays])

    def batch(self, indices: Array) -> tuple[Tensor, ...]:
        """The rows at `indices` of each array, as Tensors of their own."""
        return tuple([wrap(a.take(indices, 0), None) for a in self.arrays])


class Subset(Dataset):
    """Those samples of a data set that `indices` names, in that order.

    >>> import tinygrad_nn as tg
    >>> data = tg.data.TensorDataset(np.array([10, 20, 30]))
    >>> tg.data.Subset(data, [2, 0])[0]
    (tensor(30),)
    """

    def __init__(self, dataset: Dataset | Sequence[Any], indices: Sequence[int] | Array) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.intp).reshape(-1)
        if self.indices.size and not -len(dataset) <= self.indices.min() <= self.indices.max() < len(dataset):
            raise ArgumentError(f"Subset: an index is outside the {len(dataset)} samples of the data set")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Array) -> Any:
        """The samples at `indices` of this subset, as the whole data set makes batches."""
        if isinstance(self.dataset, Dataset):
            return self.dataset.batch(self.indices[indices])
        return super().batch(indices)


def random_split(
    dataset: Dataset | Sequence[Any], lengths: Sequence[int], generator: np.random.Generator | int | None = None
) -> list[Subset]:
    """The samples of `dataset` in random order, cut into subsets of these lengths, which must add up to all of it.

    >>> import tinygrad_nn as tg
    >>> data = tg.data.TensorDataset(np.arange(10))
    >>> [len(part) for part in tg.data.random_split(data, [8, 2], generator=0)]
    [8, 2]
    """
    if any(n < 0 for n in lengths) or sum(lengths) != len(dataset):
        raise ArgumentError(f"random_split: lengths {list(lengths)} do not add up to the {len(dataset)} samples")
    order = generator_for(generator).permutation(len(dataset))
    ends = np.cumsum(lengths)
    return [Subset(dataset, order[end - n : end]) for n, end in zip(lengths, ends, strict=True)]


def generator_for(generator: np.random.Generator | int | None) -> np.random.Generator:
    """The NumPy Generator that `generator` stands for: itself, a seed, or None for the package's own."""
    if generator is None:
        return default_generator()
    if isinstance(generator, np.random.Generator):
        return generator
    if isinstance(generator, int | np.integer) and not isinstance(generator, bool) and generator >= 0:
        return np.random.default_rng(generator)
    raise ArgumentError(f"generator: a NumPy Generator, a seed from 0 up, or None is needed, not {generator!r}")
