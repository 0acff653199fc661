"""Syncing the runs of an SSH host: by manifest, by listing, by SFTP alone, and rsync of it.

    python benchmarks/sync.py [--runs 100 1000] [--latency 20]

A real OpenSSH server behind a proxy that adds *latency* milliseconds to each round trip. To reach:
by manifest at least 99 % fewer SFTP operations than by asking for each folder, a sync without
changes in one round trip, an appended run for its appended bytes, a first sync within 1.5 times
what rsync takes. "SFTP alone" is a host without a shell, where rsync could do nothing. Every sync
but the repeated ones opens its own connection, as rsync does.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import asyncssh  # noqa: E402
from asyncssh.sftp import SFTPClientHandler  # noqa: E402
from common import table, write_runs  # noqa: E402

from remote.ssh import known_hosts  # noqa: E402
from remote.ssh.connections import Connection  # noqa: E402
from remote.ssh.transport import Address, Credentials, connect  # noqa: E402
from remote.sync.session import MIRROR, Sync  # noqa: E402
from remote.sync.source import Source  # noqa: E402
from runicorn.manifest import ManifestGenerator, ManifestType  # noqa: E402
from tests.servers import sshd  # noqa: E402

APPENDED = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--latency", type=float, default=20, help="ms added to a round trip")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-sync-") as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        os.environ["HOME"] = folder
        with sshd(Path(folder) / "sshd") as server:
            proxy = Proxy(server.port, args.latency / 2000)
            known_hosts.accept(
                "127.0.0.1", proxy.port, asyncssh.import_public_key(server.host_key())
            )
            try:
                for count in args.runs:
                    measure(server, proxy, Path(folder), count, args.repeat, args.latency)
            finally:
                proxy.process.terminate()


def measure(
    server: Any, proxy: Proxy, folder: Path, count: int, repeat: int, latency: float
) -> None:
    there = folder / f"there-{count}"
    write_runs(there, count, steps=100)
    chance = random.Random(1)
    runs = sorted(there.glob("*/*/runs/*"))
    for run in runs:
        (run / "logs.txt").write_text("".join(f"line {n}\n" for n in range(500)))
        (run / "environment.json").write_text(json.dumps({"packages": ["a==1"] * 200}))
        for number in range(2):
            (run / f"media/{number}.png").write_bytes(chance.randbytes(10_000))
    for path in there.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))  # finished long ago: only the run that grows is active
    size = sum(path.stat().st_size for path in there.rglob("*") if path.is_file())
    files = sum(path.is_file() for path in there.rglob("*"))
    print(f"\n{count} runs, {files} files, {size / 1e6:.1f} MB, {latency:g} ms more a round trip")
    shutil.rmtree(there / ".runicorn", ignore_errors=True)

    ways: dict[str, Callable[[], Any]] = {
        "by manifest": lambda: Ours(server, proxy, there, folder, by_manifest=True),
        "by listing": lambda: Ours(server, proxy, there, folder),
        "SFTP alone": lambda: Ours(server, proxy, there, folder, has_shell=False),
        "rsync -a": lambda: Rsync(server, proxy, there, folder),
    }
    found: dict[str, dict[str, Cost]] = {}
    for name, make in ways.items():
        firsts, found[name] = [], {}
        ManifestGenerator(there).generate()
        for _ in range(repeat):
            way = make()
            firsts.append(way.first())
            way.check()
            if len(firsts) < repeat:
                way.close()
        found[name]["first"] = statistics.median_low(firsts)
        agains = [way.again()]
        while len(agains) < repeat and agains[0][0] < 10:
            agains.append(way.again())
        found[name]["again"] = statistics.median_low(agains)
        with (chance.choice(runs) / "logs.txt").open("ab") as log:
            log.write(chance.randbytes(APPENDED))
        ManifestGenerator(there).generate(ManifestType.ACTIVE)
        found[name]["appended"] = way.again()
        way.check()
        way.close()
    rows: list[tuple[object, ...]] = [
        ("", "first, s", "SFTP", "again, ms", "SFTP", "+10 kB, ms", "SFTP", "bytes here")
    ]
    for name, costs in found.items():
        first, again, appended = costs["first"], costs["again"], costs["appended"]
        rows.append(
            (
                name,
                f"{first[0]:.2f}",
                first[1] or "-",
                f"{1000 * again[0]:.0f}",
                again[1] or "-",
                f"{1000 * appended[0]:.0f}",
                appended[1] or "-",
                appended[2],
            )
        )
    table(rows)
    ours, listing, alone, rsync = (found[name] for name in ways)
    for name, costs in (("manifest", ours), ("listing", listing), ("SFTP alone", alone)):
        print(f"first: {costs['first'][0] / rsync['first'][0]:.2f} x rsync by {name}")
    for what in ("first", "again", "appended"):
        print(f"{what}: {100 * (1 - ours[what][1] / alone[what][1]):.2f} % fewer SFTP operations")


Cost = tuple[float, int, int]
"""Seconds, SFTP operations, bytes that came."""


class Proxy:
    """Passes on to *port*, each way *delay* seconds later, in a process of its own."""

    def __init__(self, port: int, delay: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.bytes: Synchronized[int] = multiprocessing.Value("q", 0)
        self.process = multiprocessing.Process(
            target=_serve, args=(self.port, port, delay, self.bytes), daemon=True
        )
        self.process.start()
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.05)


def _serve(port: int, target: int, delay: float, count: Synchronized[int]) -> None:
    async def pipe(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

        async def deliver() -> None:
            while True:
                at, data = await waiting.get()
                await asyncio.sleep(at - loop.time())
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        delivery = asyncio.create_task(deliver())
        while data := await reader.read(1 << 18):
            if counted:
                count.value += len(data)
            await waiting.put((loop.time() + delay, data))
        await waiting.put((loop.time() + delay, b""))
        await delivery

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", target)
        for one in (writer, here):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(
            pipe(reader, here, False), pipe(there, writer, True), return_exceptions=True
        )

    async def serve() -> None:
        server = await asyncio.start_server(accepted, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


class Once(Sync):
    """A sync that does only what it is told."""

    async def _follow(self) -> None:
        pass


requests = 0
_make_request = SFTPClientHandler._make_request


async def _counted(self: Any, *args: Any, **options: Any) -> Any:
    global requests
    requests += 1
    return await _make_request(self, *args, **options)


SFTPClientHandler._make_request = _counted  # type: ignore[method-assign]


class Ours:
    def __init__(
        self,
        server: Any,
        proxy: Proxy,
        there: Path,
        folder: Path,
        *,
        by_manifest: bool = False,
        has_shell: bool = True,
    ) -> None:
        self.proxy, self.there = proxy, there
        self.by_manifest, self.has_shell = by_manifest, has_shell
        self.here = Path(tempfile.mkdtemp(dir=folder))
        self.address = Address("127.0.0.1", proxy.port, getpass.getuser())
        self.credentials = Credentials(private_key_path=str(server.key), use_agent=False)
        self.loop = asyncio.new_event_loop()

    def _timed(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Cost:
        before, bytes_before = requests, self.proxy.bytes.value
        start = time.perf_counter()
        self.loop.run_until_complete(work())
        took = time.perf_counter() - start
        time.sleep(0.1)
        return took, requests - before, self.proxy.bytes.value - bytes_before

    def first(self) -> Cost:
        return self._timed(self._first)

    async def _first(self) -> None:
        channel = await connect(self.address, self.credentials)
        self.connection = Connection(self.address, self.credentials, channel)
        sftp = await channel.start_sftp_client()
        root = str(self.there)
        self.sync = Once("bench", MIRROR, "bench", self.connection, root, root, self.here, 2)
        self.source = Source(self.connection, sftp, os.fsencode(root))
        self.source.has_find = self.source.has_tar = self.has_shell
        await self._again()

    async def _again(self) -> None:
        if self.by_manifest:
            await self.sync._manifest.sync(self.source)
        else:
            await self.sync._sync_by_listing(self.source)

    def again(self) -> Cost:
        return self._timed(self._again)

    def check(self) -> None:
        if self.sync.last_error:
            raise SystemExit(self.sync.last_error)
        same(self.there, self.here)

    def close(self) -> None:
        self.connection.channel.abort()
        self.loop.run_until_complete(self.connection.channel.wait_closed())
        shutil.rmtree(self.here)


class Rsync:
    def __init__(self, server: Any, proxy: Proxy, there: Path, folder: Path) -> None:
        self.proxy, self.there = proxy, there
        self.here = Path(tempfile.mkdtemp(dir=folder))
        ssh = f"ssh -i {server.key} -p {proxy.port} -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        ssh += " -o UserKnownHostsFile=/dev/null"
        self.command = ["rsync", "-a", "--exclude=/.runicorn", "-e", ssh]
        self.command += [f"127.0.0.1:{there}/", f"{self.here}/"]

    def first(self) -> Cost:
        before = self.proxy.bytes.value
        start = time.perf_counter()
        subprocess.run(self.command, check=True)
        took = time.perf_counter() - start
        time.sleep(0.1)
        return took, 0, self.proxy.bytes.value - before

    again = first

    def check(self) -> None:
        same(self.there, self.here)

    def close(self) -> None:
        shutil.rmtree(self.here)


def same(there: Path, here: Path) -> None:
    """Whether everything came, byte for byte."""
    command = ["diff", "-rq", "--exclude=.runicorn", there, here]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
