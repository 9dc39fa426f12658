"""Pictures of the experiments, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import missing_extra


def new_figure(purpose: str, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its only panel, apart from whatever pyplot has open."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "viz", purpose) from None
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    panel = figure.add_subplot()
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=0.2, linewidth=0.6)
    return figure, panel


def write(figure: Any, path: str | Path) -> Path:
    """Write the picture, in the format that the name ends with, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
