"""Data sets, readers of their files, and batches."""

from __future__ import annotations

from .collate import collate
from .csv import read_csv
from .dataset import Dataset, Subset, TensorDataset, random_split
from .digits import load_digits
from .files import find_file
from .idx import read_idx
from .loader import DataLoader
from .mnist import load_mnist
from .pickles import load_pickle

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "collate",
    "find_file",
    "load_digits",
    "load_mnist",
    "load_pickle",
    "random_split",
    "read_csv",
    "read_idx",
]
