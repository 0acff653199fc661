"""The pages of artifacts: the list, a version with its lineage, two versions compared."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from django.test import Client

import runicorn as rn


@pytest.fixture
def browser() -> Client:
    return Client(headers={"host": "127.0.0.1:23300"})


def text(browser: Client, address: str, status: int = 200, **options) -> str:
    response = browser.get(address, **options)
    assert response.status_code == status, response
    return response.content.decode()


def test_the_list_filters_and_says_what_is_saved(browser, store):
    assert "Save your first artifact" in text(browser, "/artifacts")
    store.save("net", w_bin=b"a" * 1000)
    store.save("net", w_bin=b"a" * 1000)
    store.save("birds", "dataset", a=b"x")
    store.storage.set_alias(store.storage.find("net"), "best", 1)
    page = text(browser, "/artifacts")
    assert "net" in page and "2 versions" in page and "best</bdi> → v1" in page and "birds" in page
    assert "1000\xa0bytes saved" in page
    only = text(browser, "/artifacts?type=dataset")
    assert "birds" in only and "/artifacts/model/net" not in only
    assert "No artifact matches." in text(browser, "/artifacts?q=nothing")
    assert "birds" in text(browser, "/artifacts?q=BIR")
    assert 'href="/artifacts"' in text(browser, "/")


def test_a_version_shows_files_references_edits_and_others(browser, store):
    store.save(w_bin=b"a" * 2000)
    store.save(w_bin=b"b" * 3000, sub__x_txt=b"<script>")
    location = store.storage.find("net")
    store.storage.edit(location, 2, {"description": "<b>good</b>", "tags": ["t"]}, by="ann")
    store.storage.soft_delete(location, 1)
    answer = browser.get("/artifacts/model/net")
    assert (answer.status_code, answer["Location"]) == (302, "/artifacts/model/net/v2")
    page = text(browser, "/artifacts/model/net/v2")
    for shown in ("w.bin", "sub/x.txt", "2.9\xa0KB", "latest", "&lt;b&gt;good", "ann", "deleted"):
        assert shown in page, shown
    [file] = re.findall(r'href="(/api/[^"]*x\.txt[^"]*)"', page)
    assert b"".join(browser.get(file).streaming_content) == b"<script>"
    assert "This version is deleted." in text(browser, "/artifacts/model/net/v1")
    for address in ("model/net/v3", "model/other", "dataset/net", "../net", f"model/net/v{10**20}"):
        text(browser, f"/artifacts/{address}", 404)
    chinese = text(browser, "/artifacts/model/net/v1", headers={"accept-language": "zh-hans"})
    assert "此版本已删除" in chinese


def test_a_versions_stages_and_evaluations_are_told(browser, api, store):
    store.save()
    store.save("net_v1x")
    page = text(browser, "/artifacts/model/net/v1")
    assert "stages-heading" not in page and "evaluations-heading" not in page
    for stage, notes in (("staging", "looks <good>"), ("production", None)):
        api.post("/artifacts/net/v1/promote", {"to_stage": stage, "notes": notes})
    facts = {"model_name": "net", "model_version": 1, "evaluation_date": 0}
    for status, accuracy in (("failed", 0.5), ("passed", 0.9)):
        metrics = {"metrics": {"accuracy": accuracy}, "status": status, "test_dataset": "测试集"}
        api.post("/artifacts/net/v1/evaluate", facts | metrics)
    page = text(browser, "/artifacts/model/net/v1")
    assert page.index("staging → production") < page.index("experimental → staging")
    assert "looks &lt;good&gt;" in page and "测试集" in page
    assert page.index("accuracy = 0.9") < page.index("accuracy = 0.5")
    assert "evaluations-heading" not in text(browser, "/artifacts/model/net_v1x/v1")


def test_lineage_is_drawn_with_what_is_gone(browser, store, root):
    with store.run() as first:
        first.log_artifact(rn.Artifact("raw", "dataset").add_reference("s3://x"))
    with store.run() as second:
        second.use_artifact("raw:v1")
        second.log_artifact(rn.Artifact("net").add_reference("s3://<y>"))
    store.storage.purge([(store.storage.find("raw"), 1)])
    root.scan()
    page = text(browser, "/artifacts/model/net/v1")
    drawn = ElementTree.fromstring(re.search(r"<svg class=\"lineage\".*?</svg>", page, re.S)[0])
    nodes = {node.find("title").text: node for node in drawn.iter("g")}
    assert len(nodes) == 4
    assert "purged" in nodes["raw:v1 · no longer there"].get("class")
    assert "root" in nodes["net:v1"].get("class")
    links = [link.get("href") for link in drawn.iter("a")]
    assert f"/runs/{second.id}" in links and "/artifacts/model/net/v1" in links
    assert len([path for path in drawn.iter("path") if path.get("class") == "edge"]) == 3


def test_two_versions_are_compared(browser, store):
    store.save(same=b"s", changed=b"1", gone=b"g")
    store.save(same=b"s", changed=b"22", fresh=b"f")
    page = text(browser, "/artifacts/model/net/compare?from=1&to=2")
    signs = dict(re.findall(r'data-sign="(\w+)".*?</span> (\w+)</th>', page))
    assert signs == {"added": "fresh", "changed": "changed", "removed": "gone"}
    same = text(browser, "/artifacts/model/net/compare?from=2&to=2")
    assert "The files of both versions are the same." in same
    for query in ("", "?from=1&to=x", "?from=1&to=9"):
        text(browser, f"/artifacts/model/net/compare{query}", 404)


def test_a_maker_that_is_no_run_spoils_no_page(browser, api, store):
    store.save(run="../../etc")
    assert "../../etc" in text(browser, "/artifacts/model/net/v1")
    assert "../../etc" in text(browser, "/admin/artifacts/version/")
    body = {"name": "net", "files": [], "references": [], "created_by_run": "../../etc"}
    api.post("/artifact-uploads", body, status=400)
