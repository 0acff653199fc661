"""What a reader of a manifest from another machine refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runicorn.manifest import ManifestGenerator, read_manifest
from runicorn.manifest.model import check_path

RUN = "p/e/runs/20260101_000000_000001"


def manifest_of(*paths, **changes):
    """As Runicorn 0.4.2 writes one."""
    return {
        "format_version": "1.0",
        "manifest_type": "full",
        "revision": 7,
        "snapshot_id": "8b1c",
        "generated_at": 1.5,
        "server_hostname": "gpu",
        "remote_root": "/data",
        "experiments": [
            {
                "run_id": "20260101_000000_000001",
                "project": "p",
                "name": "e",
                "status": "completed",
                "created_at": 1.5,
                "updated_at": 2,
                "files": [{"path": path, "size": 1, "mtime": 1.5} for path in paths],
                "tags": None,
            }
        ],
        "statistics": {"total_experiments": 1, "total_files": len(paths), "total_bytes": 1},
        "generator_version": "1.0",
        **changes,
    }


def read(data):
    return read_manifest(json.dumps(data).encode())


def test_one_written_by_runicorn_0_4_is_read():
    manifest = read(manifest_of(f"{RUN}/meta.json"))
    assert (manifest.revision, manifest.total_files) == (7, 1)
    assert manifest.experiments[0].tags == []
    assert manifest.to_dict() == manifest_of(f"{RUN}/meta.json")


@pytest.mark.parametrize(
    "path, why",
    [
        ("/etc/passwd", "Absolute path not allowed: /etc/passwd"),
        ("C:/a/runs/b/c", "Absolute path not allowed: C:/a/runs/b/c"),
        ("\\\\host/a/runs/b/c", "Absolute path"),
        (f"{RUN}/../../x", f"Parent directory reference not allowed: {RUN}/../../x"),
        ("../e/runs/x/meta.json", "Parent directory"),
        ("p/e/runs/x", "Invalid path structure: p/e/runs/x"),
        (f"{RUN}//meta.json", "Invalid path structure"),
        (f"{RUN}/./meta.json", "Invalid path structure"),
        (f"{RUN}/a\nb", "Invalid path structure"),
        (f"{RUN}/a\\..\\..\\b", "Invalid path structure"),
        (f"{RUN}/a\0b", "Invalid path structure"),
        ("p/e/x/y/meta.json", "Invalid path structure (expected 'runs'): p/e/x/y/meta.json"),
        ("artifacts/model/runs/v1/files", "expected 'runs'"),
        (".ssh/e/runs/x/authorized_keys", "expected 'runs'"),
        ("p/e/runs/another/meta.json", "is of another run"),
    ],
)
def test_a_path_that_leaves_its_run_is_refused(path, why):
    with pytest.raises(ValueError) as refused:
        read(manifest_of(f"{RUN}/meta.json", path))
    assert why in str(refused.value)


@given(st.lists(st.sampled_from(["..", ".", "", "p", "runs", "a\\b", "/", "\n", "~"]), max_size=8))
def test_a_path_that_is_accepted_stays_below_the_folder(parts):
    path = "/".join(parts)
    try:
        checked = check_path(path)
    except ValueError:
        return
    assert (Path("/cache") / path).resolve() == Path("/cache").joinpath(*checked)
    assert PurePosixPath("/cache", path).is_relative_to("/cache")


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": None},
        {"format_version": "2.0"},
        {"manifest_type": "other"},
        {"revision": 0},
        {"revision": True},
        {"revision": "1"},
        {"snapshot_id": ""},
        {"experiments": {"a": 1}},
        {"experiments": [1]},
        {"experiments": [{**manifest_of()["experiments"][0], "files": [{"path": "a"}]}]},
        {
            "experiments": [
                {
                    **manifest_of()["experiments"][0],
                    "files": [{"path": f"{RUN}/meta.json", "size": -1, "mtime": 0}],
                }
            ]
        },
        {"statistics": [1]},
    ],
)
def test_what_is_no_manifest_is_refused(changes):
    with pytest.raises(ValueError):
        read(manifest_of(**changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\x1f\x8b", b"[" * 100_000])
def test_damaged_content_is_refused(content):
    with pytest.raises(ValueError):
        read_manifest(content)


def test_gzip_is_read_whole_and_bounded(root):
    root.run()
    manifest, path = ManifestGenerator(root.path).generate()
    packed = path.with_name("full_manifest.json.gz").read_bytes()
    assert read_manifest(packed) == manifest
    with pytest.raises(ValueError, match="the end is missing"):
        read_manifest(packed[:-10])
    with pytest.raises(ValueError, match="exceeds limit"):
        read_manifest(gzip.compress(b" " * 10**7), largest=10**6)
