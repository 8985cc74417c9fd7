"""Fits the cost model to measurements in the emulator and writes codegen/cost_table.py.

    python bench/fit_costs.py [--cores cortex-m4 ...] [--ops conv2d ...] [--layers 70] [--check 30]
                              [--seed 0] [--dry]

Per core and op, a seeded grid of layers is measured with every kernel that can compute it. The
coefficients are those of the least relative error, none below 0. Then layers of another seed are
measured, to see what is chosen for them: the script prints each kernel's error, and every layer for
which the objectives "time" or "balanced" choose a kernel that takes more instructions than the
plain C one. Cores and ops that are left out keep what they have. --dry writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from layer_grid import OPS, Measured, measure_grid
from scipy.optimize import nnls

from tinsmith.codegen import cost
from tinsmith.codegen.choice import usable_kernels
from tinsmith.codegen.cost import QUANTITIES, dims_of
from tinsmith.codegen.kernels import kernels_of
from tinsmith.pipeline.ops import OpCall
from tinsmith.targets.target import Target, target_named

ROOT = Path(__file__).resolve().parents[1]
TABLE_FILE = ROOT / "codegen" / "cost_table.py"
# What is estimated -> quantity -> what each unit of it adds.
Fitted = Mapping[str, Mapping[str, float]]
# One core for each family of kernels; M7 and M33 run the same code as M4.
CORES: Mapping[str, str] = {"dsp": "cortex-m4", "m3": "cortex-m3", "m0": "cortex-m0plus"}

_GATHER = ("sought pixels", "window rows", "gathered", "border taps", "border bytes")
_PAIRS = (
    "call", "pixels", "packed", "odd packed", *_GATHER, "odd gathered", "pairs", "pairs rest",
    "pairs quads", "pairs quads taps",
)  # fmt: skip
_EIGHTS = (
    "call", "pixels", *_GATHER, "odd gathered", "pixels octads", "pixels octads taps",
    "pixels octads groups",
)  # fmt: skip
_LINE = (
    "call", "rows", "channels", "channels rows", "channels rows columns", "moved channels rows",
    "moved channels rows columns", "outputs",
)  # fmt: skip
_FOURS = (
    "call", "pixels", "pixels quads", "pixels quads taps", "outputs", "odd pixels quads",
    "odd pixels quads taps", "odd outputs", "rest outputs", "odd rest outputs",
)  # fmt: skip
_WINDOW_C = (
    "call", "rows", "pixels", "outputs", "output window rows", "macs", "padded pixels",
    "padded outputs", "padded window rows", *_GATHER,
)  # fmt: skip
# What the instructions of a kernel depend on.
INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "add_saturated_dsp": ("call", "outputs", "first outputs"),
    "add_saturated_m3": ("call", "outputs", "first outputs"),
    "add_weighted": ("call", "limited", "outputs", "limited outputs"),
    "conv2d_c": (
        "call", "rows", "pixels", "pixels twos", "outputs", "macs", "odd macs", *_GATHER,
        "odd gathered",
    ),
    "conv2d_dsp": _PAIRS,
    "conv2d_winograd": (
        "call", "tiles", "tiles inputs", "tiles quads", "tiles products", "border bytes",
    ),
    "conv2d_eights_m3": _EIGHTS,
    "conv2d_eights_m0": _EIGHTS,
    "conv2d_pairs": (
        "call", "pixels", "packed", *_GATHER, "fours", "fours rest", "fours twos",
        "fours twos taps", "fours twos groups",
    ),
    "conv2d_octets": (
        "call", "pixels", "packed", *_GATHER, "eights", "eights channels", "eights channels taps",
        "eights channels groups",
    ),
    "depthwise_conv2d_c": _WINDOW_C,
    "depthwise_window_dsp": (
        "call", "rows", "quads pairs of rows", "quads pairs of rows columns",
        "moved quads pairs of rows columns", "quads pairs of rows outputs", "border",
    ),
    "depthwise_taps_dsp": (
        "call", "rows", "pixels", "pixels quads", "pixels quads taps", "pixels quads window rows",
        "padded pixels", "window rows", "border", "border taps", "border bytes",
    ),
    "depthwise_line_m3": _LINE,
    "depthwise_line_m0": _LINE,
    "fully_connected_c": ("call", "pixels", "pixels twos", "outputs", "macs", "odd macs"),
    "fully_connected_dsp": ("call", "quads", "quads taps", "rest"),
    "fully_connected_rows_dsp": _PAIRS,
    "fully_connected_fours_m3": _FOURS,
    "fully_connected_fours_m0": _FOURS,
}  # fmt: skip
CODE = ("call", "padded", "windows", "odd", "rest")
CONSTANTS = (
    "call", "channels", "twos", "quads", "octads", "weights", "twos taps", "quads taps",
    "octads taps", "taps",
)  # fmt: skip


def fit(
    rows: Sequence[Measured], kernel: str, field: str, names: Sequence[str], relative: bool = True
) -> dict[str, float]:
    """Factors >= 0 of the quantities for which the (relative) errors' magnitudes are least.

    By least squares whose weights are made anew, until what lies far off pulls no harder.
    """
    dims = [dims_of(m.call) for m in rows]
    a = np.array([[QUANTITIES[n](d) for n in names] for d in dims if d is not None], np.float64)
    y = np.array([getattr(m.costs[kernel], field) for m in rows], np.float64)
    weight = 1 / np.maximum(y, 1) if relative else np.full(len(y), 1 / max(y.mean(), 1))
    scale = np.maximum(np.abs(a * weight[:, None]).max(axis=0), 1e-12)
    pull = np.ones(len(y))
    for _ in range(20):
        w = weight * pull
        factors, _ = nnls(a * w[:, None] / scale, y * w)
        error = np.abs(a @ (factors / scale) - y) * weight
        pull = 1 / np.sqrt(np.maximum(error, 0.01))
    return {n: float(f"{f:.4g}") for n, f in zip(names, factors / scale, strict=True) if f > 1e-6}


def fit_kernel(rows: Sequence[Measured], kernel: str) -> Fitted:
    """rows: those that the kernel can compute."""
    return {
        "instructions": fit(rows, kernel, "instructions", INSTRUCTIONS[kernel]),
        "code_bytes": fit(rows, kernel, "code_bytes", CODE, relative=False),
        "constant_bytes": fit(rows, kernel, "constant_bytes", CONSTANTS),
    }


def fit_family(rows: Sequence[Measured]) -> dict[str, Fitted]:
    """Every kernel that computes some of the layers; prints its errors."""
    found = {}
    for kernel in sorted({k for m in rows for k in m.costs}):
        own = [m for m in rows if kernel in m.costs]
        found[kernel] = fit_kernel(own, kernel)
        print(f"  {kernel:26} {len(own):4} layers, error {errors(own, kernel, found[kernel])}")
    return found


def errors(rows: Sequence[Measured], kernel: str, fitted: Fitted) -> str:
    texts = []
    for field, terms in fitted.items():
        off = [
            abs(total(terms, m.call) / max(getattr(m.costs[kernel], field), 1) - 1) for m in rows
        ]
        median, most = 100 * np.median(off), 100 * np.quantile(off, 0.9)
        texts.append(f"{field} {median:.1f} % (nine tenths within {most:.0f} %)")
    return ", ".join(texts)


def total(terms: Mapping[str, float], call: OpCall) -> float:
    dims = dims_of(call)
    assert dims is not None
    return sum(f * QUANTITIES[n](dims) for n, f in terms.items())


def check(rows: Sequence[Measured], isa: tuple[str, ...]) -> None:
    """Prints what the objectives choose by cost.TABLE, beside the fastest and plain C."""
    for objective in ("time", "balanced"):
        slower, lost = [], []
        for m in rows:
            ((taken,),) = usable_kernels(m.graph, isa, objective).values()
            counts = {k: c.instructions for k, c in m.costs.items()}
            plain = min(counts[k.name] for k in kernels_of(m.call.op, ("c",)) if k.name in counts)
            lost.append(counts[taken.name] / min(counts.values()) - 1)
            if counts[taken.name] > plain:
                slower.append((counts[taken.name] / plain - 1, taken.name, m.call))
        print(
            f"  {objective}: {len(rows)} other layers, {len(slower)} slower than plain C; "
            f"{100 * np.mean(lost):.2f} % above the fastest kernel on average, "
            f"{100 * max(lost):.0f} % at most"
        )
        for by, name, call in sorted(slower, key=lambda s: -s[0]):
            shapes = f"{call.input(0).shape} by {call.input(1).shape}, {call.attrs}"
            print(f"    {name} is {100 * by:.0f} % slower: {shapes}")


def grids(ops: Sequence[str], target: Target, count: int, seed: int) -> list[Measured]:
    """`count` layers of each op; without those that no kernel with a cost can compute."""
    found = (measure_grid(op, target, count, seed, INSTRUCTIONS) for op in ops)
    return [m for grid in found for m in grid if m.costs]


def write_table(path: Path, table: Mapping[str, Mapping[str, Fitted]]) -> None:
    """The module of coefficients; what stands before them in the file is kept."""
    head = path.read_text().split("TABLE:", 1)[0]
    lines = [f"{head}TABLE: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = {{"]
    for family, kernels in table.items():
        lines.append(f'    "{family}": {{')
        for kernel, fitted in kernels.items():
            lines.append(f'        "{kernel}": {{')
            for field, terms in fitted.items():
                body = ", ".join(f'"{n}": {f:g}' for n, f in terms.items())
                lines.append(f'            "{field}": {{{body}}},')
            lines.append("        },")
        lines.append("    },")
    path.write_text("\n".join([*lines, "}  # fmt: skip", ""]))


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--layers", type=int, default=70, help="to fit to, per op and core")
    parser.add_argument(
        "--check", type=int, default=30, help="others to choose for, per op and core"
    )
    parser.add_argument("--cores", nargs="+", choices=tuple(CORES.values()), default=None)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    table = dict(cost.TABLE)
    for family, core in CORES.items():
        if options.cores and core not in options.cores:
            continue
        target = target_named(core)
        print(f"{core}:", flush=True)
        fitted = fit_family(grids(options.ops, target, options.layers, options.seed))
        table[family] = {**cost.TABLE.get(family, {}), **fitted}
        others = grids(options.ops, target, options.check, options.seed + 1)
        with patch.object(cost, "TABLE", table):
            check(others, target.isa)
        if not options.dry:
            write_table(TABLE_FILE, table)
            print(f"wrote {TABLE_FILE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
