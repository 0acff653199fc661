"""No link below a run's folder leads out with an export, at whatever place it stands."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from openpyxl import load_workbook
from pyarrow import parquet

from runicorn import archive, export, files, layout
from runicorn.manifest import ManifestGenerator
from tests.runs.conftest import Root, RunFolder

SECRET = "abracadabra"
SECRET_LINES = b'{"ts": 1, "type": "metrics", "data": {"%s": 0.5}}\n' % SECRET.encode() * 2
DOCUMENTS = ("meta.json", "status.json", "summary.json", "config.json", "annotations.json")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of somebody else's, with the files that a run has."""
    folder = tmp_path / "elsewhere"
    (folder / "media").mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(SECRET_LINES)
    (folder / "media/a.png").write_text(SECRET)
    for name in DOCUMENTS:
        (folder / name).write_text(
            '{"id": "X", "project": "X", "name": "X", "status": "X", "platform": "X", '
            '"tags": ["X"], "notes": "X", "updated_at": 5}'.replace("X", SECRET)
        )
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = Root(tmp_path / "root").run()
    run.log({"loss": 1.0, "global_step": 1}, {"loss": 0.5, "global_step": 2})
    run.write("summary.json", {"best": 0.5})
    run.write("config.json", {"lr": 0.1})
    return run


def put_link(run: RunFolder, name: str, secret: Path) -> None:
    path = run.path / name
    path.unlink(missing_ok=True)
    path.symlink_to(secret / name)


FORMATS = [*export.FORMATS, "zip"]
READ_BY_ALL = {"events.jsonl": FORMATS, "meta.json": [f for f in FORMATS if f != "tensorboard"]}
READ_BY = {name: ["excel", "markdown", "html", "pdf"] for name in DOCUMENTS} | READ_BY_ALL
READ_BY["annotations.json"] = ["excel", "html", "pdf"]  # 0.4's Markdown knows no tags


@pytest.mark.parametrize(
    ("name", "format"), [(name, format) for name, formats in READ_BY.items() for format in formats]
)
def test_a_linked_file_is_in_no_export(tmp_path, run, secret, name, format, monkeypatch):
    monkeypatch.setattr("reportlab.rl_config.pageCompression", 0)
    run.write(name, (secret / name).read_bytes())
    assert SECRET in exported(run.path, format, tmp_path / "made.xlsx")
    put_link(run, name, secret)
    assert SECRET not in exported(run.path, format, tmp_path / "made.xlsx")


def exported(run_dir: Path, format: str, path: Path) -> str:
    """What a reader of the export sees."""
    if format == "zip":
        with zipfile.ZipFile(io.BytesIO(b"".join(export.zip_runs([run_dir], "csv")))) as archive:
            (name,) = archive.namelist()
            return name + archive.read(name).decode()
    export.write(run_dir, format, path)
    if format == "excel":
        book = load_workbook(path)
        return repr([list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets])
    if format == "parquet":
        table = parquet.read_table(path)
        return f"{table.schema} {table.schema.metadata} {table.to_pydict()}"
    return path.read_bytes().decode(errors="replace")


def test_a_run_folder_that_is_a_link_is_an_empty_run(tmp_path, run, secret):
    fake = run.path.with_name("20260101_000000_ffffff")
    fake.symlink_to(secret)
    for format in export.FORMATS:
        assert SECRET not in exported(fake, format, tmp_path / "made.xlsx")
    assert list(export.Record(fake).events()) == []
    own = tmp_path / "latest"
    own.symlink_to(run.path)  # the caller of the exporter says so, and nobody else can
    assert "loss" in (export.MetricsExporter(own).to_csv() or "")


