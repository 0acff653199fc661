"""A PDF has every character, drawn or as its escape, whatever fonts the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn.export import MetricsExporter, _fonts
from tests.runs.conftest import Root

SAMPLES = {
    "hebrew": "שלום",
    "arabic": "تدريب",
    "thai": "การฝึก",
    "emoji": "😀",
    "greek": "Ωάδέ",
    "cyrillic": "Обучение",
    "chinese": "训练",
    "traditional": "訓練",
    "japanese": "かな漢字",
    "korean": "훈련",
    "half a character": "\ud800",
}


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    caches = (_fonts._find_font, _fonts._font_files)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("script", SAMPLES)
@pytest.mark.parametrize("has_fonts", [True, False])
def test_every_character_is_drawn_or_escaped(script, has_fonts, tmp_path, monkeypatch):
    if not has_fonts:
        monkeypatch.setattr(_fonts, "_font_folders", lambda: [tmp_path / "none"])
    parts = _fonts.segments(SAMPLES[script])
    assert parts
    for font, text in parts:
        if font == _fonts.LATIN:
            assert set(text) <= _fonts._LATIN_CHARACTERS
    drawn = {c for font, text in parts if font != _fonts.LATIN for c in text}
    escapes = "".join(text for font, text in parts if font == _fonts.LATIN)
    for character in _fonts._joined(SAMPLES[script]):
        assert character in drawn or _fonts._escape(character) in escapes


def test_fonts_that_are_here_are_used_and_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr("reportlab.rl_config.pageCompression", 0)
    run = Root(tmp_path / "root").run("p", "שלום" * 3)
    run.write("summary.json", {"greek": "ά"})
    run.log({"שלום": 1.0, "global_step": 1}, {"שלום": 2.0, "global_step": 2})
    assert MetricsExporter(run.path).generate_report(tmp_path / "r.pdf")
    content = (tmp_path / "r.pdf").read_bytes()
    font = _fonts._font_of("ש")
    if font is None:
        assert b"u05e9" in content
    else:
        assert b"/FontFile2" in content and b"<05E9>" in content.upper()
        assert _fonts._font_of("ש") == font != _fonts._font_of("训")


def test_without_a_font_the_escapes_are_in_the_report(tmp_path, monkeypatch):
    for cache in (_fonts._find_font, _fonts._font_files):
        cache.cache_clear()
    monkeypatch.setattr(_fonts, "_font_folders", list)
    monkeypatch.setattr("reportlab.rl_config.pageCompression", 0)
    root = Root(tmp_path / "root")
    run = root.run("p", "ש", run_id="20260101_000000_ffff\u05e0")
    run.log({"ל": 1.0, "global_step": 1}, {"ל": 2.0, "global_step": 2})
    assert MetricsExporter(run.path).generate_report(tmp_path / "r.pdf")
    content = (tmp_path / "r.pdf").read_bytes()
    for shown in (rb"\\u05e9", rb"\\u05dc", rb"ffff\\u05e0"):
        assert shown in content


def test_damaged_and_foreign_font_files_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "broken.ttf").write_bytes(b"\0\1\0\0" + b"noise" * 100)
    (tmp_path / "empty.ttc").write_bytes(b"")
    (tmp_path / "locked.ttf").symlink_to("nowhere")
    monkeypatch.setattr(_fonts, "_font_folders", lambda: [tmp_path])
    assert len(_fonts._font_files()) == 3
    assert _fonts.segments("ש") == [(_fonts.LATIN, "\\u05e9")]


@pytest.mark.parametrize(
    ("text", "visual"),
    [
        ("abc", "abc"),
        ("שלום", "םולש"),
        ("run שלום 12 עולם end", "run םלוע 12 םולש end"),
        ("שלום abc", "abc םולש"),
        ("שלום (אב)", "(בא) םולש"),
        ("loss/שלום", "loss/םולש"),
        ("שָׁלוֹם", "םוֹלשָׁ"),
    ],
)
def test_what_is_read_from_right_to_left_is_drawn_so(text, visual, monkeypatch):
    monkeypatch.setattr(_fonts, "_font_of", lambda character: "a font with everything")
    assert _fonts._in_visual_order(text) == visual


def test_arabic_letters_are_joined(monkeypatch):
    monkeypatch.setattr(_fonts, "_font_of", lambda character: "a font with everything")
    assert _fonts._joined("نم") == "\ufee7\ufee2"  # initial, final
    assert _fonts._joined("لا") == "\ufefb"  # one sign of the two, alone
    assert _fonts._joined("بلا") == "\ufe91\ufefc"
    assert _fonts._joined("اب") == "\ufe8d\ufe8f"  # alef joins nothing after it
    assert _fonts._in_visual_order("نم") == "\ufee2\ufee7"
    monkeypatch.setattr(_fonts, "_font_of", lambda character: None)
    assert _fonts._joined("نم") == "نم"  # of a font without the joined forms


def test_long_notes_keep_the_order_of_their_lines(tmp_path):
    from runicorn.export import _report

    words = [f"{'אבג'[n % 3]}{n}" for n in range(60)]
    lines = _report._pdf(" ".join(words)).split("<br/>")
    assert len(lines) > 2
    assert "0" in lines[0] and "59" in lines[-1]


def test_the_font_folders_are_those_of_the_system(monkeypatch):
    for system, folder in (("win32", "Fonts"), ("darwin", "Library/Fonts"), ("linux", "fonts")):
        monkeypatch.setattr("sys.platform", system)
        assert any(str(path).endswith(folder) for path in _fonts._font_folders())
        assert all(isinstance(path, Path) for path in _fonts._font_folders())
