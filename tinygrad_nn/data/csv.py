"""Labelled rows of numbers in CSV."""

from __future__ import annotations

import os
import warnings

import numpy as np

from .._types import Array
from ..errors import DataError

MAX_LABEL = 2**24  # float32 has all integers up to here


def read_csv(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    r"""`(x, t)` of a CSV file whose rows are a label and then the values, as MNIST is often passed around.

    `x` is float32 (N, columns - 1), as in the file (not scaled); `t` is int64 (N,). Raises `DataError` naming the line
    for rows of different lengths, for what is not a finite number, and for a label that is no integer.

    >>> import tempfile, pathlib
    >>> import tinygrad_nn as tg
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.csv"
    >>> _ = path.write_text("7,0,255\n2,128,0\n")
    >>> x, t = tg.data.read_csv(path)
    >>> x.tolist(), t.tolist()
    ([[0.0, 255.0], [128.0, 0.0]], [7, 2])
    """
    with open(path, encoding="latin-1") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a file without rows, which is an error below
        try:
            table = np.loadtxt(file, np.float32, delimiter=",", comments=None, ndmin=2)
        except ValueError as error:
            raise DataError(f"read_csv: {path}, {_complaint(path) or error}") from None
    if not table.size:
        raise DataError(f"read_csv: {path} has no rows")
    labels = table[:, 0]
    whole = (labels == np.rint(labels)) & (np.abs(labels) <= MAX_LABEL)
    if table.shape[1] < 2 or not np.isfinite(table).all() or not whole.all():
        raise DataError(f"read_csv: {path}, {_complaint(path)}")
    return np.ascontiguousarray(table[:, 1:]), labels.astype(np.int64)


def _complaint(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with the first bad line, and which line that is: read slowly, once something is known to be."""
    columns = 0
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            cells = line.rstrip("\n").split(",")
            columns = columns or len(cells)
            if len(cells) != columns:
                return f"line {number}: {len(cells)} columns, where the lines before have {columns}"
            if columns < 2:
                return f"line {number}: a label and at least one value are needed, separated by commas: {line[:40]!r}"
            for column, cell in enumerate(cells, 1):
                try:
                    finite = abs(float(cell)) <= float(np.finfo(np.float32).max)
                except ValueError:
                    finite = False
                if not finite:
                    return f"line {number}, column {column}: {cell[:40]!r} is not a finite number"
            label = float(cells[0])
            if not label.is_integer() or abs(label) > MAX_LABEL:
                return f"line {number}: the label {cells[0][:40]!r} is no integer up to {MAX_LABEL}"
    return None
