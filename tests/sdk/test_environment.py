"""``environment.json``: what is captured, and what must not be."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version

import pytest

import runicorn as rn
from runicorn import environment
from runicorn.environment import EnvironmentCapture, redact

from .conftest import document


def git(folder, *arguments):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "train.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Train\n\nAt length.")
    return tmp_path


def test_a_run_has_its_environment_when_it_is_finished(tmp_path):
    run = rn.init(storage=tmp_path)
    run.finish()
    info = document(run.run_dir, "environment.json")
    assert list(info) == [
        *("python_version", "platform", "platform_details", "pip_packages", "conda_packages"),
        *("conda_env", "git_info", "env_variables", "gpu_info"),
    ]
    assert info["python_version"] == sys.version
    assert info["platform"] == document(run.run_dir, "meta.json")["platform"]
    assert f"orjson=={version('orjson')}" in info["pip_packages"]
    assert info["pip_packages"] == sorted(
        info["pip_packages"], key=lambda line: line.split("==")[0].lower().replace("_", "-")
    )
    assert {"system", "node", "python_implementation"} <= set(info["platform_details"])
    assert not (rn.Run(storage=tmp_path, capture_env=False).run_dir / "environment.json").exists()


def test_init_does_not_wait_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(
        environment.EnvironmentCapture, "get_gpu_info", lambda self: time.sleep(0.5)
    )
    start = time.monotonic()
    run = rn.init(storage=tmp_path)
    assert time.monotonic() - start < 0.4
    assert not (run.run_dir / "environment.json").exists()
    run.finish()
    assert document(run.run_dir, "environment.json")["gpu_info"] is None


def test_trouble_while_capturing_is_only_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(EnvironmentCapture, "get_git_info", lambda self: 1 / 0)
    run = rn.init(storage=tmp_path)
    run.finish()
    assert "Could not capture the environment" in caplog.text
    assert not (run.run_dir / "environment.json").exists()


def test_git_says_where_the_work_tree_stands(repository):
    capture = EnvironmentCapture(repository)
    info = capture.get_git_info()
    assert len(info.pop("commit")) == 40
    assert info == {
        "branch": "trunk",
        "has_changes": False,
        "last_commit_message": "Train",
        "last_commit_author": "Ada <ada@example.org>",
    }
    (repository / "train.py").write_text("2")
    (repository / "new.py").write_text("3")
    git(repository, "remote", "add", "origin", "https://ada:s3cret@git.example.org/lab.git")
    git(repository, "checkout", "-q", "--detach")
    info = capture.get_git_info()
    assert (info["has_changes"], info["changed_files_count"]) == (True, 2)
    assert info["remote"] == "https://git.example.org/lab.git"
    assert info["branch"] == "HEAD"


@pytest.mark.slow
@pytest.mark.parametrize("storage", [".runicorn", "out/deep/runs", "with space & [star]*"])
def test_our_own_storage_folder_is_no_change(repository, storage, monkeypatch):
    monkeypatch.chdir(repository)
    for _ in range(2):
        rn.init(storage=storage, system_metrics=False).finish()
    infos = [document(path.parent, path.name) for path in repository.rglob("environment.json")]
    assert len(infos) == 2
    for info in infos:
        assert info["git_info"]["has_changes"] is False
        assert "changed_files_count" not in info["git_info"]
    (repository / "new.py").write_text("2")
    (repository / "sub").mkdir()
    capture = EnvironmentCapture(repository / "sub", storage_root=repository / storage)
    assert capture.get_git_info()["changed_files_count"] == 1
    assert EnvironmentCapture(repository).get_git_info()["changed_files_count"] == 2
    for elsewhere in (repository, repository.parent, repository / "train.py" / ".."):
        assert EnvironmentCapture(repository, storage_root=elsewhere).get_git_info()["has_changes"]


@pytest.mark.parametrize("missing", ["status", "config", "log", "symbolic-ref"])
def test_a_fact_that_git_does_not_tell_hides_no_other(repository, monkeypatch, missing):
    git(repository, "remote", "add", "origin", "https://git.example.org/lab.git")
    whole = EnvironmentCapture(repository).get_git_info()
    ask = EnvironmentCapture._git

    def slow(self, *arguments):
        return None if arguments[0] == missing else ask(self, *arguments)

    monkeypatch.setattr(EnvironmentCapture, "_git", slow)
    info = EnvironmentCapture(repository).get_git_info()
    gone = {
        "status": {"has_changes"},
        "config": {"remote"},
        "log": {"last_commit_message", "last_commit_author"},
        "symbolic-ref": set(),
    }[missing]
    assert whole.keys() - info.keys() == gone
    assert info["branch"] == ("HEAD" if missing == "symbolic-ref" else "trunk")


def test_no_fact_of_git_carries_a_secret(repository):
    url = "https://ada:s3cret@git.example.org/lab.git?private_token=s3cret"
    git(repository, "checkout", "-q", "-b", "ghp_" + "s3cret" * 6)
    git(repository, "remote", "add", "origin", url)
    git(repository, "commit", "-q", "--allow-empty", "-m", f"Pull {url} with hf_{'s3cret' * 4}")
    info = EnvironmentCapture(repository).get_git_info()
    assert "s3cret" not in str(info)
    assert info["remote"] == "https://git.example.org/lab.git?private_token=***"
    assert info["last_commit_message"].startswith("Pull https://git.example.org/lab.git?")


def test_without_git_or_commits(tmp_path):
    assert EnvironmentCapture(tmp_path).get_git_info() is None
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert EnvironmentCapture(tmp_path).get_git_info() == {"branch": "trunk", "has_changes": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:p@ss@host/x?a=b", "https://host/x?a=b"),
        ("https://token@host/x", "https://host/x"),
        ("https://host/x@2", "https://host/x@2"),
        (
            "https://host/x?a=1&X-Amz-Signature=abc&b=2",
            "https://host/x?a=1&X-Amz-Signature=***&b=2",
        ),
        ("https://host/x?monkey_count=3#key=1", "https://host/x?monkey_count=3#key=1"),
        ("use glpat-abcdefghij0123456789 now", "use *** now"),
        ("hf_home and sk-learn, ghp_", "hf_home and sk-learn, ghp_"),
        ("git@host:lab/x.git", "git@host:lab/x.git"),
        ("/usr/bin:/home/a@b", "/usr/bin:/home/a@b"),
    ],
)
def test_credentials_in_urls_are_left_out(text, expected):
    assert redact(text) == expected


def test_only_known_variables_are_kept(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pw@mlflow.example.org")
    monkeypatch.setenv("PYTHONPATH", "p" * 600)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = EnvironmentCapture().get_env_variables()
    assert found["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
    assert found["PYTHONPATH"] == "p" * 497 + "..."
    assert not {"MY_SECRET", "CUDA_VISIBLE_DEVICES"} & set(found)
    assert EnvironmentCapture().get_env_variables(["MY_SECRET"]) == {"MY_SECRET": "x"}


def test_gpus_and_conda_as_their_programs_tell(tmp_path, monkeypatch):
    for name, output in (
        ("nvidia-smi", "0, NVIDIA A100, 40960, 40000, 3, 35\n1, NVIDIA A100, 40960, 1, [N/A], 36"),
        ("conda", "# packages\nnumpy=2.0=py311"),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ncat <<'X'\n{output}\nX\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path))
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "ml")
    monkeypatch.delenv("CONDA_EXE", raising=False)
    capture = EnvironmentCapture()
    assert capture.get_gpu_info() == [
        {
            "index": 0,
            "name": "NVIDIA A100",
            "memory_total_mb": 40960,
            "memory_free_mb": 40000,
            "utilization_percent": 3,
            "temperature_c": 35,
        },
        {
            "index": 1,
            "name": "NVIDIA A100",
            "memory_total_mb": 40960,
            "memory_free_mb": 1,
            "utilization_percent": None,
            "temperature_c": 36,
        },
    ]
    assert (capture.get_conda_env(), capture.get_conda_packages()) == ("ml", ["numpy=2.0=py311"])


def test_a_snapshot_of_the_code(tmp_path):
    code = tmp_path / "code"
    for name in ("train.py", "sub/model.py", "conf.yaml", "data.bin", ".git/config.py"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    target = code / "snapshot"
    capture = EnvironmentCapture(code)
    for _ in range(2):  # the second does not copy the first
        assert capture.capture_code_snapshot(code, target)
    files = document(target, "snapshot_info.json")["files"]
    assert files == ["conf.yaml", "train.py", "sub/model.py"]
    assert (target / "sub" / "model.py").read_text() == "sub/model.py"
    assert not capture.capture_code_snapshot(code, code / "train.py")
