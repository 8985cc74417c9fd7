"""Measures the four MLPerf Tiny int8 models on emulated Cortex-M cores, beside their opponents.

    python bench/cortex_m.py [--models ad kws ic vww] [--cores cortex-m4 ...] [--data FOLDER]

Every output byte is compared with what tflite-micro gave; a difference is an error. A run over all
models and cores writes the Cortex-M section of docs/benchmarks.md; any other prints only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.deployment import temporary_build
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.model_files import read_quantized
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import target_named

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- cortex-m: begin -->", "<!-- cortex-m: end -->"

MODELS: Mapping[str, str] = {
    "ad": "ad01_int8",
    "kws": "kws_ref_model_int8",
    "ic": "ic_resnet8_int8",
    "vww": "vww_96_int8",
}
CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


@dataclass(frozen=True)
class Opponent:
    """Instructions of one inference per model, measured in QEMU with -icount shift=0, gcc 12.2."""

    core: str
    name: str
    instructions: Mapping[str, str]


def _opponent(core: str, name: str, *figures: str) -> Opponent:
    return Opponent(core, name, dict(zip(MODELS, figures, strict=True)))


OPPONENTS: tuple[Opponent, ...] = (
    _opponent("cortex-m0plus", "TFLM + CMSIS-NN, -O3", "1.763M", "29.0M", "97.6M", "86.9M"),
    _opponent("cortex-m3", "TFLM + CMSIS-NN, -O3", "0.956M", "10.5M", "41.8M", "32.1M"),
    _opponent("cortex-m4", "TFLM + CMSIS-NN, fastest", "0.573M", "7.227M", "28.504M", "22.609M"),
    _opponent("cortex-m4", "CMSIS-NN without TFLM", "0.580M", "7.84M", "29.87M", "24.71M"),
    _opponent("cortex-m4", "TFLM reference kernels, -O3", "1.95M", "48.6M", "132M", "117M"),
    _opponent("cortex-m4", "TinyEngine", "0.802M", "refuses", "25.62M, wrong", "24.45M, wrong"),
    _opponent("cortex-m7", "TFLM + CMSIS-NN, -O3", "0.583M", "7.76M", "29.9M", "24.5M"),
)  # fmt: skip

# On a Cortex-M4, from the same builds: bytes of (ad, kws, ic, vww).
OPPONENT_BYTES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("arena of TFLM", ("2,580", "22,820", "54,996", "100,708")),
    (
        "flash of the TFLM runtime, without the model",
        ("23.8-36.5 KB", "46-91 KB", "43-90 KB", "46-91 KB"),
    ),
    (".tflite file", ("276,976", "53,936", "98,496", "333,288")),
    ("stack of TFLM", ("764", "1,084", "1,084", "1,084")),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model on one core, as `tinsmith validate` counts."""

    model: str
    core: str
    instructions: int
    arena_bytes: int
    arena_bound: int
    code_bytes: int
    weight_bytes: int
    stack_bytes: int
    samples: int
    mismatches: int


def measure(name: str, graph: Graph, core: str, x: Array, y: Array) -> Row:
    """x: [N, input bytes]; y: the first output of tflite-micro for each."""
    target = target_named(core)
    program = lower(graph, name, target.isa, LowerOptions())
    with temporary_build(program, target) as made, open_runner(made.image, target) as runner:
        sizes = made.image.sizes
        assert sizes is not None
        results = list(runner.run([(row.tobytes(),) for row in x]))
    first = results[0]
    assert first.instructions is not None and first.stack_bytes is not None
    got = np.stack([np.frombuffer(r.outputs[0], y.dtype) for r in results])
    return Row(
        name, core, first.instructions, sizes.ram_bytes, program.arena_lower_bound,
        sizes.code_bytes, sizes.weight_bytes, first.stack_bytes, len(x),
        int(np.count_nonzero(got != y.reshape(len(y), -1))),
    )  # fmt: skip


def measure_all(data: Path, models: Sequence[str], cores: Sequence[str]) -> list[Row]:
    rows = []
    for name in models:
        model = data / "models" / "mlperf_tiny" / f"{MODELS[name]}.tflite"
        golden = data / "goldens" / "mlperf_tiny" / f"{MODELS[name]}.npz"
        if not model.exists() or not golden.exists():
            print(f"{name}: skipped, {model} or its goldens are not here", file=sys.stderr)
            continue
        graph = read_quantized(model).graph
        with np.load(golden) as file:
            x, y = file["x"], file["y_tflm"]
        for core in cores:
            row = measure(name, graph, core, x.reshape(len(x), -1), y)
            rows.append(row)
            print(as_line(row), flush=True)
    return rows


