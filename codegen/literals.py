"""Numbers as C writes them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tinsmith.pipeline.graph import DType

COLUMNS = 100


def golden_rows(array: NDArray[Any]) -> list[str]:
    """A sample's values as literals in lines."""
    return rows(array.reshape(-1), DType.of(array))


def number(value: Any, dtype: DType | None) -> str:
    """A C literal of a value."""
    if dtype is DType.FLOAT32:
        return f"{float(value).hex()}f"
    if int(value) == -(1 << 31):
        return "INT32_MIN"
    return str(int(value)) + ("u" if int(value) >= 1 << 31 else "")


def rows(values: NDArray[Any], dtype: DType | None) -> list[str]:
    """Literals in lines that stay within the columns."""
    texts = [number(v, dtype) for v in values.tolist()]
    if not texts:
        return ["0"]
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) + 2 > COLUMNS:
            lines.append(line)
            line = "   "
        line += f" {text},"
    lines.append(line)
    return lines
