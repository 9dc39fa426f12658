"""The pytest plugin, in a pytest of its own: readable failures, and the deep run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILE = """
import numpy as np
import tinygrad_nn as tg
from tinygrad_nn.testing import arrays, assert_gradients, check_gradients


class Cube(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2.0 * grad * x * x


@check_gradients(arrays(), max_examples=20)
def test_drawn(x):
    return Cube.apply(x)


test_existing = check_gradients(arrays(), max_examples=20)(Cube.apply)


def test_asserted():
    assert_gradients(Cube.apply, np.ones(2))


@check_gradients(arrays("sin"), max_examples=3)
def test_right(x):
    print("drawn")
    return tg.sin(x)


def test_right_asserted():
    assert_gradients(tg.sin, np.ones(2))


def test_other():
    assert 1 == 2
"""


def run(folder: Path, *options: str) -> str:
    (folder / "test_user.py").write_text(FILE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "tinygrad_nn.testing.plugin", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8").stdout


def section(printed: str, test: str) -> str:
    return re.split(r"\n_{3,} ", printed.split(f" {test} _")[1])[0]


def test_failures_are_reports(tmp_path: Path) -> None:
    printed = run(tmp_path)
    drawn = section(printed, "test_drawn")
    line = 1 + FILE.splitlines().index("@check_gradients(arrays(), max_examples=20)")
    assert f"{tmp_path / 'test_user.py'}:{line}:" in drawn
    assert re.search(r"-+ gradient check -+\ngradcheck: fail", drawn)
    assert "x=array(1.)" in drawn
    assert "Cube" in drawn
    assert "hypothesis/core.py" not in drawn
    asserted = section(printed, "test_asserted")
    assert ">       assert_gradients(Cube.apply, np.ones(2))" in asserted
    assert "assertions.py" not in asserted
    assert "test_user.py::test_existing" in section(printed, "test_existing")
    assert "assert 1 == 2" in section(printed, "test_other")
    assert re.search(r"FAILED test_user.py::test_drawn - gradcheck: fail", printed)
    assert "4 failed, 2 passed" in printed


@pytest.mark.parametrize("option", ["--full-trace", "--tb=native"])
def test_pytest_shows_all_if_asked(option: str, tmp_path: Path) -> None:
    printed = run(tmp_path, option, "-k", "asserted")
    assert "assertions.py" in printed
    assert "- gradient check -" not in printed


def test_deep_draws_more(tmp_path: Path) -> None:
    usual = run(tmp_path, "-s", "-k", "right")
    deep = run(tmp_path, "-s", "-k", "right", "--gradcheck-deep")
    assert "2 passed" in usual and "2 passed" in deep
    assert "gradient checks: deep" in deep and "checks: deep" not in usual
    assert deep.count("drawn") > 5 * usual.count("drawn")


def test_help_and_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (module,) = project["entry-points"]["pytest11"].values()
    assert module == "tinygrad_nn.testing.plugin"
    # Named like the module, `-p` and `pytest_plugins` mean the same plugin, and it is not registered twice.
    assert list(project["entry-points"]["pytest11"]) == [module]
