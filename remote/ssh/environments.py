"""Find the Pythons of a host, and which of them could show its runs."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from typing import Any, NamedTuple

import asyncssh

from runicorn import storage_folders as finder

from ..exceptions import NotConnected, PathNotFound, RemoteError, TimedOut
from .connections import Connection

SECONDS = 30
MOST_BYTES = 2**18
MOST_ENVIRONMENTS = 40

SYSTEM = "system"
PLAIN_PATH = re.compile(r"/[\w./+@=-]+")
"""Of a Python: it becomes part of a command, in whatever shell the user there has."""

_EXAMINE = """\
import json, sys
from importlib.util import find_spec as find
def version():
    if not find("runicorn"):
        return None
    try:
        from importlib.metadata import version
        return version("runicorn")
    except Exception:
        import runicorn
        return getattr(runicorn, "__version__", "?")
parts = ("django", "daphne", "channels", "rest_framework")
found = version()
print(json.dumps({
    "python": "%d.%d.%d" % sys.version_info[:3],
    "runicorn": found,
    "viewer": bool(found) and all(map(find, parts)),
}))
"""

_SURVEY = (
    "code='"
    + _EXAMINE
    + """'
cd /  # whatever lies in the home folder is not imported
try() {
    [ -f "$3" ] && [ -x "$3" ] || return
    case "$tried" in *"<$3>"*) return ;; esac
    tried="$tried<$3>"
    printf '\\n%s\\t%s\\t%s\\t' "$1" "$2" "$3"
    "$3" -c "$code" </dev/null 2>/dev/null
}
of_command() {
    try venv runicorn "$(head -n 1 "$1" 2>/dev/null | sed -n 's/^#! *\\([^ ]*\\)$/\\1/p')"
}
for name in python3 python; do try system system "$(command -v $name)"; done
of_command "$(command -v runicorn)"
asked='command -v python3; command -v python; command -v runicorn'
"${SHELL:-sh}" -lc "$asked" </dev/null 2>/dev/null | while read -r path; do
    case "$path" in
        */runicorn) of_command "$path" ;;
        /*) try system system "$path" ;;
    esac
done
for base in "$HOME/miniconda3" "$HOME/anaconda3" "$HOME/miniforge3" "$HOME/mambaforge" \\
    /opt/conda /opt/miniconda3; do
    try conda base "$base/bin/python"
    for folder in "$base"/envs/*; do try conda "${folder##*/}" "$folder/bin/python"; done
done
if [ -r "$HOME/.conda/environments.txt" ]; then
    while read -r folder; do
        try conda "${folder##*/}" "$folder/bin/python"
    done <"$HOME/.conda/environments.txt"
fi
for folder in "$HOME/.venv" "$HOME/venv" "$HOME"/.virtualenvs/* \\
    "$HOME/.local/share/pipx/venvs/runicorn" "$HOME/.local/share/uv/tools/runicorn"; do
    try venv "${folder##*/}" "$folder/bin/python"
done
"""
)
"""For a POSIX shell, which reads it from its input; one line for each Python."""

_CONFIGURE = """\
import json, os, socket
os.chdir(os.path.expanduser("~"))
try:
    from runicorn import layout
    root = str(layout.storage_root())
except Exception:
    root = os.environ.get("RUNICORN_DIR") or os.path.expanduser("~/.runicorn")
port = None
for candidate in range(8080, 9000):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", candidate))
        except OSError:
            continue
    port = candidate
    break
print(json.dumps({"root": root, "exists": os.path.isdir(root), "port": port}))
"""


class Missing(RemoteError):
    """The host lacks what a viewer needs; says what, and how to get it."""

    status = 400


class Environment(NamedTuple):
    name: str
    type: str
    """``system``, ``conda`` or ``venv``"""
    path: str
    python_version: str
    runicorn_version: str | None
    has_viewer: bool


async def survey(connection: Connection) -> list[Environment]:
    """Return the Pythons of the host, those on the user's path first."""
    output = await execute(connection, "sh -s", _SURVEY)
    found: dict[str, Environment] = {}
    for line in output.splitlines():
        if len(fields := line.split("\t", 3)) == 4 and len(found) < MOST_ENVIRONMENTS:
            kind, name, path, answer = fields
            facts = answer_in(answer)
            if "python" in facts and PLAIN_PATH.fullmatch(path) and path not in found:
                version = facts.get("runicorn")
                found[path] = Environment(
                    name if all(name != e.name for e in found.values()) else path,
                    kind,
                    path,
                    str(facts["python"])[:40],
                    None if version is None else str(version)[:40],
                    facts.get("viewer") is True,
                )
    return list(found.values())


