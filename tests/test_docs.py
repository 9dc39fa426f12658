"""The documentation tells the truth: its code runs, its links lead somewhere, its generated page is current."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tinygrad_nn.registry import OPS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_blocks(page: Path, text: str) -> int:
    """Run the code of a page from top to bottom in one namespace; a `pycon` block must print what it shows."""
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        language, code = block.groups()
        line = text.count("\n", 0, block.start(2))
        if language == "python":
            exec(compile("\n" * line + code, str(page), "exec"), names)
            continue
        example = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
        report: list[str] = []
        failed = doctest.DocTestRunner().run(example, out=report.append, clear_globs=False).failed
        assert not failed, "".join(report)
        names.update(example.globs)
    return len(blocks)


@pytest.fixture
def as_found() -> Iterator[None]:
    """Operations that a page declares are gone again afterwards."""
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


@pytest.mark.usefixtures("as_found")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(page, page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["README.md", "guide.md", "engine.md"])
def test_pages_that_teach_have_code(name: str) -> None:
    (page,) = (page for page in PAGES if page.name == name)
    assert BLOCK.search(page.read_text(encoding="utf-8"))


def test_wrong_output_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Expected"):
        run_blocks(tmp_path / "page.md", "```python\nx = 1\n```\n\n```pycon\n>>> x\n2\n```\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", BLOCK.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_table_of_operations_is_current() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tinygrad_nn.optable"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    written = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert made.stdout == written, "run: python -m tinygrad_nn.optable > docs/operations.md"


def test_rows_of_the_table_say_what_they_should() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert "| `absolute` | \\|x\\| | elementwise | [\u22123, 3] but not 0 | slope 0 at 0 | `np.absolute` |\n" in text
    assert "| `divide` | a / b | elementwise | [\u22123, 3]; [\u22123, 3] but not 0 |  | `np.divide` |\n" in text
    assert "| `less` | a < b | constant |  |  | `np.less` |\n" in text


def test_readme_and_ci_run_the_same_tests() -> None:
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().rsplit("\n", 1)[-1]
    assert command.startswith("python -m pytest")
    assert f".venv/bin/{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_named_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for page in PAGES:
        for extras in re.findall(r"(?:tinygrad_nn|'\.)\[([a-z,]+)\]", page.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= set(project["optional-dependencies"]), f"{page.name}: [{extras}]"
