"""Logic gates from neurons: first with weights chosen by hand, then with weights that are learned.

A perceptron fires when w·x + b > 0. One is enough for AND, NAND and OR. For XOR no single one will do: it would need

    b <= 0,   w1 + b > 0,   w2 + b > 0,   w1 + w2 + b <= 0

and the middle two add up to w1 + w2 + 2b > 0, so that w1 + w2 + b > -b >= 0, against the last. Two layers can.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn import nn, optim

INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
GATES = {"AND": [0, 0, 0, 1], "NAND": [1, 1, 1, 0], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}
STEPS = 200

# -- weights chosen by hand --------------------------------------------------------------------------------------------


def perceptron(x, w, b):
    return nn.functional.step(x @ np.array(w) + b)


def gate_and(x):
    return perceptron(x, w=(0.5, 0.5), b=-0.7)


def gate_nand(x):
    return perceptron(x, w=(-0.5, -0.5), b=0.7)


def gate_or(x):
    return perceptron(x, w=(0.5, 0.5), b=-0.2)


def gate_xor(x):
    return gate_and(np.stack([gate_nand(x), gate_or(x)], axis=-1))


# -- weights that are learned ------------------------------------------------------------------------------------------


def learn(model, truth):
    """Train `model`, whose output is the logit of "fires", on the four rows of a truth table."""
    wanted = tg.tensor(np.array(truth, np.float32)[:, None])
    descent = optim.SGD(model.parameters(), lr=1.0)
    loss_of = nn.BCEWithLogitsLoss()
    for _ in range(STEPS):
        loss = loss_of(model(INPUTS), wanted)
        descent.zero_grad()
        loss.backward()
        descent.step()
    return model


def logits(model, x):
    with tg.no_grad():
        return model(tg.tensor(x)).numpy()[:, 0]


def fires(model, x):
    return nn.functional.step(logits(model, x))


def accuracy(model, truth):
    return float((fires(model, INPUTS) == truth).mean())


def learn_all(seed=0):
    """A learned model for each gate, one neuron each; for XOR the best of ten tries, and then a two-layer network."""
    tg.manual_seed(seed)
    models = {name: learn(nn.Linear(2, 1), GATES[name]) for name in ("AND", "NAND", "OR")}
    tries = [learn(nn.Linear(2, 1), GATES["XOR"]) for _ in range(10)]
    models["XOR, one neuron"] = max(tries, key=lambda model: accuracy(model, GATES["XOR"]))
    models["XOR, two layers"] = learn(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), GATES["XOR"])
    return models


def draw(plt, models, path):
    """The half of the plane where each learned model fires, and the four inputs with what is wanted."""
    side = np.linspace(-0.5, 1.5, 200, dtype=np.float32)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    figure, panels = plt.subplots(1, len(models), figsize=(3 * len(models), 3.2), layout="constrained")
    for panel, (name, model) in zip(panels, models.items(), strict=True):
        truth = np.array(GATES[name.split(",")[0]])
        height = logits(model, plane).reshape(200, 200)
        panel.contourf(side, side, height, levels=[-np.inf, 0, np.inf], colors=["#f2f2f2", "#f5c6a5"])
        for value, marker, color in ((0, "o", "white"), (1, "s", "C3")):
            at = INPUTS[truth == value]
            panel.plot(at[:, 0], at[:, 1], marker, color=color, mec="black", ms=10, label=f"wanted {value}")
        panel.set(title=f"{name}: {accuracy(model, truth):.0%}", aspect="equal", xticks=[0, 1], yticks=[0, 1])
    panels[0].legend(loc="lower left", fontsize=7, framealpha=0.8)
    figure.suptitle("Where each learned model fires (shaded)")
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    print(f"{'inputs':<45} {INPUTS.astype(int).tolist()}")
    print("-- weights chosen by hand")
    for name, gate in {"AND": gate_and, "NAND": gate_nand, "OR": gate_or, "XOR": gate_xor}.items():
        check(name, gate(INPUTS), GATES[name])
    print("-- weights that are learned")
    models = learn_all()
    for name in ("AND", "NAND", "OR"):
        check(name, fires(models[name], INPUTS), GATES[name])
    best = accuracy(models["XOR, one neuron"], GATES["XOR"])
    check(f"XOR, one neuron, best of ten: {best:.0%}; at most 75%", 0.5 <= best <= 0.75, True)
    check("XOR, two layers", fires(models["XOR, two layers"], INPUTS), GATES["XOR"])
    if plt := pyplot():
        draw(plt, models, options.out / "gates.png")


if __name__ == "__main__":
    main()
