"""Export and import of archives: the way there and back, and what must not come in."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runicorn as rn
from runicorn import archive, layout
from runicorn.archive import _importing
from runicorn.artifacts import ArtifactStorage
from tests import v04

from . import hostile


def tree(root: Path) -> dict[str, Any]:
    """Every file and folder below *root*, with content and date; what the server keeps aside."""
    found = {}
    for folder, _, files in os.walk(root):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            name = str(path.relative_to(root))
            if not name.startswith(layout.SERVER_DIR):
                is_file = path.is_file() and not path.is_symlink()
                found[name] = path.read_bytes() if is_file else None
    return found


def exported(root: Path, **options: Any) -> bytes:
    names = [name for name, _ in layout.iter_run_dirs(root)]
    return b"".join(archive.export_runs(root, names, **options))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return v04.unpack_storage(tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.mark.slow
def test_a_whole_root_comes_back_byte_for_byte_with_its_dates(recorded, target):
    packed = exported(recorded, artifacts=True)
    report = archive.import_archive(io.BytesIO(packed), target)
    assert len(report.new_runs) == 25
    assert len(report.new) == 32
    assert not report.refused
    assert exported(target, artifacts=True) == packed
    files = {name: content for name, content in tree(target).items() if content is not None}
    noted = {
        name.split("/")[-2]: json.loads(files.pop(name))
        for name in list(files)
        if name.endswith(f"/{layout.ANNOTATIONS}")
    }
    assert files.items() <= tree(recorded).items()
    records = layout.read_json(recorded / layout.EXPERIMENTS_METADATA)
    assert noted.keys() == records.keys() & {name.split("/")[-2] for name in files}
    for run_id, document in noted.items():
        for theirs, ours in (("tags", "tags"), ("description", "notes"), ("pinned", "pinned")):
            assert document[ours] == (records[run_id][theirs] or type(document[ours])())


def test_the_members_are_those_of_v04(recorded):
    with tarfile.open(fileobj=io.BytesIO(exported(recorded))) as packed:
        members = packed.getmembers()
    assert all(m.isreg() or m.isdir() for m in members)
    assert not any(m.name.startswith((".", "/", "artifacts")) for m in members)
    assert any(m.name.endswith("/.deleted") for m in members)
    assert {m.uid for m in members} == {0}


names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)


def _is_name(text: str) -> bool:
    try:
        return layout.is_project_name(layout.check_name("project", text))
    except ValueError:
        return False


files = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), min_size=1
).filter(lambda d: not any(other.startswith(f"{path}/") for path in d for other in d))
roots = st.dictionaries(
    st.tuples(names.filter(_is_name), names.filter(_is_name), names.filter(_is_name)),
    files,
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(roots, st.integers(0, 2**33 * 10**9))
def test_exporting_what_was_imported_gives_the_same_archive(runs, mtime_ns):
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        second.mkdir()
        for (project, name, run_id), contents in runs.items():
            run = first / project / name / "runs" / run_id
            contents = {**contents, "meta.json": b"{}"}
            for inner, content in contents.items():
                (run / inner).parent.mkdir(parents=True, exist_ok=True)
                (run / inner).write_bytes(content)
                os.utime(run / inner, ns=(mtime_ns, mtime_ns))
        packed = exported(first)
        report = archive.import_archive(io.BytesIO(packed), second)
        assert len(report.new) == len(runs)
        assert not report.refused
        assert exported(second) == packed


# -- what is there already -----------------------------------------------------------------------


def test_what_is_there_stays_unless_asked_to_be_replaced(target):
    run = target / hostile.RUN
    run.mkdir(parents=True)
    (run / "meta.json").write_text("mine")
    (run / "own.txt").write_text("mine")
    before = tree(target)
    report = archive.import_archive(io.BytesIO(hostile.tar()), target)
    assert (report.new, report.kept, report.files) == ([], [hostile.RUN], 0)
    assert tree(target) == before

    report = archive.import_archive(io.BytesIO(hostile.tar()), target, replace=True)
    assert report.replaced == [hostile.RUN]
    assert {p.name for p in run.iterdir()} == {"meta.json", "events.jsonl"}
    report = archive.import_archive(io.BytesIO(hostile.tar()), target, replace=True)
    assert (report.unchanged, report.replaced) == ([hostile.RUN], [])


@pytest.mark.slow
def test_a_dry_run_writes_nothing_and_says_the_same(recorded, target):
    packed = io.BytesIO(exported(recorded, artifacts=True))
    promised = archive.import_archive(packed, target, dry_run=True)
    assert tree(target) == {".": None}
    assert list(target.iterdir()) == []
    assert archive.import_archive(packed, target) == promised


def test_an_interrupted_import_goes_on_where_it_stopped(recorded, target, monkeypatch):
    packed = io.BytesIO(exported(recorded))
    put_in_place = _importing._Import._put_in_place

    def fail_at_the_fifth(job: Any, *args: Any) -> None:
        if len(list(layout.iter_run_dirs(target))) == 5:
            raise OSError("the disk is full")
        put_in_place(job, *args)

    monkeypatch.setattr(_importing._Import, "_put_in_place", fail_at_the_fifth)
    with pytest.raises(OSError, match="full"):
        archive.import_archive(packed, target)
    whole = [target / name for name, _ in layout.iter_run_dirs(target)]
    assert len(whole) == 5
    for run in whole:
        assert tree(run) == tree(recorded / run.relative_to(target))

    monkeypatch.undo()
    report = archive.import_archive(packed, target)
    assert (len(report.unchanged), len(report.new)) == (5, 20)
    assert exported(target) == packed.getvalue()
    assert list((target / ".runicorn/imports").iterdir()) == []


def test_nothing_is_written_through_a_link(target, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (target / "p").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(archive.ArchiveError, match=f"{hostile.RUN}: a link is in the way"):
        archive.import_archive(io.BytesIO(hostile.tar()), target)
    assert list((tmp_path / "elsewhere").iterdir()) == []


MAC = {"__MACOSX/my/p/e/runs/20260101_000000_abcdef/._meta.json": b"", "my/.DS_Store": b""}


@pytest.mark.parametrize("pack", [hostile.tar, hostile.zipped])
@pytest.mark.parametrize("above", ["my-runs/", "a/b c/", "./my/", "图像/.hidden/"])
def test_folders_around_everything_are_passed_over(recorded, target, pack, above):
    """As "compress folder" makes them, of a storage folder that was exported or is one."""
    with tarfile.open(fileobj=io.BytesIO(exported(recorded, artifacts=True))) as members:
        files = {m.name: members.extractfile(m).read() for m in members if m.isfile()}
    wrapped = {f"{above}{name}": content for name, content in files.items()}
    notes = {f"{above}README.txt": b"mine", "beside/p/e/runs/x/meta.json": b"{}"}
    packed = pack({**MAC, **wrapped, **notes})
    report = archive.import_archive(io.BytesIO(packed), target)
    assert (len(report.new_runs), len(report.new)) == (25, 32)
    there = {name: content for name, content in tree(target).items() if content is not None}
    assert {n: c for n, c in files.items() if not n.endswith(".experiment.json")}.items() <= (
        there.items()
    )
    assert {name for name, _ in report.refused} >= {f"{above}README.txt"}
    assert not (target / "e").exists() and not (target / "beside").exists()


@pytest.mark.parametrize(
    "name", ["../p/e/runs/R/meta.json", "x/../p/e/runs/R/meta.json", "/p/e/runs/R/a"]
)
def test_a_wrapper_leads_nowhere_else(guarded, name):
    with pytest.raises(archive.ArchiveError, match="nothing in it can be taken"):
        archive.import_archive(io.BytesIO(hostile.tar({name: b"{}"})), guarded)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "files", [{}, {"README.txt": b""}, {"my/photos/a.png": b""}, {"R/meta.json": b"{}"}, MAC]
)
def test_an_archive_of_no_run_is_refused_with_a_sentence(guarded, files, dry_run):
    for packed in (hostile.tar(files), hostile.zipped(files)):
        with pytest.raises(archive.ArchiveError, match="holds no run and no artifact"):
            archive.import_archive(io.BytesIO(packed), guarded, dry_run=dry_run)


def test_an_index_of_versions_learns_only_what_came_in(recorded, target):
    kept = target / "artifacts/model/digits-classifier"
    kept.mkdir(parents=True)
    (kept / "versions.json").write_text(
        '{"artifact_name": "digits-classifier", "artifact_type": "model", "aliases": {"mine": 9},'
        ' "versions": [{"version": 9}]}'
    )
    archive.import_archive(io.BytesIO(exported(recorded, artifacts=True)), target)
    index = layout.read_json(kept / "versions.json")
    assert [entry["version"] for entry in index["versions"]] == [1, 2, 3, 9]
    assert index["aliases"]["mine"] == 9


def test_contents_that_come_in_are_stored_once(recorded, target):
    archive.import_archive(io.BytesIO(exported(recorded, artifacts=True)), target)
    storage = ArtifactStorage(target)
    pooled = {digest for digest, _ in storage.blobs.contents()}
    count = 0
    for location in storage.locations():
        for number in location.numbers():
            for file in storage.manifest(location, number).files:
                stored = location.version(number) / "files" / file.path
                assert stored.samefile(storage.blobs.path(file.digest[7:]))
                pooled.discard(file.digest[7:])
                count += 1
    assert count and not pooled
    assert storage.collect_garbage().count == 0


# -- hostile archives ----------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path):
    """A root whose neighbours are looked at afterwards: nothing but the good run has appeared."""
    root = tmp_path / "around" / "root"
    root.mkdir(parents=True)
    yield root
    assert [p.name for p in root.parent.iterdir()] == ["root"]
    for path in root.rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.is_file()
        assert str(path.relative_to(root)).startswith(("p", ".runicorn"))
    assert not list((root / ".runicorn").rglob("*.sqlite3"))


@pytest.mark.parametrize("what", hostile.LEFT_OUT)
def test_a_hostile_member_is_left_out_and_named(guarded, what):
    report = archive.import_archive(io.BytesIO(hostile.LEFT_OUT[what]()), guarded)
    assert report.refused_count >= 1
    assert all(why and member for member, why in report.refused)
    assert report.new == [hostile.RUN]
    assert (guarded / hostile.RUN / "meta.json").read_bytes() == b"{}"


@pytest.mark.parametrize("what", hostile.HARMLESS)
def test_what_looks_dangerous_comes_in_as_plain_files(guarded, what):
    pack, files = hostile.HARMLESS[what]
    members = {"meta.json": b"{}", **files}
    packed = pack({f"{hostile.RUN}/{name}": content for name, content in members.items()})
    report = archive.import_archive(io.BytesIO(packed), guarded)
    assert (report.refused, report.new) == ([], [hostile.RUN])
    for name, content in files.items():
        path = guarded / hostile.RUN / name
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o7111 == 0


def test_modes_and_owners_of_an_archive_count_for_nothing(guarded):
    evil = hostile.special(f"{hostile.RUN}/evil.sh", tarfile.REGTYPE)
    evil.mode, evil.uid, evil.gid = 0o6777, 12345, 12345
    archive.import_archive(io.BytesIO(hostile.tar(None, evil)), guarded)
    found = (guarded / hostile.RUN / "evil.sh").stat()
    assert (found.st_mode & 0o7111, found.st_uid, found.st_gid) == (0, os.getuid(), os.getgid())


def test_on_a_disk_that_cannot_tell_names_apart_the_first_one_counts(guarded, monkeypatch):
    """Such a disk is not at hand here: the answer of the probe is replaced, and nothing else."""
    assert not _importing.is_case_blind(guarded)
    monkeypatch.setattr(_importing, "is_case_blind", lambda folder: True)
    names = ["media/é.png", "media/e\u0301.png", "media/É.PNG", "Media/other.png", "media/ok.png"]
    members = {f"{hostile.RUN}/{name}": name.encode() for name in names}
    shouted = hostile.RUN.replace("p/e", "P/E")
    members[f"{hostile.RUN}/meta.json"] = b"{}"
    packed = hostile.tar({**members, f"{shouted}/meta.json": b"evil"})
    report = archive.import_archive(io.BytesIO(packed), guarded)
    assert (report.new, report.refused_count) == ([hostile.RUN], 4)
    assert {why for _, why in report.refused} == {
        "this disk cannot tell its name from another's in the archive"
    }
    media = guarded / hostile.RUN / "media"
    assert {path.name for path in media.iterdir()} == {"é.png", "ok.png"}
    assert (media / "é.png").read_text() == "media/é.png"


@pytest.mark.parametrize("what", hostile.REFUSED)
def test_a_damaged_archive_is_refused_as_a_whole(guarded, what):
    with pytest.raises(archive.ArchiveError) as raised:
        archive.import_archive(io.BytesIO(hostile.REFUSED[what]()), guarded)
    assert str(raised.value)
    assert list(guarded.iterdir()) == []


@pytest.mark.parametrize("what", hostile.TOO_LARGE)
def test_a_bomb_is_refused_before_anything_is_written(guarded, what):
    with pytest.raises(archive.ArchiveTooLarge):
        archive.import_archive(io.BytesIO(hostile.TOO_LARGE[what]()), guarded)
    assert list(guarded.iterdir()) == []


def test_more_members_than_allowed_are_refused(guarded):
    packed = hostile.zipped({f"{hostile.RUN}/media/{n}": b"" for n in range(101)})
    for data in (packed, hostile.tar({f"{hostile.RUN}/media/{n}": b"" for n in range(101)})):
        with pytest.raises(archive.ArchiveTooLarge, match="100 members"):
            archive.import_archive(io.BytesIO(data), guarded, limits=archive.Limits(members=100))


def test_tags_and_notes_travel_and_never_overwrite(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    here.mkdir()
    with rn.Run("p", there, name="e", capture_env=False) as run:
        run.log(loss=1)
    manager = rn.ExperimentManager(there)
    manager.add_experiment(run.id, "p", "e", ["paper", "论文"], "the one")
    manager.pin_experiment(run.id)
    directory = f"p/e/runs/{run.id}"
    packed = b"".join(archive.export_runs(there, [directory]))
    assert archive.import_archive(io.BytesIO(packed), here, dry_run=True).new == [directory]
    assert list(here.glob("**/*")) == []
    archive.import_archive(io.BytesIO(packed), here)
    [found] = rn.ExperimentManager(here).search_experiments()
    assert (found.tags, found.description, found.pinned) == (["paper", "论文"], "the one", True)
    assert b"".join(archive.export_runs(here, [directory])) == packed

    ours = rn.ExperimentManager(here)
    ours.tag_experiment(run.id, ["mine"], append=False)
    archive.import_archive(io.BytesIO(packed), here)
    assert ours.search_experiments()[0].tags == ["mine"]
    (here / directory / "status.json").write_text("{}")
    archive.import_archive(io.BytesIO(packed), here, replace=True)
    assert ours.search_experiments()[0].tags == ["paper", "论文"]
