"""A file of named weights, coded without loss: each array in the form that is shortest.

Layout, little-endian: `TSW1`, u16 arrays; for each: u8 length of its name, the name (UTF-8), u8
form, u8 rank, u32 sizes. Then by form
    FLOAT32, FLOAT16   the values;
    CODES              a codebook: u16 values, u8 their form, the values (0.0 included); one stream;
    GAPS               a codebook without 0.0; u8 escape; a stream of gaps, a stream of indices.
A stream is u8 code (Huffman or ANS), u32 symbols, u32 bytes, the bytes (which hold the code's
table).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.coding import ans, huffman
from tinsmith.pipeline.coding.gaps import from_gaps, to_gaps
from tinsmith.pipeline.errors import ModelError

MAGIC = b"TSW1"
FLOAT32, FLOAT16, CODES, GAPS = range(4)
ESCAPES = (7, 15, 31, 63, 127, 255)  # what a gap's symbol can say at most
MOST_CODES = 1 << 12  # values of a codebook
MOST_ARRAYS = (1 << 16) - 1
MOST_WEIGHTS = 1 << 28  # of an array: a damaged size must not take all memory

Floats = NDArray[np.float32]
Symbols = NDArray[np.int64]

# The codes of a stream, by their number in the file.
_ENCODE: tuple[Callable[[Symbols, int], bytes], ...] = (huffman.encode, ans.encode)
_DECODE: tuple[Callable[[bytes, int, int], Symbols], ...] = (huffman.decode, ans.decode)


@dataclass(frozen=True)
class Coded:
    """An array in the file. form: as in the layout; the numbers of bytes add up to `nbytes`.

    header: name, shape, form. codebook: values and their count. tables_and_codes: all streams.
    """

    name: str
    form: int
    values: int
    nonzero: int
    header_bytes: int
    codebook_bytes: int
    stream_bytes: int

    @property
    def nbytes(self) -> int:
        return self.header_bytes + self.codebook_bytes + self.stream_bytes


def encode_weights(weights: Mapping[str, Floats]) -> tuple[bytes, tuple[Coded, ...]]:
    """The file, and what each array takes in it. Values are kept as they are, to the bit.

    Arrays with at most 4,096 different values get a codebook where that is shorter. Raises
    ModelError for what the file can't hold: too many arrays, or too large ones.
    """
    if len(weights) > MOST_ARRAYS:
        raise ModelError(f"{len(weights)} arrays of weights; a file holds at most {MOST_ARRAYS}")
    for name, array in weights.items():
        if array.size > MOST_WEIGHTS:
            raise ModelError(f"weights '{name}': {array.size} values; allowed: {MOST_WEIGHTS}")
    parts, records = [MAGIC + struct.pack("<H", len(weights))], []
    for name, array in weights.items():
        encoded, record = _encode_array(name, np.asarray(array, np.float32))
        parts.append(encoded)
        records.append(record)
    return b"".join(parts), tuple(records)


def decode_weights(data: bytes) -> dict[str, Floats]:
    """The arrays of a file. Raises ModelError where the file is damaged."""
    reader = _Reader(data)
    try:
        if reader.take(4) != MAGIC:
            raise ValueError("it doesn't start with TSW1")
        (count,) = reader.unpack("<H")
        weights = dict(_decode_array(reader) for _ in range(count))
        if reader.place != len(data):
            raise ValueError(f"{len(data) - reader.place} bytes are left over")
    except (ValueError, UnicodeDecodeError) as e:
        raise ModelError(f"this is no file of coded weights: {e}") from e
    return weights


def _encode_array(name: str, array: Floats) -> tuple[bytes, Coded]:
    flat = array.reshape(-1)
    bodies = [_plain(flat)]
    values = np.unique(flat.view(np.uint32)).view(np.float32)  # by bits: -0.0 is not 0.0
    if len(values) <= MOST_CODES and flat.size:
        bodies.append(_codes(flat, values))
        if len(values) > 1 and (values.view(np.uint32) == 0).any():
            bodies += [_gaps(flat, values, escape) for escape in ESCAPES]
    form, codebook, streams = min(bodies, key=lambda body: len(body[1]) + len(body[2]))
    title = name.encode()
    if len(title) > 255 or array.ndim > 255:
        raise ModelError(f"weights '{name[:40]}': the name or the shape is too long for the file")
    header = struct.pack("<B", len(title)) + title
    header += struct.pack(f"<BB{array.ndim}I", form, array.ndim, *array.shape)
    record = Coded(
        name,
        form,
        flat.size,
        int(np.count_nonzero(flat)),
        len(header),
        len(codebook),
        len(streams),
    )
    return header + codebook + streams, record


def _decode_array(reader: _Reader) -> tuple[str, Floats]:
    (length,) = reader.unpack("<B")
    name = reader.take(length).decode()
    form, rank = reader.unpack("<BB")
    shape = reader.unpack(f"<{rank}I")
    size = 1
    for axis in shape:
        size *= axis
    if size > MOST_WEIGHTS:
        raise ValueError(f"'{name}' has {size} values; allowed: {MOST_WEIGHTS}")
    if form in (FLOAT32, FLOAT16):
        flat = reader.floats(size, form)
    elif form in (CODES, GAPS):
        (count,) = reader.unpack("<H")
        codebook = reader.floats(count, reader.unpack("<B")[0])
        flat = (
            _decode_codes(reader, codebook, size)
            if form == CODES
            else _decode_gaps(reader, codebook, size)
        )
    else:
        raise ValueError(f"form {form} of '{name}' is unknown")
    return name, flat.reshape(shape)


_Body = tuple[int, bytes, bytes]  # form, codebook, streams


def _plain(flat: Floats) -> _Body:
    form, data = _float_bytes(flat)
    return form, b"", data


def _codes(flat: Floats, values: Floats) -> _Body:
    symbols = np.searchsorted(values.view(np.uint32), flat.view(np.uint32))
    return CODES, _codebook(values), _stream(symbols.astype(np.int64), len(values))


def _gaps(flat: Floats, values: Floats, escape: int) -> _Body:
    bits = flat.view(np.uint32)
    places = np.flatnonzero(bits)
    values = values[values.view(np.uint32) != 0]
    symbols = np.searchsorted(values.view(np.uint32), bits[places]).astype(np.int64)
    gaps = _stream(to_gaps(places, escape), escape + 1)
    return (
        GAPS,
        _codebook(values),
        struct.pack("<B", escape) + gaps + _stream(symbols, len(values)),
    )


def _decode_codes(reader: _Reader, codebook: Floats, size: int) -> Floats:
    symbols = reader.stream(len(codebook), size)
    if len(symbols) != size:
        raise ValueError(f"{len(symbols)} codes for {size} weights")
    return codebook[symbols]


def _decode_gaps(reader: _Reader, codebook: Floats, size: int) -> Floats:
    (escape,) = reader.unpack("<B")
    if escape == 0:
        raise ValueError("gaps of 0 at most")
    places = from_gaps(reader.stream(escape + 1, 2 * size), escape)
    symbols = reader.stream(len(codebook), size)
    if len(places) != len(symbols) or (len(places) and places[-1] >= size):
        raise ValueError(f"{len(places)} places and {len(symbols)} codes for {size} weights")
    flat = np.zeros(size, np.float32)
    flat[places] = codebook[symbols]
    return flat


def _codebook(values: Floats) -> bytes:
    form, data = _float_bytes(values)
    return struct.pack("<HB", len(values), form) + data


def _float_bytes(values: Floats) -> tuple[int, bytes]:
    """In two bytes each where that loses nothing, else in four."""
    with np.errstate(over="ignore"):
        short = values.astype("<f2")
    same = np.array_equal(short.astype(np.float32).view(np.uint32), values.view(np.uint32))
    return (FLOAT16, short.tobytes()) if same else (FLOAT32, values.astype("<f4").tobytes())


def _stream(symbols: Symbols, alphabet: int) -> bytes:
    """The symbols in the code that is shorter."""
    choices = [
        (len(data := encode(symbols, alphabet)), code, data) for code, encode in enumerate(_ENCODE)
    ]
    length, code, data = min(choices)
    return struct.pack("<BII", code, len(symbols), length) + data


class _Reader:
    """Reads a file from front to back; ValueError where it ends too soon."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.place:
            raise ValueError(f"it ends at byte {len(self.data)}, {count} more are needed")
        self.place += count
        return self.data[self.place - count : self.place]

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def floats(self, count: int, form: int) -> Floats:
        if form not in (FLOAT32, FLOAT16):
            raise ValueError(f"form {form} of values is unknown")
        width = 2 if form == FLOAT16 else 4
        return np.frombuffer(self.take(count * width), f"<f{width}").astype(np.float32)

    def stream(self, alphabet: int, most: int) -> Symbols:
        code, count, length = self.unpack("<BII")
        if code >= len(_DECODE):
            raise ValueError(f"code {code} is unknown")
        data = self.take(length)
        if count > most:
            raise ValueError(f"{count} symbols for {most} weights")
        return _DECODE[code](data, count, alphabet)
