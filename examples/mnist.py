"""Train a network to read handwritten digits, and look at what it learned.

    python examples/mnist.py                        an MLP 784-512-256-10, about 98.5 % after ten epochs
    python examples/mnist.py --model cnn            a small convolutional network, above 99 % after five
    python examples/mnist.py --load out/mnist_mlp.npz    no training: evaluate saved weights

It prints the accuracy on the test images and a confusion matrix, and writes into the folder `out` the weights and three
pictures: the loss curve, the confusion matrix, the worst mistakes. Ctrl-C ends the training; what was learned until
then is evaluated and saved all the same.

The images are those of MNIST, from the folder TINYGRAD_NN_DATA, else from the cache of this user, else from the
network. Without any of these, the 8x8 digits that come with scikit-learn take their place.
"""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

# Before NumPy is imported: one thread for its matrix products. These are small, so that more threads gain little, and
# on a machine that is busy otherwise they wait for each other most of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from _common import QUICK, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn import nn, optim
from tinygrad_nn.errors import ArgumentError, DataError, MissingExtraError
from tinygrad_nn.nn import functional as F

# -- data --------------------------------------------------------------------------------------------------------------


def load_images():
    """`(x_train, t_train), (x_test, t_test)`, images (N, 1, height, width) in [0, 1]: MNIST, or what there is."""
    try:
        images, name = tg.data.load_mnist(flatten=False), "MNIST"
    except DataError as error:
        print(f"MNIST cannot be had: {error}\n")
        images, name = tg.data.load_digits(flatten=False), "scikit-learn's digits"
        print(
            "THIS IS NOT MNIST. Going on with the digits of scikit-learn: real handwriting too, but far fewer images,"
        )
        print("of 8x8 pixels, and easier to read. Accuracies cannot be compared with those of MNIST.\n")
    (x_train, _), (x_test, _) = images
    size = "x".join(map(str, x_train.shape[2:]))
    print(f"{name}: {len(x_train):,} images to train on, {len(x_test):,} to test on, {size} pixels")
    return images


# -- models ------------------------------------------------------------------------------------------------------------


def mlp(side):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(side * side, 512), nn.ReLU(),
        nn.Linear(512, 256), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip


