"""The whole-loop functions that kernels call: a table, from which the emitter prints those in
use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinsmith.codegen.kernels.dealing import LONGEST_GROUP


@dataclass(frozen=True)
class Tile:
    """A function in templates/tiles. fields: what its template is given beside the name.

    guard: the macro of cores that have its instructions; others take the C model.
    """

    name: str
    template: str
    fields: Mapping[str, object]
    guard: str = "__ARM_FEATURE_DSP"


def _suffix(quick: bool, clamped: bool) -> str:
    return f"{'quick' if quick else 'exact'}{'_clamped' if clamped else ''}"


def dot_name(pixels: int, high: bool, quick: bool, clamped: bool, shared: bool = False) -> str:
    """The tile of 4 output channels by 1 or 2 pixels; shared: all channels are requantized
    alike."""
    width, end = "high" if high else "wide", "_shared" if shared else ""
    return f"dot_4x{pixels}_{width}_{_suffix(quick, clamped)}{end}"


def winograd_name(pairs: int) -> str:
    """The products of 4 output channels by 2 tiles, `pairs` of input channels a round."""
    return f"winograd_4x2_rounds_of_{2 * pairs}"


def winograd_outputs_name(quick: bool, clamped: bool) -> str:
    """The outputs from those products."""
    return f"winograd_outputs_{_suffix(quick, clamped)}"


def taps_name(columns: int, quick: bool, clamped: bool) -> str:
    """The tile of a depthwise window of one pixel, four channels at a time."""
    return f"taps_{columns}_wide_{_suffix(quick, clamped)}"


def rows_name(quick: bool, clamped: bool) -> str:
    """The tile of a depthwise 3x3 window along 2 output rows of 4 channels."""
    return f"window_3x3_2_{_suffix(quick, clamped)}"


def pairs_name(group: int, rounds: int, quick: bool, clamped: bool) -> str:
    """The tile of 2 output channels by 4 pixels, two in one multiply, in groups of taps."""
    return f"pairs_2x4_groups_of_{group}{'_twice' if rounds == 2 else ''}_{_suffix(quick, clamped)}"


def octets_name(group: int, half: int, mirrored: bool) -> str:
    """The tile of 1 output channel by 8 pixels, two in one multiply, for cores of 16-bit
    instructions."""
    return f"octets_1x8_groups_of_{group}_half_{half}{'_mirrored' if mirrored else ''}"


def eights_name(group: int, rounds: int, by: str, half: int, clamped: bool) -> str:
    """The tile of 8 output channels of a pixel, two in one multiply."""
    how = f"{by}_half_{half}" if half else f"{by}{'_clamped' if clamped else ''}"
    return f"eights_8x1_groups_of_{group}{'_twice' if rounds == 2 else ''}_{how}"


def pack_name(short: bool, direct: bool) -> str:
    """The tile that packs two pixels: a run of taps that lie side by side, or whole windows."""
    return f"pack_{'two' if direct else 'windows'}_{'short' if short else 'long'}"


def sums_name(short: bool) -> str:
    """The tile of the sums of four outputs over a row."""
    return f"sums_of_four_{'short' if short else 'long'}"


def lay_name(short: bool) -> str:
    """The tile that lays a row of a channel into a line."""
    return f"lay_row_{'short' if short else 'long'}"


def row_name(stride: int, by: str, half: int, clamped: bool) -> str:
    """The tile of a depthwise 3x3 window along a row of one channel."""
    how = f"{by}_half_{half}" if half else f"{by}{'_clamped' if clamped else ''}"
    return f"row_3x3_stride_{stride}_{how}"


_BOOLS = (False, True)
MOST_COLUMNS = 7

TILES: tuple[Tile, ...] = (
    *(
        Tile(
            dot_name(pixels, high, quick, clamped, shared),
            "tiles/dot.c.j2",
            {"pixels": pixels, "high": high, "quick": quick, "clamped": clamped, "shared": shared},
        )
        for pixels, shared in ((1, False), (1, True), (2, False))
        for high in _BOOLS
        for quick in _BOOLS
        for clamped in _BOOLS
    ),
    *(
        Tile(
            rows_name(quick, clamped),
            "tiles/window.c.j2",
            {"quick": quick, "clamped": clamped},
        )
        for quick in _BOOLS
        for clamped in _BOOLS
    ),
    *(
        Tile(
            pairs_name(group, rounds, quick, clamped),
            "tiles/pairs.c.j2",
            {"group": group, "rounds": rounds, "quick": quick, "clamped": clamped},
            "__thumb2__",
        )
        for group in range(1, LONGEST_GROUP + 1)
        for rounds in (1, 2)
        for quick in _BOOLS
        for clamped in _BOOLS
    ),
    *(
        Tile(
            octets_name(group, half, mirrored),
            "tiles/octets.c.j2",
            {"group": group, "half": half, "mirrored": mirrored},
            "__ARM_ARCH_6M__",
        )
        for group in range(1, LONGEST_GROUP + 1)
        for half in range(11, 17)
        for mirrored in _BOOLS
    ),
    *(
        Tile(
            eights_name(group, rounds, by, 0, clamped),
            "tiles/eights.c.j2",
            {"group": group, "rounds": rounds, "by": by, "half": 0, "clamped": clamped},
            "__thumb2__",
        )
        for group in range(1, LONGEST_GROUP + 1)
        for rounds in (1, 2)
        for by in ("quick", "exact")
        for clamped in _BOOLS
    ),
    *(
        Tile(
            eights_name(group, 1, by, half, False),
            "tiles/eights.c.j2",
            {"group": group, "rounds": 1, "by": by, "half": half, "clamped": False},
            "__ARM_ARCH_6M__",
        )
        for group in range(1, LONGEST_GROUP + 1)
        for half in range(11, 17)
        for by in ("steps", "mirrored")
    ),
    *(
        Tile(
            row_name(stride, by, 0, clamped),
            "tiles/row.c.j2",
            {"stride": stride, "by": by, "half": 0, "clamped": clamped},
            "__thumb2__",
        )
        for stride in (1, 2, 3)
        for by in ("quick", "exact")
        for clamped in _BOOLS
    ),
    *(
        Tile(
            row_name(stride, by, half, False),
            "tiles/row.c.j2",
            {"stride": stride, "by": by, "half": half, "clamped": False},
            "__ARM_ARCH_6M__",
        )
        for stride in (1, 2, 3)
        for by in ("steps", "mirrored")
        for half in range(11, 17)
    ),
    *(Tile(winograd_name(pairs), "tiles/winograd.c.j2", {"pairs": pairs}) for pairs in (2, 4, 8)),
    *(
        Tile(
            winograd_outputs_name(quick, clamped),
            "tiles/winograd_outputs.c.j2",
            {"quick": quick, "clamped": clamped},
        )
        for quick in _BOOLS
        for clamped in _BOOLS
    ),
    *(
        Tile(
            taps_name(columns, quick, clamped),
            "tiles/taps.c.j2",
            {"columns": columns, "quick": quick, "clamped": clamped},
        )
        for columns in range(1, MOST_COLUMNS + 1)
        for quick in _BOOLS
        for clamped in _BOOLS
    ),
    Tile("winograd_input", "tiles/winograd_input.c.j2", {}),
    Tile(lay_name(False), "tiles/lay_row.c.j2", {"short": False}, "__thumb2__"),
    Tile(lay_name(True), "tiles/lay_row.c.j2", {"short": True}, "__ARM_ARCH_6M__"),
    Tile(pack_name(False, True), "tiles/pack.c.j2", {"short": False}, "__thumb2__"),
    Tile(pack_name(True, True), "tiles/pack.c.j2", {"short": True}, "__ARM_ARCH_6M__"),
    *(
        Tile(
            pack_name(short, False),
            "tiles/pack_windows.c.j2",
            {"pack": pack_name(short, True)},
            "__ARM_ARCH_6M__" if short else "__thumb2__",
        )
        for short in _BOOLS
    ),
    Tile(sums_name(False), "tiles/sums.c.j2", {"short": False}, "__thumb2__"),
    Tile(sums_name(True), "tiles/sums.c.j2", {"short": True}, "__ARM_ARCH_6M__"),
)