@pytest.mark.parametrize("name", ["events.jsonl", *DOCUMENTS, "media", "media/a.png", "artifacts"])
def test_an_archive_and_a_manifest_have_no_link(tmp_path, run, secret, name):
    root = tmp_path / "root"
    (run.path / "media").mkdir()
    (run.path / "media/b.png").write_text("own")
    if name == "media":
        (run.path / "media/b.png").unlink()
        (run.path / "media").rmdir()
    if name == "artifacts":
        (root / name).symlink_to(secret)
    else:
        put_link(run, name, secret)
    directory = str(run.path.relative_to(root))
    packed = b"".join(archive.export_runs(root, [directory], artifacts=True))
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        contents = {m.name: members.extractfile(m).read() for m in members if m.isfile()}
    assert f"{directory}/{name}" not in contents
    assert not any(SECRET.encode() in content for content in contents.values())
    assert contents  # the rest is there
    manifest, path = ManifestGenerator(root).generate()
    assert SECRET not in path.read_text()
    assert f"{directory}/{name}" not in {f.path for e in manifest.experiments for f in e.files}


def test_documents_that_a_live_run_replaces_break_no_archive(tmp_path, run, monkeypatch):
    """The temporary file of a document, seen in the listing, is gone when it is opened."""
    (run.path / ".status.json.x.tmp").write_text("{}")
    (run.path / "media").mkdir()

    def scan(base: Path, relative: str = "") -> list:
        found = real(base, relative)
        if relative == run.id:
            (run.path / ".status.json.x.tmp").replace(run.path / "status.json")
            (run.path / "media").rmdir()
        return found

    real = files.scan_inside
    monkeypatch.setattr("runicorn.archive._writing.scan_inside", scan)
    directory = str(run.path.relative_to(tmp_path / "root"))
    packed = b"".join(archive.export_runs(tmp_path / "root", [directory]))
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        names = members.getnames()
    assert f"{directory}/status.json" in names and f"{directory}/meta.json" in names
    assert not any(name.endswith(("tmp", "media")) for name in names)


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(tmp_path, run, secret, monkeypatch):
    """The listing saw a folder; when its files are opened a link is in its place."""
    root = tmp_path / "root"
    (run.path / "media").mkdir()
    (run.path / "media/a.png").write_text("own")
    listed = files.scan_inside(run.path, "media")

    def scan(base: Path, relative: str = "") -> list:
        found = real(base, relative)
        if relative.endswith("media"):
            (run.path / "media").rename(tmp_path / "aside")
            (run.path / "media").symlink_to(secret / "media")
            assert [name for name, _ in found] == [name for name, _ in listed]
        return found

    real = files.scan_inside
    monkeypatch.setattr("runicorn.archive._writing.scan_inside", scan)
    packed = b"".join(archive.export_runs(root, [str(run.path.relative_to(root))]))
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        contents = {m.name: members.extractfile(m).read() for m in members if m.isfile()}
    assert (run.path / "media").is_symlink()
    assert not any(SECRET.encode() in content for content in contents.values())
    assert not any(name.endswith("a.png") for name in contents)


def test_projects_and_roots_may_be_links(tmp_path, run):
    """As in 0.4: a project may lie on a larger disk."""
    root = tmp_path / "root"
    (root / "p").rename(tmp_path / "disk")
    (root / "p").symlink_to(tmp_path / "disk")
    (tmp_path / "other").symlink_to(root)
    directory = str(run.path.relative_to(root))
    packed = b"".join(archive.export_runs(tmp_path / "other", [directory]))
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        assert f"{directory}/events.jsonl" in members.getnames()
    assert "loss" in "".join(export.csv_text(export.Record(run.path)))
    manifest, _ = ManifestGenerator(tmp_path / "other").generate()
    assert f"{directory}/events.jsonl" in {f.path for e in manifest.experiments for f in e.files}


# -- the helper itself ---------------------------------------------------------------------------


