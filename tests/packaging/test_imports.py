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

FLOORS = ("metrics", "core", "runs", "artifacts", "remote", "operation", "web", "runicorn_site")
"""An app imports only what stands before it, when it is loaded or later."""

NEIGHBOURS = {"core": {"metrics"}}
"""Apps on one floor, which do not know each other."""

PRIVATE = {"api", "views", "serializers", "admin", "urls"}
"""What an app keeps to itself."""

COMPOSITION = "runicorn_site"
"""Puts the others together, and says the routes of other versions in terms of ours."""


def modules(*folders: str, root: Path = ROOT) -> dict[str, Path]:
    """Every module of our own, by its dotted name; migrations are Django's."""
    found = {}
    for folder in folders:
        for path in (root / folder).rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if "migrations" not in path.parts:
                found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """Dotted names that the module imports, when it is loaded or later."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def test_every_app_has_a_floor() -> None:
    apps = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert apps == set(FLOORS)


@pytest.mark.parametrize("app", FLOORS)
def test_an_app_imports_only_those_below_it(app: str) -> None:
    below = set(FLOORS[: FLOORS.index(app)]) - NEIGHBOURS.get(app, set())
    for name, path in modules(app).items():
        for imported in imports(name, path):
            other = imported.split(".")[0]
            if other in FLOORS and other != app:
                assert other in below, f"{name} imports {imported}"


def test_no_app_reaches_into_the_private_rooms_of_another() -> None:
    for name, path in modules(*FLOORS).items():
        if name.startswith(COMPOSITION):
            continue
        for imported in imports(name, path):
            app, _, rest = imported.partition(".")
            if app in FLOORS and app not in ("core", name.split(".")[0]):
                assert rest.split(".")[0] not in PRIVATE, f"{name} imports {imported}"


PAIRS = {("artifacts.querysets", "artifacts.models"), ("runs.querysets", "runs.models")}
"""Django's own circle: a model names its queryset, a queryset its model."""


@pytest.mark.parametrize(("folders", "root"), [(FLOORS, ROOT), (("runicorn",), ROOT / "src")])
def test_no_two_modules_need_each_other(folders: tuple[str, ...], root: Path) -> None:
    """Not even late: imports in functions and for types count as well."""
    known = modules(*folders, root=root)
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for imported in imports(name, path):
            # A package counts only where something of its own is taken, not one of its modules.
            target = imported if imported in known else imported.rpartition(".")[0]
            if target in known and target != name and (name, target) not in PAIRS:
                graph[name].add(target)
    TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_the_light_package_knows_django_in_one_place() -> None:
    for name, path in modules("runicorn", root=ROOT / "src").items():
        if path.name == "_django.py":
            continue
        for imported in imports(name, path):
            top = imported.split(".")[0]
            assert top not in {"django", "channels", "daphne", "settings", *FLOORS}, name


def test_importing_runicorn_loads_neither_django_nor_numpy() -> None:
    code = "import runicorn, sys; print({'django', 'numpy', 'PIL'} & set(sys.modules))"
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
