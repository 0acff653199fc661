"""Logged images are shown; nothing else on the disk is, and nothing of them runs."""

from __future__ import annotations

import json

import pytest

from runs.models import Image

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


@pytest.fixture
def logged(client, root, request):
    """Log an image event with a path, and ask for it."""

    def ask(path: str, content: bytes | None = PNG, at: str | None = None):
        folder = root.run()
        (folder.path / "media").mkdir()
        if content is not None:
            (folder.path / (at or path)).write_bytes(content)
        data = {"key": "sample", "path": path, "step": 3, "caption": "<i>digits</i>"}
        line = json.dumps({"ts": 1.0, "type": "image", "data": data})
        folder.append("events.jsonl", line.encode() + b"\n")
        root.scan()
        image = Image.objects.get()
        response = client.get(f"/images/{image.pk}")
        request.addfinalizer(response.close)
        return response

    return ask


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.png", "image/png"), ("a.JPG", "image/jpeg"), ("a.webp", "image/webp")],
)
def test_pictures_are_shown(logged, name, content_type):
    response = logged(f"media/{name}")
    assert response.getvalue() == PNG
    assert response["Content-Type"] == content_type
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Disposition"].startswith("inline")


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a.xml", "a"])
def test_what_could_run_is_only_downloaded(logged, name):
    response = logged(f"media/{name}")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["meta.json", "media/../meta.json", "../../../../secret.png", "/etc/passwd", "media"]
)
def test_nothing_outside_the_media_folder_is_served(logged, path, root):
    (root.path / "secret.png").write_bytes(PNG)
    assert logged(path, None).status_code == 404


def test_a_link_out_of_the_media_folder_is_not_followed(client, root, logged, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    assert logged("media/a.png").status_code == 200
    file = next(root.path.rglob("a.png"))
    file.unlink()
    file.symlink_to(secret)
    assert client.get(f"/images/{Image.objects.get().pk}").status_code == 404
    file.unlink()
    file.parent.rmdir()
    file.parent.symlink_to(tmp_path)
    (tmp_path / "a.png").write_bytes(PNG)
    assert client.get(f"/images/{Image.objects.get().pk}").status_code == 404


def test_a_missing_file_is_not_found(logged):
    assert logged("media/gone.png", None).status_code == 404


def test_the_run_page_shows_them(client, root, logged):
    logged("media/a.png")
    image = Image.objects.get()
    page = client.get(f"/runs/{image.run.run_id}").content.decode()
    assert f'src="/images/{image.pk}"' in page
    assert "&lt;i&gt;digits&lt;/i&gt;" in page
