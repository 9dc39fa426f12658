"""A neural network as a class with two methods, `train` and `query`, that learns to read digits one image at a time.

784 inputs, 200 hidden neurons, 10 outputs, sigmoid after both layers, no biases; the error is the squared distance
from targets that are 0.99 for the right digit and 0.01 for the others. In the original, `train` spells out how the
error flows back. Here it is one call of `backward`, and `hand_derived_update` shows that the updates are the same.

The data is CSV: a label and 784 pixels from 0 to 255 in each line. Training on 100 images and testing on 10 takes a
moment; `--full` trains on all 60,000 images of MNIST for five epochs (a minute or two) and reads more than 97 of 100.

Needs the folder TINYGRAD_NN_DATA with book/mnist_train_100.csv and book/mnist_test_10.csv.
"""

from __future__ import annotations

import time

import numpy as np
from _common import QUICK, check, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn import optim
from tinygrad_nn.errors import DataError


class NeuralNetwork:
    """Inputs, one hidden layer, outputs; sigmoid after both layers."""

    def __init__(self, inputnodes, hiddennodes, outputnodes, learningrate, dtype=np.float32):
        def weights(to, come_from):
            drawn = tg.random.normal(0.0, to**-0.5, (to, come_from), dtype)
            return drawn.requires_grad_()

        self.wih = weights(hiddennodes, inputnodes)
        self.who = weights(outputnodes, hiddennodes)
        self.descent = optim.SGD([self.wih, self.who], lr=learningrate)

    def outputs(self, inputs):
        return tg.sigmoid(self.who @ tg.sigmoid(self.wih @ inputs))

    def train(self, inputs, targets):
        """One step of gradient descent on one sample."""
        error = ((targets - self.outputs(inputs)) ** 2).sum() / 2
        self.descent.zero_grad()
        error.backward()
        self.descent.step()

    def query(self, inputs):
        """The outputs for one sample, or one column for each column of `inputs`."""
        with tg.no_grad():
            return self.outputs(inputs).numpy()


def hand_derived_update(wih, who, inputs, targets, learningrate):
    """What `train` does to the two arrays of weights, as derived on paper."""
    hidden = 1 / (1 + np.exp(-(wih @ inputs)))
    outputs = 1 / (1 + np.exp(-(who @ hidden)))
    output_delta = (targets - outputs) * outputs * (1 - outputs)
    hidden_delta = (who.T @ output_delta) * hidden * (1 - hidden)
    new_who = who + learningrate * np.outer(output_delta, hidden)
    new_wih = wih + learningrate * np.outer(hidden_delta, inputs)
    return new_wih, new_who


def prepared(pixels, labels):
    """Pixels from 0.01 to 1.0, and targets of 0.01 and 0.99: a sigmoid never quite reaches 0 or 1."""
    targets = np.full((len(labels), 10), 0.01, np.float32)
    targets[np.arange(len(labels)), labels] = 0.99
    return np.asarray(pixels / 255 * 0.99 + 0.01, np.float32), targets


def train_epochs(network, train, test, epochs):
    """Go through the training images `epochs` times, and tell after each time how many test images are read right."""
    inputs, targets = prepared(*train)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        for x, t in zip(inputs, targets, strict=True):
            network.train(x, t)
        speed = len(inputs) / (time.perf_counter() - start)
        share = scorecard(network, *test).mean()
        print(f"epoch {epoch}/{epochs}: {share:.2%} of {len(test[1]):,} read right, {speed:,.0f} images/s", flush=True)


def scorecard(network, pixels, labels):
    """1 for each image that is read right, else 0."""
    inputs, _ = prepared(pixels, labels)
    return (network.query(inputs.T).argmax(axis=0) == labels).astype(int)


def compare_updates(pixels, labels):
    """Both ways of training, side by side for the first images, in float64."""
    network = NeuralNetwork(784, 200, 10, 0.1, np.float64)
    wih, who = network.wih.data.copy(), network.who.data.copy()
    inputs, targets = (array.astype(np.float64) for array in prepared(pixels, labels))
    for x, t in zip(inputs, targets, strict=True):
        network.train(x, t)
        wih, who = hand_derived_update(wih, who, x, t, 0.1)
    return max(np.abs(network.wih.data - wih).max(), np.abs(network.who.data - who).max())


def draw(plt, network, pixels, labels, path):
    """The test images with the digit, the answer, and all ten outputs."""
    inputs, _ = prepared(pixels, labels)
    figure, panels = plt.subplots(2, 10, figsize=(15, 3.4), layout="constrained", height_ratios=(2, 1))
    for i in range(10):
        outputs = network.query(inputs[i])
        answer = outputs.argmax()
        color = "C2" if answer == labels[i] else "C3"
        panels[0, i].imshow(pixels[i].reshape(28, 28), cmap="gray_r")
        panels[0, i].set_title(f"{labels[i]}, read as {answer}", fontsize=9, color=color)
        panels[0, i].axis("off")
        panels[1, i].bar(range(10), outputs, color=[color if digit == answer else "0.7" for digit in range(10)])
        panels[1, i].set(ylim=(0, 1), xticks=range(10), yticks=[])
        panels[1, i].tick_params(labelsize=7)
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    command = parser(__doc__)
    command.add_argument("--full", action="store_true", help="train on all 60,000 images of MNIST, five epochs")
    command.add_argument("--seed", type=int, default=0, help="of the starting weights (default: 0)")
    options = command.parse_args(arguments)
    tg.manual_seed(options.seed)
    try:
        few = tg.data.read_csv(tg.data.find_file("book/mnist_train_100.csv"))
        ten = tg.data.read_csv(tg.data.find_file("book/mnist_test_10.csv"))
        if options.full:
            train, test = tg.data.load_mnist(normalize=False)
    except DataError as error:
        raise SystemExit(f"This example needs data that is not here.\n{error}") from None

    difference = compare_updates(few[0][:10], few[1][:10])
    print(f"{'largest difference from the hand-derived':<45} {difference:.1e}")
    check("  after ten updates: rounding only", difference < 1e-14, True)

    network = NeuralNetwork(784, 200, 10, learningrate=0.1)
    if options.full:
        train_epochs(network, train, test, epochs=5)
        share = scorecard(network, *test).mean()
        check(f"{share:.2%} of 10,000 test images; at least 97%", share >= 0.97, True)
    else:
        train_epochs(network, few, ten, epochs=5 if QUICK else 10)
    for x, digit in zip(prepared(*ten)[0], ten[1], strict=True):
        print(f"digit {digit}, read as {network.query(x).argmax()}")
    score = scorecard(network, *ten)
    print(f"scorecard {score.tolist()}, performance {score.mean():.2f}")
    if plt := pyplot():
        draw(plt, network, *ten, options.out / "neural_network_class.png")


if __name__ == "__main__":
    main()