def cnn(side):
    kernel, padding = (5, 0) if side == 28 else (3, 1)
    left = ((side - kernel + 1 + 2 * padding) // 2 - kernel + 1 + 2 * padding) // 2  # pixels on a side, in the end
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * left * left, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip


MODELS = {"mlp": mlp, "cnn": cnn}
DEFAULTS = {  # model, pixels on a side
    ("mlp", 28): {"epochs": 10, "batch": 128, "lr": 0.1},
    ("cnn", 28): {"epochs": 5, "batch": 64, "lr": 0.05},
    ("mlp", 8): {"epochs": 30, "batch": 32, "lr": 0.05},
    ("cnn", 8): {"epochs": 30, "batch": 32, "lr": 0.05},
}

# -- training ----------------------------------------------------------------------------------------------------------


def train(model, data, test, options):
    """Train the model; returns the loss of every step, and the accuracy on the test images after every epoch."""
    loader = tg.data.DataLoader(tg.data.TensorDataset(*data), options.batch, shuffle=True, generator=options.seed)
    descent = optim.SGD(model.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    losses, accuracies, steps = [], [], options.epochs * len(loader)
    try:
        for epoch in range(1, options.epochs + 1):
            model.train()
            right = seen = 0
            start = time.perf_counter()
            with progress(f"epoch {epoch}/{options.epochs}", len(data[0])) as show:
                for x, t in loader:
                    descent.param_groups[0]["lr"] = options.lr * warm_up_and_cool_down(len(losses) / steps)
                    scores = model(x)
                    loss = F.cross_entropy(scores, t)
                    descent.zero_grad()
                    loss.backward()
                    descent.step()

                    losses.append(loss.item())
                    right += int((scores.data.argmax(axis=1) == t.data).sum())
                    seen += len(t)
                    show(len(t), f"loss {np.mean(losses[-50:]):.4f}, accuracy {right / seen:.2%}")
            speed = seen / (time.perf_counter() - start)
            shares, _ = evaluate(model, *test)
            accuracies.append(accuracy(shares, test[1]))
            print(
                f"epoch {epoch:2}/{options.epochs}: loss {np.mean(losses[-len(loader) :]):.4f}, "
                f"accuracy {right / seen:.2%}, on test images {accuracies[-1]:.2%}, {speed:,.0f} images/s",
                flush=True,
            )
    except KeyboardInterrupt:
        print(f"\nStopped after {len(losses)} of {steps} steps. Going on with what was learned so far.")
    return losses, accuracies


def warm_up_and_cool_down(done):
    """The factor of the learning rate when the part `done` of all steps is done: a short climb, then half a cosine."""
    return min(1.0, 0.01 + 50 * done) * (1 + math.cos(math.pi * done)) / 2


def evaluate(model, images, labels):
    """The probability of each digit for every image, and the loss of every image."""
    model.eval()
    shares, losses = [], []
    with tg.no_grad():
        for i in range(0, len(images), 250):
            scores = model(tg.tensor(images[i : i + 250]))
            shares.append(tg.softmax(scores).numpy())
            losses.append(F.cross_entropy(scores, labels[i : i + 250], reduction="none").numpy())
    return np.concatenate(shares), np.concatenate(losses)


def accuracy(shares, labels):
    return float((shares.argmax(axis=1) == labels).mean())


@contextmanager
def progress(title, total):
    """Gives `show(n, text)`, which draws n more images as done: with tqdm, or plainly where that is not installed.

    Nothing is drawn into a file or a pipe, where the line at the end of each epoch has to do.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield plain_line(title, total) if sys.stderr.isatty() else lambda n, text: None
        return
    with tqdm(
        desc=title, total=total, unit=" images", unit_scale=True, leave=False, dynamic_ncols=True, disable=None
    ) as bar:

        def show(n, text):
            bar.set_postfix_str(text, refresh=False)
            bar.update(n)

        yield show


def plain_line(title, total):
    """One line on the terminal that is written over five times a second, and wiped out at the end."""
    done, start, shown = 0, time.perf_counter(), 0.0

    def show(n, text):
        nonlocal done, shown
        done += n
        now = time.perf_counter()
        if done == total:
            print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)
        elif now - shown > 0.2:
            shown = now
            line = f"{title}: {done / total:4.0%}, {done / (now - start):,.0f} images/s, {text}"
            print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)

    return show


# -- what came of it ---------------------------------------------------------------------------------------------------


def confusion(labels, answers):
    """How often each digit (rows) was read as each digit (columns)."""
    return np.bincount(labels * 10 + answers, minlength=100).reshape(10, 10)


def print_confusion(table):
    print("\nConfusion matrix: digits in rows, what they were read as in columns")
    print("      " + "".join(f"{digit:6}" for digit in range(10)))
    for digit, row in enumerate(table):
        cells = "".join(f"{n:6}" if n else "     ." for n in row)
        print(f"{digit:6}{cells}   {row[digit] / max(row.sum(), 1):.1%}")


def draw_losses(plt, losses, accuracies, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    window = min(100, len(losses))
    smooth = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    left.semilogy(losses, lw=0.5, alpha=0.35, label="each step")
    left.semilogy(np.arange(window - 1, len(losses)), smooth, color="C0", label=f"mean of {window} steps")
    left.set(title="Loss while training", xlabel="step", ylabel="cross-entropy")
    right.plot(range(1, len(accuracies) + 1), [100 * a for a in accuracies], "o-", color="C2")
    right.set(title="Accuracy on the test images", xlabel="epoch", ylabel="%")
    right.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    save(figure, path)
    plt.close(figure)


def draw_confusion(plt, table, path):
    figure, panel = plt.subplots(figsize=(6, 5.6), layout="constrained")
    mistakes = np.where(np.eye(10, dtype=bool), 0, table)
    panel.imshow(mistakes, cmap="Reds", vmax=max(1, mistakes.max()))
    for (row, column), n in np.ndenumerate(table):
        dark = mistakes[row, column] > 0.6 * mistakes.max() > 0
        style = {"weight": "bold"} if row == column else {"color": "white" if dark else "black"}
        panel.text(column, row, n or "", ha="center", va="center", fontsize=9, **style)
    panel.set(title="Mistakes in red", xlabel="read as", ylabel="digit", xticks=range(10), yticks=range(10))
    panel.spines[:].set_visible(True)
    save(figure, path)
    plt.close(figure)


def draw_mistakes(plt, images, labels, shares, losses, path):
    """The mistakes with the highest loss: those where the network was surest, and wrong."""
    wrong = np.flatnonzero(shares.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-losses[wrong])][:25]
    figure, panels = plt.subplots(5, 5, figsize=(7.5, 8.6), layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, i in zip(panels.flat, worst, strict=False):
        answer = shares[i].argmax()
        panel.imshow(images[i, 0], cmap="gray_r")
        panel.set_title(
            f"{labels[i]} ({shares[i, labels[i]]:.1%})\nread as {answer} ({shares[i, answer]:.1%})", fontsize=8
        )
    figure.suptitle(f"The worst of {len(wrong)} mistakes on {len(labels):,} images")
    save(figure, path)
    plt.close(figure)


# -- putting it together -----------------------------------------------------------------------------------------------


def command_line(arguments):
    command = parser(__doc__)
    command.add_argument("--model", choices=MODELS, default="mlp")
    command.add_argument("--epochs", type=int, help="10 for the mlp, 5 for the cnn")
    command.add_argument("--batch", type=int, help="images in a step: 128 for the mlp, 64 for the cnn")
    command.add_argument("--lr", type=float, help="highest learning rate: 0.1 for the mlp, 0.05 for the cnn")
    command.add_argument("--seed", type=int, default=0, help="of starting weights and order of images (default: 0)")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N images, for a short run")
    command.add_argument("--load", type=Path, metavar="FILE", help="evaluate these weights, without training")
    options = command.parse_args(arguments)
    for name in ("epochs", "batch", "lr", "limit"):
        if getattr(options, name) is not None and not getattr(options, name) > 0:
            command.error(f"--{name} must be above 0")
    return options


def run(options):
    options.out.mkdir(parents=True, exist_ok=True)  # if this fails, then not only after the training
    saved = None
    if options.load:
        saved = tg.load(options.load)
        known = isinstance(saved, dict) and saved.keys() == {"model", "weights"} and saved["model"] in MODELS
        if not known:
            raise DataError(f"{options.load} holds no weights of this program")
        options.model = saved["model"]
    train_data, test_data = load_images()
    if QUICK:
        options.limit, options.epochs = options.limit or 1000, options.epochs or 1
    train_data, test_data = ([array[: options.limit] for array in data] for data in (train_data, test_data))
    side = train_data[0].shape[-1]
    for name, value in DEFAULTS[options.model, side].items():
        if getattr(options, name) is None:
            setattr(options, name, value)

    tg.manual_seed(options.seed)
    model = MODELS[options.model](side)
    print(model)
    losses = []
    if saved:
        model.load_state_dict(saved["weights"])
    else:
        start = time.perf_counter()
        losses, accuracies = train(model, train_data, test_data, options)
        print(f"trained in {time.perf_counter() - start:.1f} s")

    images, labels = test_data
    shares, image_losses = evaluate(model, images, labels)
    answers = shares.argmax(axis=1)
    table = confusion(labels, answers)
    print_confusion(table)
    reached = accuracy(shares, labels)
    print(f"\nAccuracy on {len(labels):,} test images: {reached:.2%}")

    name = f"mnist_{options.model}"
    if not saved:
        tg.save(options.out / f"{name}.npz", {"model": options.model, "weights": model.state_dict()})
        print(f"weights: {options.out / name}.npz")
    if plt := pyplot():
        if losses:
            draw_losses(plt, losses, accuracies, options.out / f"{name}_loss.png")
        draw_confusion(plt, table, options.out / f"{name}_confusion.png")
        draw_mistakes(plt, images, labels, shares, image_losses, options.out / f"{name}_mistakes.png")
    return reached


def main(arguments=None):
    options = command_line(arguments)
    try:
        return run(options)
    except (DataError, ArgumentError, MissingExtraError, OSError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print("\nStopped.")
        raise SystemExit(130) from None  # the usual exit status for Ctrl-C


if __name__ == "__main__":
    main()
