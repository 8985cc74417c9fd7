"""`tinsmith run` in a terminal: progress of the stages, then the table of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.errors import GateFailed
from tinsmith.pipeline.files import write_json
from tinsmith.pipeline.flow import Event, run_flow
from tinsmith.pipeline.report.run_report import collect
from tinsmith.pipeline.report.tables import least_arena, number, simple_table
from tinsmith.pipeline.stages import stages_of

REPORT = "report.json"


def run_with_view(
    path: Path, *, from_: str | None, to: str | None, force: bool, console: Console
) -> None:
    """Runs the stages of a configuration, writes <out>/report.json, prints it; GateFailed where a
    gate did not hold."""
    config = load_config(path)
    check_targets(config)
    view = FlowView(console)
    folders = run_flow(
        stages_of(config), config.run.out, from_=from_, to=to, force=force, progress=view.event
    )
    report = collect(config, folders)
    write_json(config.run.out / REPORT, report)
    print_report(console, config, report)
    failed = [g for g in report["gates"] if not g["held"]]
    if failed:
        lines = [f"{g['name']}: {_figure(g['value'])}, limit {_figure(g['limit'])}" for g in failed]
        raise GateFailed("a gate did not hold:\n  " + "\n  ".join(lines))


def check_targets(config: Config) -> None:
    """UnknownTarget before any training, not after it."""
    from tinsmith.targets.target import target_named

    for name in config.generate.targets:
        target_named(name)


def _figure(value: float) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


class FlowView:
    """Prints the flow's events: where a stage starts, its own lines, where it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def event(self, event: Event) -> None:
        if event.kind == "progress":
            share = "" if event.fraction is None else f" {event.fraction:4.0%}"
            self._line(event.stage, f"{share} {event.message}".rstrip())
        elif event.kind == "cached":
            self._line(event.stage, " kept from an earlier run")
        elif event.kind == "done":
            seconds = "" if event.seconds is None else f" in {event.seconds:.1f} s"
            self._line(event.stage, f" done{seconds}")
        else:
            self._line(event.stage, f" {event.kind} {event.message}".rstrip())

    def _line(self, stage: str, text: str) -> None:
        self.console.print(Text(f"{stage:>9}", style="bold"), Text(text), sep="")


def print_report(console: Console, config: Config, report: Mapping[str, Any]) -> None:
    _print_accuracy(console, report)
    if "weights" in report:
        _print_weights(console, report["weights"])
    if "coded_bytes" in report:
        _print_coded(console, report["coded_bytes"])
    if "validation" in report:
        _print_targets(console, report["validation"])
        last = report["validation"][config.generate.targets[-1]]
        matrices = last["confusion"] if "tasks" in last else {"": last["confusion"]}
        for task, matrix in matrices.items():
            where = config.generate.targets[-1] + (f", task {task}" if task else "")
            _print_confusion(console, matrix, where)
    out = config.run.out.resolve()
    for target, folder in report.get("sources", {}).items():
        console.print(f"C for {target}: {out / folder}", markup=False)
    console.print(f"report: {out / REPORT}", markup=False)


def _print_accuracy(console: Console, report: Mapping[str, Any]) -> None:
    samples = report.get("test_samples")
    title = "Accuracy" + (f" on {samples:,} test samples" if samples else "")
    tasks: Mapping[str, Mapping[str, float]] = report.get("tasks", {})
    names: Mapping[str, float] = next(iter(tasks.values()), {})
    table = simple_table(
        ("stage", "left"), ("mean accuracy" if tasks else "accuracy", "right"),
        *((name, "right") for name in names), ("parameters", "right"), ("MACs", "right"),
        title=title,
    )  # fmt: skip
    for key, value in report["accuracy"].items():
        table.add_row(
            key,
            f"{value:.2f} %",
            *(f"{tasks[key][name]:.2f} %" for name in names),
            number(report["parameters"].get(key)),
            number(report["macs"].get(key)),
        )
    console.print(table)


def _print_weights(console: Console, weights: Mapping[str, Any]) -> None:
    layers = ", ".join(f"{name} {grid}" for name, grid in weights["layers"].items())
    console.print(f"weights, packed: {weights['weight_bytes']:,} bytes; {layers}", markup=False)


def _print_coded(console: Console, coded: Mapping[str, int]) -> None:
    console.print(
        f"weights, coded in a file: {coded['shared']:,} bytes (int8 {coded['int8']:,}, float32 "
        f"{coded['float32']:,})",
        markup=False,
    )


def _print_targets(console: Console, validation: Mapping[str, Any]) -> None:
    table = simple_table(
        ("target", "left"), ("accuracy", "right"), ("bytes that differ", "right"),
        ("instructions", "right"), ("flash", "right"), ("weights", "right"), ("code", "right"),
        ("arena", "right"), ("least arena", "right"), ("stack", "right"),
        title="The C on the device, against the interpreter",
    )  # fmt: skip
    for target, fields in validation.items():
        table.add_row(
            target,
            f"{fields['accuracy']:.2f} %",
            number(fields["mismatches"]),
            *(
                number(fields[key])
                for key in (
                    "instructions", "flash_bytes", "weight_bytes", "code_bytes", "arena_bytes"
                )
            ),
            least_arena(fields["arena_lower_bound"], fields["arena_is_proven"]),
            number(fields["stack_bytes"]),
        )  # fmt: skip
    console.print(table)
    first = next(iter(validation.values()))
    for oracle, count in first["oracles"].items():
        console.print(f"{oracle}: {count:,} bytes differ", markup=False)
    for oracle, reason in first["skipped_oracles"].items():
        console.print(f"{oracle}: not compared ({reason})", markup=False)
    if "sanitizers" in first:
        console.print(f"address and undefined-behaviour sanitizers: {first['sanitizers']}")


def _print_confusion(console: Console, matrix: list[list[int]], where: str) -> None:
    classes = range(len(matrix))
    table = simple_table(
        ("true", "right"), *((str(c), "right") for c in classes),
        title=f"Confusion matrix on {where} (row: true class, column: what the model says)",
    )  # fmt: skip
    for true, row in enumerate(matrix):
        table.add_row(str(true), *(str(n) if n else "." for n in row))
    console.print(table)
