"""A file imports only from levels above its own, so that the package can be read from the top down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tinygrad_nn"

# One row per level, from the files that import nothing to the one that imports everything. A name is a file or a
# folder. Files of one folder may import each other, but not in a circle.
LEVELS = [
    ["errors", "_types", "memory", "lines"],
    ["writes"],
    ["domains", "graph", "tree", "differences"],
    ["registry", "modes"],
    ["strong_zero", "sums", "views"],
    ["tensor"],
    ["batched"],
    ["ops", "creation", "random"],
    ["functional", "linalg"],
    ["transforms", "vmap", "function", "checkpoint", "anomaly", "kinks"],
    ["nn", "implicit", "operation"],
    ["func", "ledger"],
    ["check", "optim", "data"],
    ["autograd", "serialize", "optable", "testing"],
    ["methods", "elsewhere"],
    ["__init__"],
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run, also inside functions; what only a type checker reads is left out."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
        stack.extend(children)


def resolve(parts: list[str], name: str | None) -> str | None:
    """The file that `from parts import name` reads: a module, or the `__init__` of a folder."""
    for candidate in ([*parts, name] if name else parts, parts):
        for file in (".".join(candidate), ".".join([*candidate, "__init__"])):
            if file in FILES:
                return file
    return None


def imports_of(file: str, source: str) -> set[str]:
    """The files of this package that `file` imports, such as {"errors", "ops.declare"}."""
    found: set[str | None] = set()
    for node in run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root, *rest = alias.name.split(".")
                if root == PACKAGE.name:
                    found.add(resolve(rest, None))
        elif isinstance(node, ast.ImportFrom):
            target = node.module.split(".") if node.module else []
            if node.level:
                target = file.split(".")[: -node.level] + target
            elif target[:1] == [PACKAGE.name]:
                target = target[1:]
            else:
                continue
            found.update(resolve(target, alias.name) for alias in node.names)
    assert None not in found, f"{file} imports a file of this package that does not exist"
    return {name for name in found if name is not None and name != file}


def faults(file: str, imported: set[str]) -> list[str]:
    own = file.split(".")[0]
    return [
        f"{file} (level {LEVEL[own]}) imports {other} (level {LEVEL[other.split('.')[0]]})"
        for other in sorted(imported)
        if other.split(".")[0] != own and LEVEL[other.split(".")[0]] >= LEVEL[own]
    ]


def test_every_file_has_a_level() -> None:
    missing = {file.split(".")[0] for file in FILES} - set(LEVEL)
    assert not missing, f"give {sorted(missing)} a row in LEVELS"


def test_every_level_is_used() -> None:
    unused = set(LEVEL) - {file.split(".")[0] for file in FILES}
    assert not unused, f"{sorted(unused)} in LEVELS are no files"


@pytest.mark.parametrize("file", FILES)
def test_imports_only_from_above(file: str) -> None:
    assert not faults(file, imports_of(file, FILES[file].read_text(encoding="utf-8")))


def test_no_circles() -> None:
    uses = {file: imports_of(file, path.read_text(encoding="utf-8")) for file, path in FILES.items()}
    for file in uses:  # importing a file of a folder runs the folder's __init__ first; that is not a circle of meaning
        uses[file] = {other for other in uses[file] if not other.endswith("__init__")}
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        pytest.fail("circle of imports: " + " -> ".join(error.args[1]))


@pytest.mark.parametrize(
    "source",
    [
        "from .tensor import Tensor",
        "from . import tensor",
        "import tinygrad_nn.tensor",
        "from tinygrad_nn.ops.declare import elementwise",
        "def later():\n    from .ops import elementwise",
    ],
)
def test_an_upward_import_is_found(source: str) -> None:
    assert faults("graph", imports_of("graph", source))


def test_type_checking_imports_are_exempt() -> None:
    source = "if TYPE_CHECKING:\n    from .tensor import Tensor\nelse:\n    from .errors import GraphError"
    assert imports_of("graph", source) == {"errors"}
