"""The page of the remote hosts in a real browser: from a host's key to a mirror that ends."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.browser import browser_tab
from tests.remote.conftest import RUN, make_run
from tests.servers import sshd, viewer, wait_until

pytestmark = pytest.mark.servers

SLOW = 1_500_000
"""Bytes a second: slow enough to see how it goes on."""


@contextmanager
def slow_line(port: int) -> Iterator[int]:
    """A port that leads to *port*, from where not much comes at once."""
    with ExitStack() as stack:

        def carry(source: socket.socket, target: socket.socket, speed: float) -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    target.sendall(data)
                    time.sleep(len(data) / speed)
                target.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    here = stack.enter_context(listening.accept()[0])
                    there = socket.create_connection(("127.0.0.1", port))
                    stack.enter_context(there)
                    for ends in ((here, there, 1e9), (there, here, SLOW)):
                        threading.Thread(target=carry, args=ends, daemon=True).start()

        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()


def test_from_the_key_of_a_host_to_a_mirror_that_is_stopped(tmp_path):
    home, local = tmp_path / "home", tmp_path / "local"
    (home / ".ssh").mkdir(parents=True)
    local.mkdir()
    with (
        sshd(tmp_path / "sshd") as host,
        slow_line(host.port) as port,
        viewer(local, HOME=str(home)) as server,
        browser_tab() as tab,
    ):
        folder = make_run(host.home / "storage")
        for number in range(4):
            (folder / f"media/{number}.bin").write_bytes(os.urandom(1_000_000))
        config = f"Host gpu\n HostName 127.0.0.1\n Port {port}\n IdentityFile {host.key}\n"
        (home / ".ssh/config").write_text(config)

        def fill(name: str, value: str) -> None:
            tab.evaluate(f"document.querySelector('form.fields [name={name}]').value = {value!r}")

        def press(where: str) -> None:
            tab.evaluate(f"document.querySelector({where!r}).click()")

        tab.open(f"{server.url}/remote")
        tab.wait_for("document.querySelector('form.fields [name=host]')")
        fill("host", "gpu")
        press("form.fields button")
        tab.wait_for("document.querySelector('.question')")
        asked = tab.evaluate("document.querySelector('.question').textContent")
        assert "SHA256:" in asked and "gpu" in asked
        press(".question button")
        tab.wait_for("document.querySelector('#connections .status[data-status=running]')")

        fill("folder", "~/storage")
        press("button[formaction$=mirror]")
        tab.wait_for("document.querySelector('#syncs progress')?.value > 0")
        tab.wait_for("/B\\/s/.test(document.querySelector('#syncs')?.textContent)")
        wait_until(lambda: len(list((local / RUN / "media").glob("*.bin"))) == 4, "is here")
        tab.wait_for("/\\b\\d+ files copied/.test(document.querySelector('#syncs').textContent)")
        tab.wait_for("!document.querySelector('#syncs progress')")
        (folder / "logs.txt").write_bytes(b"one\n" + b"x" * 3996)
        tab.wait_for("/3\\.\\d.KB appended/.test(document.querySelector('#syncs').textContent)")

        press("#syncs button[formaction$=stop-sync]")
        tab.wait_for("document.querySelector('#connections') && !document.querySelector('#syncs')")
        press("#connections button")
        tab.wait_for("!document.querySelector('#connections')")
        assert [one for one in tab.complaints if '"recommendation"' not in one] == []
