"""A pytest plugin, active wherever this package is installed: `--gradcheck-deep`, and reports for tracebacks."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Generator
from typing import Any

import pytest

from ..errors import GradcheckError
from . import effort


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--gradcheck-deep`."""
    parser.getgroup("tinygrad_nn").addoption(
        "--gradcheck-deep",
        action="store_true",
        help=f"gradient tests try harder: @check_gradients draws {effort.DEEP_FACTOR} times as many examples, new ones "
        f"in each run, and assert_gradients checks with {effort.DEEP_FACTOR} seeds",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Note the option before tests are collected, as decorators read it."""
    effort.deep = bool(config.getoption("--gradcheck-deep"))


def pytest_unconfigure() -> None:
    """Leave nothing behind for another session of the same process."""
    effort.deep = False


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say so when the run is deep."""
    return "gradient checks: deep" if config.getoption("--gradcheck-deep") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show where a gradient check failed, its report, and the smallest failing example, in place of a traceback.

    `--full-trace` and `--tb=native` show what pytest would have shown.
    """
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    usual = item.config.getoption("tbstyle") in ("auto", "long", "short") and not item.config.getoption("fulltrace")
    if isinstance(error, GradcheckError) and report.failed and usual:
        text = str(error)
        report.longrepr = f"{text.splitlines()[0]}\n\n{_where(item, call)}"
        notes = [line for note in getattr(error, "__notes__", ()) for line in note.splitlines()]
        report.sections.insert(0, ("gradient check", "\n".join([text, *notes])))
    return report


def _where(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """The line of the test file that asked for the check, with its source; of a decorated function its head."""
    assert call.excinfo is not None
    file = str(item.path)
    lines = [entry.lineno + 1 for entry in call.excinfo.traceback if str(entry.path) == file]
    test: Any = getattr(item, "obj", None)
    test = getattr(getattr(test, "hypothesis", None), "inner_test", test)  # the function that `given` wraps
    code = getattr(inspect.unwrap(test), "__code__", None)
    if not lines and code is not None and code.co_filename == file:
        lines = [code.co_firstlineno]
    return f"{file}:{lines[-1]}:\n>   {linecache.getline(file, lines[-1]).rstrip()}" if lines else item.nodeid
