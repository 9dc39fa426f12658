"""`python -m tinygrad_nn.check`: what it prints, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_nn.check.__main__ import load, main

USER = """
import numpy as np
import tinygrad_nn as tg

class Cube(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2.0 * grad * x * x

class Buried(Cube):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return tg.asarray(1e14 + 1e-3 * np.sin(x.data))

    @staticmethod
    def backward(ctx, grad):
        return 1e-3 * grad * tg.cos(ctx.saved_tensors[0])

class Namespace:
    affine = staticmethod(lambda x, w, b: x @ w + b)

layer = tg.nn.Linear(3, 2)
number = 3

def raises(x):
    raise RuntimeError("mine")
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_code.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "user_code", raising=False)


@pytest.mark.parametrize(
    ("arguments", "status", "printed"),
    [
        (["tinygrad_nn:tanh", "--shape", "3,4"], 0, "pass; would have seen"),
        (["tinygrad_nn:tanh", "--shape", "()"], 0, "float64()"),
        (["tinygrad_nn:log", "--shape", "3", "--range", "0.1,2", "--dtype", "float32"], 0, "inputs in [0.1, 2]"),
        (["user_code:Namespace.affine", "--shape", "5,3", "--shape", "3,2", "--shape", "2", "--order", "2"], 0, "pass"),
        (["user_code:layer", "--shape", "4,3"], 0, "weight"),
        (["user_code:Cube", "--shape", "3", "--seed", "7"], 1, "seed 7"),
        (["user_code:Cube.apply", "--shape", "3"], 1, "gradcheck: fail"),
        (["user_code:Buried", "--shape", "2"], 3, "inconclusive"),
    ],
)  # fmt: skip
def test_status_and_report(arguments: list[str], status: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == status
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("user_code", "write module:function"),
        ("user_code:", "write module:function"),
        ("no_such_module:f", "no module 'no_such_module'"),
        ("tinygrad_nn.nothing:f", "no module 'tinygrad_nn.nothing'"),
        ("user_code:nothing", "user_code has no 'nothing'"),
        ("user_code:number", "number is not callable: 3"),
        ("user_code:raises", "user_code:raises cannot be called with inputs of shapes (2,)"),
        ("tinygrad_nn:zeros_like", "gradcheck"),
    ],
)
def test_what_cannot_be_run(target: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = [] if target == "tinygrad_nn:zeros_like" else ["--shape", "2"]
    assert main([target, *shapes]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--shape", "3,x"], "'3,x' is no shape"),
        (["--shape=-1"], "cannot have a negative length"),
        (["--range", "3"], "'3' is no range"),
        (["--range", "3,1"], "must be the smaller one"),
        (["--dtype", "int64"], "invalid choice"),
    ],
)
def test_usage(option: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tinygrad_nn:tanh", *option])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_missing_import_of_a_module_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load("broken:f")


def test_as_a_command(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "tinygrad_nn.check", "user_code:Cube", "--shape", "2"]
    ran = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, encoding="utf-8")
    assert ran.returncode == 1
    assert "fail" in ran.stdout