def find(environments: list[Environment], name: str | None) -> Environment:
    """Return the one of that name or path, or the first that has a viewer. Raises Missing."""
    if name:
        for one in environments:
            if name in (one.name, one.path, one.path.removesuffix("/bin/python")):
                return one
        raise Missing(f"Environment '{name}' not found. Please check the environment name.")
    if not environments:
        raise Missing("Python3 not found on remote server")
    return next((one for one in environments if one.has_viewer), environments[0])


def check_viewer(one: Environment, others: list[Environment]) -> None:
    """Raises Missing unless a viewer can be started in this environment."""
    if one.runicorn_version is None:
        looked = ", ".join(other.path for other in others)
        raise Missing(
            "runicorn not installed on remote server. Install it there: "
            f"{one.path} -m pip install 'runicorn[viewer]' (looked at {looked})"
        )
    if not one.has_viewer:
        raise Missing(
            f"runicorn {one.runicorn_version} on remote server has no viewer. Install it there: "
            f"{one.path} -m pip install --upgrade 'runicorn[viewer]'"
        )


async def configuration(connection: Connection, one: Environment) -> dict[str, Any]:
    """Return ``{"root", "exists", "port"}``: where runs are kept there, and a free port."""
    return answer_in(await execute(connection, f"exec '{one.path}' -", _CONFIGURE))


async def storage_folders(
    connection: Connection, one: Environment, scan_root: str | None, max_depth: int
) -> list[dict[str, Any]]:
    """Return the folders of the host that look like storage folders, the likeliest first."""
    call = json.dumps([scan_root, max_depth])
    program = (
        f"{inspect.getsource(finder)}\n"
        "try:\n"
        f"    found = find_storage_folders(*json.loads({call!r}))\n"
        "except OSError as error:\n"
        "    found = {'error': str(error)}\n"
        "print(json.dumps(found))\n"
    )
    answer = answer_in(await execute(connection, f"cd / && exec '{one.path}' -", program))
    if "error" in answer:
        raise PathNotFound(f"The folder cannot be searched: {str(answer['error'])[:300]}")
    found = answer.get("candidates")
    return [
        {
            "path": folder["path"],
            "run_count": _count(folder.get("run_count")),
            "has_archive": folder.get("has_archive") is True,
            "has_index": folder.get("has_index") is True,
            "score": _count(folder.get("score")),
        }
        for folder in (found if isinstance(found, list) else [])[: finder.MOST_FOUND]
        if isinstance(folder, dict) and isinstance(folder.get("path"), str)
    ]


def _count(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if is_count else 0  # type: ignore[return-value]


async def execute(connection: Connection, command: str, given: str) -> str:
    """Return what *command* prints when it reads *given*, bounded in time and size."""
    try:
        async with asyncio.timeout(SECONDS):
            process = await connection.channel.create_process(command, errors="replace")
            async with process:
                process.stdin.write(given)
                process.stdin.write_eof()
                output = ""
                while len(output) < MOST_BYTES and (piece := await process.stdout.read(2**14)):
                    output += piece
            return output
    except TimeoutError as error:
        raise TimedOut("The host did not answer in time") from error
    except (asyncssh.Error, OSError) as error:
        raise NotConnected(str(error) or "The host refused to run a command") from error


def answer_in(text: str) -> dict[str, Any]:
    """The JSON object in the last line that a program said; empty if there is none."""
    try:
        found = json.loads(text.strip().rpartition("\n")[2])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
