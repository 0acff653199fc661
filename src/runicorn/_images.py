"""Turning what people call an image into the bytes of a file."""

from __future__ import annotations

import io
import math
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any

_UNSAFE = re.compile(r"[^\w.\-]+")
_PILLOW_NAMES = {"JPG": "JPEG", "TIF": "TIFF"}


def file_name(key: str, format: str) -> str:
    """``<unix ms>_<6 hex>_<key>.<format>``, with nothing in it that could name another folder."""
    safe = _UNSAFE.sub("_", str(key)).encode("utf-8", "ignore")[:150].decode("utf-8", "ignore")
    suffix = _UNSAFE.sub("_", format.lower().removeprefix("."))[:20]
    return f"{time.time_ns() // 1_000_000}_{uuid.uuid4().hex[:6]}_{safe}.{suffix}"


def encode(image: Any, format: str, quality: int) -> bytes:
    """The file content of a Pillow image, an array, a figure, bytes, or the path of an image file.

    Bytes and files are taken as they are, whatever *format* says. Raises FileNotFoundError for a
    missing file, RuntimeError for an array without Pillow, ValueError for an unknown format or an
    array that is no picture, TypeError for anything else.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if not path.is_file():
            raise FileNotFoundError(f"Image file not found: {image}")
        return path.read_bytes()
    format = format.removeprefix(".")
    if hasattr(image, "savefig"):  # a figure of matplotlib, or its pyplot
        buffer = io.BytesIO()
        image.savefig(buffer, format=format.lower())
        return buffer.getvalue()
    if hasattr(image, "get_figure") and not hasattr(image, "shape"):  # its axes, or a line in them
        return encode(image.get_figure(), format, quality)
    if hasattr(image, "save") and not hasattr(image, "shape"):
        return _save(image, format, quality)
    if hasattr(image, "shape"):
        return _save(_from_array(image), format, quality)
    raise TypeError(
        "log_image() takes a Pillow image, an array, a figure of matplotlib, bytes or a path, not "
        f"{type(image).__name__}."
    )


def _save(image: Any, format: str, quality: int) -> bytes:
    name = _PILLOW_NAMES.get(format.upper(), format.upper())
    if hasattr(image, "getextrema"):  # Pillow's, not something else that can save itself
        image = _as_format(image, name)
    buffer = io.BytesIO()
    image.save(buffer, format=name, quality=quality)
    return buffer.getvalue()


# -- Pillow's modes ----------------------------------------------------------------------------


def _as_format(image: Any, name: str) -> Any:
    """*image* in a mode that every picture format, and every browser, knows."""
    from PIL import Image

    Image.init()
    if name not in Image.SAVE:
        raise ValueError(f"Pillow writes no format {name!r}.")
    mode = image.mode
    if mode == "I;16" and name in ("PNG", "TIFF"):
        return image
    if mode in ("I", "F") or mode.startswith("I;"):
        image = _as_gray(image)
    elif mode == "LAB":
        image = _from_lab(image)
    elif mode == "La":
        image = image.convert("LA")
    elif mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif mode not in ("1", "L", "P", "LA", "RGB", "RGBA"):  # CMYK, YCbCr, HSV
        image = image.convert("RGB")
    has_transparency = name in ("PNG", "WEBP", "GIF", "TIFF", "ICO")
    if image.mode in ("LA", "RGBA", "P") and not has_transparency:
        image = image.convert("RGB")
    elif image.mode == "LA" and name != "PNG":
        image = image.convert("RGBA")
    return image


def _as_gray(image: Any) -> Any:
    """Values from 0 to 255 as they are, up to 1 as floats are, others from black to white."""
    if image.mode != "F":
        image = image.convert("I")
    low, high = image.getextrema()
    is_float = image.mode == "F"
    if not (low >= 0 and high <= 255) or (is_float and high <= 1):
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = 0.0, 1.0
        if is_float and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        scale = 255 / ((high - low) or 1)
        image = image.convert("F").point(lambda value: value * scale + -low * scale)
    return image.convert("L")


def _from_lab(image: Any) -> Any:
    from PIL import ImageCms

    try:
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    except Exception:  # a Pillow without colour management
        return image.getchannel(0)


# -- arrays ------------------------------------------------------------------------------------


def _from_array(array: Any) -> Any:
    """Gray, or 1 to 4 channels that come last or, as in torch, first; a batch of one is its image.

    Booleans are black and white, floats go from 0 to 1, integers from 0 to 255; integers beyond
    that are stretched from black to white, but for 16 bits of gray, which PNG holds.
    """
    try:
        from PIL import Image
    except ImportError:
        raise RuntimeError(
            "Logging an array as an image needs Pillow: pip install 'runicorn[image]'"
        ) from None
    import numpy as np  # whoever has an array has it

    is_tensor = hasattr(array, "detach")  # of torch, perhaps on a GPU
    if is_tensor:
        array = array.detach().cpu()
        if "bfloat16" in str(array.dtype):
            array = array.float()
    pixels = array.filled(0) if hasattr(array, "filled") else np.asarray(array)
    shape = pixels.shape
    while pixels.ndim > 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim == 3:
        is_last, is_first = pixels.shape[2] <= 4, pixels.shape[0] <= 4
        if is_first and (is_tensor or not is_last):
            pixels = pixels.transpose(1, 2, 0)
        if pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or pixels.size == 0 or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise ValueError(
            f"An array of the shape {shape} is no image: height x width, with 1 to 4 channels last "
            "or first, is."
        )
    kind = pixels.dtype.kind
    if kind in "fbO":
        values = np.nan_to_num(pixels.astype("float64"), posinf=1.0, neginf=0.0)
        pixels = (values.clip(0, 1) * 255).round().astype("uint8")
    elif kind not in "iu":
        raise ValueError(f"An array of {pixels.dtype} is no image.")
    elif pixels.dtype != "uint8":
        pixels = _as_bytes(pixels)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _as_bytes(pixels: Any) -> Any:
    low, high = int(pixels.min()), int(pixels.max())
    if low >= 0 and high <= 255:
        return pixels.astype("uint8")
    if pixels.ndim == 2 and low >= 0 and high < 2**16:
        return pixels.astype("uint16")
    values = pixels.astype("float64") - low
    return (values * (255 / max(1, high - low))).round().astype("uint8")
