"""Activation functions, with the derivatives that autodiff finds.

Every function works on arrays of any shape, element by element; softmax works along the last axis. The picture shows
each function over [-5, 5) and, dashed, its derivative. Nobody wrote the derivatives down here: `backward` finds them.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn import nn

step = nn.Step()
FUNCTIONS = {"step": step, "sigmoid": tg.sigmoid, "ReLU": tg.relu, "identity": nn.Identity()}


def slopes(function, x):
    """f'(x) at every element of the array x: the gradient of the sum, as each output depends on one input alone."""
    x = tg.tensor(x, requires_grad=True)
    y = function(x)
    if not y.requires_grad:  # step's values are integers: flat wherever it has a slope at all
        return np.zeros(x.shape)
    y.sum().backward()
    return x.grad.numpy()


def softmax_curves(x):
    """softmax([x, 0, 1]) for every x, and how each of the three shares changes with x (forward mode)."""

    def shares(x):
        return tg.softmax(tg.stack([x, 0 * x, 0 * x + 1], axis=-1))

    values, changes = tg.func.jvp(shares, (x,), (np.ones_like(x),))
    return np.asarray(values), np.asarray(changes)


def show_values():
    check("sigmoid(0)", tg.sigmoid(0.0), 0.5)
    fired = step(np.array([-1.0, 1.0, 2.0]))
    check("step([-1, 1, 2])", fired, [0, 1, 1])
    check("  of an integer dtype", np.asarray(fired).dtype.kind == "i", True)
    check("ReLU([-1, 0, 2])", tg.relu(np.array([-1.0, 0.0, 2.0])), [0, 0, 2])
    check("  its slopes (0 at the kink)", slopes(tg.relu, np.array([-1.0, 0.0, 2.0])), [0, 0, 1])

    logits = np.array([0.3, 2.9, 4.0])
    shares = tg.softmax(logits)
    check("softmax([0.3, 2.9, 4.0])", shares, [0.01821127, 0.24519181, 0.73659691], rtol=3e-7)
    check("  sums to", shares.sum(), 1.0, rtol=1e-15)
    check("  keeps the order", np.argsort(shares), np.argsort(logits))

    for shape in [(), (3,), (2, 3), (2, 0, 3)]:
        x = np.ones(shape)
        check(
            f"shapes for an input of shape {shape}",
            [np.shape(f(x)) == shape for f in [*FUNCTIONS.values(), tg.softmax]],
            [True] * 5,
        )
    x = np.arange(-5.0, 5.0, 0.1)
    y = tg.sigmoid(x)
    check("sigmoid' = sigmoid (1 - sigmoid)", np.abs(slopes(tg.sigmoid, x) - y * (1 - y)).max() < 1e-15, True)


def draw(plt, path):
    x = np.arange(-5.0, 5.0, 0.1)
    curves = {name: [(name, np.asarray(f(x)), slopes(f, x))] for name, f in FUNCTIONS.items()}
    values, changes = softmax_curves(x)
    names = ("share of x", "share of 0", "share of 1")
    curves["softmax([x, 0, 1])"] = [(name, values[:, i], changes[:, i]) for i, name in enumerate(names)]

    figure, panels = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for panel, (title, lines) in zip(panels.flat, curves.items(), strict=False):
        for i, (name, y, dy) in enumerate(lines):
            panel.plot(x, y, color=f"C{i}", label=name)
            panel.plot(x, dy, "--", color=f"C{i}", label=f"{name}, derivative")
        panel.set(title=title, xlabel="x")
        panel.grid(alpha=0.3)
    panels[1, 2].axis("off")  # the place of the legend
    panels[1, 2].legend(*panels[1, 1].get_legend_handles_labels(), loc="center", title="softmax", frameon=False)
    figure.suptitle("Activation functions (solid) and their derivatives by autodiff (dashed)")
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    show_values()
    if plt := pyplot():
        draw(plt, options.out / "activations.png")


if __name__ == "__main__":
    main()
