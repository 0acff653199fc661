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


# -- arrays ------------------------------------------------------------------------------------

RGB = np.arange(240).reshape(8, 10, 3)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("array", [RGB, RGB[:, :, 0], RGB[:, :, :1], RGB[:, :, :2]], ids=str)
def test_values_from_0_to_255_are_the_same_picture_whatever_their_type(start, kind, array):
    array = array % 128 if kind == "int8" else array
    run = start()
    image = opened(run.run_dir / run.log_image("a", array.astype(kind)))
    squeezed = array[:, :, 0] if array.shape[-1] == 1 and array.ndim == 3 else array
    assert (np.asarray(image) == squeezed).all()


class Tensor:
    """As torch's: it may hold a gradient, and is on another device until asked for."""

    def __init__(self, array, on_device=True):
        self.array, self.on_device = array, on_device
        self.shape, self.dtype = array.shape, array.dtype

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.array, on_device=False)

    def __array__(self, dtype=None, copy=None):
        assert not self.on_device
        return self.array


@pytest.mark.parametrize(
    ("array", "size", "mode"),
    [
        (RGB.transpose(2, 0, 1), (10, 8), "RGB"),
        (Tensor(RGB.transpose(2, 0, 1)), (10, 8), "RGB"),
        (Tensor(np.zeros((3, 4, 4))), (4, 4), "RGB"),  # both ends could be the channels
        (np.zeros((4, 4, 3)), (4, 4), "RGB"),
        (Tensor(np.zeros((1, 3, 8, 10))), (10, 8), "RGB"),
        (np.zeros((1, 8, 10)), (10, 8), "L"),
        (np.zeros((1, 1, 8, 10)), (10, 8), "L"),
        (np.zeros((8, 10, 4)), (10, 8), "RGBA"),
        (np.zeros((4, 8, 10)), (10, 8), "RGBA"),
        (np.zeros((8, 10), "float16"), (10, 8), "L"),
        (np.zeros((8, 10), object), (10, 8), "L"),
        (np.asfortranarray(np.zeros((8, 10, 3), "uint8")), (10, 8), "RGB"),
        (np.zeros((8, 10, 3), "uint8")[::-1, ::2], (5, 8), "RGB"),
        (np.ma.masked_array(np.ones((8, 10)), mask=True), (10, 8), "L"),
    ],
)
def test_shapes(start, array, size, mode):
    run = start()
    image = opened(run.run_dir / run.log_image("a", array))
    assert (image.size, image.mode) == (size, mode)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 1000]]), [[0, 1000]]),  # 16 bits of gray stay what they are
        (np.array([[0, 2**40]]), [[0, 255]]),
        (np.array([[-5, 0, 5]]), [[0, 128, 255]]),
        (np.array([[0.0, np.inf, -np.inf, np.nan]]), [[0, 255, 0, 0]]),
    ],
)
def test_values_beyond_the_range_are_shown(start, array, expected):
    run = start()
    assert np.asarray(opened(run.run_dir / run.log_image("a", array))).tolist() == expected
    opened(run.run_dir / run.log_image("a", array, format="jpg")).load()


@pytest.mark.parametrize(
    "array",
    [
        *(np.zeros(shape) for shape in [(3,), (2, 3, 8, 8), (8, 8, 5), (0, 4), (4, 0, 3), ()]),
        np.zeros((2, 2), complex),
        np.zeros((2, 2), "M8[s]"),
    ],
)
def test_what_is_no_picture_is_refused(start, array):
    run = start()
    with pytest.raises(ValueError, match="is no image"):
        run.log_image("a", array)
    assert not list(run.media_dir.iterdir())


# -- Pillow's modes ----------------------------------------------------------------------------

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "LA", "PA", "RGBa"]
MODES += ["La", "I;16", "I;16B", "RGBX"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", ["png", "jpg", "gif", "webp", "bmp", "tiff", ".png"])
def test_every_mode_becomes_a_picture_of_every_format(start, mode, format):
    run = start()
    path = run.log_image("a", Image.new(mode, (8, 6)), format=format)
    image = opened(run.run_dir / path)
    image.load()
    assert image.size == (8, 6)
    assert path.endswith("_a." + format.removeprefix("."))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),
        ("F", 0.5, 127),
        ("F", 7.0, 7),
        ("I", 200, 200),
        ("I;16", 1000, 1000),
        ("RGBa", (100, 0, 0, 255), (100, 0, 0, 255)),
    ],
)
def test_colours_stay_what_they_are(start, mode, colour, expected):
    run = start()
    image = opened(run.run_dir / run.log_image("a", Image.new(mode, (2, 2), colour)))
    assert image.getpixel((0, 0)) == expected


def test_a_picture_that_cannot_be_read_to_its_end_is_said_and_ends_nothing(start, caplog):
    buffer = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(buffer, format="PNG")
    run = start()
    broken = Image.open(io.BytesIO(buffer.getvalue()[:5000]))
    assert run.log_image("a", broken).startswith("media/")
    assert "the image 'a' was not kept" in caplog.text
    assert not (run.run_dir / "events.jsonl").exists()


def test_a_figure_of_matplotlib(start):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([1, 2])
    run = start()
    for image in (figure, axes, pyplot):
        for format in ("png", "jpg"):
            opened(run.run_dir / run.log_image("a", image, format=format)).load()
    assert b"<svg" in (run.run_dir / run.log_image("a", figure, format="svg")).read_bytes()
    pyplot.close(figure)


def test_whatever_can_save_a_figure_will_do(start):
    class Figure:
        def savefig(self, target, format):
            target.write(f"a {format}".encode())

    run = start()
    path = run.log_image("a", Figure(), format="SVG")
    assert (run.run_dir / path).read_bytes() == b"a svg"
