"""Where an operation is smooth: plain data from which tests, checkers and docs draw their inputs.

A domain describes one argument. It is not a promise about where the *value* is defined but about where the
*derivative* may be compared with differences: kinks, poles and ties are at least `margin` away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reals:
    """Real numbers in [low, high], no closer than `margin` to any point of `avoid`; all different if `distinct`."""

    low: float = -3.0
    high: float = 3.0
    avoid: tuple[float, ...] = ()
    margin: float = 0.1
    distinct: bool = False


@dataclass(frozen=True)
class Integers:
    """Integers low, ..., high - 1: indices and class labels; no gradient."""

    low: int = 0
    high: int = 3


@dataclass(frozen=True)
class Booleans:
    """True or False: masks and conditions; no gradient."""


@dataclass(frozen=True)
class Invertible:
    """Square matrices in the last two axes, far from singular: n × n numbers in [-1, 1], and n + 1 on the diagonal."""


Domain = Reals | Integers | Booleans | Invertible


@dataclass(frozen=True)
class Case:
    """One way to call an operation: the shapes of its array arguments, and its parameters."""

    shapes: tuple[tuple[int, ...], ...]
    params: dict[str, Any] = field(default_factory=dict)


def case(*shapes: tuple[int, ...], **params: Any) -> Case:
    """`case((2, 3), axis=1)`: arguments of these shapes, with these parameters."""
    return Case(shapes, params)
