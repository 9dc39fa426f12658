"""The CSV reader."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_nn.data import read_csv
from tinygrad_nn.errors import DataError


def read(folder, text):
    path = folder / "rows.csv"
    path.write_text(text)
    return read_csv(path)


def test_label_first_then_values(tmp_path):
    x, t = read(tmp_path, "5,0,255,1.5\n0,1,2,-3e-2\r\n\n9, 7 ,8,9")
    assert (x.dtype, t.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(x, np.float32([[0, 255, 1.5], [1, 2, -0.03], [7, 8, 9]]))
    np.testing.assert_array_equal(t, [5, 0, 9])
    assert x.flags.c_contiguous


def test_a_single_row(tmp_path):
    x, t = read(tmp_path, "5,0,255\n")
    assert (x.shape, t.shape) == ((1, 2), (1,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no rows"),
        ("\n\n", "has no rows"),
        ("1,2,3\n\n4,5\n", "line 3: 2 columns, where the lines before have 3"),
        ("1,2,3\n4,5,6,7\n", "line 2: 4 columns, where the lines before have 3"),
        ("1,2,3\n4,5,\n", "line 2, column 3: '' is not a finite number"),
        ("label,p1,p2\n1,2,3\n", "line 1, column 1: 'label' is not a finite number"),
        ("1,2,3\n4,x,6\n", "line 2, column 2: 'x' is not a finite number"),
        ("1,2,3\n4,nan,6\n", "line 2, column 2: 'nan' is not a finite number"),
        ("1,2,3\n4,5,1e39\n", "line 2, column 3: '1e39' is not a finite number"),
        ("1,2,3\n4.5,5,6\n", "line 2: the label '4.5' is no integer"),
        ("1,2,3\n1e30,5,6\n", "line 2: the label '1e30' is no integer up to 16777216"),
        ("1\n2\n", "line 1: a label and at least one value are needed"),
        ("1;2;3\n", "line 1: a label and at least one value are needed, separated by commas: '1;2;3"),
        ("\x89PNG\x00\x01\n", "line 1: "),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, reason):
    with pytest.raises(DataError, match=r"rows.csv") as caught:
        read(tmp_path, text)
    assert reason in str(caught.value)


def test_the_complaint_of_numpy_stands_where_python_reads_the_number(tmp_path):
    with pytest.raises(DataError, match="could not convert string '1_0'"):
        read(tmp_path, "1,1_0\n")
