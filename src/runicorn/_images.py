"""Turning what people call an image into the bytes of a file."""

from __future__ import annotations

import io
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
    safe = _UNSAFE.sub("_", str(key)).encode()[:150].decode("utf-8", "ignore")
    suffix = _UNSAFE.sub("_", format.lower())[:20]
    return f"{time.time_ns() // 1_000_000}_{uuid.uuid4().hex[:6]}_{safe}.{suffix}"


def encode(image: Any, format: str, quality: int) -> bytes:
    """The file content of a Pillow image, an array, bytes, or the path of an image file.

    Bytes and files are taken as they are, whatever *format* says. Raises FileNotFoundError for a
    missing file, RuntimeError for an array without Pillow, TypeError for anything else.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if not path.is_file():
            raise FileNotFoundError(f"Image file not found: {image}")
        return path.read_bytes()
    if hasattr(image, "save"):
        return _save(image, format, quality)
    if hasattr(image, "shape"):
        return _save(_from_array(image), format, quality)
    raise TypeError(
        f"log_image() takes a Pillow image, an array, bytes or a path, not {type(image).__name__}."
    )


def _save(image: Any, format: str, quality: int) -> bytes:
    name = _PILLOW_NAMES.get(format.upper(), format.upper())
    if name == "JPEG" and getattr(image, "mode", "RGB") in ("RGBA", "LA", "P", "PA"):
        image = image.convert("RGB")  # JPEG knows no transparency
    buffer = io.BytesIO()
    image.save(buffer, format=name, quality=quality)
    return buffer.getvalue()


def _from_array(array: Any) -> Any:
    """Height x width (x 1, 3 or 4 channels): bytes as they are, floats from 0 to 1."""
    try:
        from PIL import Image
    except ImportError:
        raise RuntimeError(
            "Logging an array as an image needs Pillow: pip install 'runicorn[image]'"
        ) from None
    import numpy as np  # whoever has an array has it

    if hasattr(array, "detach"):  # a torch tensor, perhaps on a GPU
        array = array.detach().cpu()
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype.kind in "fb":
        pixels = (np.nan_to_num(pixels.astype("float64")).clip(0, 1) * 255).round().astype("uint8")
    return Image.fromarray(pixels)
