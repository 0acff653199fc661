"""English and Chinese; the compiled translations say what the readable ones do."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path

from django.urls import reverse
from django.utils.translation.template import templatize

from tests.servers import ROOT

CATALOGUE = ROOT / "runicorn_site/locale/zh_Hans/LC_MESSAGES/django.po"
APPS = (
    *("core", "metrics", "runs", "artifacts", "remote", "operation", "web", "runicorn_site"),
    "settings",
)
REFRESH = (
    "Refresh it: manage.py makemessages -l zh_Hans --no-location --no-obsolete; compilemessages"
)


def entries() -> dict[str, str]:
    """Message to translation of the readable catalogue; plurals under their singular."""
    found = {}
    for entry in CATALOGUE.read_text().split("\n\n")[1:]:
        strings: dict[str, str] = {}
        for line in entry.splitlines():
            if match := re.match(r"(msg\w+)(?:\[0\])? ", line):
                keyword = match[1]
                line = line[match.end() :]
            if line.startswith('"'):
                strings[keyword] = strings.get(keyword, "") + ast.literal_eval(line)
        context = f"{strings['msgctxt']}\x04" if "msgctxt" in strings else ""
        found[context + strings["msgid"]] = strings["msgstr"]
    return found


def used() -> set[str]:
    """Every message that our sources name; of plurals the singular."""
    found = set()
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if "migrations" not in path.parts:
                found |= set(_messages(path))
        for path in (ROOT / app).rglob("*.html"):
            template = templatize(path.read_text(), origin=str(path))
            found |= {ast.literal_eval(match[2]) for match in re.finditer(_TEMPLATE_CALL, template)}
    return found


_TEMPLATE_CALL = r"\b(gettext|_|ngettext)\(u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"


def _messages(path: Path):
    calls = {"_", "gettext", "gettext_lazy", "ngettext", "pgettext"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in calls and node.args:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if texts and node.func.id == "pgettext":
                yield "\x04".join(texts[:2])
            elif texts:
                yield texts[0]


def test_every_message_is_translated():
    translated = {message for message, translation in entries().items() if translation}
    assert used() - translated == set(), REFRESH


def test_every_translation_is_used():
    assert entries().keys() - used() == set(), REFRESH


def test_the_compiled_catalogue_is_up_to_date():
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog
    texts = {key[0] if isinstance(key, tuple) else key: value for key, value in compiled.items()}
    texts.pop("")
    assert texts == entries(), REFRESH


def test_translations_keep_their_placeholders():
    for message, translation in entries().items():
        pattern = r"%\(\w+\)s|%[sd]"
        assert sorted(re.findall(pattern, message)) == sorted(re.findall(pattern, translation))


def test_the_browsers_language_is_spoken(client, root):
    page = client.get("/", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"})
    assert '<html lang="zh-hans">' in page.content.decode()
    assert "记录您的第一个运行" in page.content.decode()


def test_the_language_can_be_switched(client, root):
    response = client.post(reverse("set_language"), {"language": "zh-hans", "next": "/"})
    assert response["Location"] == "/"
    assert "回收站" in client.get("/").content.decode()
    client.post(reverse("set_language"), {"language": "en", "next": "/"})
    chinese = {"Accept-Language": "zh-CN"}
    assert "Recycle bin" in client.get("/", headers=chinese).content.decode()


def test_one_word_for_an_artifact():
    """Pages, admin and docs say the same word, side by side as they are."""
    texts = [*entries().values(), *(path.read_text() for path in (ROOT / "docs").glob("*.zh.md"))]
    assert not [text[:80] for text in texts if "工件" in text or "产物" in text]
