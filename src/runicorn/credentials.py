"""Secrets at rest: encrypted and authenticated, with a key that lies elsewhere.

The key is in the keyring of the operating system where there is one, else in a file that only its
owner can read. Whatever goes wrong raises CredentialsError: nothing is ever stored in the clear.
"""

from __future__ import annotations

import base64
import binascii
import os
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from . import layout

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "RN1:"
"""AES-256-GCM with a nonce of 12 bytes in front, in base64."""

OLD_PREFIX = "ENC:"
"""What Runicorn 0.4 wrote: base64 of the text XORed with the bytes of ``.credential_key``."""

KEY_FILE = ".credentials.key"
_OLD_KEY_FILE = ".credential_key"
_SERVICE = "runicorn"
_NONCE = 12


class CredentialsError(RuntimeError):
    """A secret can neither be stored nor read; says why, never what."""


def encrypt(secret: str, purpose: str) -> str:
    """*secret* for storing. It can be read back for the same *purpose* only."""
    nonce = os.urandom(_NONCE)
    sealed = _cipher(_key(create=True)).encrypt(nonce, secret.encode(), purpose.encode())
    return PREFIX + base64.b64encode(nonce + sealed).decode()


def decrypt(stored: str, purpose: str) -> str:
    """The secret that ``encrypt`` stored for *purpose*, or that Runicorn 0.4 stored."""
    if stored.startswith(OLD_PREFIX):
        return _decrypt_old(stored)
    if not stored.startswith(PREFIX):
        return stored  # 0.4 kept the clear text where it could not encrypt
    from cryptography.exceptions import InvalidTag

    try:
        data = base64.b64decode(stored.removeprefix(PREFIX), validate=True)
        cipher = _cipher(_key(create=False))
        return cipher.decrypt(data[:_NONCE], data[_NONCE:], purpose.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise CredentialsError(
            "A stored secret was changed, or made with another key: enter it again."
        ) from error


def is_current(stored: str) -> bool:
    """Whether *stored* has today's form."""
    return stored.startswith(PREFIX)


def _decrypt_old(stored: str) -> str:
    try:
        key = (layout.user_config_dir() / _OLD_KEY_FILE).read_bytes()
        data = base64.b64decode(stored.removeprefix(OLD_PREFIX), validate=True)
        return bytes(a ^ b for a, b in zip(data, cycle(key), strict=False)).decode()
    except (OSError, ValueError, binascii.Error) as error:
        raise CredentialsError(
            "A secret stored by Runicorn 0.4 cannot be read: enter it again."
        ) from error


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise CredentialsError(
            "Secrets cannot be stored without encryption: pip install cryptography"
        ) from error
    try:
        return AESGCM(key)
    except ValueError as error:
        raise CredentialsError("The key of the stored secrets is damaged.") from error


def _key(*, create: bool) -> bytes:
    directory = layout.user_config_dir()
    path = directory / KEY_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with layout.locked(path):
            key = _from_file(path) or _from_keyring(directory)
            if key is None and create:
                key = os.urandom(32)
                if not _into_keyring(directory, key):
                    _into_file(path, key)
    except (OSError, TimeoutError) as error:
        raise CredentialsError(f"The key of the stored secrets: {error}") from error
    if key is None:
        raise CredentialsError("The key of the stored secrets is gone: enter them again.")
    return key


def _from_file(path: Path) -> bytes | None:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _into_file(path: Path, key: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)


def _from_keyring(directory: Path) -> bytes | None:
    try:
        import keyring

        stored = keyring.get_password(_SERVICE, str(directory))
        return base64.b64decode(stored) if stored else None
    except Exception:  # no keyring, a locked one, a broken one: each backend has errors of its own
        return None


def _into_keyring(directory: Path, key: bytes) -> bool:
    try:
        import keyring

        keyring.set_password(_SERVICE, str(directory), base64.b64encode(key).decode())
    except Exception:
        return False
    return _from_keyring(directory) == key
