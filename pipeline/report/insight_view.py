"""`tinsmith insight` in a terminal: the networks of a run beyond their mean accuracy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tinsmith.pipeline.config import load_config
from tinsmith.pipeline.files import write_json
from tinsmith.pipeline.flow import artifact_at, run_flow
from tinsmith.pipeline.report.run_view import FlowView
from tinsmith.pipeline.report.sensitivity_view import maker_of
from tinsmith.pipeline.report.tables import number, simple_table
from tinsmith.pipeline.stages import stages_of
from tinsmith.pipeline.stages.insight import FOUND, PAGE, ExplainCompression


def insight_of_run(
    path: Path, count: int, task: str, json_file: Path | None, console: Console
) -> None:
    """Runs the stages up to `quantize`, compares their networks, and prints; the page is
    `<out>/insight/insight.html`.
    """
    config = load_config(path)
    view = FlowView(console)
    folders = run_flow(stages_of(config), config.run.out, to="quantize", progress=view.event)
    stage = ExplainCompression.from_config(config, count, task)
    makers = {
        "load": "load",
        "teacher": "teacher",
        "student": maker_of("student", folders),
        "pruned": maker_of("pruned", folders),
        "integers": "quantize",
    }
    given = {name: artifact_at(folders[maker]) for name, maker in makers.items()}
    done = run_flow([stage], config.run.out, given=given, progress=view.event)
    found = json.loads((done[stage.name] / FOUND).read_text())
    if json_file is not None:
        write_json(json_file, found)
    print_insight(console, found)
    console.print(f"page: {config.run.out.resolve() / stage.name / PAGE}", markup=False)


def print_insight(console: Console, found: Mapping[str, Any]) -> None:
    networks = found["networks"]
    table = simple_table(
        ("", "left"), *((name, "right") for name in networks),
        title=f"What compression did, on {found['samples']:,} test samples, in percent",
    )  # fmt: skip
    table.add_row("accuracy", *(f"{found['accuracy'][n]:.2f}" for n in networks))
    table.add_row(
        f"says what {networks[0]} says", *(f"{found['agreement'][n]:.2f}" for n in networks)
    )
    for c in range(len(found["per_class"][networks[0]])):
        cells = [found["per_class"][n][c] for n in networks]
        table.add_row(f"class {c}", *("-" if cell is None else f"{cell:.1f}" for cell in cells))
    for row in found["robustness"]:
        cells = [f"{row['accuracies'][n]:.1f}" for n in networks]
        table.add_row(f"{row['disturbance']} {row['level']:g}", *cells)
    console.print(table)
    for flips in found["flips"]:
        console.print(
            f"{flips['before']} to {flips['after']}: {number(flips['lost'])} right before and "
            f"wrong after, {number(flips['gained'])} the other way",
            markup=False,
        )
    for reason in (*found["left_out"], *found["notes"]):
        console.print(f"left out: {reason}", markup=False)
