"""What a run ran on: Python, packages, git, GPUs and the environment variables that matter."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from . import layout

ENV_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDNN_VERSION", "NCCL_VERSION", "PYTORCH_VERSION"),
    *("TF_VERSION", "KERAS_BACKEND", "JAX_PLATFORM_NAME", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH"),
    *("VIRTUAL_ENV", "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "RUNICORN_DIR", "WANDB_MODE"),
    "MLFLOW_TRACKING_URI",
)

CODE_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini")

_GIT_TIMEOUT_S = 5
_CONDA_TIMEOUT_S = 30
_GPU_TIMEOUT_S = 5
_LONGEST_VALUE = 500
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")
_QUERY_SECRETS = re.compile(
    r"([?&;][\w.\-]*(?:token|key|secret|password|passwd|pwd|signature|sig|auth)=)[^&;#\s]+", re.I
)
_TOKENS = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}|hf_[A-Za-z0-9]{20,}"
    r"|sk-(?:proj-|ant-\w+-)?[A-Za-z0-9_]{20,}|xox[abprs]-[\w\-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w\-]{30,})"
)
_GPU_COLUMNS = {
    "index": "index",
    "name": "name",
    "memory.total": "memory_total_mb",
    "memory.free": "memory_free_mb",
    "utilization.gpu": "utilization_percent",
    "temperature.gpu": "temperature_c",
}


@dataclass
class EnvironmentInfo:
    """The content of ``environment.json``."""

    python_version: str
    platform: str
    platform_details: dict[str, str] = field(default_factory=dict)
    pip_packages: list[str] | None = None
    conda_packages: list[str] | None = None
    conda_env: str | None = None
    git_info: dict[str, Any] | None = None
    env_variables: dict[str, str] = field(default_factory=dict)
    gpu_info: list[dict[str, Any]] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, in one step. Raises OSError."""
        layout.write_json(path, self.to_dict())


