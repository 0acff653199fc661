"""Archives that somebody with bad intentions, or a broken disk, might send."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

RUN = "p/e/runs/20260101_000000_abcdef"
GOOD = {f"{RUN}/meta.json": b"{}", f"{RUN}/events.jsonl": b""}


def tar(members: dict[str, bytes] | None = None, *more: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in (GOOD if members is None else members).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


def zip_link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(f"{RUN}/evil")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc")
        archive.writestr(f"{RUN}/evil/passwd", "x")
        archive.writestr(f"{RUN}/meta.json", "{}")
    return out.getvalue()


def zip_twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{RUN}/meta.json", "{}")
        with_warning = zipfile.ZipInfo(f"{RUN}/meta.jsoX")
        archive.writestr(with_warning, '{"id": "another"}')
    return out.getvalue().replace(b"meta.jsoX", b"meta.json")


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with a field that no library would write."""
    block = bytearray(tarfile.TarInfo("x").tobuf())
    block[0:100] = name.ljust(100, b"\0")
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def many_headers() -> bytes:
    """Extended headers about extended headers, deeper than any stack."""
    return gzip.compress(header(b"x", b"00000000000", b"L") * 30_000)


NAMES = {
    "traversal": f"{RUN}/../../../../../outside",
    "traversal by the first part": "../storage-evil/x.txt",
    "sibling with the same prefix": f"../root-evil/{RUN}/meta.json",
    "absolute": "/etc/cron.d/evil",
    "windows drive": "C:\\Windows\\evil",
    "backslashes": "p\\e\\runs\\..\\..\\..\\evil",
    "NUL": f"{RUN}/a\0b",
    "newline": f"{RUN}/a\nb",
    "escape sequence": f"{RUN}/\x1b[2J",
    "long part": f"{RUN}/{'x' * 300}",
    "long path": f"{RUN}/{'/'.join(['x' * 200] * 15)}",
    "deep path": f"{RUN}/{'x/' * 60}x",
    "not UTF-8": f"{RUN}/\udcff",
    "the index": ".runicorn/index.sqlite3",
    "the database of 0.4": "runicorn.db",
    "the records of the root": ".experiments_metadata.json",
    "the pool": "artifacts/.dedup/ab/abcdef",
    "hidden project": ".ssh/e/runs/20260101_000000_abcdef/meta.json",
    "reserved project": "webui/e/runs/20260101_000000_abcdef/index.html",
    "no run": "p/e/README.md",
    "version that is none": "artifacts/model/m/vX/manifest.json",
    "a file for a run": RUN,
}

LEFT_OUT: dict[str, Callable[[], bytes]] = {
    "symbolic link": lambda: tar(None, link(f"{RUN}/evil", "/etc/passwd")),
    "link and a file through it": lambda: tar(
        None, link(f"{RUN}/evil", "/tmp"), special(f"{RUN}/evil/x", tarfile.REGTYPE)
    ),
    "hard link": lambda: tar(None, link(f"{RUN}/evil", "/etc/passwd", tarfile.LNKTYPE)),
    "device": lambda: tar(None, special(f"{RUN}/null", tarfile.CHRTYPE)),
    "pipe": lambda: tar(None, special(f"{RUN}/pipe", tarfile.FIFOTYPE)),
    "link in a zip": zip_link,
    "the same name twice": lambda: tar(None, special(f"{RUN}/meta.json", tarfile.REGTYPE)),
    "the same name twice, written otherwise": lambda: tar(
        None, special("./p//e/runs/./20260101_000000_abcdef/meta.json", tarfile.REGTYPE)
    ),
    "the same name twice in a zip": zip_twice,
    "a file and a folder of one name": lambda: tar(
        None, special(f"{RUN}/meta.json/x", tarfile.REGTYPE)
    ),
    **{
        f"name: {what}": lambda name=name: tar({**GOOD, name: b"evil"})
        for what, name in NAMES.items()
        if "\0" not in name
    },
    **{
        f"name in a zip: {what}": lambda name=name: zipped({**GOOD, name: b"evil"})
        for what, name in NAMES.items()
        if what not in ("NUL", "not UTF-8", "windows drive", "backslashes")
    },
}
"""What is left out of an import; the good run beside it comes in."""

REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"not an archive",
    "cut gzip": lambda: tar({f"{RUN}/events.jsonl": bytes(range(256)) * 999})[:-20],
    "damaged gzip": lambda: tar()[:40] + b"\xff" * 8 + tar()[48:],
    "cut tar": lambda: gzip.compress(gzip.decompress(tar({f"{RUN}/a": b"x" * 5000}))[:2000]),
    "damaged header": lambda: gzip.compress(
        gzip.decompress(tar()).replace(b"events.jsonl", b"events.jsonX")
    ),
    "damaged zip": lambda: zipped(GOOD)[:-30],
    "zip with a wrong checksum": lambda: zipped({f"{RUN}/a": b"A" * 9 + b"BCDE"}).replace(
        struct.pack("<L", zipfile.crc32(b"A" * 9 + b"BCDE")), b"\1\2\3\4"
    ),
    "negative size": lambda: gzip.compress(header(b"p/e/runs/r/a", b"\xff" * 12) + bytes(10240)),
    "headers without end": many_headers,
}

TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "gzip bomb": lambda: tar({f"{RUN}/events.jsonl": bytes(300 * 2**20)}),
    "zip bomb": lambda: zipped({f"{RUN}/events.jsonl": bytes(300 * 2**20)}),
    "many small bombs": lambda: zipped({f"{RUN}/media/{n}": bytes(2**22) for n in range(70)}),
    "header of a gigabyte": lambda: gzip.compress(
        header(b"pax", b"10000000000", b"x") + bytes(2**20)
    ),
}
