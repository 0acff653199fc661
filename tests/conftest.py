"""What every test shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from django.test import Client

# No test waits for samples of the machine but those about them.
os.environ["RUNICORN_SYSTEM_METRICS"] = "0"

# A shell ignores these for what it starts in the background, and nohup does; the programs that
# tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SERVERS_REQUIRED = bool(os.environ.get("RUNICORN_REQUIRE_SERVERS") or os.environ.get("CI"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever may use a database may use both: where a table lies is the router's matter."""
    for item in items:
        marker = item.get_closest_marker("django_db")
        names = set(getattr(item, "fixturenames", ()))
        if marker is not None or names & {"db", "transactional_db"}:
            options = {**(marker.kwargs if marker else {}), "databases": "__all__"}
            options.setdefault("transaction", "transactional_db" in names)
            item.add_marker(pytest.mark.django_db(**options), append=False)


@pytest.fixture
def client() -> Client:
    """Requests of this machine: its owner's."""
    return Client(headers={"host": "localhost"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where real servers are promised, a test that is skipped for want of one has failed."""
    report = yield
    is_skipped = report.skipped and not hasattr(report, "wasxfail")
    if is_skipped and SERVERS_REQUIRED and item.get_closest_marker("servers"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"A test that needs real servers did not run here: {reason}"
    return report
