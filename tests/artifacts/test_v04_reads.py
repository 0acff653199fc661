"""Runicorn 0.4.0, as it was released, reads the artifacts that were written here, and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import runicorn as rn
from runicorn.artifacts import ArtifactStorage
from tests.servers import clean_environment

pytestmark = pytest.mark.slow

READS = """
import json, sys
from pathlib import Path
import runicorn
assert Path(runicorn.__file__).is_relative_to(sys.argv.pop())
root, target = sys.argv[1:]
run = runicorn.init(project="old", name="e", storage=root, capture_env=False)
told = {}
for reference in ("net:v1", "net:v2", "net:latest", "net:best", "net:production", "other:latest"):
    artifact = run.use_artifact(reference)
    folder = Path(artifact.download(str(Path(target, reference.replace(":", "-")))))
    files = {p.relative_to(folder).as_posix(): p.stat().st_size
             for p in folder.rglob("*") if p.is_file()}
    metadata, manifest = artifact.get_metadata(), artifact.get_manifest()
    told[reference] = [metadata.version, metadata.description, metadata.tags, metadata.metadata,
                       files, [r.uri for r in manifest.references]]
own = runicorn.Artifact("net", "model")
own.add_file(str(Path(target, "net-v1/a.bin")))
told["saved"] = run.log_artifact(own)
runicorn.finish()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("published") / "0.4.0"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*pip, "runicorn==0.4.0"], check=True)
    return target


def test_it_reads_what_was_written_here_and_goes_on(tmp_path, published):
    root, source = tmp_path / "root", tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    run = rn.Run("p", root, name="e", capture_env=False)
    for number in (1, 2, 3):
        (source / "a.bin").write_bytes(b"a" * 1000 * number)
        (source / "deep/b.bin").write_bytes(b"the same")
        net = rn.Artifact("net", "model", description=f"d{number}", metadata={"acc": number})
        net.add_dir(source).add_reference("s3://bucket/key", size=7).add_tags("t", "标签")
        assert run.log_artifact(net) == number
    run.finish()
    storage = ArtifactStorage(root)
    location = storage.find("net")
    storage.set_alias(location, "best", 1)
    storage.edit(location, 1, {"description": "edited", "tags": ["new"]}, by="somebody")
    for stage in ("staging", "production"):
        storage.promote(location, 2, stage)
    (source / "a.bin").write_bytes(b"")
    run = rn.Run("p", root, name="e", capture_env=False)
    for number in (1, 2):
        assert run.log_artifact(rn.Artifact("other").add_file(source / "a.bin")) == number
    run.finish()
    storage.purge([(storage.find("other"), 1)])

    command = [sys.executable, "-c", READS, root, tmp_path / "target", published]
    env = clean_environment() | {"PYTHONPATH": str(published)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    reference = ["s3://bucket/key"]
    first = [1, "edited", ["new"], {"acc": 1}, {"a.bin": 1000, "deep/b.bin": 8}, reference]
    second = [2, "d2", ["t", "标签"], {"acc": 2}, {"a.bin": 2000, "deep/b.bin": 8}, reference]
    third = [3, "d3", ["t", "标签"], {"acc": 3}, {"a.bin": 3000, "deep/b.bin": 8}, reference]
    assert told == {
        **dict.fromkeys(["net:v1", "net:best"], first),
        **dict.fromkeys(["net:v2", "net:production"], second),
        "net:latest": third,
        "other:latest": [2, "", [], {}, {"a.bin": 0}, []],
        "saved": 4,
    }
    assert storage.aliases(location) == {"best": 1, "production": 2, "latest": 4}
    assert storage.verify(location, 4) == []
    run = rn.Run("p", root, name="e", capture_env=False)
    target = run.use_artifact("net:latest").download(tmp_path / "ours")
    assert (target / "a.bin").read_bytes() == b"a" * 1000
