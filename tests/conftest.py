"""What every test runs under: hypothesis profiles, one BLAS thread per worker, and global modes left as found."""

from __future__ import annotations

import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers already use all cores; must be set before NumPy is imported
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tinygrad_nn import modes
from tinygrad_nn.tensor import get_default_dtype, set_default_dtype

# No deadline: the first call of a function may import something, and machines that run tests are often shared.
settings.register_profile(
    "quick", derandomize=True, max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

collect_ignore = ["benchmarks"]  # run by hand, see CONTRIBUTING.md


@pytest.fixture(autouse=True)
def same_numbers(request: pytest.FixtureRequest) -> None:
    """Each test draws the same numbers from the `RNG` of its file, whichever tests ran before it."""
    if hasattr(request.module, "RNG"):
        request.module.RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def sealed_modes() -> Iterator[None]:
    """Each test leaves recording on and float32 the default dtype; the one that does not is the one that fails."""
    yield
    recording, dtype = modes.recording() is True and not modes._inspectors.get(), get_default_dtype()
    modes._recording.set(True)
    modes._inspectors.set(())
    modes._outer.set(None)
    set_default_dtype("float32")
    assert recording, "this test left recording switched off, or an inspector on"
    assert dtype == np.float32, f"this test left {dtype} as the default dtype"
