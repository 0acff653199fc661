"""Properties of names, paths, digests and manifests: nothing leads outside, nothing raises."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.streams import parse_range
from runicorn import layout
from runicorn.artifacts import ArtifactIndex, ArtifactManifest, ArtifactMetadata, names, validation
from runicorn.artifacts.staging import find_clash

pieces = st.sampled_from(["..", ".", "/", "\\", "a", "C:", "\x00", " ", "é", "\ud800", "v1", "~"])
awkward = st.one_of(st.text(), st.lists(pieces).map("".join))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | awkward,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def accepted(check, value) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True


@given(awkward)
def test_a_name_is_one_folder_or_refused(text):
    for check in (names.check_name, names.check_type):
        if accepted(check, text):
            assert os.path.normpath(os.path.join("/srv", text)) == f"/srv/{text}"


@given(awkward)
def test_a_path_stays_inside_or_is_refused(text):
    if accepted(names.check_path, text):
        joined = os.path.normpath(os.path.join("/srv/files", text))
        assert joined.startswith("/srv/files/")
        assert joined == f"/srv/files/{text}"
    found = names.inside(Path("/nowhere/files"), text)
    assert found is None or str(found).startswith("/nowhere/files/")


@given(json_values)
def test_a_digest_is_64_digits_or_refused(value):
    if accepted(names.parse_digest, value):
        assert len(names.parse_digest(value)) == 64


@given(st.text(alphabet="0123456789abcdef", min_size=64, max_size=64))
def test_a_digest_has_two_forms(digits):
    assert names.parse_digest(f"sha256:{digits}") == names.parse_digest(digits) == digits


@given(awkward | st.from_regex("[0-9]{1,5}", fullmatch=True))
def test_a_version_number_is_no_alias(text):
    if names.parse_version(text) is not None or text.isdecimal():
        assert not accepted(names.check_alias, text)


@pytest.mark.parametrize("alias", ["a=b", "a,b"])
def test_an_alias_can_be_written_in_a_list(alias):
    assert not accepted(names.check_alias, alias)


json_objects = st.dictionaries(st.text(), json_values)


@pytest.mark.slow
@given(json_objects)
def test_metadata_that_is_taken_comes_back(metadata):
    if accepted(validation.check_metadata, metadata):
        written = layout.dump_json(validation.check_metadata(metadata))
        assert repr(layout.parse_json(written)) == repr(metadata)
    else:
        with pytest.raises(UnicodeEncodeError):
            json.dumps(metadata, ensure_ascii=False).encode()


def test_metadata_is_nested_a_hundred_levels_at_most():
    metadata: dict = {}
    for _ in range(validation.DEEPEST - 1):
        metadata = {"in": metadata}
    assert validation.check_metadata(metadata) == metadata
    with pytest.raises(ValueError, match="100 levels"):
        validation.check_metadata({"in": metadata})
    branching: list = []
    branching += [branching, branching]  # must not be followed along every way
    with pytest.raises(ValueError, match="100 levels"):
        validation.check_metadata({"in": branching})


documents = st.dictionaries(
    st.sampled_from(
        [
            *("files", "references", "versions", "aliases", "total_size", "created_at", "tags"),
            *("metadata", "size_bytes", "manifest_digest", "version", "status", "path", "digest"),
        ]
    ),
    json_values
    | st.lists(
        st.dictionaries(
            st.sampled_from(["path", "size", "digest", "uri", "version", "metadata", "checksum"]),
            json_values | st.just("sha256:" + "0" * 64) | st.integers(1, 5),
        )
    ),
)


@pytest.mark.slow
@given(documents)
def test_whatever_a_document_says_it_can_be_read_and_written(data):
    manifest = ArtifactManifest.from_dict(data)
    assert all(isinstance(f.size, int) and names.parse_digest(f.digest) for f in manifest.files)
    ArtifactMetadata.from_dict(data, "n", "model", 1).to_dict()
    index = ArtifactIndex.from_dict(data, "n", "model")
    assert all(info.version > 0 for info in index.versions)
    layout.dump_json(index.to_dict())


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, max_size=6))
def test_paths_clash_where_one_would_be_a_folder_and_a_file(found):
    folders = {path[:end] for path in found for end, c in enumerate(path) if c == "/"}
    is_clash = len(set(found)) < len(found) or bool(folders & set(found))
    assert bool(find_clash(found)) == is_clash


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
def test_a_range_is_within_the_file(size, first, last):
    for text in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        part = parse_range(text, size)
        if part is not None:
            start, end = part
            assert 0 <= start <= end <= size


@pytest.mark.parametrize("text", ["", "bytes=", "bytes=-", "bytes=0-1,4-5", "lines=1-2", "x"])
def test_a_range_that_says_nothing_is_all(text):
    assert parse_range(text, 10) == (0, 10)


def test_v04_writes_what_we_read_back(tmp_path):
    entry = {"path": "a\\b.txt", "size": 1, "digest": "sha256:" + "0" * 64, "modified_at": 1.5}
    manifest = ArtifactManifest.from_dict({"files": [entry]})
    assert manifest.files[0].path == "a/b.txt"
    assert json.loads(manifest.dump())["total_files"] == 1
