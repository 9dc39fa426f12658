"""Every example runs, in a short version, and prints its reference values. They are stated here a second time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
DATA = os.environ.get("TINYGRAD_NN_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TINYGRAD_NN_DATA names no folder with mnist/ and book/")


def run(name: str, out: Path, *arguments: str, **environment: str) -> str:
    """What an example prints, run as a program of its own that writes into `out`."""
    settings = {**os.environ, "TINYGRAD_NN_QUICK": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), "--out", str(out), *arguments]
    ran = subprocess.run(command, cwd=out, env=settings, capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def accuracy(printed: str) -> float:
    (percent,) = re.findall(r"^Accuracy on [\d,]+ test images: ([\d.]+)%$", printed, re.MULTILINE)
    return float(percent)


REFERENCE = {
    "gates": ["XOR, two layers                               [0, 1, 1, 0]", "at most 75%"],
    "activations": ["[0.01821127, 0.24519181, 0.73659691]", "[0, 1, 1]"],
    "stable_softmax": ["[9.99954600e-01, 4.53978686e-05, 2.06106005e-09]"],
    "arrays": ["[[10, 40]", "[30, 80]]", "[[19, 22]", "[43, 50]]", "[ 5, 11, 17]", "(2, 3) and (4, 5) do not align"],
    "three_layers": ["[0.31682708, 0.69627909]"],
    "smallest_network": ["0.12147927773116", "0.00164287768020"],
    "handmade_backprop": ["equal to rounding                         True"],
    "gradcheck_tour": [
        "the right layer passes                        True",
        "mistakes found                                5",
        "wrong rule: Transposed, argument 0",
    ],
    "gradient_experiments": [
        "3.6220337",
        "[1., 2., 3.]",
        "[1., 1., 1.]",
        "the derivative of tanh is missing",
        "'inconclusive'",
    ],
}
PICTURES = {"gates", "activations", "arrays", "smallest_network", "handmade_backprop", "gradient_experiments"}


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name: str, tmp_path: Path) -> None:
    printed = run(name, tmp_path)
    for text in REFERENCE[name]:
        assert text in printed, printed
    assert bool(list(tmp_path.glob("*.png"))) == (name in PICTURES)


@needs_data
def test_digit_inference(tmp_path: Path) -> None:
    printed = run("digit_inference", tmp_path)
    assert len(re.findall(r"^accuracy, .* 0\.9352$", printed, re.MULTILINE)) == 2, printed
    assert list(tmp_path.glob("*.png"))


@needs_data
def test_neural_network_class(tmp_path: Path) -> None:
    printed = run("neural_network_class", tmp_path)
    (performance,) = re.findall(r"performance (\d\.\d+)", printed)
    assert float(performance) >= 0.6, printed
    assert "rounding only            True" in printed


@needs_data
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_mnist_is_trained_saved_and_loaded(model: str, tmp_path: Path) -> None:
    printed = run("mnist", tmp_path, "--model", model, "--epochs", "3", "--batch", "32")
    assert accuracy(printed) > 75
    assert "NOT MNIST" not in printed
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {f"mnist_{model}{end}" for end in (".npz", "_loss.png", "_confusion.png", "_mistakes.png")}
    again = run("mnist", tmp_path, "--load", str(tmp_path / f"mnist_{model}.npz"))
    assert accuracy(again) == accuracy(printed)


def test_mnist_without_data_or_network_says_so_and_goes_on(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"  # nothing listens there
    printed = run(
        "mnist", tmp_path, "--epochs", "3", "--batch", "32",
        TINYGRAD_NN_DATA="", XDG_CACHE_HOME=str(tmp_path), http_proxy=nowhere, https_proxy=nowhere, no_proxy="",
    )  # fmt: skip
    assert "THIS IS NOT MNIST" in printed
    assert accuracy(printed) > 75


def test_every_example_is_tested_and_listed() -> None:
    assert set(EXAMPLES) == set(REFERENCE) | {"digit_inference", "neural_network_class", "mnist"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(EXAMPLES) == set(re.findall(r"\(examples/(\w+)\.py\)", readme))