def as_line(r: Row) -> str:
    state = "exact" if not r.mismatches else f"{r.mismatches} BYTES DIFFER"
    return (
        f"{r.model:4} {r.core:14} {r.instructions:>12,} instructions  arena {r.arena_bytes:>7,} "
        f"(bound {r.arena_bound:,})  code {r.code_bytes:>6,}  weights {r.weight_bytes:>7,}  "
        f"stack {r.stack_bytes:>4}  {r.samples} samples {state}"
    )


def millions(count: int) -> str:
    return f"{count / 1e6:.3f}M"


def section(rows: Sequence[Row]) -> str:
    """The Cortex-M section of the page, as Markdown."""
    by = {(r.core, r.model): r for r in rows}
    models = [m for m in MODELS if any(r.model == m for r in rows)]
    head = f"| {{}} | {' | '.join(models)} |\n|---|{'---|' * len(models)}"
    lines = [
        "## Cortex-M",
        "",
        "Executed instructions of one inference of the four MLPerf Tiny v1 int8 reference models;",
        "ours in the default configuration, every output byte equal to tflite-micro's.",
        "",
    ]
    lines.append(head.format("instructions"))
    for core in CORES:
        if not any(r.core == core for r in rows):
            continue
        figures = [f"**{millions(by[core, m].instructions)}**" for m in models]
        lines.append(f"| **tinsmith, {core}** | {' | '.join(figures)} |")
        for rival in (o for o in OPPONENTS if o.core == core):
            figures = [rival.instructions[m] for m in models]
            lines.append(f"| {rival.name}, {core} | {' | '.join(figures)} |")
    lines += ["", "Bytes. The arena is all RAM but the stack: inputs, outputs and scratch.", ""]
    lines.append(head.format("bytes"))
    for core in CORES:
        if not any(r.core == core for r in rows):
            continue
        for label, field in (
            ("arena", "arena_bytes"),
            ("code", "code_bytes"),
            ("weights", "weight_bytes"),
            ("stack", "stack_bytes"),
        ):
            figures = [f"{getattr(by[core, m], field):,}" for m in models]
            lines.append(f"| tinsmith, {core}: {label} | {' | '.join(figures)} |")
        figures = [f"{by[core, m].code_bytes + by[core, m].weight_bytes:,}" for m in models]
        lines.append(f"| **tinsmith, {core}: flash** | {' | '.join(figures)} |")
    for label, figures_of in OPPONENT_BYTES:
        every = dict(zip(MODELS, figures_of, strict=True))
        lines.append(f"| {label}, cortex-m4 | {' | '.join(every[m] for m in models)} |")
    samples = {m: max(r.samples for r in rows if r.model == m) for m in models}
    told = ", ".join(f"{m} {n}" for m, n in samples.items())
    lines += ["", f"Samples compared with tflite-micro on each core: {told}; differing bytes: 0."]
    lines.append("`python bench/cortex_m.py` measures all this again; the opponents' figures were")
    lines.append("measured in QEMU (`-icount shift=0`, gcc 12.2).")
    return "\n".join(lines)


def write_section(page: Path, text: str) -> None:
    """Puts the section between its marks; the rest of the page stays as it is."""
    old = page.read_text() if page.exists() else "# Benchmarks\n"
    block = f"{BEGIN}\n{text}\n{END}"
    if BEGIN in old and END in old:
        before, rest = old.split(BEGIN, 1)
        page.write_text(before + block + rest.split(END, 1)[1])
    else:
        page.write_text(f"{old.rstrip()}\n\n{block}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--cores", nargs="+", choices=CORES, default=list(CORES))
    parser.add_argument("--data", type=Path, default=DATA, help="folder with models/ and goldens/")
    options = parser.parse_args(arguments)
    rows = measure_all(options.data, options.models, options.cores)
    wrong = sum(r.mismatches for r in rows)
    if wrong:
        print(f"error: {wrong} output bytes differ from tflite-micro's", file=sys.stderr)
        return 1
    if len(rows) == len(MODELS) * len(CORES):
        write_section(PAGE, section(rows))
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
