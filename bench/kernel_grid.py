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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from layers import Layer, measure
from ordinary import NONE, RELU, Net, conv, depthwise, weights
from page import PAGE, ROOT, table, write_section

from support.merge import merge
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.validation import random_samples

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4")
IMAGES = ((1, 1), (3, 3), (8, 8), (1, 32), (14, 14))
CHANNELS = (1, 3, 8, 14, 64)
OUTPUTS = (3, 32)
MOST_MACS = 400_000  # of one layer: larger ones cost what these do
PART = 60  # layers in one image

# Adds a layer behind the input.
Make = Callable[[Net, str], str]


@dataclass(frozen=True)
class Point:
    """One layer of the grid. shape: of its input."""

    shape: tuple[int, ...]
    make: Make

    def graph(self, rng: np.random.Generator) -> Graph:
        net = Net("point", rng)
        x = net.input(self.shape)
        return net.graph([self.make(net, x)])


def _convs(
    kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), outputs: Sequence[int] = OUTPUTS
) -> list[Point]:
    return [
        _conv((1, h, w, c), out, kernel, stride)
        for h, w in IMAGES
        for c in CHANNELS
        for out in outputs
        if h * w * c * out * kernel[0] * kernel[1] <= MOST_MACS
    ]


def _conv(
    shape: tuple[int, ...], out: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> Point:
    return Point(shape, lambda net, x: conv(net, x, out, kernel, stride, RELU))


def _depthwise(
    kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1),
    multiplier: int = 1,
) -> list[Point]:  # fmt: skip
    def make(net: Net, x: str) -> str:
        return depthwise(net, x, kernel, stride, RELU, dilation, multiplier)

    return [Point((1, h, w, c), make) for h, w in IMAGES for c in CHANNELS]


def _dense(rows: int, inputs: int, outputs: int) -> Point:
    def make(net: Net, x: str) -> str:
        w = weights(net, (outputs, inputs), x, 0, inputs)
        return net.node("fully_connected", [x, w, net.bias(w, x, outputs)], FullyConnectedAttrs())

    return Point((rows, inputs), make)


def _binary(op: str, attrs: object) -> list[Point]:
    def make(net: Net, x: str) -> str:
        return net.node(op, [x, net.input(net.shape(x), 0.03, -5)], attrs)

    return [Point((1, h, w, c), make) for h, w in IMAGES for c in (1, 3, 8, 64)]


def _one(op: str, attrs_of: Callable[[tuple[int, ...]], object]) -> list[Point]:
    def make(net: Net, x: str) -> str:
        return net.node(op, [x], attrs_of(net.shape(x)))

    return [Point((1, h, w, c), make) for h, w in IMAGES for c in (1, 3, 8, 64)]


def _halves(shape: tuple[int, ...]) -> Pool2dAttrs:
    size = (min(2, shape[1]), min(2, shape[2]))
    return Pool2dAttrs(size, size)


LAYERS: Mapping[str, list[Point]] = {
    "conv 1x1": _convs((1, 1), outputs=(3, 8, 32)),
    "conv 3x3": _convs((3, 3)),
    "conv 3x3, stride 2": _convs((3, 3), (2, 2)),
    "conv 1x5": _convs((1, 5)),
    "conv 5x5, stride 2": _convs((5, 5), (2, 2)),
    "depthwise 3x3": _depthwise((3, 3)),
    "depthwise 3x3, stride 2": _depthwise((3, 3), (2, 2)),
    "depthwise 5x5": _depthwise((5, 5)),
    "depthwise 1x5": _depthwise((1, 5)),
    "depthwise 3x3, dilated": _depthwise((3, 3), dilation=(2, 2)),
    "depthwise 3x3, two outputs a channel": _depthwise((3, 3), multiplier=2),
    "fully connected": [
        _dense(rows, inputs, outputs)
        for rows in (1, 3)
        for inputs in (1, 10, 64, 256)
        for outputs in (1, 2, 5, 64)
    ],
    "add": _binary("add", AddAttrs(NONE)),
    "add, relu": _binary("add", AddAttrs(RELU)),
    "mul": _binary("mul", MulAttrs(NONE)),
    "max pool 2x2": _one("max_pool2d", _halves),
    "average pool 2x2": _one("average_pool2d", _halves),
    "average pool, whole image": _one("average_pool2d", lambda s: Pool2dAttrs(s[1:3], s[1:3])),
    "mean over the image": _one("mean", lambda s: ReduceAttrs((1, 2), False)),
    "softmax": _one("softmax", lambda s: SoftmaxAttrs()),
}


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
