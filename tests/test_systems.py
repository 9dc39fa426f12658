"""The nine systems S1 to S9: their reference values, asserted on the functions that the examples are made of."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg

EXAMPLES = Path(__file__).parent.parent / "examples"
DATA = os.environ.get("TINYGRAD_NN_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYGRAD_NN_DATA names no folder with mnist/ and book/")

GATES = {"AND": (0, 0, 0, 1), "NAND": (1, 1, 1, 0), "OR": (0, 1, 1, 1), "XOR": (0, 1, 1, 0)}


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def example(name: str) -> Any:
    return importlib.import_module(name)


# -- S1: gates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GATES)
def test_s1_gates_with_weights_chosen_by_hand(name: str) -> None:
    gates = example("gates")
    gate = getattr(gates, f"gate_{name.lower()}")
    assert gate(np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).tolist() == list(GATES[name])
    assert gate(np.array([1, 0])) == GATES[name][2]  # a single pair, too


def test_s1_learned_gates() -> None:
    gates = example("gates")
    models = gates.learn_all(seed=1)
    for name in ("AND", "NAND", "OR"):
        assert gates.fires(models[name], gates.INPUTS).tolist() == list(GATES[name])
    assert 0.5 <= gates.accuracy(models["XOR, one neuron"], GATES["XOR"]) <= 0.75
    assert gates.accuracy(models["XOR, two layers"], GATES["XOR"]) == 1.0


# -- S2, S3: activations and softmax -----------------------------------------------------------------------------------


def test_s2_activation_values() -> None:
    activations = example("activations")
    assert tg.sigmoid(0.0) == 0.5
    fired = np.asarray(activations.step(np.array([-1.0, 1.0, 2.0])))
    assert fired.tolist() == [0, 1, 1]
    assert fired.dtype.kind == "i"
    shares = tg.softmax(np.array([0.3, 2.9, 4.0]))
    np.testing.assert_allclose(shares, [0.01821127, 0.24519181, 0.73659691], rtol=0, atol=5e-9)
    assert shares.sum() == pytest.approx(1.0, abs=1e-15)


def test_s2_slopes_over_the_range() -> None:
    activations = example("activations")
    x = np.arange(-5.0, 5.0, 0.1)
    wanted = {
        "step": np.zeros(100),
        "sigmoid": np.exp(-x) / (1 + np.exp(-x)) ** 2,
        "ReLU": (x > 0).astype(float),
        "identity": np.ones(100),
    }
    for name, function in activations.FUNCTIONS.items():
        np.testing.assert_allclose(activations.slopes(function, x), wanted[name], rtol=1e-12)
    values, changes = activations.softmax_curves(x)
    np.testing.assert_allclose(values.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(changes[:, 0], values[:, 0] * (1 - values[:, 0]), rtol=1e-12)


def test_s3_stable_softmax() -> None:
    softmax = example("stable_softmax")
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        shares = tg.softmax(np.array([1010.0, 1000.0, 990.0]))
        np.testing.assert_allclose(shares, [9.99954600e-01, 4.53978686e-05, 2.06106005e-09], rtol=5e-9)
        loss, gradient = softmax.loss_and_gradient([1e4, 0.0, -1e4], 2)
    assert loss == 2e4
    assert gradient.dtype == np.float32
    assert gradient.tolist() == [1.0, 0.0, -1.0]


# -- S4, S5: arrays and a forward pass ---------------------------------------------------------------------------------


def test_s4_array_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    example("arrays").lesson()  # ends with an error where a value is not as given there
    assert "(2, 3) and (4, 5)" in capsys.readouterr().out
    a = tg.tensor([[1, 2], [3, 4]])
    assert (a * tg.tensor([10, 20])).tolist() == [[10, 40], [30, 80]]
    assert (a @ tg.tensor([[5, 6], [7, 8]])).tolist() == [[19, 22], [43, 50]]
    assert (tg.tensor([1, 2]) @ tg.tensor([[1, 3, 5], [2, 4, 6]])).tolist() == [5, 11, 17]


def test_s5_three_layers() -> None:
    layers = example("three_layers")
    wanted = [0.31682708, 0.69627909]
    y = layers.forward(layers.NETWORK, np.array([1.0, 0.5]))
    np.testing.assert_allclose(y, wanted, rtol=0, atol=5e-9)
    batch = layers.forward(layers.NETWORK, np.array([[1.0, 0.5], [0.0, 0.0]]))
    np.testing.assert_allclose(batch[0], wanted, rtol=0, atol=5e-9)


# -- S6: inference -----------------------------------------------------------------------------------------------------


@needs_data
def test_s6_digit_inference() -> None:
    inference = example("digit_inference")
    network, images, labels = inference.load()
    assert {name: array.shape for name, array in network.items()} == {
        "W1": (784, 50), "b1": (50,), "W2": (50, 100), "b2": (100,), "W3": (100, 10), "b3": (10,),
    }  # fmt: skip
    assert images.shape == (10_000, 784)
    one_by_one = inference.classify(network, images)
    assert (one_by_one == labels).sum() == 9352
    assert np.array_equal(inference.classify(network, images, batch=100), one_by_one)


# -- S7: the smallest network ------------------------------------------------------------------------------------------


def test_s7_smallest_network() -> None:
    """All 60,000 steps: rounding adds up over them, so fewer would prove less."""
    network = example("smallest_network")
    means = {}
    outputs = network.train(60_000, means.__setitem__)
    wanted = {
        0: 0.12147927773116377,
        10_000: 0.0016428776802080154,
        20_000: 0.0004698892266159512,
        30_000: 0.0002577862541365471,
        40_000: 0.00017372224218744627,
        50_000: 0.00012952823214978267,
    }
    for step, mean in wanted.items():
        assert means[step] == pytest.approx(mean, rel=1e-9, abs=0)
    assert (outputs.ravel() > 0.5).tolist() == [False, True, True, False, False]


# -- S8: the class -----------------------------------------------------------------------------------------------------


def test_s8_updates_equal_the_hand_derived_ones() -> None:
    digits = example("neural_network_class")
    tg.manual_seed(3)
    random = np.random.default_rng(3)
    assert digits.compare_updates(random.integers(256, size=(20, 784)), random.integers(10, size=20)) < 1e-14


def test_s8_starting_weights_and_preparation() -> None:
    digits = example("neural_network_class")
    tg.manual_seed(0)
    network = digits.NeuralNetwork(784, 200, 10, 0.1)
    assert network.wih.shape == (200, 784)
    assert network.who.shape == (10, 200)
    assert network.wih.data.std() == pytest.approx(200**-0.5, rel=0.02)
    assert network.who.data.std() == pytest.approx(10**-0.5, rel=0.1)
    inputs, targets = digits.prepared(np.array([[0.0, 255.0]]), np.array([1]))
    np.testing.assert_allclose(inputs, [[0.01, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(targets, [[0.01, 0.99] + 8 * [0.01]], rtol=1e-6)


@needs_data
def test_s8_learns_from_a_hundred_digits() -> None:
    digits = example("neural_network_class")
    names = ("book/mnist_train_100.csv", "book/mnist_test_10.csv")
    train, test = (tg.data.read_csv(tg.data.find_file(name)) for name in names)
    tg.manual_seed(0)
    network = digits.NeuralNetwork(784, 200, 10, 0.1)
    digits.train_epochs(network, train, test, epochs=5)
    assert digits.scorecard(network, *train).mean() >= 0.9
    assert digits.scorecard(network, *test).mean() >= 0.5
    assert network.query(digits.prepared(*test)[0][0]).argmax() == 7  # the first test image


# -- S9: training on MNIST ---------------------------------------------------------------------------------------------


def test_s9_shapes_of_the_models() -> None:
    mnist = example("mnist")
    for side in (28, 8):
        for make in mnist.MODELS.values():
            assert make(side)(tg.zeros((2, 1, side, side))).shape == (2, 10)
    sizes = [p.shape for p in mnist.mlp(28).parameters()]
    assert sizes == [(512, 784), (512,), (256, 512), (256,), (10, 256), (10,)]


def test_s9_learning_rate_rises_and_falls() -> None:
    factors = [example("mnist").warm_up_and_cool_down(done) for done in np.linspace(0, 1, 101)]
    assert factors[0] < 0.02
    assert max(factors) > 0.98
    assert factors[-1] == pytest.approx(0, abs=1e-12)


def test_s9_confusion_matrix() -> None:
    table = example("mnist").confusion(np.array([0, 1, 1, 9]), np.array([0, 1, 7, 9]))
    assert table.sum() == 4
    assert table[0, 0] == table[1, 1] == table[1, 7] == table[9, 9] == 1


@needs_data
@pytest.mark.parametrize(("model", "images", "wanted"), [("mlp", 6000, 0.92), ("cnn", 3000, 0.92)])
def test_s9_short_run_on_mnist(model: str, images: int, wanted: float, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ["--model", model, "--limit", str(images), "--batch", "32", "--epochs", "2", "--out", str(tmp_path)]
    assert example("mnist").main(command) > wanted
    saved = tg.load(tmp_path / f"mnist_{model}.npz")
    assert saved["model"] == model
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_s9_says_what_is_wrong_with_a_file_to_load(tmp_path: Path) -> None:
    mnist = example("mnist")
    tg.save(tmp_path / "other.npz", {"w": np.zeros(3)})
    for name, reason in (("nothing.npz", "No such file"), ("other.npz", "no weights of this program")):
        with pytest.raises(SystemExit, match=reason):
            mnist.main(["--load", str(tmp_path / name), "--out", str(tmp_path)])


def test_s9_where_nothing_can_be_written_nothing_is_trained(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, no folder")
    with pytest.raises(SystemExit, match="File exists"):
        example("mnist").main(["--out", str(tmp_path / "out")])


@pytest.mark.parametrize("option", ["--epochs", "--batch", "--lr", "--limit"])
def test_s9_refuses_nonsense(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example("mnist").main([option, "0"])
    assert f"{option} must be above 0" in capsys.readouterr().err


class Interrupted:
    """A DataLoader that is stopped with Ctrl-C before its fourth batch."""

    def __init__(self, dataset: Any, batch: int, shuffle: bool, generator: int) -> None:
        self.batches = [dataset.batch(np.arange(batch))] * 3

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches
        raise KeyboardInterrupt


def test_s9_ctrl_c_keeps_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    mnist = example("mnist")
    monkeypatch.setattr(tg.data, "load_mnist", tg.data.load_digits)
    monkeypatch.setattr(tg.data, "DataLoader", Interrupted)
    mnist.main(["--epochs", "1", "--out", str(tmp_path)])
    assert "Stopped after 3 of 10 steps" in capsys.readouterr().out
    assert (tmp_path / "mnist_mlp.npz").exists()


def test_s9_without_tqdm_the_line_is_plain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    mnist = example("mnist")
    monkeypatch.setitem(importlib.import_module("sys").modules, "tqdm", None)  # as if it were not installed
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with mnist.progress("epoch 1/2", 100) as show:
        show(50, "loss 1.0")
        show(50, "loss 0.5")
    shown = capsys.readouterr().err
    assert "epoch 1/2:  50%" in shown
    assert "loss 1.0" in shown
    assert shown.endswith("\r")


# -- and backprop by hand ----------------------------------------------------------------------------------------------


def test_handmade_backprop_equals_autodiff() -> None:
    backprop = example("handmade_backprop")
    by_hand = backprop.gradients_by_hand(*backprop.problem(seed=5))
    by_autodiff = backprop.gradients_by_autodiff(*backprop.problem(seed=5))
    for name, gradient in by_hand.items():
        np.testing.assert_allclose(by_autodiff[name], gradient, rtol=1e-9, atol=1e-16)


def test_a_wrong_value_ends_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    check = example("_common").check
    check("three", 3, 3)
    check("a third", 0.3333, 1 / 3, rtol=1e-3)
    for got, wanted, rtol in (([1, 2], [1, 3], 0.0), ([1, 2], [1, 2, 3], 0.0), (np.nan, 1.0, 1e-3), (1.1, 1.0, 0.01)):
        with pytest.raises(SystemExit, match="MISMATCH: it should be"):
            check("it", got, wanted, rtol)
