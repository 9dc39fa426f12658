"""How hard gradient tests try: the pytest option `--gradcheck-deep` sets it before tests are collected."""

from __future__ import annotations

DEEP_FACTOR = 20
deep = False


def times(count: int) -> int:
    """`count`, or twenty times as many in a deep run."""
    return count * DEEP_FACTOR if deep else count
