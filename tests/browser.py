"""A headless Chromium for tests, spoken to over its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.servers import free_port, process

COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Tab:
    """One tab. ``complaints`` are the console's messages and what could not be loaded."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        request = {"id": self._last, "method": method, "params": params}
        self._connection.send(json.dumps(request))
        while True:
            message = json.loads(self._connection.recv(timeout=30))
            if message.get("method") in COMPLAINTS:
                self.complaints.append(json.dumps(message["params"]))
            if message.get("id") == self._last:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; of a promise, once it is kept."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = 20) -> None:
        """Until the expression is true, be it of an element or of a value."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"!!({script})"):
            assert time.monotonic() < deadline, (script, self.complaints)
            time.sleep(0.05)


@contextmanager
def browser_tab() -> Iterator[Tab]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
        port = free_port()
        command = [
            program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={home}/profile",
            f"--remote-debugging-port={port}",
            "about:blank",
        ]

        def pages() -> list[dict[str, Any]]:
            try:
                listed = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            except httpx.TransportError:
                return []
            return [target for target in listed if target["type"] == "page"]

        with process(command, Path(home) / "log", lambda: bool(pages())):
            address = pages()[0]["webSocketDebuggerUrl"]
            with connect(address, max_size=None, proxy=None) as connection:
                yield Tab(connection)
