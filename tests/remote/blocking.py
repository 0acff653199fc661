"""An SFTP client of the kind that scripts bring."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import asyncssh

from remote.ssh import loop
from tests import servers

from .conftest import USER


class Blocking:
    """An SFTP client as paramiko's is, over asyncssh; it counts what it asks for."""

    def __init__(self, server: servers.Sshd) -> None:
        self.requests = 0
        self._server = server
        self.call(self._connect())

    async def _connect(self) -> None:
        server = self._server
        self.connection = await asyncssh.connect(
            "127.0.0.1", server.port, username=USER, client_keys=[str(server.key)], known_hosts=None
        )
        self.sftp = await self.connection.start_sftp_client()

    def call(self, coroutine: Any) -> Any:
        async def counted() -> Any:
            self.requests += 1
            return await coroutine

        try:
            return loop.run(counted())
        except asyncssh.SFTPNoSuchFile as error:
            raise FileNotFoundError from error

    def stat(self, path: str) -> Any:
        return self._shown(self.call(self.sftp.stat(path)))

    def lstat(self, path: str) -> Any:
        return self._shown(self.call(self.sftp.lstat(path)))

    @staticmethod
    def _shown(found: asyncssh.SFTPAttrs) -> Any:
        return os.stat_result((found.permissions, 0, 0, 1, 0, 0, found.size, 0, found.mtime, 0))

    def open(self, path: str, mode: str) -> Any:
        return BlockingFile(self, self.call(asyncio.wait_for(self.sftp.open(path, mode), 10)))

    def listdir_attr(self, path: str) -> list[Any]:
        return [
            SimpleNamespace(
                filename=entry.filename,
                st_mode=entry.attrs.permissions,
                st_size=entry.attrs.size,
                st_mtime=entry.attrs.mtime,
            )
            for entry in self.call(self.sftp.readdir(path))
        ]

    def close(self) -> None:
        self.connection.close()


class BlockingFile:
    def __init__(self, client: Blocking, file: Any) -> None:
        self._client, self._file, self._at = client, file, 0

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> bytes:
        data = self._client.call(self._file.read(size, self._at))
        self._at += len(data)
        return data

    def __enter__(self) -> BlockingFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.call(self._file.close())
