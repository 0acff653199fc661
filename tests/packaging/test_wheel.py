"""The wheel, as ``pip install`` finds it: what it puts where, and that it works there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests import servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRAINING = """
import metrics, settings  # the script's own
import runicorn as rn

rn.init(project="mine", name="first")
for step in range(3):
    rn.log({"loss": metrics.loss(step) * settings.SCALE}, step=step)
rn.finish()
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=servers.clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def virtual_environment(folder: Path, requirement: str) -> Path:
    """A new environment with *requirement* installed; its folder of programs."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", requirement)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, made from the source distribution, and that."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, servers.ROOT)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def light(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the light package: what a training script installs."""
    return virtual_environment(tmp_path_factory.mktemp("light"), str(built[0]))


@pytest.fixture(scope="module")
def full(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with what the README installs for the viewer and the examples."""
    extras = re.search(
        r"pip install '\.(\[.*\])' && runicorn viewer", (servers.ROOT / "README.md").read_text()
    )
    assert extras
    return virtual_environment(tmp_path_factory.mktemp("full"), f"{built[0]}{extras[1]}")


def test_the_wheel_holds_the_package_and_the_server_within_it(built: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(built[0]).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"runicorn"}
    server = {name.removeprefix("runicorn/_server/") for name in names if "/_server/" in name}
    for folder in ("metrics", "remote", "artifacts", "runicorn_site", "runs", "settings"):
        in_checkout = {
            str(path.relative_to(servers.ROOT))
            for path in (servers.ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert in_checkout <= server, in_checkout - server
    assert "runicorn/py.typed" in names
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]


def test_the_source_distribution_holds_what_a_packager_needs(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py", "manage.py"} <= names
    assert not [name for name in names if name.startswith((".ci", ".venv", ".git/", ".runicorn"))]


def test_nothing_but_runicorn_lands_in_site_packages(light: Path) -> None:
    code = (
        "from importlib.metadata import files;"
        "print(*{f.parts[0] for f in files('runicorn') if f.parts[0] != '..'})"
    )
    tops = run(light / "python", "-I", "-c", code).split()
    assert sorted(top for top in tops if not top.endswith(".dist-info")) == ["runicorn"]


def test_the_light_package_logs_without_django(light: Path, tmp_path: Path) -> None:
    programs = run(light / "python", "-m", "pip", "list", "--format", "freeze").lower()
    assert "django" not in programs
    assert "numpy" not in programs
    _train(light, tmp_path)
    done = subprocess.run(
        [light / "runicorn", "viewer"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "pip install 'runicorn[viewer]'" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", [("runicorn",), ("python", "-m", "runicorn")])
def test_the_viewer_starts_beside_files_of_the_same_names(
    full: Path, tmp_path: Path, program: Sequence[str]
) -> None:
    _train(full, tmp_path)
    run(full / "python", "-I", "-c", "from runicorn import api; api.RunicornClient")
    command = [full / program[0], *program[1:]]
    with servers.viewer(Path(".runicorn"), command=command, cwd=tmp_path) as viewer:
        [listed] = httpx.get(f"{viewer.url}/api/runs", trust_env=False).json()
        address = f"{viewer.url}/api/runs/{listed['id']}/metrics_step"
        table = httpx.get(address, trust_env=False).json()
        assert [row["loss"] for row in table["rows"]] == [20, 10, 5]
        for page in ("/", "/admin/", "/docs", "/static/admin/css/base.css"):
            response = httpx.get(viewer.url + page, follow_redirects=True, trust_env=False)
            assert response.status_code == 200, page


@pytest.mark.parametrize("example", ["quickstart_demo.py", "create_test_run.py"])
def test_the_examples_run_with_what_the_readme_installs(
    full: Path, tmp_path: Path, example: str
) -> None:
    run(full / "python", servers.ROOT / "examples" / example, cwd=tmp_path)
    [status] = tmp_path.glob(".runicorn/*/*/runs/*/status.json")
    assert json.loads(status.read_text())["status"] == "finished"


def _train(programs: Path, folder: Path) -> None:
    """Run a script that lies beside its own metrics.py, settings.py and runs/."""
    (folder / "train.py").write_text(TRAINING)
    (folder / "metrics.py").write_text("def loss(step):\n    return 2.0 / 2**step\n")
    (folder / "settings.py").write_text("SCALE = 10\n")
    (folder / "runs" / "events").mkdir(parents=True)
    (folder / "runs" / "__init__.py").touch()
    run(programs / "python", "train.py", cwd=folder)
    assert list((folder / ".runicorn" / "mine" / "first" / "runs").iterdir())
