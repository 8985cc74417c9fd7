"""Measures every kernel variant over a grid of shapes, so that a slow corner shows.

    python bench/kernel_grid.py [--cores cortex-m4 ...] [--layers "conv 3x3" ...] [--list]

For each kind of layer and core: which kernels were chosen, instructions per multiply-accumulate (or
per output where there are none) from the best to the worst shape, and every shape at which the
plain C kernel takes fewer. A differing byte is an error. A run over all cores and layers writes its
section of docs/benchmarks.md. --list prints every shape.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from kernel_shapes import LAYERS
from layers import Layer, measure
from page import PAGE, ROOT, table, write_section

from support.merge import merge
from tinsmith.pipeline.validation import random_samples

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4")
PART = 60  # layers in one image


@dataclass(frozen=True)
class Cell:
    """A layer of the grid as measured. units: its multiply-accumulates, or outputs."""

    layer: Layer
    units: int

    @property
    def cost(self) -> float:
        return self.layer.instructions / self.units


def measure_grid(kinds: Sequence[str], core: str) -> tuple[dict[str, list[Cell]], int]:
    """(by kind of layer: all its shapes on a core, bytes that differ)."""
    rng = np.random.default_rng(5)
    points = [(kind, point.graph(rng)) for kind in kinds for point in LAYERS[kind]]
    cells: dict[str, list[Cell]] = {kind: [] for kind in kinds}
    wrong = 0
    for first in range(0, len(points), PART):
        part = points[first : first + PART]
        graph = merge("grid", [g for _, g in part])
        found = measure(graph, core, random_samples(graph, 2))
        wrong += found.mismatches
        outputs = {n.name: graph.tensors[n.outputs[0]].size for n in graph.nodes}
        for layer in found.layers:
            kind, _ = part[int(layer.node[1:].split("_")[0])]
            cells[kind].append(Cell(layer, layer.macs or outputs[layer.node]))
    return cells, wrong


def as_row(kind: str, core: str, cells: Sequence[Cell]) -> list[str]:
    costs = sorted(cell.cost for cell in cells)
    slow = [cell.layer for cell in cells if cell.layer.is_slower]
    worst = max((s.instructions / s.plain for s in slow), default=0.0)
    return [
        kind, core.removeprefix("cortex-"), str(len(cells)),
        *(f"{np.quantile(costs, share):.2f}" for share in (0, 0.5, 1)),
        f"{sum(c.layer.plain for c in cells) / sum(c.layer.instructions for c in cells):.1f}x",
        f"{len(slow)}, at most {worst:.2f}x" if slow else "0",
    ]  # fmt: skip


HEAD = ("layer", "core", "shapes", "best", "median", "worst", "faster than plain C", "slower")


def section(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([
        "## Every kernel over a grid of shapes",
        "",
        "Instructions per multiply-accumulate of single layers, or per output value where a layer",
        "multiplies nothing: images from 1x1 to 14x14, 1 to 64 channels. Small ones pay for their",
        "call and their requantization. The last columns compare the whole grid with the plain C",
        "kernels and count the shapes at which these take fewer instructions. Every output byte",
        "equals the interpreter's. `python bench/kernel_grid.py --list` prints every shape.",
        "",
        f"{PART} layers lie in one image and share functions, as the layers of one network would;",
        "alone most are faster. A 1x1 convolution to one channel on Cortex-M0+ that plain C makes",
        "in a 63rd of the instructions has an output that is constant, as random weights may give,",
        "which the compiler sees there.",
        "",
        *table(HEAD, rows),
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--cores", nargs="+", choices=CORES, default=list(CORES))
    parser.add_argument("--layers", nargs="+", choices=tuple(LAYERS), default=list(LAYERS))
    parser.add_argument("--list", action="store_true", help="print every shape")
    options = parser.parse_args(arguments)
    rows, wrong = [], 0
    for core in options.cores:
        by_kind, more = measure_grid(options.layers, core)
        wrong += more
        for kind, cells in by_kind.items():
            rows.append(as_row(kind, core, cells))
            print("  ".join(rows[-1]), flush=True)
            for cell in cells:
                if options.list or cell.layer.is_slower:
                    print(f"    {cell.cost:8.2f}  {cell.layer.told()}", flush=True)
    if wrong:
        print(f"error: {wrong} output bytes differ from the interpreter's", file=sys.stderr)
        return 1
    if len(rows) == len(LAYERS) * len(CORES):
        rows.sort(key=lambda row: list(LAYERS).index(row[0]))
        write_section(PAGE, "kernel-grid", section(rows))
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
