"""The whole-loop functions that kernels call: a table, from which the emitter prints those in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A function in templates/tiles. fields: what its template is given beside the name."""

    name: str
    template: str
    fields: Mapping[str, object]


def _suffix(quick: bool, clamped: bool) -> str:
    return f"{'quick' if quick else 'exact'}{'_clamped' if clamped else ''}"


def dot_name(pixels: int, high: bool, quick: bool, clamped: bool) -> str:
    """The tile of 4 output channels by 1 or 2 pixels."""
    return f"dot_4x{pixels}_{'high' if high else 'wide'}_{_suffix(quick, clamped)}"


def rows_name(rows: int, quick: bool, clamped: bool) -> str:
    """The tile of a depthwise 3x3 window along 1 or 2 output rows of 4 channels."""
    return f"window_3x3_{rows}_{_suffix(quick, clamped)}"


_BOOLS = (False, True)

TILES: tuple[Tile, ...] = (
    *(
        Tile(
            dot_name(pixels, high, quick, clamped), "tiles/dot.c.j2",
            {"pixels": pixels, "high": high, "quick": quick, "clamped": clamped},
        )
        for pixels in (1, 2) for high in _BOOLS for quick in _BOOLS for clamped in _BOOLS
    ),
    *(
        Tile(
            rows_name(rows, quick, clamped), "tiles/window.c.j2",
            {"rows": rows, "quick": quick, "clamped": clamped},
        )
        for rows in (1, 2) for quick in _BOOLS for clamped in _BOOLS
    ),
)  # fmt: skip
