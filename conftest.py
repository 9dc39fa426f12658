"""For tests and for the examples in docstrings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_operations() -> Iterator[None]:
    """Operations that a test or an example declares are gone after it."""
    from tinygrad_nn.registry import OPS  # not before tests/conftest.py has set up the environment

    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)
