"""Small images as PNG (ISO/IEC 15948), for pages that have them inside."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # grey, RGB


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of uint8 pixels [H, W, 1] or [H, W, 3]."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def png_url(pixels: NDArray[np.uint8]) -> str:
    """The same as an URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