class EnvironmentCapture:
    """Looks around; git looks from *working_dir* (default: the current directory), and counts
    nothing below *storage_root* as a change.

    What is not there or does not answer in time is None. Credentials in URLs are left out.
    """

    def __init__(
        self,
        working_dir: str | os.PathLike[str] | None = None,
        *,
        storage_root: str | os.PathLike[str] | None = None,
    ) -> None:
        self.working_dir = Path(working_dir or Path.cwd())
        self.storage_root = storage_root

    def capture_all(self) -> EnvironmentInfo:
        return EnvironmentInfo(
            python_version=self.get_python_version(),
            platform=self.get_platform(),
            platform_details=self.get_platform_details(),
            pip_packages=self.get_pip_packages(),
            conda_packages=self.get_conda_packages(),
            conda_env=self.get_conda_env(),
            git_info=self.get_git_info(),
            env_variables=self.get_env_variables(),
            gpu_info=self.get_gpu_info(),
        )

    def get_python_version(self) -> str:
        return sys.version

    def get_platform(self) -> str:
        return f"{platform.system()} {platform.release()} ({platform.machine()})"

    def get_platform_details(self) -> dict[str, str]:
        uname = platform.uname()
        return {
            "system": uname.system,
            "node": uname.node,
            "release": uname.release,
            "version": uname.version,
            "machine": uname.machine,
            "processor": platform.processor(),
            "python_implementation": platform.python_implementation(),
            "python_compiler": platform.python_compiler(),
        }

    def get_pip_packages(self) -> list[str] | None:
        """``name==version`` of every installed package, as ``pip freeze`` lists them."""
        found: dict[str, str] = {}
        for distribution in metadata.distributions():
            try:
                about = distribution.metadata
                name, version = about["Name"], about["Version"]
            except Exception:  # a broken installation of one package says nothing of the others
                continue
            if name and version:
                found.setdefault(name.lower().replace("_", "-"), f"{name}=={version}")
        return [found[name] for name in sorted(found)]

    def get_conda_packages(self) -> list[str] | None:
        """``name=version=build`` of the active conda environment."""
        prefix = os.environ.get("CONDA_PREFIX")
        conda = os.environ.get("CONDA_EXE") or shutil.which("conda")
        if not prefix or not conda:
            return None
        listed = _output([conda, "list", "--prefix", prefix, "--export"], timeout=_CONDA_TIMEOUT_S)
        if listed is None:
            return None
        return [line for line in listed.splitlines() if line and not line.startswith("#")]

    def get_conda_env(self) -> str | None:
        return os.environ.get("CONDA_DEFAULT_ENV") or None

    def get_git_info(self) -> dict[str, Any] | None:
        """Where the work tree stands; None outside of one.

        Each fact is asked for on its own: in a work tree so large that git takes too long to look
        for changes, only those are missing. The storage folder is no change.
        """
        top = self._git("rev-parse", "--show-toplevel")
        if not top:
            return None
        info: dict[str, Any] = {}
        commit = self._git("rev-parse", "--verify", "--quiet", "HEAD")
        branch = self._git("symbolic-ref", "--short", "--quiet", "HEAD")
        if commit:
            info["commit"] = commit
        if branch or commit:
            info["branch"] = redact(branch) if branch else "HEAD"
        status = self._git("status", "--porcelain=v2", "--", ":/", *self._not_our_own(top))
        if status is not None:
            changes = len(status.splitlines())
            info["has_changes"] = changes > 0
            if changes:
                info["changed_files_count"] = changes
        remote = self._git("config", "--get", "remote.origin.url")
        if remote:
            info["remote"] = redact(remote)
        last = self._git("log", "-1", "--format=%an <%ae>%n%s")
        if last:
            author, _, message = last.partition("\n")
            info["last_commit_message"] = redact(message)
            info["last_commit_author"] = redact(author)
        return info

    def _not_our_own(self, top: str) -> list[str]:
        """What keeps the storage folder out of git's answer, if it lies in the work tree."""
        if self.storage_root is None:
            return []
        relative = os.path.relpath(os.path.realpath(self.storage_root), os.path.realpath(top))
        if relative == os.curdir or relative.startswith(os.pardir):
            return []
        return [f":(top,exclude,literal){relative.replace(os.sep, '/')}"]

    def _git(self, *arguments: str) -> str | None:
        command = ["git", "-C", str(self.working_dir), *arguments]
        return _output(command, timeout=_GIT_TIMEOUT_S)

    def get_env_variables(self, filter_keys: Iterable[str] | None = None) -> dict[str, str]:
        """Those of *filter_keys* that are set (default: the ones that matter to training)."""
        found = {}
        for name in ENV_VARIABLES if filter_keys is None else filter_keys:
            value = redact(os.environ.get(name, ""))
            if len(value) > _LONGEST_VALUE:
                value = value[: _LONGEST_VALUE - 3] + "..."
            if value:
                found[name] = value
        return found

    def get_gpu_info(self) -> list[dict[str, Any]] | None:
        """What ``nvidia-smi`` says, else what an already running torch knows."""
        query = [f"--query-gpu={','.join(_GPU_COLUMNS)}", "--format=csv,noheader,nounits"]
        listed = _output(["nvidia-smi", *query], timeout=_GPU_TIMEOUT_S)
        if listed is None:
            return _torch_gpus()
        rows = [line.split(", ") for line in listed.splitlines() if line.strip()]
        names = _GPU_COLUMNS.values()
        gpus = [
            {name: cell if name == "name" else _number(cell) for name, cell in zip(names, row)}  # noqa: B905
            for row in rows
        ]
        return gpus or None

    def capture_code_snapshot(
        self,
        code_dir: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        extensions: Sequence[str] | None = None,
    ) -> bool:
        """Copy the text files below *code_dir* to *output_dir*, with a ``snapshot_info.json``.

        Hidden folders and ``__pycache__`` are left out. False if that failed.
        """
        source, target = Path(code_dir).resolve(), Path(output_dir).resolve()
        suffixes = tuple(CODE_SUFFIXES if extensions is None else extensions)
        copied = []
        try:
            for folder, folders, files in os.walk(source):
                here = Path(folder)
                folders[:] = [
                    name
                    for name in sorted(folders)
                    if not name.startswith(".") and name != "__pycache__" and here / name != target
                ]
                for name in sorted(files):
                    if name.endswith(suffixes):
                        relative = (here / name).relative_to(source)
                        (target / relative).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(here / name, target / relative)
                        copied.append(relative.as_posix())
            target.mkdir(parents=True, exist_ok=True)
            info = {"source": str(source), "created_at": time.time(), "files": copied}
            layout.write_json(target / "snapshot_info.json", info)
        except OSError:
            return False
        return True


def capture_for_run(
    run_dir: str | os.PathLike[str],
    working_dir: str | os.PathLike[str] | None = None,
    *,
    storage_root: str | os.PathLike[str] | None = None,
) -> EnvironmentInfo:
    """Capture everything into the run's ``environment.json``. Raises OSError."""
    info = EnvironmentCapture(working_dir, storage_root=storage_root).capture_all()
    info.save(Path(run_dir) / layout.ENVIRONMENT)
    return info


def redact(text: str) -> str:
    """*text* without the user names, passwords and tokens that URLs in it carry, and without the
    tokens of the services that people push to and download from."""
    text = _USERINFO.sub("", text)
    text = _QUERY_SECRETS.sub(r"\1***", text)
    return _TOKENS.sub("***", text)


def _output(command: list[str], *, timeout: float) -> str | None:
    """What *command* prints; None if it is not there, fails or takes more than *timeout* s."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # never stand in the way of a commit
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _number(cell: str) -> int | float | None:
    try:
        value = json.loads(cell)
    except ValueError:
        return None  # "[N/A]"
    return value if isinstance(value, int | float) else None


def _torch_gpus() -> list[dict[str, Any]] | None:
    torch = sys.modules.get("torch")
    try:
        # Starting CUDA here would break the script's own fork later.
        if torch is None or not torch.cuda.is_initialized():
            return None
        properties = [
            (index, torch.cuda.get_device_properties(index))
            for index in range(torch.cuda.device_count())
        ]
        return [
            {
                "index": index,
                "name": device.name,
                "memory_total_mb": device.total_memory // 2**20,
                "compute_capability": f"{device.major}.{device.minor}",
            }
            for index, device in properties
        ]
    except Exception:  # a half-imported or broken torch
        return None
