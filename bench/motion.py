"""Exercises told apart by a watch's motion: float, int8, and int8 on the device, on other people.

    python bench/motion.py [--students cnn lstm] [--only FOLD ...]

Trains examples/motion once for each fold of its ten people, quantizes the student, and runs every
test window on the emulated Cortex-M4. What a run has made is kept in build/motion-folds and not
made again. A student of a fold takes about a minute of one processor; a run over all writes its
section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distillation import paired_difference
from numpy.typing import NDArray
from page import PAGE, ROOT, table, write_section

from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.flow import Artifact, Event, run_flow
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import to_input
from tinsmith.pipeline.stages import stages_of
from tinsmith.pipeline.stages.common import predictions, read_for_device, read_integers
from tinsmith.pipeline.training.results import read_network, read_samples

EXAMPLE = ROOT / "examples" / "motion"
OUT = ROOT / "build" / "motion-folds"
CORE = "cortex-m4"
FOLDS = 4
STUDENTS = ("cnn", "lstm")

Right = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fold:
    """A student on people it was not trained on: which windows the float network and the int8 one
    get right, and what `tinsmith validate` says of the device.
    """

    in_float: Right
    in_int8: Right
    device: Mapping[str, Any]
    minutes: float


def config_of(student: str, fold: int) -> Config:
    """The example's configuration for a fold, for one core."""
    config = load_config(EXAMPLE / f"{student}.toml")
    data, generate = config.data, config.generate
    arguments = {**data.arguments, "fold": fold}
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"out": OUT / f"{student}-{fold}"}),
            "data": data.model_copy(update={"arguments": arguments}),
            "generate": generate.model_copy(update={"targets": [CORE]}),
        }
    )


def measure(config: Config) -> Fold:
    """Trains, quantizes, and runs every test window on the device."""
    started = time.process_time()

    def listen(event: Event) -> None:
        if event.message:
            line = f"\r{config.run.out.name} {event.stage}: {event.message}\033[K"
            print(line, end="", file=sys.stderr, flush=True)

    folders = run_flow(stages_of(config), config.run.out, progress=listen)
    minutes = config.run.out / "minutes.txt"
    if not minutes.exists():
        minutes.write_text(f"{(time.process_time() - started) / 60:.1f}\n")
    device = json.loads((folders["validate"] / "validation.json").read_text())[CORE]
    if not device["bit_exact"]:
        raise SystemExit(f"error: the bytes of {CORE} differ from the interpreter's")
    in_float, in_int8 = right_in_float(config, folders), right_in_int8(folders)
    if abs(100 * in_int8.mean() - device["accuracy"]) > 1e-9:
        raise SystemExit("error: the device's bytes are the interpreter's, but its accuracy isn't")
    return Fold(in_float, in_int8, device, float(minutes.read_text()))


def right_in_float(config: Config, folders: Mapping[str, Path]) -> Right:
    samples = read_samples(folders["load"])
    network = read_network(folders["prune"], config.distil.student, samples).eval()
    with torch.no_grad():
        said = torch.cat([network(part).argmax(1) for part in samples.x_test.split(500)])
    right: Right = (said == samples.y_test).numpy()
    return right


def right_in_int8(folders: Mapping[str, Path]) -> Right:
    done = {name: Artifact(name, "", "", path) for name, path in folders.items()}
    graph = read_integers(done["quantize"]).graph
    labelled = read_for_device(done["load"], done["quantize"])
    entry = graph.tensors[graph.inputs[0]]
    x = to_input(labelled.x_test, entry, "the test windows")
    right: Right = predictions(run_samples(graph, {entry.name: x})[0]) == labelled.y_test
    return right


def accuracy_rows(student: str, folds: Sequence[Fold]) -> list[list[str]]:
    """A row a fold, and one of all windows."""
    whole = Fold(
        np.concatenate([f.in_float for f in folds]),
        np.concatenate([f.in_int8 for f in folds]),
        {},
        sum(f.minutes for f in folds),
    )
    rows = []
    for name, f in (*((f"fold {i}", f) for i, f in enumerate(folds)), ("all", whole)):
        points, half = paired_difference(f.in_int8, f.in_float)
        rows.append(
            [
                f"{student}, {name}", str(len(f.in_float)), f"{100 * f.in_float.mean():.2f} %",
                f"{100 * f.in_int8.mean():.2f} %", f"{points:+.2f} ± {half:.2f}",
                f"{f.minutes:.1f}",
            ]
        )  # fmt: skip
    return rows


def device_row(student: str, folds: Sequence[Fold]) -> list[str]:
    """Of the fold that takes the most instructions: they differ by the scales."""
    d = max((f.device for f in folds), key=lambda device: int(device["instructions"]))
    ram = d["arena_bytes"] + (d["stack_bytes"] or 0)
    return [student, f"{d['flash_bytes']:,}", f"{ram:,}", f"{d['instructions']:,}"]


def section(results: Mapping[str, Sequence[Fold]]) -> str:
    """The benchmark's part of the page."""
    head = ["", "windows", "float", f"int8 on {CORE}", "change in points, 95 %", "CPU minutes"]
    rows = [row for name, folds in results.items() for row in accuracy_rows(name, folds)]
    sizes = [device_row(name, folds) for name, folds in results.items()]
    return "\n".join(
        [
            "## Motion: exercises from a smartwatch",
            "",
            f"examples/motion on seglearn's watch data (7 exercises, 10 people, windows of 2.56 s) "
            f"in {FOLDS} folds: nobody\nwho is in the test is in training. The device's bytes are "
            "the interpreter's on every window, so that both\nhave one accuracy; the change is "
            "paired, and its interval is over windows. One seed a fold.\n"
            "`python bench/motion.py` makes all again.",
            "",
            *table(head, rows),
            "",
            *table([CORE, "flash, bytes", "RAM with stack, bytes", "instructions a window"], sizes),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=[*STUDENTS])
    parser.add_argument("--only", type=int, nargs="+", help="some of the folds; writes no section")
    args: Any = parser.parse_args()
    results: dict[str, list[Fold]] = {name: [] for name in args.students}
    for name in args.students:
        for fold in args.only or range(FOLDS):
            found = measure(config_of(name, fold))
            results[name].append(found)
            print(f"\r\033[K{name}, fold {fold}: {100 * found.in_int8.mean():.2f} %", flush=True)
    text = section(results)
    print(text)
    if not args.only and args.students == [*STUDENTS]:
        write_section(PAGE, "motion", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
