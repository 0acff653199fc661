"""The pages in a real browser on a real server: they live, and the console stays silent."""

from __future__ import annotations

import pytest

from tests.browser import Tab, browser_tab
from tests.runs.conftest import Root, event
from tests.servers import viewer

pytestmark = pytest.mark.servers


@pytest.fixture
def tab():
    with browser_tab() as tab:
        yield tab


def text(tab: Tab, selector: str) -> str:
    return tab.evaluate(f"document.querySelector({selector!r})?.textContent ?? ''")


def test_a_run_is_watched_from_its_first_line_to_the_recycle_bin_and_back(tab, tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    with viewer(root.path) as server:
        tab.open(server.url)
        tab.wait_for("document.querySelector('#welcome')")
        folder = root.run("demo", "first")
        folder.write("status.json", {"status": "running", "started_at": 1.5, "pid": 0})
        tab.wait_for("document.querySelector('#rows')")
        folder.append("events.jsonl", event({"global_step": 3, "loss": 0.125}))
        tab.wait_for("document.querySelector('#rows').textContent.includes('0.125')")

        folder.append("logs.txt", b"one\n\x1b[32mtwo\x1b[0m\n")
        tab.evaluate("document.querySelector('#rows a').click()")
        tab.wait_for("document.querySelector('.log')?.textContent === 'one\\ntwo'")
        folder.append("logs.txt", b" 50%|#####     | 1/2\rthree\n")
        tab.wait_for("document.querySelector('.log').textContent.endsWith('three')")
        tab.evaluate("document.querySelector('[data-log-no-progress]').click()")
        assert text(tab, ".log") == "one\ntwo\nthree"
        assert text(tab, "[data-log-state]") == "live"

        folder.append("events.jsonl", event({"global_step": 4, "accuracy": 0.5}))
        tab.wait_for("document.querySelectorAll('svg.chart').length === 2")
        assert text(tab, ".log") == "one\ntwo\nthree"

        tab.evaluate("document.querySelector('.run-actions button').click()")
        tab.wait_for("document.querySelector('form.notice button')")
        assert (folder.path / ".deleted").exists()
        tab.evaluate("document.querySelector('form.notice button').click()")
        tab.wait_for("document.querySelector('#rows')")
        assert not (folder.path / ".deleted").exists()

        tab.open(f"{server.url}/admin/runs/run/")
        tab.wait_for("document.querySelector('#result_list time')")
        assert tab.complaints == []


def test_names_and_labels_stay_where_they_belong(tab, tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    folder = root.run("פרויקט", "שלום")
    numbers = {"big": 123456789.125, "huge": 1e300, "narrow": -0.000012345678912, "plain": 0.5}
    for n in range(100):
        scaled = {key: value + value * n * 1e-11 for key, value in numbers.items()}
        folder.log({"global_step": 10**9 + n, **scaled, "wide": 1e300 * (-1) ** n})
    edges = """(() => {
      const card = document.querySelectorAll(".chart-card");
      return [...card].map((card) => {
        const labels = [...card.querySelectorAll("svg.chart > text")];
        const boxes = labels.map((label) => label.getBoundingClientRect());
        const { left, right } = card.getBoundingClientRect();
        return [
          Math.min(...boxes.map((box) => box.left)) - left,
          right - Math.max(...boxes.map((box) => box.right)),
        ];
      });
    })()"""
    with viewer(root.path) as server:
        tab.open(f"{server.url}/runs/{folder.id}")
        tab.wait_for("document.querySelectorAll('.chart-card').length === 5")
        tab.wait_for("document.readyState === 'complete'")  # style sheets, too
        assert min(map(min, gaps := tab.evaluate(edges))) >= 0, gaps
        for page in ("/", f"/runs/{folder.id}"):
            tab.open(f"{server.url}{page}")
            tab.wait_for("document.querySelector('.id')")
            assert text(tab, "bdi.id") == folder.id
            name = "[...document.querySelectorAll('bdi')].some((bdi) => bdi.textContent === 'שלום')"
            assert tab.evaluate(name)
        tab.open(f"{server.url}/nothing")
        tab.wait_for("document.querySelector('.question a')")
        link = "getComputedStyle(document.querySelector('.question a')).textDecorationLine"
        assert tab.evaluate(link) == "underline"
