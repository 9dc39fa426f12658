"""The step-size study: every way to take differences errs as theory says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, MissingExtraError
from tinygrad_nn.testing import step_size_study


def classic(x: Any) -> Any:
    """The function of Squire and Trapp."""
    return tg.exp(x) / (tg.sin(x) ** 3 + tg.cos(x) ** 3)


def test_the_classic_picture() -> None:
    study = step_size_study(classic, 1.5)
    assert study.derivative == pytest.approx(3.62203370071632, rel=1e-14)  # as in Lyness and Moler's literature
    assert list(study.errors) == ["forward", "central", "extrapolated", "complex step"]
    for method, step, error in (("forward", 1.5e-8, 1e-6), ("central", 6e-6, 1e-9), ("extrapolated", 1e-3, 1e-12)):
        h, e = study.best[method]
        assert step / 30 < h < step * 30, method
        assert e < error, method
    assert study.best["forward"][1] > study.best["central"][1] > study.best["extrapolated"][1]
    assert np.all(study.errors["complex step"][study.steps < 1e-9] < 1e-15)
    assert np.all(study.errors["forward"][study.steps < 1e-17] == 1.0)  # x + h is x


def test_slopes_of_the_truncation() -> None:
    h = np.logspace(-1, -2, 11)
    study = step_size_study(classic, 1.5, steps=h)
    for method, slope in (("forward", 1), ("central", 2), ("extrapolated", 4), ("complex step", 2)):
        assert np.polyfit(np.log(h), np.log(study.errors[method]), 1)[0] == pytest.approx(slope, abs=0.3), method


def test_errors_against_constants() -> None:
    """x² at 3: forward is off by h, of 6; central not at all."""
    study = step_size_study(lambda x: x * x, 3.0, steps=[0.5, 0.25])
    assert study.errors["forward"] == pytest.approx([0.5 / 6, 0.25 / 6], rel=1e-14)
    assert study.errors["central"] == pytest.approx([0, 0], abs=1e-15)


def test_complex_step_is_refused_where_it_would_lie() -> None:
    study = step_size_study(lambda x: tg.absolute(x) * tg.sin(x), 0.7)
    assert "complex step" not in study.errors
    assert "absolute" in study.left_out["complex step"]
    assert "left out: absolute" in str(study)


def test_arrays_trees_and_directions() -> None:
    x = np.array([1.0, 2.0])
    study = step_size_study(
        lambda p: tg.sum(p[0] * p[0]) * p[1], (x, np.array(3.0)), direction=(np.array([1.0, 0.0]), 1.0)
    )
    assert study.derivative == pytest.approx(3 * 2 * 1 + 5)
    drawn = step_size_study(tg.sin, x, seed=3)
    assert drawn.best["complex step"][1] < 1e-15


def test_derivative_by_hand_of_plain_numpy() -> None:
    def fn(x: Any) -> Any:
        assert isinstance(x, np.ndarray)
        return np.sin(x)

    assert step_size_study(fn, 2.0, derivative=np.cos(2.0)).best["complex step"][1] < 1e-15
    wrong = step_size_study(fn, 2.0, derivative=1.001 * np.cos(2.0))
    for method in ("central", "extrapolated", "complex step"):  # all flatten at the error of the derivative
        assert np.median(wrong.errors[method][(wrong.steps < 1e-3) & (wrong.steps > 1e-8)]) == pytest.approx(
            1e-3, rel=0.02
        )

    def real(x: Any) -> Any:
        if x.dtype.kind == "c":
            raise TypeError("no complex numbers")
        return np.sin(x)

    assert "no complex" in step_size_study(real, 2.0, derivative=np.cos(2.0)).left_out["complex step"]


@pytest.mark.parametrize("steps", [[], [0.1, -0.1], [[0.1]]])
def test_bad_steps(steps: Any) -> None:
    with pytest.raises((ArgumentError, TypeError)):
        step_size_study(tg.sin, 1.0, steps=steps)


def test_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = step_size_study(classic, 1.5)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"tinygrad_nn\[viz\]"):
        study.plot(tmp_path / "no.png")
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    assert study.plot(tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")
    assert step_size_study(tg.cos, 0.0).plot(tmp_path / "zero.png").exists()  # absolute errors
