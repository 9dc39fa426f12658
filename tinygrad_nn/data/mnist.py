"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from .._types import Array
from ..errors import DataError
from .download import Remote, download
from .files import cache_folder, look_for
from .idx import read_idx

Split: TypeAlias = tuple[Array, Array]  # images, labels

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)

# Length and SHA-256 of each file once decompressed: mirrors compress the same bytes in different ways.
FILES = (
    Remote(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    Remote(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    Remote(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    Remote(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


def load_mnist(flatten: bool = True, normalize: bool = True, one_hot_label: bool = False) -> tuple[Split, Split]:
    """`(x_train, t_train), (x_test, t_test)` of MNIST, as NumPy arrays.

    Images are float32 in [0, 1] when `normalize`, else uint8; (N, 784) when `flatten`, else (N, 1, 28, 28). Labels are
    int64 (N,), or float32 (N, 10) when `one_hot_label`.

    The four IDX files, gzip or not, are looked for in the folder `mnist` of $TINYGRAD_NN_DATA, then of the user's cache
    (`tinygrad_nn` in $XDG_CACHE_HOME or ~/.cache), and at last downloaded into that cache. Raises `DataError` for a
    damaged file, and when there is neither a file nor a network.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998.

    >>> import tinygrad_nn as tg
    >>> (x_train, t_train), (x_test, t_test) = tg.data.load_mnist()  # doctest: +SKIP
    >>> x_train.shape, t_test.shape  # doctest: +SKIP
    ((60000, 784), (10000,))
    """
    paths = [
        look_for(f"mnist/{file.name}.gz", f"mnist/{file.name}") or download(file, MIRRORS, cache_folder() / "mnist")
        for file in FILES
    ]
    splits = []
    for images_path, labels_path in (paths[:2], paths[2:]):
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
            raise DataError(f"load_mnist: {images_path} holds {images.dtype}{images.shape}, not images of 28x28 bytes")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or (labels > 9).any():
            raise DataError(f"load_mnist: {labels_path} does not hold one digit for each of {len(images)} images")
        splits.append(prepare(images, labels, 255, flatten, normalize, one_hot_label))
    return splits[0], splits[1]


def prepare(
    images: Array, labels: Array, white: int, flatten: bool, normalize: bool, one_hot_label: bool
) -> tuple[Array, Array]:
    """Bytes (N, height, width) from 0 to `white`, and digits (N,), in the form that was asked for."""
    images = images.reshape((len(images), -1) if flatten else (len(images), 1, *images.shape[1:]))
    if normalize:
        images = np.divide(images, white, dtype=np.float32)
    labels = np.eye(10, dtype=np.float32)[labels] if one_hot_label else labels.astype(np.int64)
    return images, labels
