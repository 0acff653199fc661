"""``log_image``: what it takes, where it puts it, what it refuses."""

from __future__ import annotations

import builtins
import io
import re

import numpy as np
import pytest
from PIL import Image

from .conftest import events


def opened(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def test_an_image_becomes_a_file_and_an_event(start):
    run = start()
    path = run.log_image("pred", Image.new("RGB", (4, 3), "red"), step=7, caption="red")
    assert re.fullmatch(r"media/\d{13}_[0-9a-f]{6}_pred\.png", path)
    assert opened(run.run_dir / path).size == (4, 3)
    (event,) = events(run.run_dir)
    assert list(event) == ["ts", "type", "data"]
    assert event["type"] == "image"
    assert event["data"] == {"key": "pred", "path": path, "step": 7, "caption": "red"}
    run.log_image("pred", b"x")
    assert events(run.run_dir)[1]["data"]["step"] is None
    run.log(x=1)
    assert events(run.run_dir)[2]["data"]["global_step"] == 1


@pytest.mark.parametrize("format", ["jpg", "JPG", "jpeg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_jpg_is_jpeg(start, format, mode):
    run = start()
    path = run.log_image("a", Image.new(mode, (2, 2)), format=format, quality=50)
    assert path.endswith("." + format.lower())
    assert opened(run.run_dir / path).format == "JPEG"


@pytest.mark.parametrize(
    ("array", "mode", "corner"),
    [
        (np.full((2, 3), 200, "uint8"), "L", 200),
        (np.full((2, 3, 3), 200, "uint8"), "RGB", (200, 200, 200)),
        (np.full((2, 3, 1), 200, "uint8"), "L", 200),
        (np.full((2, 3), 0.5), "L", 128),
        (np.full((2, 3), 7.0, "float32"), "L", 255),
        (np.ones((2, 3), bool), "L", 255),
        (np.full((2, 3), np.nan), "L", 0),
    ],
)
def test_arrays(start, array, mode, corner):
    run = start()
    image = opened(run.run_dir / run.log_image("a", array))
    assert (image.size, image.mode, image.getpixel((0, 0))) == ((3, 2), mode, corner)


def test_bytes_and_files_are_copied_as_they_are(start, tmp_path):
    run = start()
    source = tmp_path / "cat.gif"
    source.write_bytes(b"GIF89a")
    for image in (b"GIF89a", bytearray(b"GIF89a"), source, str(source)):
        path = run.log_image("cat", image, format="jpg")
        assert (run.run_dir / path).read_bytes() == b"GIF89a"
        assert path.endswith("_cat.jpg")


@pytest.mark.parametrize("key", ["val/pred", "../../../evil", "a\\b", "..", "", "图 1", "x" * 500])
def test_a_key_never_leaves_the_media_folder_and_stays_raw_in_the_event(start, key):
    run = start()
    path = run.run_dir / run.log_image(key, b"x", format="../png")
    assert path.parent == run.media_dir
    assert path.is_file()
    assert events(run.run_dir)[0]["data"]["key"] == key


def test_what_is_no_image_is_refused_and_leaves_no_event(start, monkeypatch):
    run = start()
    with pytest.raises(FileNotFoundError, match=r"Image file not found: /no/such\.png"):
        run.log_image("a", "/no/such.png")
    with pytest.raises(TypeError, match="not dict"):
        run.log_image("a", {})
    with pytest.raises((KeyError, ValueError)):
        run.log_image("a", Image.new("L", (1, 1)), format="nonsense")

    original = builtins.__import__

    def without_pillow(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(RuntimeError, match="Pillow"):
        run.log_image("a", np.zeros((2, 2)))
    assert not (run.run_dir / "events.jsonl").exists()
    assert not list(run.media_dir.iterdir())


def test_anything_that_can_save_itself_will_do(start):
    class Drawing:
        def save(self, target: io.BytesIO, format: str, quality: int) -> None:
            target.write(f"{format} {quality}".encode())

    run = start()
    path = run.log_image("a", Drawing(), format="webp", quality=30)
    assert (run.run_dir / path).read_bytes() == b"WEBP 30"
