"""Measures the four MLPerf Tiny int8 models on emulated Cortex-M cores, beside their opponents.

    python bench/cortex_m.py [--models ad kws ic vww] [--cores cortex-m4 ...] [--data FOLDER]

Every output byte is compared with what tflite-micro gave; a difference is an error. Goals that are
missed are named. A run over all models and cores writes the Cortex-M section of docs/benchmarks.md;
any other prints only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kept import kept
from page import DATA, PAGE, ROOT, millions, write_section

from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline.deployment import temporary_build
from tinsmith.pipeline.errors import ToolMissing
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.model_files import read_quantized
from tinsmith.targets.cycles import estimate_cycles
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import find_toolchain

MODELS: Mapping[str, str] = {
    "ad": "ad01_int8",
    "kws": "kws_ref_model_int8",
    "ic": "ic_resnet8_int8",
    "vww": "vww_96_int8",
}
CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


@dataclass(frozen=True)
class Build:
    """How a model is generated and compiled."""

    core: str
    objective: str = "balanced"
    toolchain: str = "zig"

    @property
    def title(self) -> str:
        objective = "" if self.objective == "balanced" else f", -O {self.objective}"
        return f"{self.core}{objective}{', gcc' if self.toolchain == 'gcc' else ''}"


BUILDS: tuple[Build, ...] = (
    *(Build(core) for core in CORES),
    Build("cortex-m4", "time"),
    *(Build(core, "ram") for core in CORES),
    *(Build(core, toolchain="gcc") for core in CORES[:3]),
)


@dataclass(frozen=True)
class Goal:
    """The most that a field of Row should be, per model."""

    build: Build
    field: str
    most: Mapping[str, int]


def _goal(core: str, objective: str, field: str, *most: float) -> Goal:
    figures = dict(zip(MODELS, (int(m) for m in most), strict=True))
    return Goal(Build(core, objective), field, figures)


_KIB = 1024
GOALS: tuple[Goal, ...] = (
    _goal("cortex-m0plus", "balanced", "instructions", 1.1e6, 9.5e6, 38e6, 15e6),
    _goal("cortex-m3", "balanced", "instructions", 0.66e6, 5.2e6, 20e6, 8.5e6),
    _goal("cortex-m4", "balanced", "instructions", 0.35e6, 3.6e6, 14e6, 6.5e6),
    _goal("cortex-m7", "balanced", "instructions", 0.3675e6, 3.78e6, 14.7e6, 6.825e6),
    _goal("cortex-m33", "balanced", "instructions", 0.3675e6, 3.78e6, 14.7e6, 6.825e6),
    _goal("cortex-m4", "time", "instructions", 0.35e6, 3.5e6, 11e6, 6.0e6),
    _goal("cortex-m4", "time", "cycles_high", 0.48e6, 4.8e6, 15e6, 8.5e6),
    *(_goal(c, "balanced", "arena_bytes", 1024, 9600, 34000, 38000) for c in CORES),
    *(_goal(c, "ram", "arena_bytes", 1024, 8700, 22000, 30000) for c in CORES),
    _goal("cortex-m4", "balanced", "code_bytes", 6 * _KIB, 12 * _KIB, 12 * _KIB, 14 * _KIB),
    _goal("cortex-m4", "balanced", "flash_bytes", 276 * _KIB, 44 * _KIB, 100 * _KIB, 62 * _KIB),
    *(_goal(c, "balanced", "stack_bytes", 512, 512, 512, 512) for c in CORES),
)


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
    """One model in one build, as `tinsmith validate` counts. cycles: the ends of the estimate."""

    model: str
    build: Build
    instructions: int
    cycles_low: int
    cycles_high: int
    arena_bytes: int
    arena_bound: int
    code_bytes: int
    weight_bytes: int
    stack_bytes: int
    samples: int
    mismatches: int

    @property
    def flash_bytes(self) -> int:
        return self.code_bytes + self.weight_bytes


def measure(name: str, graph: Graph, build: Build, x: Array, y: Array) -> Row:
    """x: [N, input bytes]; y: the first output of tflite-micro for each."""
    target = target_named(build.core)
    program = lower(graph, name, target.isa, LowerOptions(build.objective))
    facts = (build.core, build.toolchain, x.tobytes(), y.tobytes())
    found = kept(program, facts, lambda: _run(program, build, x, y))
    return Row(name, build, *found[:4], program.arena_lower_bound, *found[4:])


def _run(program: Program, build: Build, x: Array, y: Array) -> list[int]:
    """The fields of Row that the emulator tells, in order."""
    target = target_named(build.core)
    toolchain = find_toolchain(build.toolchain, target)
    with (
        temporary_build(program, target, toolchain=toolchain) as made,
        open_runner(made.image, target) as runner,
    ):
        sizes = made.image.sizes
        assert sizes is not None
        results = list(runner.run([(row.tobytes(),) for row in x]))
        cycles = estimate_cycles(made.image, target, runner.blocks)
    first = results[0]
    assert first.instructions is not None and first.stack_bytes is not None and cycles is not None
    got = np.stack([np.frombuffer(r.outputs[0], y.dtype) for r in results])
    return [
        first.instructions, cycles.low, cycles.high, sizes.ram_bytes,
        sizes.code_bytes, sizes.weight_bytes, first.stack_bytes, len(x),
        int(np.count_nonzero(got != y.reshape(len(y), -1))),
    ]  # fmt: skip


def measure_all(data: Path, models: Sequence[str], builds: Sequence[Build]) -> list[Row]:
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
        for build in builds:
            row = measure(name, graph, build, x.reshape(len(x), -1), y)
            rows.append(row)
            print(as_line(row), flush=True)
    return rows


def installed(builds: Sequence[Build]) -> list[Build]:
    """Those whose compiler is here; the others are named on the standard error."""
    found = []
    for build in builds:
        try:
            find_toolchain(build.toolchain, target_named(build.core))
        except ToolMissing as e:
            print(f"{build.title}: skipped: {e}", file=sys.stderr)
            continue
        found.append(build)
    return found


def missed_goals(rows: Sequence[Row]) -> list[str]:
    """A line for each goal that a row misses."""
    found = {(r.model, r.build): r for r in rows}
    lines = []
    for goal in GOALS:
        for model, most in goal.most.items():
            row = found.get((model, goal.build))
            if row is not None and getattr(row, goal.field) > most:
                value = getattr(row, goal.field)
                lines.append(f"{model}, {goal.build.title}: {goal.field} {value:,}, goal {most:,}")
    return lines


def as_line(r: Row) -> str:
    state = "exact" if not r.mismatches else f"{r.mismatches} BYTES DIFFER"
    return (
        f"{r.model:4} {r.build.title:20} {r.instructions:>12,} instructions  "
        f"cycles {r.cycles_low:,}-{r.cycles_high:,}  arena {r.arena_bytes:>7,} "
        f"(bound {r.arena_bound:,})  code {r.code_bytes:>6,}  weights {r.weight_bytes:>7,}  "
        f"stack {r.stack_bytes:>4}  {r.samples} samples {state}"
    )


class Table:
    """Rows of figures per model, in Markdown."""

    def __init__(self, rows: Sequence[Row], label: str) -> None:
        self._rows = {(r.build, r.model): r for r in rows}
        self.models = [m for m in MODELS if any(r.model == m for r in rows)]
        self.lines = [
            f"| {label} | {' | '.join(self.models)} |", f"|---|{'---|' * len(self.models)}",
        ]  # fmt: skip

    def has(self, build: Build) -> bool:
        return all((build, m) in self._rows for m in self.models)

    def other(self, label: str, figures: Mapping[str, str]) -> None:
        self.lines.append(f"| {label} | {' | '.join(figures[m] for m in self.models)} |")

    def ours(
        self, build: Build, text: Callable[[Row], str], what: str = "", *, bold: bool = False
    ) -> None:
        """A row of a build that was measured."""
        if not self.has(build):
            return
        mark = "**" if bold else ""
        figures = {m: f"{mark}{text(self._rows[build, m])}{mark}" for m in self.models}
        self.other(f"{mark}tinsmith, {build.title}{what}{mark}", figures)

    def goal(self, build: Build, field: str, text: Callable[[int], str]) -> None:
        """Our goal for the row above, where there is one."""
        for goal in GOALS:
            if (goal.build, goal.field) == (build, field) and self.has(build):
                self.other("our goal, at most", {m: text(v) for m, v in goal.most.items()})


def bytes_text(count: int) -> str:
    return f"{count:,}"


def section(rows: Sequence[Row]) -> str:
    """The Cortex-M section of the page, as Markdown."""
    models = [m for m in MODELS if any(r.model == m for r in rows)]
    samples = {m: max(r.samples for r in rows if r.model == m) for m in models}
    told = ", ".join(f"{m} {n}" for m, n in samples.items())
    return "\n".join([
        "## Cortex-M",
        "",
        "Executed instructions of one inference of the four MLPerf Tiny v1 int8 reference models.",
        "Every output byte equals tflite-micro's. Ours are in the default configuration, built by",
        "zig, unless the row says otherwise; goals are those that this project has set itself.",
        "",
        *_instructions(rows).lines,
        "",
        *_gcc_text(rows),
        "Cycles of a Cortex-M4 with `-O time`, estimated from how often each block of code ran, at",
        "zero wait states: the lower and the upper end.",
        "",
        *_cycles(rows).lines,
        "",
        "Bytes. The arena is all RAM but the stack: inputs, outputs and scratch; `-O ram` asks for",
        "the smallest.",
        "",
        *_bytes(rows).lines,
        "",
        f"Samples compared with tflite-micro in each build: {told}; differing bytes: 0.",
        "`python bench/cortex_m.py` measures all this again; the opponents' figures were",
        "measured in QEMU (`-icount shift=0`, gcc 12.2).",
    ])  # fmt: skip


def _gcc_text(rows: Sequence[Row]) -> list[str]:
    """How many more instructions gcc's builds take than zig's, at most."""
    counts = {(r.model, r.build): r.instructions for r in rows}
    ratios = [
        count / counts[model, Build(build.core)]
        for (model, build), count in counts.items()
        if build.toolchain == "gcc"
    ]
    if not ratios:
        return []
    more = f"{100 * (max(ratios) - 1):.1f} %"
    return [f"gcc is arm-none-eabi-gcc at its `-O2`: at most {more} more than zig's.", ""]


def _instructions(rows: Sequence[Row]) -> Table:
    table = Table(rows, "instructions")
    for core in CORES:
        for build in (b for b in BUILDS if b.core == core):
            table.ours(build, lambda r: millions(r.instructions), bold=build == Build(core))
            table.goal(build, "instructions", millions)
        if table.has(Build(core)):
            for rival in (o for o in OPPONENTS if o.core == core):
                table.other(f"{rival.name}, {core}", rival.instructions)
    return table


def _cycles(rows: Sequence[Row]) -> Table:
    build = Build("cortex-m4", "time")
    table = Table(rows, "cycles")
    table.ours(build, lambda r: f"{millions(r.cycles_low)}-{millions(r.cycles_high)}")
    table.goal(build, "cycles_high", millions)
    return table


def _bytes(rows: Sequence[Row]) -> Table:
    table = Table(rows, "bytes")
    for core in CORES:
        build = Build(core)
        for label, field in (
            ("arena", "arena_bytes"),
            ("code", "code_bytes"),
            ("weights", "weight_bytes"),
            ("flash", "flash_bytes"),
            ("stack", "stack_bytes"),
        ):
            what = f": {label}"
            table.ours(build, lambda r, f=field: bytes_text(getattr(r, f)), what,
                       bold=field in ("arena_bytes", "flash_bytes"))  # fmt: skip
            if core == "cortex-m4":
                table.goal(build, field, bytes_text)
            if field == "arena_bytes":
                table.ours(Build(core, "ram"), lambda r: bytes_text(r.arena_bytes), what)
                if core == "cortex-m4":
                    table.goal(Build(core, "ram"), field, bytes_text)
    for label, figures in OPPONENT_BYTES:
        table.other(f"{label}, cortex-m4", dict(zip(MODELS, figures, strict=True)))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--cores", nargs="+", choices=CORES, default=list(CORES))
    parser.add_argument("--data", type=Path, default=DATA, help="folder with models/ and goldens/")
    options = parser.parse_args(arguments)
    builds = installed([b for b in BUILDS if b.core in options.cores])
    rows = measure_all(options.data, options.models, builds)
    wrong = sum(r.mismatches for r in rows)
    if wrong:
        print(f"error: {wrong} output bytes differ from tflite-micro's", file=sys.stderr)
        return 1
    for line in missed_goals(rows):
        print(f"missed: {line}")
    if len(rows) == len(MODELS) * len(BUILDS):
        write_section(PAGE, "cortex-m", section(rows))
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
