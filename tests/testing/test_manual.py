"""Planted mistakes in a hand-derived backward pass: the first wrong gradient and the mistake are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.testing import compare_manual_gradients

N = 32
RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(N, 7)), RNG.integers(0, 4, N)
P = {
    "W1": RNG.normal(size=(7, 6)) * 0.4,
    "b1": RNG.normal(size=6) * 0.1,
    "W2": RNG.normal(size=(6, 6)) * 0.4,
    "b2": RNG.normal(size=6) * 0.1,
    "W3": RNG.normal(size=(6, 4)) * 0.4,
    "b3": np.zeros(4),
}


def loss(p: Any) -> Any:
    h1 = tg.tanh(X @ p["W1"] + p["b1"])
    h2 = tg.sigmoid(h1 @ p["W2"] + p["b2"])
    return nn.functional.cross_entropy(h2 @ p["W3"] + p["b3"], LABELS)


def loss_and_intermediates(p: Any) -> Any:
    z1 = X @ p["W1"] + p["b1"]
    h1 = tg.tanh(z1)
    z2 = h1 @ p["W2"] + p["b2"]
    h2 = tg.sigmoid(z2)
    s = h2 @ p["W3"] + p["b3"]
    return nn.functional.cross_entropy(s, LABELS), {"z1": z1, "h1": h1, "z2": z2, "h2": h2, "s": s}


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def by_hand(mistake: str = "", intermediates: bool = False, p: Any = P) -> dict[str, Any]:
    """The backward pass on paper, with a mistake if wanted."""
    h1 = np.tanh(X @ p["W1"] + p["b1"])
    h2 = sigmoid(h1 @ p["W2"] + p["b2"])
    s = h2 @ p["W3"] + p["b3"]
    e = np.exp(s - s.max(1, keepdims=True))
    ds = e / e.sum(1, keepdims=True)
    ds[np.arange(N), LABELS] -= 1
    ds = ds if mistake == "no mean" else ds / N
    ds = -ds if mistake == "sign" else ds
    g = {"s": ds, "W3": h2.T @ ds, "b3": ds if mistake == "no batch sum" else ds.sum(0)}
    g["h2"] = ds @ p["W3"].T
    g["z2"] = g["h2"] * h2 * (1 - h2)
    if mistake == "no sigmoid":
        g["z2"] = g["h2"]
    if mistake == "sigmoid of the result":
        g["z2"] = g["h2"] * sigmoid(h2) * (1 - sigmoid(h2))
    g |= {"W2": h1.T @ g["z2"], "b2": g["z2"].sum(0)}
    g["h1"] = g["z2"] @ (p["W2"] if mistake == "W2 not transposed" else p["W2"].T)
    g["z1"] = g["h1"] if mistake == "no tanh" else g["h1"] * (1 - h1**2)
    if mistake == "no upstream":
        g["z1"] = 1 - h1**2
    g |= {"W1": X.T @ g["z1"], "b1": g["z1"].sum(0)}
    match mistake:
        case "transposed":
            g["W2"] = g["W2"].T
        case "transposed, not square":
            g["W1"] = g["W1"].T
        case "zero":
            g["W2"] = 0 * g["W2"]
        case "swapped":
            g["b1"] = g["b2"]
        case "twice":
            g["W1"] = 2 * g["W1"]
        case "half":
            g["W1"] = g["W1"] / 2
        case "shifted":
            g["b2"] = np.roll(g["b2"], 1)
        case "reversed":
            g["W3"] = g["W3"][::-1]
        case "nan":
            g["b2"][2] = np.nan
        case "one element":
            g["W1"][2, 3] *= 1.02
        case "slightly":
            g["W2"] = g["W2"] * (1 + 1e-7)
        case "row":
            g["b1"] = g["b1"][None]
        case "summed too far":
            g["W3"] = g["W3"].sum(0)
    return g if intermediates else {name: g[name] for name in P}


def test_right_gradients_are_right() -> None:
    report = compare_manual_gradients(loss, P, by_hand())
    assert report, report
    assert report.first_wrong is report.first_wrong_layer is None
    assert [g.name for g in report.gradients] == ["b3", "W3", "b2", "W2", "b1", "W1"]
    assert max(g.error for g in report.gradients) < 1e-14
    assert str(report).startswith("manual gradients: all 6 right")
    assert compare_manual_gradients(loss_and_intermediates, P, by_hand(intermediates=True))


@pytest.mark.parametrize(
    ("mistake", "first", "wrong", "words"),
    [
        ("no mean", "b3", 6, "the 1/32 is missing"),
        ("sign", "b3", 6, "the sign is wrong"),
        ("no batch sum", "b3", 1, "the sum over axis 0 is missing"),
        ("no sigmoid", "b2", 4, "the derivative of sigmoid is missing"),
        ("sigmoid of the result", "b2", 4, "the derivative of sigmoid is taken at its result"),
        ("W2 not transposed", "b1", 2, "argument 1 of matmul with W2 is transposed the wrong way"),
        ("no tanh", "b1", 2, "the derivative of tanh is missing"),
        ("no upstream", "b1", 2, "the gradient from above is missing at tanh"),
        ("transposed", "W2", 1, "transposed"),
        ("transposed, not square", "W1", 1, "shape (6, 7) instead of (7, 6): transposed"),
        ("zero", "W2", 1, "zero everywhere"),
        ("swapped", "b1", 1, "this is the gradient of b2"),
        ("twice", "W1", 1, "twice too large"),
        ("half", "W1", 1, "half as large"),
        ("shifted", "b2", 1, "shifted by one along axis 0"),
        ("reversed", "W3", 1, "reversed along axis 0"),
        ("nan", "b2", 1, "1 of 6 elements are not finite"),
        ("one element", "W1", 1, "1 of 42 elements differ, most at [2, 3]"),
        ("slightly", "W2", 1, "1.0000001 times what it should be"),
        ("row", "b1", 1, "only the shape differs"),
        ("summed too far", "W3", 1, "summed over axis 0 too"),
    ],
)
def test_mistake_is_found_and_named(mistake: str, first: str, wrong: int, words: str) -> None:
    report = compare_manual_gradients(loss, P, by_hand(mistake))
    assert not report
    assert report.first_wrong is not None
    assert report.first_wrong.name == first
    assert report.first_wrong_layer == first[-1]
    assert [g.verdict for g in report.gradients].count("wrong") == wrong
    assert words in report.first_wrong.mistake, report
    assert words in str(report)
    if wrong > 1:
        assert f"It explains all {wrong} that are wrong" in report.mistake
    else:
        assert "this one alone" in report.mistake


@pytest.mark.parametrize(("mistake", "first"), [("no tanh", "z1"), ("no sigmoid", "z2"), ("W2 not transposed", "h1")])
def test_intermediates_narrow_it_down(mistake: str, first: str) -> None:
    report = compare_manual_gradients(loss_and_intermediates, P, by_hand(mistake, intermediates=True))
    assert report.first_wrong is not None and report.first_wrong.name == first


def test_two_mistakes() -> None:
    g = by_hand("no tanh")
    g["b3"] = -g["b3"]
    report = compare_manual_gradients(loss, P, g)
    found = {c.name: c.mistake for c in report.gradients if c.verdict == "wrong"}
    assert found == {"b3": "the sign is wrong"} | dict.fromkeys(["b1", "W1"], "the derivative of tanh is missing")
    assert report.first_wrong_layer == "3"


def test_missing_branch_of_a_residual_block() -> None:
    w = RNG.normal(size=(7, 7)) * 0.3

    def residual(p: Any) -> Any:
        h = tg.tanh(X @ p["V"])
        return ((h + tg.tanh(h @ p["W"])) ** 2).sum()

    h = np.tanh(X @ w)
    r = np.tanh(h @ w.T)
    dy = 2 * (h + r)
    dz = dy * (1 - r**2)
    g = {"W": h.T @ dz, "V": X.T @ ((dz @ w) * (1 - h**2))}  # dy itself, through the shortcut, forgotten
    report = compare_manual_gradients(residual, {"V": w, "W": w.T}, g)
    assert report.first_wrong is not None and report.first_wrong.name == "V"
    assert "the gradient through argument 0 of add is not added" in report.first_wrong.mistake


def test_the_same_mistake_in_every_layer() -> None:
    def deep(p: Any) -> Any:
        h = X
        for w in p.values():
            h = tg.tanh(h @ w)
        return (h**2).sum()

    ws = {f"W{k}": RNG.normal(size=(7, 7)) * 0.3 for k in range(4)}
    hs = [X]
    for w in ws.values():
        hs.append(np.tanh(hs[-1] @ w))
    g, dz = {}, 2 * hs[-1]  # tanh' forgotten each time
    for name in reversed(ws):
        g[name] = hs[int(name[1])].T @ dz
        dz = dz @ ws[name].T
    report = compare_manual_gradients(deep, ws, g)
    assert report.first_wrong is not None and report.first_wrong.name == "W3"
    assert report.first_wrong.mistake == "the derivative of tanh is missing, everywhere"
    assert "It explains all 4" in report.mistake


def test_backward_through_time_cut_off() -> None:
    def rnn(p: Any, cut: bool = False) -> Any:
        h = tg.asarray(np.zeros((N, 7)))
        for _ in range(4):
            h = tg.tanh(X @ p["W"] + (h.detach() if cut else h) @ p["U"] + p["b"])
        return (h**2).sum()

    p = {"W": RNG.normal(size=(7, 7)) * 0.3, "U": RNG.normal(size=(7, 7)) * 0.3, "b": RNG.normal(size=7)}
    leaves = {name: tg.tensor(a, requires_grad=True) for name, a in p.items()}
    rnn(leaves, cut=True).backward()
    report = compare_manual_gradients(rnn, p, {name: t.grad for name, t in leaves.items()})
    mistakes = {g.mistake for g in report.gradients}
    assert mistakes == {"the gradient through argument 0 of matmul with U is not added, everywhere"}, report


def test_gradients_layer_by_layer() -> None:
    g = by_hand("no tanh")
    tuples = [(g["W3"], g["b3"]), (g["W2"], g["b2"]), (g["W1"], g["b1"])]
    dicts = [{n: g[n] for n in names} for names in (("W3", "b3"), ("b2", "W2"), ("W1", "b1"))]
    for layers in (tuples, dicts):
        assert compare_manual_gradients(loss, P, layers).first_wrong_layer == "1"


def test_modules_and_their_dtype() -> None:
    net = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1))
    x = X.astype(np.float32)
    before = net.state_dict()
    w1, b1, w2, b2 = before.values()
    h = np.tanh(x @ w1.T + b1)
    dy = 2 * (h @ w2.T + b2) / N
    dz = (dy @ w2) * (1 - h**2)
    layers: list[Any] = [{"weight": dy.T @ h, "bias": dy.sum(0)}, (dz.T @ x, dz.sum(0))]

    def mean_square(model: Any) -> Any:
        return (model(tg.tensor(x)) ** 2).mean()

    report = compare_manual_gradients(mean_square, net, layers)
    assert report, report
    assert [g.layer for g in report.gradients] == ["2", "2", "0", "0"]
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    layers[1] = (dz.T @ x, dy.sum(0) * np.ones(5, np.float32))
    report = compare_manual_gradients(mean_square, net, layers)
    assert report.first_wrong is not None and report.first_wrong.name == "0.bias"


def test_rounding_is_no_mistake_and_tolerance_multiplies_it() -> None:
    g = {name: np.asarray(a, np.float32) for name, a in by_hand().items()}
    assert compare_manual_gradients(loss, P, g)
    g = by_hand()
    g["W2"] = g["W2"] * (1 + 1e-12)
    assert not compare_manual_gradients(loss, P, g)
    assert compare_manual_gradients(loss, P, g, tolerance=1000)


def test_not_given_is_said_and_is_no_pass() -> None:
    report = compare_manual_gradients(loss, P, {"W3": by_hand()["W3"], "b3": None})
    assert report
    assert "not given" in str(report) and "all 1 right" in str(report)
    assert not compare_manual_gradients(loss, P, {})


def test_parameter_the_loss_does_not_use() -> None:
    report = compare_manual_gradients(
        lambda p: (p["a"] ** 2).sum(), {"a": X, "unused": X}, {"a": 2 * X, "unused": 0 * X}
    )
    assert report
    assert not compare_manual_gradients(lambda p: (p["a"] ** 2).sum(), {"a": X, "b": X}, {"a": 2 * X, "b": X})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_manual_gradients(loss, P, {"W4": X}), r"no parameter is called \['W4'\]"),
        (lambda: compare_manual_gradients(loss, P, 3), "dict or a list"),
        (lambda: compare_manual_gradients(loss, [X], {}), "Module or a dict"),
        (lambda: compare_manual_gradients(loss, P, [(X,)]), "1 gradients for layer 3"),
        (lambda: compare_manual_gradients(loss, P, [()] * 4), "4 layers given"),
        (lambda: compare_manual_gradients(loss, P, {"W1": "x"}), "not real numbers"),
        (lambda: compare_manual_gradients(lambda p: p["W1"], P, {}), "one number"),
        (lambda: compare_manual_gradients(lambda p: (p["W1"].sum(), {"W1": p["W1"]}), P, {}), "intermediate 'W1'"),
        (
            lambda: compare_manual_gradients(lambda p: (p["W1"] * np.inf).sum(), {"W1": np.ones(2)}, {}),
            "the loss is inf",
        ),
        (lambda: compare_manual_gradients(lambda p: p["b3"].sum() + RNG.normal(), P, {}), "the same each time"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_torchs_gradients_are_right(dtype: str, scale: float) -> None:
    """Gradients by someone else, in their own order of summation: rounding differs, nothing else."""
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 8), nn.Tanh())
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(27, 8),
        torch.nn.Tanh(),
    )  # fmt: skip
    state = {name: RNG.normal(0, scale, a.shape).astype(dtype) for name, a in ours.state_dict().items()}
    ours.to(dtype).load_state_dict(state)
    theirs.to(getattr(torch, dtype)).load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    x, labels = RNG.normal(size=(16, 1, 8, 8)).astype(dtype), RNG.integers(0, 8, 16)
    torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}

    def entropy(model: Any) -> Any:
        return nn.functional.cross_entropy(model(tg.tensor(x)), labels)

    report = compare_manual_gradients(entropy, ours, gradients)
    assert report, report
    gradients["0.weight"] = np.flip(gradients["0.weight"], (2, 3))
    report = compare_manual_gradients(entropy, ours, gradients)
    assert report.first_wrong is not None and report.first_wrong.mistake == "reversed along axis 2, 3"
