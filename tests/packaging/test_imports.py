"""The apps depend one way only, and the light package does not know Django."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

MAY_IMPORT = {
    "metrics": set(),
    "runs": {"metrics"},
    "artifacts": {"runs", "metrics"},
    "remote": {"runs", "metrics", "artifacts"},
}
PRIVATE = {"views", "serializers", "admin", "filters", "consumers", "urls"}
"""What an app keeps to itself."""
ABOVE_ALL = "runicorn_site.older"
"""Says the routes of other versions in terms of ours: it may take our views and their fields."""


def modules(*folders: str, root: Path = ROOT) -> dict[str, Path]:
    """Every module of our own, by its dotted name; migrations are Django's."""
    found = {}
    for folder in folders:
        for path in (root / folder).rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if "migrations" not in path.parts:
                found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, *, at_start: bool = False) -> Iterator[str]:
    """Dotted names that the module imports; *at_start* only those it needs to be loaded."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(ast.parse(path.read_text()), at_start):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _statements(tree: ast.AST, at_start: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if not (at_start and is_later):
            yield node
            yield from _statements(node, at_start)


@pytest.mark.parametrize("app", MAY_IMPORT)
def test_an_app_imports_only_those_below_it(app: str) -> None:
    for name, path in modules(app).items():
        for imported in imports(name, path):
            other = imported.split(".")[0]
            if other in MAY_IMPORT and other != app:
                assert other in MAY_IMPORT[app], f"{name} imports {imported}"


def test_nobody_reaches_into_another_apps_private_rooms() -> None:
    for name, path in modules(*MAY_IMPORT, "runicorn_site").items():
        if name.startswith(ABOVE_ALL):
            continue
        for imported in imports(name, path):
            app, _, rest = imported.partition(".")
            if app in MAY_IMPORT and app != name.split(".")[0]:
                assert rest.split(".")[0] not in PRIVATE, f"{name} imports {imported}"


def test_no_two_modules_need_each_other() -> None:
    known = modules(*MAY_IMPORT, "runicorn_site")
    graph = {
        name: {
            target
            for imported in imports(name, path, at_start=True)
            for target in (imported, imported.rpartition(".")[0])
            if target in known and target != name
        }
        for name, path in known.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_no_two_modules_of_the_light_package_need_each_other() -> None:
    """Not even late: imports in functions and for types count as well."""
    known = modules("runicorn", root=ROOT / "src")
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for imported in imports(name, path):
            # A package counts only where something of its own is taken, not one of its modules.
            target = imported if imported in known else imported.rpartition(".")[0]
            if target in known and target != name:
                graph[name].add(target)
    assert "runicorn.artifacts" in graph["runicorn.archive._importing"]  # in a function
    TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_the_light_package_knows_django_in_one_place() -> None:
    for name, path in modules("runicorn", root=ROOT / "src").items():
        if path.name == "_django.py":
            continue
        for imported in imports(name, path):
            top = imported.split(".")[0]
            assert top not in {"django", "channels", "daphne", "settings", "runicorn_site"}, name
            assert top not in MAY_IMPORT, name


def test_importing_runicorn_loads_neither_django_nor_numpy() -> None:
    code = "import runicorn, sys; print({'django', 'numpy', 'PIL'} & set(sys.modules))"
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
