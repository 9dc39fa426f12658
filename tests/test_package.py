"""What is shipped: a wheel with the package and its type marker, needing NumPy alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_import_stays_light() -> None:
    """None of the optional or slow libraries comes in with the package itself."""
    heavy = [
        "cupy", "hypothesis", "matplotlib", "mpi4py", "multiprocessing", "numba", "onnx", "pytest", "safetensors",
        "scipy", "sklearn", "sqlite3", "torch", "tqdm", "urllib.request",
    ]  # fmt: skip
    code = "import sys, numpy; before = set(sys.modules); import tinygrad_nn; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tinygrad_nn.tensor" in added.stdout.split()
    assert not set(heavy) & set(added.stdout.split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "tinygrad_nn").rglob("*.py")}
    assert sources | {"tinygrad_nn/py.typed"} == {name for name in names if ".dist-info/" not in name}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_requires_numpy_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = message_from_bytes(archive.read(name))
    assert [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need] == ["numpy>=2.0"]
    assert metadata["Requires-Python"] == ">=3.11"


def test_wheel_works_without_the_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import tinygrad_nn as tg; x = tg.tensor(3.0, requires_grad=True); (x * x).backward();"
        "print(tg.__file__, x.grad.item())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [str(tmp_path / "tinygrad_nn" / "__init__.py"), "6.0"]
