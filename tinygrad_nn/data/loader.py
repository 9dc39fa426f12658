"""`DataLoader`, which goes through a data set in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .collate import collate
from .dataset import Dataset, generator_for


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
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ArgumentError(
                f"DataLoader: a data set has a length and samples by index, which a {type(dataset).__name__} has not; "
                "a list of the samples will do"
            )
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
        if collate_fn is None and isinstance(dataset, Dataset):
            return dataset.batch
        make = collate if collate_fn is None else collate_fn
        return lambda indices: make([dataset[i] for i in indices.tolist()])
