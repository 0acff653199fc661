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


def old_sparse(claimed: int) -> bytes:
    """A sparse file as GNU tar wrote it of old: no bytes that claim to be *claimed*."""
    block = bytearray(header(f"{RUN}/old.bin".encode(), b"00000000000", b"S"))
    block[257:265] = b"ustar  \0"
    block[386:410] = b"00000000000\0" * 2  # one extent, of nothing
    block[483:495] = b"\x80" + claimed.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + gzip.decompress(tar()))


def pax_sparse(content: bytes, **about: str) -> bytes:
    info = tarfile.TarInfo(f"{RUN}/GNUSparseFile.0/new.bin")
    info.size = len(content)
    info.pax_headers = {f"GNU.sparse.{key}": value for key, value in about.items()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(content))
        first = out.getvalue()[: archive.offset]  # without the end
    return gzip.compress(first + gzip.decompress(tar()))


def huge(size: int) -> bytes:
    """A file that claims to be *size*, and ends at once."""
    content = gzip.decompress(tar())[:1536]
    return gzip.compress(content + header(f"{RUN}/a".encode(), b"\x80" + size.to_bytes(11, "big")))


def lying_zip(*, claimed: int, real: bytes) -> bytes:
    """A zip whose list of members, and whose header, say another size than the content has."""
    packed = zipped({f"{RUN}/meta.json": b"{}", f"{RUN}/lie": real})
    return packed.replace(struct.pack("<L", len(real)), struct.pack("<L", claimed))


def overlapping_zip(count: int) -> bytes:
    """Many members that are all the same packed bytes, in a file no larger than one of them."""
    packed = zipped({f"{RUN}/media/00000": bytes(2**20)})
    at = packed.index(b"PK\1\2")
    end = packed.rindex(b"PK\5\6")
    entry = packed[at:end]
    entries = b"".join(entry.replace(b"media/00000", b"media/%05d" % n) for n in range(count))
    tail = bytearray(packed[end:])
    tail[8:12] = struct.pack("<HH", count, count)
    tail[12:16] = struct.pack("<L", len(entries))
    return packed[:at] + entries + bytes(tail)


def named_otherwise() -> bytes:
    """A zip whose member has another name in its own header than in the list."""
    packed = zipped({**GOOD, f"{RUN}/aaaaaaaa": b"evil"})
    first = packed.index(b"aaaaaaaa")
    return packed[:first] + b"../../xx" + packed[first + 8 :]


NAMES = {
    "traversal": f"{RUN}/../../../../../outside",
    "traversal by the first part": "../storage-evil/x.txt",
    "sibling with the same prefix": f"../root-evil/{RUN}/meta.json",
    "absolute": "/etc/cron.d/evil",
    "windows drive": "C:\\Windows\\evil",
    "windows drive, with slashes": "C:/Windows/evil",
    "windows share": "//server/share/p/e/runs/20260101_000000_abcdef/evil",
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

EXABYTE = str(2**60)

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
    "sparse file of old": lambda: old_sparse(2**60),
    "sparse file, PAX 0.1": lambda: pax_sparse(b"", size=EXABYTE, map="0,0"),
    "sparse file, PAX 1.0": lambda: pax_sparse(
        b"1\n0\n0\n".ljust(512, b"\0"),
        major="1",
        minor="0",
        name=f"{RUN}/new.bin",
        realsize=EXABYTE,
    ),
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
    "a file that claims an exabyte and ends": lambda: huge(2**60),
    "zip that claims less than it holds": lambda: lying_zip(claimed=3, real=b"evil" * 999),
    "zip of members that overlap": lambda: overlapping_zip(300),
    "zip with another name in the header": named_otherwise,
}

TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "gzip bomb": lambda: tar({f"{RUN}/events.jsonl": bytes(300 * 2**20)}),
    "zip bomb": lambda: zipped({f"{RUN}/events.jsonl": bytes(300 * 2**20)}),
    "many small bombs": lambda: zipped({f"{RUN}/media/{n}": bytes(2**22) for n in range(70)}),
    "header of a gigabyte": lambda: gzip.compress(
        header(b"pax", b"10000000000", b"x") + bytes(2**20)
    ),
}

HARMLESS: dict[str, tuple[Callable[[dict[str, bytes]], bytes], dict[str, bytes]]] = {
    "an archive in an archive": (tar, {"media/bomb.zip": zipped({"x": bytes(2**20)})}),
    "names that differ in case": (tar, {"media/a.png": b"a", "media/A.png": b"A"}),
    "folders that differ in case": (tar, {"media/x": b"1", "Media/x": b"2"}),
    "names in two forms of Unicode": (tar, {"media/é": b"composed", "media/e\u0301": b"two"}),
    "the same in a zip": (zipped, {"media/é": b"composed", "media/e\u0301": b"two", "É": b""}),
    "names of Windows' devices": (tar, {"CON": b"1", "media/nul.txt": b"2", "COM1": b"3"}),
    "names that Windows cuts": (tar, {"media/a": b"1", "media/a.": b"2", "media/a ": b"3"}),
    "a stream of NTFS": (tar, {"meta.json:evil": b"1"}),
    "a name that is an option": (tar, {"-rf": b"1", "--help": b"2", "$(reboot)": b"3"}),
    "a name that turns around": (tar, {"media/\u202egnp.exe": b"1"}),
    "a zip that claims more than it holds": (
        lambda members: lying_zip(claimed=2**31 - 1, real=members[f"{RUN}/lie"]),
        {"lie": b"evil" * 999},
    ),
}
"""How it is packed, and files of a run that come in as they are."""
