"""`tinsmith compress` in a terminal: trials as they finish, the front, and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.errors import GateFailed
from tinsmith.pipeline.files import write_json, write_whole
from tinsmith.pipeline.output_folder import check_folder
from tinsmith.pipeline.report.search_text import (
    COLUMNS,
    front_markdown,
    report_of,
    rows,
    trial_line,
    unmet_text,
)
from tinsmith.pipeline.report.tables import simple_table
from tinsmith.pipeline.search.best import FOLDER, Firmware, write_best
from tinsmith.pipeline.search.budget import Budget
from tinsmith.pipeline.search.outcome import Trial
from tinsmith.pipeline.search.plot import pareto_svg
from tinsmith.pipeline.search.search import STUDY, Found, Request, Watcher, search
from tinsmith.targets.target import target_named


def compress_with_view(
    path: Path,
    target: str,
    budget: Budget,
    *,
    out: Path | None,
    trials: int | None,
    seed: int | None,
    json_file: Path | None,
    console: Console,
) -> None:
    """Searches, prints, and writes `<out>/pareto.*` and `<out>/best`; GateFailed where no trial
    keeps the budget."""
    config = load_config(path)
    if seed is not None:
        config = config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})})
    folder = _beside(config) if out is None else out
    device = target_named(target)
    request = Request(config, device, budget, folder, trials or config.compress.trials)
    check_folder(folder / FOLDER)
    found, firmware = _searched(request, console)
    report = report_of(found, budget, firmware)
    _write(found, budget, report, folder)
    if json_file is not None:
        write_json(json_file, report)
    print_front(console, found, budget)
    if firmware is None:
        raise GateFailed(unmet_text(found, budget, folder))
    _print_best(console, found, firmware)


def _beside(config: Config) -> Path:
    """The folder of a search beside that of the run."""
    return config.run.out.with_name(config.run.out.name + "-compress")


def _searched(request: Request, console: Console) -> tuple[Found, Firmware | None]:
    """What the search found, told while it goes on."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    def finished(trial: Trial, teacher: float) -> None:
        say(trial_line(trial, request.budget, teacher))

    with console.status("") as status:

        def doing(what: str) -> None:
            status.update(escape(what))

        try:
            found = search(request, Watcher(say, doing, finished))
            if found.chosen is None:
                return found, None
            return found, write_best(found, request.budget, request.out, doing)
        except KeyboardInterrupt:
            say(
                f"stopped; finished trials are kept in '{request.out / STUDY}', and so is what the "
                "others had trained. The same command goes on"
            )
            raise


def print_front(console: Console, found: Found, budget: Budget) -> None:
    counts = {
        status: sum(trial.outcome.status == status for trial in found.trials)
        for status in ("done", "too large", "stopped", "failed")
    }
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    names = [knob.name for knob in found.knobs]
    table = simple_table(
        ("trial", "right"), *((name, "right") for name in names),
        *((name, "right") for name in COLUMNS),
        title=f"The Pareto front of {len(found.trials)} trials ({told})",
    )  # fmt: skip
    for cells in rows(found, budget):
        table.add_row(*cells)
    console.print(table)
    console.print(
        f"accuracy: of the integer network, on {found.validation_samples:,} images held out of the "
        f"training images, which alone decide; drop: to the teacher's {found.teacher:.2f} % there; "
        f"test: on the {found.test_samples:,} test images"
        + (f", where the teacher has {found.tests[None]:.2f} %" if None in found.tests else "")
    )


def _write(found: Found, budget: Budget, report: dict[str, Any], folder: Path) -> None:
    write_json(folder / "pareto.json", report)
    write_whole(folder / "pareto.md", front_markdown(found, budget).encode())
    svg = pareto_svg(found.trials, found.front, found.chosen, budget)
    write_whole(folder / "pareto.svg", svg.encode())


def _print_best(console: Console, found: Found, firmware: Firmware) -> None:
    assert found.chosen is not None
    costs, samples = firmware.costs, firmware.validation["samples"]
    console.print(
        f"chosen: trial {found.chosen.number}; its firmware on {found.bench.target.name}: "
        f"{costs.flash:,} bytes of flash, {costs.ram:,} of RAM, {costs.instructions:,} "
        f"instructions; {samples} images, every byte as the interpreter's",
        markup=False,
    )
    console.print(f"C, model and configuration: {firmware.folder.resolve()}", markup=False)
