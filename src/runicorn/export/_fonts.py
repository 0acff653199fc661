"""Fonts for the characters that a PDF's own ones lack, taken from this machine and embedded.

A character that no font here has is written as its escape, ``\\u05d0``, and never left out.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import unicodedata
from collections.abc import Iterator
from itertools import chain, count, groupby
from pathlib import Path
from typing import Any

LATIN = "Helvetica"
_LATIN_CHARACTERS = frozenset(
    [*map(chr, range(32, 127)), *map(chr, range(160, 256)), *"–—‘’‚“”„•…€"]
)

_CJK = (
    ("STSong-Light", "gbk"),
    ("HeiseiMin-W3", "cp932"),
    ("HYSMyeongJo-Medium", "cp949"),
    ("MSung-Light", "big5"),
)
"""Fonts that readers of PDF bring themselves, and an encoding of the characters in each."""

_BROAD = ("dejavusans", "notosans-regular", "freesans", "arialuni", "arial", "segoeui", "unifont")
_BROAD_CJK = ("wqy", "droidsansfallback", "simsun", "simhei", "msyh", "malgun", "msgothic", "uming")
_VARIANTS = ("bold", "italic", "oblique", "condensed", "light", "thin", "black", "mono", "serif")
_MOST_TRIED = 40
_MOST_FILES = 5000

_numbers = count(1)
_lock = threading.Lock()
"""Registering a font changes what all threads share."""


def segments(text: str) -> list[tuple[str, str]]:
    """Return *text* in the order in which it is drawn, as pairs of a font's name and characters."""
    drawn = ((_font_of(c), c) for c in _in_visual_order(_without_invisible(text)))
    pairs = chain.from_iterable([(font, c)] if font else [(LATIN, _escape(c))] for font, c in drawn)
    return [
        (font, "".join(c for _, c in group)) for font, group in groupby(pairs, lambda pair: pair[0])
    ]


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def _without_invisible(text: str) -> str:
    """Leave out joiners, direction marks and variation selectors; white space is a space."""
    kept = (c for c in text if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f")
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Cs" else " " for c in kept)


# -- which font has a character ----------------------------------------------------------------


def _font_of(character: str) -> str | None:
    if character in _LATIN_CHARACTERS:
        return LATIN
    with _lock:
        return _find_font(character)


@functools.lru_cache(maxsize=10_000)
def _find_font(character: str) -> str | None:
    """Return the name of a registered font that has the character."""
    is_cjk = unicodedata.east_asian_width(character) in "WF" and character < "\U0001f000"
    for path in _candidates(unicodedata.name(character, "").partition(" ")[0].lower(), is_cjk):
        if ord(character) in _glyphs(path):
            return _registered(path)
    for name, encoding in _CJK:
        if _can_encode(character, encoding):
            return _registered_cjk(name)
    return None


def _can_encode(character: str, encoding: str) -> bool:
    try:
        return len(character.encode(encoding)) > 1
    except UnicodeEncodeError:
        return False


def _candidates(script: str, is_cjk: bool) -> Iterator[Path]:
    """Yield font files that may have a script's characters, the likeliest first."""

    def rank(path: Path) -> int:
        name = path.stem.lower().replace(" ", "")
        if script and script in name:
            return 0
        wanted = _BROAD_CJK if is_cjk else _BROAD
        return next((1 + n for n, known in enumerate(wanted) if name.startswith(known)), 99)

    files = sorted((rank(path), path) for path in _font_files())
    most = sum(order < 99 for order, _ in files) if is_cjk else _MOST_TRIED
    yield from (path for _, path in files[:most])


@functools.cache
def _font_files() -> list[Path]:
    """Return the regular TrueType fonts of this machine, which are looked for once."""
    paths: list[Path] = []
    for folder in _font_folders():
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                plain = name.lower()
                is_variant = any(word in plain for word in _VARIANTS)
                if plain.endswith((".ttf", ".ttc")) and not is_variant:
                    paths.append(Path(parent, name))
            if len(paths) > _MOST_FILES:
                return paths
    return paths


def _font_folders() -> list[Path]:
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:\\Windows"), "Fonts")]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path(home, "Library/Fonts")]
    shared = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts")]
    return [*shared, Path(home, ".local/share/fonts"), Path(home, ".fonts")]


@functools.cache
def _load(path: Path) -> Any:
    """Return reportlab's font, or None if it cannot be embedded (PostScript outlines, damage)."""
    from reportlab.pdfbase.ttfonts import TTFont

    try:
        return TTFont(f"runicorn{next(_numbers)}-{path.stem}", str(path))
    except Exception:
        return None


def _glyphs(path: Path) -> dict[int, int]:
    font = _load(path)
    return font.face.charToGlyph if font else {}


@functools.cache
def _registered(path: Path) -> str:
    from reportlab.pdfbase import pdfmetrics

    font = _load(path)
    pdfmetrics.registerFont(font)
    return str(font.fontName)


@functools.cache
def _registered_cjk(name: str) -> str:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

    pdfmetrics.registerFont(UnicodeCIDFont(name))
    return name


# -- right to left -------------------------------------------------------------------------------


def _in_visual_order(text: str) -> str:
    """Return *text* from left to right as it is read, Arabic letters in their joined forms.

    The essential part of Unicode's algorithm (UAX 9): implicit levels, no embeddings.
    """
    kinds = [unicodedata.bidirectional(c) for c in text]
    if not {"R", "AL"} & set(kinds):
        return text
    text = _joined(text)
    kinds = [unicodedata.bidirectional(c) for c in text]
    strong = [1 if kind in ("R", "AL") else 0 if kind == "L" else None for kind in kinds]
    base = next(level for level in strong if level is not None)
    before, level = [], base
    for place, kind in enumerate(kinds):
        own = strong[place]
        level = level if own is None else own
        before.append(2 if kind in ("EN", "AN") and level == 1 else level)
    levels = []
    after = base
    for place in range(len(text) - 1, -1, -1):
        own = strong[place]
        after = after if own is None else own
        if own is None and before[place] != 2 and before[place] != after:
            levels.append(base)
        else:
            levels.append(2 if base and before[place] == 0 else before[place])
    levels.reverse()
    clusters = _clusters(text, levels)
    for lowest in (2, 1):
        clusters = _reverse_runs(clusters, lowest)
    return "".join(_MIRRORED.get(c, c) if level % 2 else c for level, c in clusters)


def _clusters(text: str, levels: list[int]) -> list[tuple[int, str]]:
    """Keep marks with the letter before them."""
    clusters: list[tuple[int, str]] = []
    for level, character in zip(levels, text, strict=True):
        if clusters and unicodedata.combining(character):
            clusters[-1] = (clusters[-1][0], clusters[-1][1] + character)
        else:
            clusters.append((level, character))
    return clusters


def _reverse_runs(clusters: list[tuple[int, str]], lowest: int) -> list[tuple[int, str]]:
    """Reverse each row of neighbours of that level or a higher one."""
    result: list[tuple[int, str]] = []
    for is_reversed, group in groupby(clusters, lambda cluster: cluster[0] >= lowest):
        row = list(group)
        result += reversed(row) if is_reversed else row
    return result


_MIRRORED = dict(zip("()[]{}<>«»", ")(][}{><»«", strict=True))


@functools.cache
def _forms() -> dict[str, dict[str, str]]:
    """Return the joined forms of Arabic letters and of lam with alef, as Unicode lists them."""
    forms: dict[str, dict[str, str]] = {}
    for code in chain(range(0xFB50, 0xFBB2), range(0xFE80, 0xFEFD)):
        kind, *letters = unicodedata.decomposition(chr(code)).split()
        forms.setdefault("".join(chr(int(c, 16)) for c in letters), {})[kind] = chr(code)
    return forms


def _joined(text: str) -> str:
    forms = _forms()
    letters: list[str] = []
    for character in text:
        if letters and letters[-1] + character in forms:
            letters[-1] += character  # lam and alef are one
        else:
            letters.append(character)
    forms_shown = []
    for place, letter in enumerate(letters):
        own = forms.get(letter, {})
        has_before = "<initial>" in forms.get(_neighbour(letters, place, -1), {})
        has_after = "<final>" in forms.get(_neighbour(letters, place, 1), {})
        joins_before = has_before and "<final>" in own
        joins_after = has_after and "<initial>" in own
        kind = {
            (True, True): "<medial>",
            (True, False): "<final>",
            (False, True): "<initial>",
            (False, False): "<isolated>",
        }[joins_before, joins_after]
        form = own.get(kind, letter)
        forms_shown.append(form if form == letter or _font_of(form) else letter)
    return "".join(forms_shown)


def _neighbour(letters: list[str], place: int, direction: int) -> str:
    """Return the next letter in a direction; marks above and below do not part letters."""
    place += direction
    while 0 <= place < len(letters) and unicodedata.combining(letters[place][0]):
        place += direction
    return letters[place] if 0 <= place < len(letters) else ""
