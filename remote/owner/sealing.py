"""Messages between processes of one server, encrypted with its secret key.

A secret that was typed for one session passes through a row of the database on its way to the
worker: who reads the database, or a backup of it, reads nothing of it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.utils.crypto import salted_hmac

SECONDS = 60
"""An older message counts no more."""


class Unreadable(ValueError):
    """It is too old, was changed, or comes from a process with another secret key."""


def seal(message: Any) -> str:
    return _cipher().encrypt(json.dumps(message).encode()).decode()


def unseal(sealed: str) -> Any:
    try:
        return json.loads(_cipher().decrypt(sealed.encode(), ttl=SECONDS))
    except InvalidToken as error:
        raise Unreadable("too old, or sealed with another key") from error


def _cipher() -> Fernet:
    key = salted_hmac("remote.owner.sealing", "message", algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))
