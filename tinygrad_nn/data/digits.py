"""scikit-learn's handwritten digits: real images, 8x8, that come with that library and need no download."""

from __future__ import annotations

import numpy as np

from ..errors import missing_extra
from .mnist import Split, prepare

TRAINING_IMAGES = 1437  # four fifths of the 1,797


def load_digits(flatten: bool = True, normalize: bool = True, one_hot_label: bool = False) -> tuple[Split, Split]:
    """`(x_train, t_train), (x_test, t_test)` of scikit-learn's 1,797 digits of 8x8 pixels, in the form of `load_mnist`.

    This is not MNIST: the images are smaller and far fewer (1,437 to train on, 360 to test on, always the same ones).
    Images are float32 in [0, 1] when `normalize`, else uint8 from 0 to 16; (N, 64) when `flatten`, else (N, 1, 8, 8).
    Labels are int64 (N,), or float32 (N, 10) when `one_hot_label`. Needs the extra `digits`.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.

    >>> import tinygrad_nn as tg
    >>> (x_train, t_train), (x_test, t_test) = tg.data.load_digits()  # doctest: +SKIP
    >>> x_train.shape, t_test.shape  # doctest: +SKIP
    ((1437, 64), (360,))
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise missing_extra("scikit-learn", "digits", "load_digits") from None
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))  # the file is grouped by writer
    images = pixels[order].astype(np.uint8).reshape(-1, 8, 8)
    labels = labels[order]
    parts = slice(TRAINING_IMAGES), slice(TRAINING_IMAGES, None)
    train, test = (prepare(images[p], labels[p], 16, flatten, normalize, one_hot_label) for p in parts)
    return train, test
