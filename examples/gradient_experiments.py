"""Experiments with gradients: how one sees that a derivative is right, and finds out what is wrong with it.

1. The step-size study: finite differences against the step, with the complex step, the picture of every textbook.
2. The Taylor test of a small network's loss: its remainders fall as h, h², h³. Then a forgotten factor in one rule.
3. Backprop by hand, with mistakes: the first layer that goes wrong, and the mistake, are named.
4. `gradcheck`, which needs no picture: a pass with what it would have seen, a kink, and a wrong operation.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser, pyplot

import tinygrad_nn as tg
from tinygrad_nn.nn import functional as F


def squire_trapp(x):
    """The function on which Squire and Trapp (1998) showed the complex step."""
    return tg.exp(x) / (tg.sin(x) ** 3 + tg.cos(x) ** 3)


class ForgetfulTanh(tg.autograd.Function):
    """tanh whose backward says 1 - 0.999·tanh² where 1 - tanh² is right."""

    @staticmethod
    def forward(ctx, x):
        y = tg.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - 0.999 * y * y)


def problem(seed=0, samples=32, inputs=8, hidden=6, classes=4):
    random = np.random.default_rng(seed)
    p = {
        "W1": random.normal(0, inputs**-0.5, (inputs, hidden)),
        "b1": random.normal(0, 0.1, hidden),
        "W2": random.normal(0, hidden**-0.5, (hidden, classes)),
        "b2": random.normal(0, 0.1, classes),
    }
    return p, random.normal(size=(samples, inputs)), random.integers(classes, size=samples)


PARAMETERS, X, LABELS = problem()


def loss(p, tanh=tg.tanh):
    return F.cross_entropy(tanh(X @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"], LABELS)


def gradients_by_hand(p, tanh_forgotten=False, mean_forgotten=False):
    h = np.tanh(X @ p["W1"] + p["b1"])
    s = h @ p["W2"] + p["b2"]
    e = np.exp(s - s.max(axis=1, keepdims=True))
    ds = e / e.sum(axis=1, keepdims=True)
    ds[np.arange(len(X)), LABELS] -= 1
    if not mean_forgotten:
        ds /= len(X)
    dh = ds @ p["W2"].T
    dz = dh if tanh_forgotten else dh * (1 - h**2)
    return {"W1": X.T @ dz, "b1": dz.sum(axis=0), "W2": h.T @ ds, "b2": ds.sum(axis=0)}


def step_sizes():
    study = tg.testing.step_size_study(squire_trapp, 1.5)
    print(study)
    check("derivative at 1.5", study.derivative, 3.6220337007163264, rtol=1e-14)
    check("complex step exact to rounding", study.best["complex step"][1] < 1e-15, True)
    errors = [study.best[m][1] for m in ("forward", "central", "extrapolated", "complex step")]
    check("each method better than the one before", np.all(np.diff(errors) < 0), True)
    return study


def taylor():
    right = tg.testing.taylor_test(loss, PARAMETERS)
    print(f"\n{right}")
    check("slopes", np.round(right.slopes), [1, 2, 3])
    wrong = tg.testing.taylor_test(lambda p: loss(p, tanh=ForgetfulTanh.apply), PARAMETERS)
    print(f"\n{wrong}")
    check("slopes with 0.999 in one rule", np.round(wrong.slopes), [1, 1, 1])
    return right, wrong


def by_hand():
    for mistakes, first, wrong in (
        ({}, None, 0),
        ({"tanh_forgotten": True}, "1", 2),
        ({"mean_forgotten": True}, "2", 4),
    ):
        report = tg.testing.compare_manual_gradients(loss, PARAMETERS, gradients_by_hand(PARAMETERS, **mistakes))
        print(f"\n{report}")
        found = [g.verdict for g in report.gradients].count("wrong")
        check(
            "first wrong layer, wrong gradients", [str(report.first_wrong_layer), str(found)], [str(first), str(wrong)]
        )


def checked():
    for name, fn, x, verdict in (
        ("loss", loss, (PARAMETERS,), "pass"),
        ("relu at 0", tg.relu, (np.zeros(2),), "valid at kink"),
        ("forgetful tanh", ForgetfulTanh.apply, (np.array([0.9, -1.2]),), "fail"),
        ("sqrt at 0", tg.sqrt, (np.zeros(2),), "inconclusive"),
    ):
        result = tg.autograd.gradcheck(fn, x, raise_exception=False)
        print(f"\n{name}: {result}")
        check(f"verdict on {name}", result.verdict, verdict)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    study = step_sizes()
    right, wrong = taylor()
    by_hand()
    checked()
    if pyplot():
        for name, result in (("step_sizes", study), ("taylor_right", right), ("taylor_wrong", wrong)):
            print(f"picture: {result.plot(options.out / f'{name}.png')}")


if __name__ == "__main__":
    main()
