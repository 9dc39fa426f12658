"""What the examples share: the option --out, values held to their reference, pictures where matplotlib is installed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

QUICK = bool(os.environ.get("TINYGRAD_NN_QUICK"))  # the test run sets it: same program, fewer steps


def parser(description: str) -> argparse.ArgumentParser:
    """A command line with `--out`, the folder for pictures and weights."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("--out", type=Path, default=Path("out"), help="folder for what is written (default: ./out)")
    return arguments


def check(what: str, got: Any, wanted: Any, rtol: float = 0.0) -> None:
    """Print a result, and end the program with an error unless it is what it should be."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    text = np.array2string(got, max_line_width=200, precision=8, separator=", ").replace("\n", "\n" + 46 * " ")
    print(f"{what:<45} {text}")
    close = np.allclose(got, wanted, rtol, atol=0.0) if rtol else np.array_equal(got, wanted)
    if got.shape != wanted.shape or not close:
        raise SystemExit(f"MISMATCH: {what} should be {wanted}")


def pyplot() -> Any:
    """matplotlib.pyplot, set up to draw into files; None, after a message, where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("No pictures, as matplotlib is not installed. To get them: pip install 'tinygrad_nn[viz]'")
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def save(figure: Any, path: Path) -> None:
    """Write a picture and say where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    print(f"picture: {path}")
