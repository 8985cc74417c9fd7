"""Reports as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinsmith.pipeline.analysis import Analysis, Port
from tinsmith.pipeline.comparison import Comparison
from tinsmith.pipeline.graph import Shape
from tinsmith.pipeline.tuning import Tuning
from tinsmith.pipeline.validation import RANDOM_NOTE, Validation

_LARGEST = 3  # buffers of a memory that a table names


def simple_table(*columns: tuple[str, str], title: str | None = None) -> Table:
    """A table with (heading, justification) columns."""
    table = Table(box=box.SIMPLE, title=title, title_justify="left", title_style="bold")
    for heading, justify in columns:
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def number(value: float | int | None, suffix: str = "") -> str:
    """A count with separators, or a dash."""
    return "-" if value is None else f"{value:,}{suffix}"


def least_arena(bound_bytes: int, proven: bool) -> str:
    """Whether another plan of the same calls, in the same order, could have a smaller arena."""
    return "proven" if proven else f"at least {bound_bytes:,}"


def shape_text(shape: Shape) -> str:
    return "x".join(str(d) for d in shape) or "scalar"


def print_sizes(
    console: Console, sizes: Sequence[tuple[str, int]], instructions: int | None
) -> None:
    table = simple_table(("", "left"), ("bytes", "right"))
    for label, size in sizes:
        table.add_row(label, number(size))
    console.print(table)
    if instructions is not None:
        console.print(f"{instructions:,} instructions per inference (emulated)")


def print_tuning(console: Console, tuning: Tuning) -> None:
    """What every candidate took where it was measured, fewest first; the chosen one is marked."""
    table = simple_table(
        ("layer", "left"), ("kernel", "left"), ("instructions", "right"), ("flash", "right"),
        ("", "left"), title="kernels, measured",
    )  # fmt: skip
    for layer in tuning.layers:
        order = sorted(layer.costs.items(), key=lambda item: item[1].instructions)
        for i, (kernel, cost) in enumerate(order):
            table.add_row(
                Text(layer.name if i == 0 else ""), kernel, number(int(cost.instructions)),
                number(int(cost.flash_bytes)), "chosen" if kernel == layer.chosen else "",
            )  # fmt: skip
    console.print(table)
    ran = f"{tuning.measured} programs were run" if tuning.measured else "all of it was known"
    console.print(
        f"{int(tuning.before.instructions):,} instructions without tuning, "
        f"{int(tuning.after.instructions):,} with it; {ran}",
        markup=False,
    )


def print_validation(console: Console, report: Validation) -> None:
    table = simple_table(
        ("", "left"), ("", "right"), title=f"{report.target}: {report.samples} samples"
    )
    table.add_row("bytes that differ from the interpreter", number(report.mismatches))
    for oracle, count in report.oracles.items():
        table.add_row(f"bytes that differ from {oracle}", number(count))
    table.add_row("instructions per inference", number(report.instructions))
    table.add_row("arena, bytes", number(report.arena_bytes))
    least = least_arena(report.arena_lower_bound, report.arena_is_proven)
    table.add_row("least arena of these calls, in this order", least)
    for memory, nbytes in report.memories.items():
        table.add_row(f"in {memory}, bytes", number(nbytes))
    table.add_row("stack, bytes", number(report.stack_bytes))
    table.add_row("code, bytes", number(report.code_bytes))
    table.add_row("weights, bytes", number(report.weight_bytes))
    table.add_row("flash, bytes", number(report.flash_bytes))
    table.add_row("toolchain, emulator", f"{report.toolchain}, {report.emulator}")
    console.print(table)
    if report.streaming:
        console.print(report.streaming, markup=False)
    for oracle, reason in report.skipped_oracles.items():
        console.print(f"not compared with {oracle}: {reason}", markup=False)
    if report.layers:
        _print_layers(console, report)
    if report.input == RANDOM_NOTE:
        console.print(RANDOM_NOTE)
    console.print("bit-exact" if report.bit_exact else "NOT bit-exact")


def _print_layers(console: Console, report: Validation) -> None:
    table = simple_table(
        ("layer", "left"),
        ("kernel", "left"),
        ("output", "right"),
        ("differ", "right"),
        ("by", "right"),
    )
    for layer in report.layers:
        table.add_row(
            Text(layer.name),
            layer.kernel,
            shape_text(layer.shape),
            number(layer.mismatches),
            number(layer.max_difference),
        )
    console.print(table)


def print_analysis(console: Console, report: Analysis) -> None:
    for kind, ports in (("input", report.inputs), ("output", report.outputs)):
        for port in ports:
            console.print(f"{kind} {_port_text(port)}", markup=False)
    table = simple_table(
        ("layer", "left"), ("op", "left"), ("in", "right"), ("out", "right"), ("MACs", "right"),
        ("weights B", "right"), ("activations B", "right"),
        *([("kernel", "left")] if report.target else []),
    )  # fmt: skip
    for layer in report.layers:
        cells: list[Text | str] = [
            Text(layer.name),
            layer.op,
            " ".join(shape_text(s) for s in layer.input_shapes),
            " ".join(shape_text(s) for s in layer.output_shapes),
            number(layer.macs),
            number(layer.weight_bytes),
            number(layer.activation_bytes),
        ]
        table.add_row(*cells, *([layer.kernel or "-"] if report.target else []))
    console.print(table)
    console.print(
        f"{report.macs:,} MACs, {report.parameters:,} parameters, "
        f"weights {report.weight_bytes:,} bytes"
        + (f", state {report.state_bytes:,} bytes" if report.state_bytes else "")
    )
    if report.arena_bytes is not None:
        _print_fit(console, report)
    elif report.target is not None and not report.quantized:
        console.print(
            f"a float model: quantize it to see what it needs on {report.target}, and whether it "
            "fits (--calibrate X.npy)"
        )
    elif report.target is not None and not report.unsupported:
        console.print("too large to be planned here; `tinsmith generate` does, and takes its time")


def _print_fit(console: Console, report: Analysis) -> None:
    proven = "proven to be the least"
    least = proven if report.arena_is_proven else f"at least {report.arena_lower_bound:,}"
    console.print(f"arena {report.arena_bytes:,} bytes ({least} for these calls in this order)")
    if report.peak_layer is not None:
        parts = ", ".join(f"{name} {size:,}" for name, size in report.peak_tensors)
        console.print(f"most is alive at '{report.peak_layer}': {parts}", markup=False)
    if report.streaming:
        console.print(report.streaming, markup=False)
    if report.memories:
        _print_memories(console, report)
    limits = f"flash {number(report.flash_limit_bytes)}, RAM {number(report.ram_limit_bytes)} bytes"
    if any(use.kind == "ram" for use in report.memories):
        limits = f"flash {number(report.flash_limit_bytes)} bytes, RAM as above"
    if report.flash_limit_bytes is None and report.ram_limit_bytes is None:
        console.print(f"{report.target} sets no limits of flash and RAM")
    elif report.fits:
        console.print(f"weights and arena fit {report.target} ({limits}); code comes on top")
    else:
        console.print(f"does NOT fit {report.target} ({limits})")


def _print_memories(console: Console, report: Analysis) -> None:
    table = simple_table(
        ("memory", "left"), ("kind", "left"), ("used", "right"), ("may take", "right"),
        ("", "left"), ("linker section", "left"), ("largest buffers", "left"),
    )  # fmt: skip
    for use in report.memories:
        largest = sorted(
            (b for b in report.buffers if use.kind == "ram" and b.memory in ("", use.name)),
            key=lambda b: -b.nbytes,
        )
        table.add_row(
            use.name,
            use.kind,
            number(use.nbytes),
            number(use.limit_bytes),
            "fits" if use.fits else "TOO MANY",
            use.section or "-",
            Text(", ".join(f"{b.name} {b.nbytes:,}" for b in largest[:_LARGEST])),
        )
    console.print(table)


def _port_text(port: Port) -> str:
    text = f"'{port.name}': {port.dtype} {shape_text(port.shape)}"
    if port.scale is not None:
        text += f", scale {port.scale:.9g}, zero point {port.zero_point}"
    return text


def print_comparison(console: Console, report: Comparison) -> None:
    table = simple_table(
        ("layer", "left"), ("op", "left"), ("shape", "right"), ("cosine", "right"),
        ("max difference", "right"), ("differ", "right"), ("matched by", "left"),
        title=f"{report.a}  |  {report.b}: {report.samples} samples",
    )  # fmt: skip
    for t in report.tensors:
        unit = " steps" if t.in_steps else ""
        table.add_row(
            Text(t.layer),
            t.op,
            shape_text(t.shape),
            f"{t.cosine:.6f}",
            f"{t.max_difference:.6g}{unit}",
            f"{t.differing:,} of {t.values:,}",
            t.matched_by,
        )
    console.print(table)
    for side, layers in (("A", report.only_a), ("B", report.only_b)):
        if layers:
            console.print(f"only in {side}: {', '.join(layers)}", markup=False)
    if report.first_difference is None:
        console.print("no difference")
    else:
        console.print(
            f"the first layer that differs is '{report.first_difference}'; "
            f"the least alike is '{report.worst}'",
            markup=False,
        )


def print_targets(console: Console) -> None:
    from tinsmith.targets.target import all_targets

    table = simple_table(
        ("target", "left"), ("what", "left"), ("flash", "right"), ("RAM", "right"),
        ("MHz", "right"), ("arenas lie in", "left"),
    )  # fmt: skip
    for target in all_targets():
        clock = None if target.clock_hz is None else target.clock_hz // 1_000_000
        table.add_row(
            target.name,
            target.title,
            number(target.flash_bytes),
            number(target.ram_bytes),
            number(clock),
            ", ".join(f"{r.name} {r.bytes:,}" for r in target.arena_regions),
        )
    console.print(table)


def print_ops(console: Console) -> None:
    from tinsmith.pipeline.operators_page import op_facts

    table = simple_table(
        ("op", "left"), ("from .tflite", "left"), ("from ONNX", "left"), ("to", "left"),
        ("kernels", "left"), ("defined by", "left"), ("int16", "left"),
    )  # fmt: skip
    for fact in op_facts():
        formats = [("tflite", fact.to_tflite), ("onnx", fact.to_onnx)]
        table.add_row(
            fact.name,
            "\n".join(fact.tflite) or "-",
            "\n".join(fact.onnx) or "-",
            "\n".join(name for name, writes in formats if writes) or "-",
            "\n".join(fact.kernels) or "none needed",
            fact.oracle,
            "yes" if fact.int16 else "-",
        )
    console.print(table)


def print_doctor(console: Console) -> None:
    from tinsmith.targets.doctor import checks

    table = simple_table(("", "left"), ("tool", "left"), ("found", "left"), ("to install", "left"))
    for check in checks():
        install = "" if check.ok else check.install
        table.add_row("ok" if check.ok else "--", check.name, Text(check.detail), Text(install))
    console.print(table)
