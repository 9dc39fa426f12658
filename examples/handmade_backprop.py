"""Backpropagation by hand beside autodiff: the same network, the same gradients.

The network is affine, sigmoid, affine; the loss is the mean softmax cross-entropy of a batch:

    z = x W1 + b1,  h = sigmoid(z),  s = h W2 + b2,  p = softmax(s),  L = -1/N * sum over samples of log p[label]

`gradients_by_hand` is what one derives on paper with the chain rule, in plain NumPy. `gradients_by_autodiff` writes
down only the forward pass.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn.nn import functional as F


def gradients_by_hand(p, x, labels):
    n = len(x)
    # forward, keeping what the way back needs
    h = 1 / (1 + np.exp(-(x @ p["W1"] + p["b1"])))
    s = h @ p["W2"] + p["b2"]
    e = np.exp(s - s.max(axis=1, keepdims=True))
    shares = e / e.sum(axis=1, keepdims=True)
    # backward, each line the derivative of L by the variable it is named after
    ds = shares.copy()
    ds[np.arange(n), labels] -= 1  # softmax and logarithm together: shares - one-hot
    ds /= n
    dh = ds @ p["W2"].T
    dz = dh * h * (1 - h)  # sigmoid' = sigmoid (1 - sigmoid)
    return {"W1": x.T @ dz, "b1": dz.sum(axis=0), "W2": h.T @ ds, "b2": ds.sum(axis=0)}


def gradients_by_autodiff(p, x, labels):
    t = {name: tg.tensor(array, requires_grad=True) for name, array in p.items()}
    h = tg.sigmoid(x @ t["W1"] + t["b1"])
    loss = F.cross_entropy(h @ t["W2"] + t["b2"], labels)
    loss.backward()
    return {name: tensor.grad.numpy() for name, tensor in t.items()}


def problem(seed=0, samples=32, inputs=20, hidden=10, classes=5):
    """Random weights and data, in float64 so that rounding is far below any mistake."""
    random = np.random.default_rng(seed)
    p = {
        "W1": random.normal(0, inputs**-0.5, (inputs, hidden)),
        "b1": random.normal(0, 0.1, hidden),
        "W2": random.normal(0, hidden**-0.5, (hidden, classes)),
        "b2": random.normal(0, 0.1, classes),
    }
    return p, random.normal(size=(samples, inputs)), random.integers(classes, size=samples)


def draw(plt, by_hand, by_autodiff, path):
    figure, panel = plt.subplots(figsize=(5, 5), layout="constrained")
    panel.axline((0, 0), slope=1, color="0.7", lw=1)
    for name in by_hand:
        panel.plot(by_hand[name].ravel(), by_autodiff[name].ravel(), "o", ms=4, alpha=0.7, label=name)
    panel.set(title="Every gradient, both ways", xlabel="derived by hand", ylabel="found by autodiff")
    panel.legend(frameon=False)
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    by_hand = gradients_by_hand(*problem())
    by_autodiff = gradients_by_autodiff(*problem())
    for name, gradient in by_hand.items():
        other = by_autodiff[name]
        largest = np.abs(gradient).max()
        print(f"{name} {gradient.shape}: largest gradient {largest:.4f}")
        print(f"    by hand      {gradient.ravel()[:4]}")
        print(f"    by autodiff  {other.ravel()[:4]}")
        check("    equal to rounding", np.abs(gradient - other).max() < 1e-14 * max(1.0, largest), True)
    if plt := pyplot():
        draw(plt, by_hand, by_autodiff, options.out / "handmade_backprop.png")


if __name__ == "__main__":
    main()
