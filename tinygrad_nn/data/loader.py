"""Batches: `DataLoader` goes through a data set in batches, `collate` makes one of single samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..random import default_generator
from ..tensor import Tensor, tensor, wrap

if TYPE_CHECKING:
    from .dataset import Dataset


class DataLoader:
    """The batches of a data set; each `for` over it is one epoch.

    `dataset` is a `Dataset`, or anything with a length and samples by index. With `shuffle` every epoch has an order of
    its own, drawn from `generator`: a NumPy Generator, a seed (the same seed gives the same epochs), or None for the
    package's own (see `manual_seed`). `drop_last` leaves out a last batch that is not full. `collate_fn` makes a batch
    of a list of samples; by default the data set does, which for a `TensorDataset` takes one indexing per array.

    >>> import numpy as np, tinygrad_nn as tg
    >>> data = tg.data.TensorDataset(np.arange(5), np.arange(5) ** 2)
    >>> for x, y in tg.data.DataLoader(data, batch_size=2):
    ...     print(x, y)
    tensor([0, 1]) tensor([0, 1])
    tensor([2, 3]) tensor([4, 9])
    tensor([4]) tensor([16])
    """

    def __init__(
        self,
        dataset: Dataset | Sequence[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        generator: np.random.Generator | int | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ArgumentError(f"DataLoader: batch_size must be a positive integer, not {batch_size!r}")
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.generator = generator_for(generator)  # one stream over all epochs

    def __len__(self) -> int:
        """How many batches an epoch has."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        samples, size = len(self.dataset), self.batch_size
        order = self.generator.permutation(samples) if self.shuffle else np.arange(samples)
        return map(self._batch(), [order[i * size : (i + 1) * size] for i in range(len(self))])

    def _batch(self) -> Callable[[Any], Any]:
        """The function from indices to a batch."""
        dataset, collate_fn = self.dataset, self.collate_fn
        at_once: Callable[[Any], Any] | None = getattr(dataset, "batch", None)
        if collate_fn is None and at_once is not None:
            return at_once
        make = collate if collate_fn is None else collate_fn
        return lambda indices: make([dataset[i] for i in indices.tolist()])


def generator_for(generator: np.random.Generator | int | None) -> np.random.Generator:
    """The NumPy Generator that `generator` stands for: itself, a seed, or None for the package's own."""
    if generator is None:
        return default_generator()
    if isinstance(generator, np.random.Generator):
        return generator
    if isinstance(generator, int | np.integer) and not isinstance(generator, bool) and generator >= 0:
        return np.random.default_rng(generator)
    raise ArgumentError(f"generator: a NumPy Generator, a seed from 0 up, or None is needed, not {generator!r}")


def collate(samples: Sequence[Any]) -> Any:
    """One batch of a list of samples: Tensors, arrays and numbers are stacked into a Tensor, along a new first axis.

    Tuples, lists and dicts are collated item by item; strings and all else stay in a list. History is not kept. Errors:
    `ShapeError` for samples that do not fit together, `ArgumentError` for none.

    >>> import tinygrad_nn as tg
    >>> tg.data.collate([{"x": 1.0, "name": "a"}, {"x": 2.0, "name": "b"}])
    {'x': tensor([1., 2.]), 'name': ['a', 'b']}
    """
    if not samples:
        raise ArgumentError("collate: no samples, so no batch")
    first = samples[0]
    if isinstance(first, Tensor | np.ndarray | np.generic):
        return wrap(_stack([s.data if isinstance(s, Tensor) else s for s in samples]), None)
    if isinstance(first, bool | int | float | complex):
        return tensor(list(samples))
    if isinstance(first, dict):
        if any(not isinstance(s, dict) or s.keys() != first.keys() for s in samples):
            raise ShapeError(f"collate: samples do not all have the keys {list(first)} of the first")
        return {key: collate([s[key] for s in samples]) for key in first}
    if isinstance(first, tuple | list):
        if any(not isinstance(s, tuple | list) or len(s) != len(first) for s in samples):
            raise ShapeError(f"collate: samples do not all have {len(first)} items as the first has")
        columns = [collate(column) for column in zip(*samples, strict=True)]
        if isinstance(first, list):
            return columns
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    return list(samples)


def _stack(arrays: list[Any]) -> Any:
    shapes = {np.shape(a) for a in arrays}
    if len(shapes) > 1:
        raise ShapeError(f"collate: samples of shapes {', '.join(map(str, sorted(shapes)))} do not stack")
    return np.stack(arrays)
