"""Reading handwritten digits with weights that somebody else trained.

The network is 784-50-100-10 with sigmoids. Its published weights are a pickle, and a pickle can run any code when it is
loaded; `tg.data.load_pickle` reads the arrays and runs nothing. The 10,000 test images of MNIST are classified twice,
one at a time and in batches of 100: the answers are the same, only the time is not.

Needs the folder TINYGRAD_NN_DATA with book/sample_weight.pkl.
"""

from __future__ import annotations

import time

import numpy as np
from _common import check, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn.errors import DataError


def predict(network, x):
    """The probability of each digit, for one image (784,) or a batch (N, 784)."""
    z1 = tg.sigmoid(x @ network["W1"] + network["b1"])
    z2 = tg.sigmoid(z1 @ network["W2"] + network["b2"])
    return tg.softmax(z2 @ network["W3"] + network["b3"])


def classify(network, images, batch=None):
    """The most probable digit for each image: one image at a time, or `batch` at once."""
    if batch is None:
        return np.array([predict(network, x).argmax() for x in images])
    return np.concatenate([predict(network, images[i : i + batch]).argmax(1) for i in range(0, len(images), batch)])


def load():
    network = tg.data.load_pickle(tg.data.find_file("book/sample_weight.pkl"))
    _, (images, labels) = tg.data.load_mnist(flatten=True, normalize=True, one_hot_label=False)
    return network, images, labels


def draw(plt, images, labels, answers, path):
    """The first thirty digits, and in the last two rows the next twenty that were misread."""
    misread = np.flatnonzero(answers != labels)
    shown = [*range(30), *misread[misread >= 30][:20]]
    figure, panels = plt.subplots(5, 10, figsize=(11, 6.6), layout="constrained")
    for panel, i in zip(panels.flat, shown, strict=True):
        right = answers[i] == labels[i]
        panel.imshow(images[i].reshape(28, 28), cmap="gray_r")
        panel.set_title(f"{labels[i]}, read as {answers[i]}", fontsize=8, color="black" if right else "C3")
        panel.axis("off")
    figure.suptitle("The first thirty test digits, and the next twenty that were misread")
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    try:
        network, images, labels = load()
    except DataError as error:
        raise SystemExit(f"This example needs data that is not here.\n{error}") from None
    for name in sorted(network):
        print(f"{name}: {network[name].dtype} {network[name].shape}")
    for text, batch in (("one image at a time", None), ("in batches of 100", 100)):
        start = time.perf_counter()
        answers = classify(network, images, batch)
        seconds = time.perf_counter() - start
        check(f"accuracy, {text} ({seconds:.2f} s)", (answers == labels).mean(), 0.9352)
    if plt := pyplot():
        draw(plt, images, labels, answers, options.out / "digits_read.png")


if __name__ == "__main__":
    main()