@pytest.fixture(params=["by descriptor", "by path"])
def folder(request, tmp_path: Path, monkeypatch) -> Path:
    """``a/b/c.txt`` in a folder; read as on Linux, and as where folders cannot be opened."""
    monkeypatch.setattr(files, "_CAN_WALK", request.param == "by descriptor")
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/c.txt").write_text("own")
    (tmp_path / "root/top.txt").write_text("top")
    (tmp_path / "out/b").mkdir(parents=True)
    (tmp_path / "out/c.txt").write_text(SECRET)
    (tmp_path / "out/b/c.txt").write_text(SECRET)
    return tmp_path / "root"


def test_files_are_read_and_folders_listed(folder):
    assert files.read_inside(folder, "a/b/c.txt") == b"own"
    assert files.read_inside(folder, "top.txt") == b"top"
    assert [name for name, _ in files.scan_inside(folder, "a/b")] == ["c.txt"]
    assert sorted(name for name, _ in files.scan_inside(folder)) == ["a", "top.txt"]
    assert files.stat_inside(folder, "a/b/c.txt").st_size == 3
    folder.with_name("link").symlink_to(folder)
    assert files.read_inside(folder.with_name("link"), "a/b/c.txt") == b"own"


@pytest.mark.parametrize("place", ["a", "a/b", "a/b/c.txt", "top.txt"])
@pytest.mark.parametrize("target", ["outside", "inside", "nowhere", "circle"])
def test_a_link_is_refused_at_every_place(folder, place, target):
    path = folder / place
    path.rename(folder.with_name("aside"))
    targets = {
        "outside": folder.with_name("out") / ("c.txt" if path.suffix else ""),
        "inside": folder.with_name("aside"),
        "nowhere": "nowhere",
        "circle": path,
    }
    path.symlink_to(targets[target])
    file = place if path.suffix else "a/b/c.txt"
    with pytest.raises(OSError) as raised:
        files.open_inside(folder, file)
    assert files.is_missing(raised.value)
    assert files.read_json_inside(folder, file) == {}
    if not path.suffix:
        with pytest.raises(OSError):
            files.scan_inside(folder, "a/b")


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../out/c.txt", "a/../../out/c.txt", "/etc/hostname", "a//b", "a/\0", "a/"],
)
def test_a_path_that_is_none_inside_is_refused(folder, path):
    with pytest.raises(OSError):
        files.open_inside(folder, path)


def test_only_regular_files_are_opened(folder):
    os.mkfifo(folder / "pipe")
    for name in ("pipe", "a", "missing", "top.txt/x"):
        with pytest.raises(OSError) as raised:
            files.open_inside(folder, name)
        assert files.is_missing(raised.value)


def test_no_descriptor_is_left_open(folder):
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a/b/c.txt", "a/b/missing", "a/x/y", "top.txt", "a", "a/b"):
        files.read_json_inside(folder, name)
    files.scan_inside(folder, "a/b")
    files.stat_inside(folder, "a/b/c.txt")
    assert len(os.listdir("/proc/self/fd")) == before


def test_layout_and_this_agree_on_damaged_documents(folder):
    for content in (b"", b"{", b"[1]", b'{"a": NaN}', b"\xff{}"):
        (folder / "d.json").write_bytes(content)
        assert str(files.read_json_inside(folder, "d.json")) == str(
            layout.read_json(folder / "d.json")
        )


def test_the_server_exports_no_linked_file(api, root, secret):
    run = root.run()
    run.log({"loss": 1.0, "global_step": 1})
    root.scan()
    put_link(run, "events.jsonl", secret)
    put_link(run, "summary.json", secret)
    put_link(run, "annotations.json", secret)
    assert api.get(f"/export/{run.id}/csv", 404) == {"detail": "No metrics to export"}
    for address in (f"/export/{run.id}/report?format=html", f"/export?run_ids={run.id}"):
        response = api.client.get(f"/api{address}")
        assert response.status_code == 200
        body = response.getvalue()
        if body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        assert b"meta.json" in body or b"Run ID" in body
        assert SECRET.encode() not in body
