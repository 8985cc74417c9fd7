"""Flatbuffers read with every offset, length and index checked before it is followed.

The flatbuffers runtime verifies nothing, and a file may come from anywhere. Errors are ModelError;
work and memory are bounded by the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError

MAX_EXPANDED_BYTES = 1 << 28  # of sparse and 4-bit constants together


@dataclass
class Reader:
    """The bytes, and how much may still be read of them.

    In a sound file each part has bytes of its own. A file whose parts are shared could ask for more
    work and memory than its size allows; the budgets end that.
    """

    data: bytes
    tables_left: int = field(init=False)
    list_bytes_left: int = field(init=False)
    expanded_left: int = MAX_EXPANDED_BYTES

    def __post_init__(self) -> None:
        self.tables_left = len(self.data) // 4 + 16
        self.list_bytes_left = 4 * len(self.data)

    def expand(self, size: int, what: str) -> None:
        """Charges `size` bytes of memory that the file itself doesn't hold."""
        self.expanded_left -= size
        if self.expanded_left < 0:
            raise ModelError(
                f"{what} expands beyond {MAX_EXPANDED_BYTES >> 20} MB; allowed: smaller constants"
            )

    def unpack(self, code: str, position: int, what: str) -> Any:
        size = struct.calcsize(code)
        if position < 0 or position + size > len(self.data):
            raise damaged(f"{what} lies at byte {position} of {len(self.data)}")
        return struct.unpack_from(code, self.data, position)[0]

    def follow(self, position: int, what: str) -> int:
        """Where the offset stored at a position leads."""
        target = position + int(self.unpack("<I", position, what))
        if target >= len(self.data):
            raise damaged(f"{what} points to byte {target} of {len(self.data)}")
        return target

    def table(self, position: int, what: str) -> Table:
        self.tables_left -= 1
        if self.tables_left < 0:
            raise damaged("its parts are shared beyond reason")
        vtable = position - int(self.unpack("<i", position, what))
        vtable_bytes = int(self.unpack("<H", vtable, f"the layout of {what}"))
        table_bytes = int(self.unpack("<H", vtable + 2, f"the layout of {what}"))
        whole = vtable_bytes >= 4 and vtable_bytes % 2 == 0 and table_bytes >= 4
        if not whole or vtable + vtable_bytes > len(self.data):
            raise damaged(f"the layout of {what} is broken")
        if position + table_bytes > len(self.data):
            raise damaged(f"{what} goes beyond the end")
        count = (vtable_bytes - 4) // 2
        offsets = struct.unpack_from(f"<{count}H", self.data, vtable + 4)
        if any(o and not 4 <= o < table_bytes for o in offsets):
            raise damaged(f"a field of {what} lies outside of it")
        return Table(self, position, offsets, table_bytes, what)


def damaged(what: str) -> ModelError:
    return ModelError(f"the .tflite is damaged: {what}; get the file again or export it anew")


@dataclass(frozen=True)
class Table:
    """A table whose layout was checked. Fields are asked for by their slot in the schema."""

    reader: Reader
    position: int
    offsets: tuple[int, ...]
    size: int
    what: str

    def field(self, slot: int, size: int) -> int | None:
        """The position of a field that is present; its `size` bytes lie inside the table."""
        offset = self.offsets[slot] if slot < len(self.offsets) else 0
        if offset == 0:
            return None
        if offset + size > self.size:
            raise damaged(f"a field of {self.what} goes beyond it")
        return self.position + offset

    def number(self, slot: int, code: str, default: int = 0) -> int:
        position = self.field(slot, struct.calcsize(code))
        if position is None:
            return default
        return int(self.reader.unpack(code, position, self.what))

    def _vector(self, slot: int, item_bytes: int) -> tuple[int, int] | None:
        """(position of the first item, count) of a vector that lies inside the file."""
        position = self.field(slot, 4)
        if position is None:
            return None
        start = self.reader.follow(position, f"a list of {self.what}")
        count = int(self.reader.unpack("<I", start, f"a list of {self.what}"))
        if start + 4 + count * item_bytes > len(self.reader.data):
            raise damaged(f"a list of {self.what} has {count} items, more than the file holds")
        self.reader.list_bytes_left -= count * item_bytes
        if self.reader.list_bytes_left < 0:
            raise damaged("its parts are shared beyond reason")
        return start + 4, count

    def numbers(self, slot: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers, a view into the file; empty where absent."""
        kind = np.dtype(dtype)
        found = self._vector(slot, kind.itemsize)
        if found is None:
            return np.zeros(0, kind)
        return np.frombuffer(self.reader.data, kind, found[1], found[0])

    def string(self, slot: int) -> str:
        found = self._vector(slot, 1)
        if found is None:
            return ""
        start, count = found
        return self.reader.data[start : start + count].decode("utf-8", "replace")

    def table(self, slot: int, what: str) -> Table | None:
        position = self.field(slot, 4)
        if position is None:
            return None
        return self.reader.table(self.reader.follow(position, what), what)

    def tables(self, slot: int, what: str) -> list[Table]:
        found = self._vector(slot, 4)
        if found is None:
            return []
        start, count = found
        if count > self.reader.tables_left:
            raise damaged("its parts are shared beyond reason")
        parts = []
        for i in range(count):
            name = f"{what} {i}"
            target = self.reader.follow(start + 4 * i, name)
            parts.append(self.reader.table(target, name))
        return parts
