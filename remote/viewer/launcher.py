"""Runs on the host, in a Python there that may be old: a viewer that ends when we do.

``viewers`` sends this text over the standard input of that Python, so nothing is installed and no
path or name ever meets a shell. After it comes one line of JSON, then a byte now and then for as
long as we are there. When the input ends, or is silent for too long, the viewer is stopped: our
crash, or a cut cable, leaves nothing behind. Answers are lines of JSON with a ``state``.
"""

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from typing import IO, Iterator  # noqa: UP035

READY_SECONDS = 60
SILENCE_SECONDS = 90
PORTS = range(8080, 9000)
LOG_BYTES = 2000
SIGKILL_AFTER = 5

gone = threading.Event()


def tell(**answer: object) -> None:
    try:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    except OSError:
        gone.set()


def listen(last_heard: "list[float]") -> None:
    while True:
        if not os.read(0, 64):
            gone.set()
            return
        last_heard[0] = time.monotonic()


def free_ports(wanted: "int | None") -> "Iterator[int]":
    """Ports that nobody listens on, to be tried one after the other."""
    if wanted:
        yield wanted
        return
    start = random.randrange(len(PORTS))
    tried = 0
    for number in range(len(PORTS)):
        port = PORTS[(start + number) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
        tried += 1
        if tried == 5:
            return


def start(root: str, port: int, log: "IO[bytes]") -> "subprocess.Popen[bytes]":
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # not Linux
        prctl = None

    def end_with_us() -> None:
        if prctl:
            prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    command = [sys.executable, "-m", "runicorn", "viewer", "--storage", root]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd="/",  # whatever lies in the home folder is not imported
        start_new_session=True,
        preexec_fn=end_with_us,
    )


def answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def is_gone(last_heard: "list[float]") -> bool:
    return gone.is_set() or time.monotonic() - last_heard[0] > SILENCE_SECONDS


def end(viewer: "subprocess.Popen[bytes]") -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(viewer.pid, sent)
        except OSError:
            return
        deadline = time.monotonic() + SIGKILL_AFTER
        while viewer.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)


def last_words(log: "IO[bytes]") -> str:
    log.flush()
    size = os.fstat(log.fileno()).st_size
    log.seek(max(0, size - LOG_BYTES))
    return log.read().decode("utf-8", "replace").strip()


def serve(root: str, port: int, last_heard: "list[float]") -> "str | None":
    """Why the viewer did not come up; None when it did, and is over."""
    with tempfile.TemporaryFile() as log:
        viewer = start(root, port, log)
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not answers(port):
                if viewer.poll() is not None:
                    return last_words(log)
                if time.monotonic() > deadline or is_gone(last_heard):
                    return "Remote viewer failed health check. " + last_words(log)
                time.sleep(0.1)
            tell(state="ready", pid=viewer.pid, port=port)
            while viewer.poll() is None and not is_gone(last_heard):
                gone.wait(0.2)
            tell(state="ended", code=viewer.poll(), log=last_words(log))
            return None
        finally:
            end(viewer)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: gone.set())
    signal.signal(signal.SIGHUP, lambda *_: gone.set())
    asked = json.loads(sys.stdin.buffer.readline().decode())
    last_heard = [time.monotonic()]
    threading.Thread(target=listen, args=(last_heard,), daemon=True).start()
    root = os.path.expanduser(asked["root"])
    if not os.path.isdir(root):  # noqa: PTH112
        tell(state="no folder", error=root)
        return
    error: str | None = "No available port found on remote server"
    for port in free_ports(asked.get("port")):
        error = serve(os.path.abspath(root), port, last_heard)
        if "Cannot listen" not in (error or ""):
            break
    if error is not None:
        tell(state="failed", error=error)


main()
sys.stdout.flush()
os._exit(0)  # the listening thread waits for input that may never come
