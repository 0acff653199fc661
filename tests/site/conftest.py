from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.test import Client

from core.http import rate_limits
from runicorn import layout


@pytest.fixture(autouse=True)
def fresh_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with nothing counted and no ``rate_limits.json``."""
    rate_limits.limiter.cache_clear()
    monkeypatch.setattr(rate_limits, "policy_file", rate_limits.PolicyFile())
    (layout.user_config_dir() / "rate_limits.json").unlink(missing_ok=True)


@pytest.fixture
def configure() -> Callable[[object], None]:
    """Write ``rate_limits.json`` and let the second pass after which it is looked at again."""

    def write(config: object) -> None:
        path = layout.user_config_dir() / "rate_limits.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        rate_limits.policy_file._next_look = 0.0

    return write


@pytest.fixture
def browser() -> Client:
    """Requests of this machine, whose exceptions become the answers that a user gets."""
    return Client(raise_request_exception=False, headers={"host": "127.0.0.1:23300"})
