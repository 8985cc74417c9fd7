"""What a search found, as texts and as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinsmith.pipeline.report.tables import number
from tinsmith.pipeline.search.best import Firmware
from tinsmith.pipeline.search.budget import Budget
from tinsmith.pipeline.search.outcome import Trial
from tinsmith.pipeline.search.pareto import Shortfall, fits, known_costs, nearest, shortfalls
from tinsmith.pipeline.search.search import Found

# The columns of `rows` beside the trial and the knobs.
COLUMNS = ("accuracy", "drop", "test", "flash", "RAM", "instructions", "fits")


def trial_line(trial: Trial, budget: Budget, teacher: float) -> str:
    """What became of a trial, in a line."""
    outcome, costs = trial.outcome, known_costs(trial)
    place = ", ".join(f"{name} {_value(value)}" for name, value in trial.place.items())
    text = "" if costs is None else ", ".join(f"{n} {v:,}" for n, v in costs.named().items())
    if outcome.status == "done":
        verdict = "fits" if fits(trial, budget, teacher) else "does not fit"
        said = f"{outcome.accuracy:.2f} %; {text}; {verdict}"
    else:
        about = f" (about {text})" if text else ""
        said = f"{outcome.status}: {outcome.reason}{about if outcome.status != 'failed' else ''}"
    return f"trial {trial.number:>3}  {place}: {said}"


def rows(found: Found, budget: Budget) -> list[list[str]]:
    """The trials on the front, and the chosen one where it was trained in full, as texts."""
    shown = [(str(trial.number), trial) for trial in found.front]
    if found.in_full and found.chosen is not None:
        shown = [(name, trial) for name, trial in shown if trial.number != found.chosen.number]
        shown.insert(0, (f"{found.chosen.number} in full", found.chosen))
    made = []
    for name, trial in shown:
        outcome = trial.outcome
        assert outcome.costs is not None and outcome.accuracy is not None
        is_chosen = found.chosen is not None and trial.number == found.chosen.number
        verdict = "yes" if fits(trial, budget, found.teacher) else "no"
        made.append(
            [
                name,
                *(_value(trial.place[knob.name]) for knob in found.knobs),
                f"{outcome.accuracy:.2f} %",
                f"{found.teacher - outcome.accuracy:.2f}",
                f"{found.tests[trial.number]:.2f} %" if trial.number in found.tests else "-",
                *(number(value) for value in outcome.costs.named().values()),
                "chosen" if is_chosen else verdict,
            ]
        )
    return made


def report_of(found: Found, budget: Budget, firmware: Firmware | None) -> dict[str, Any]:
    """pareto.json: all that is known of the search, as plain data."""
    return {
        "target": found.bench.target.name,
        "budget": {**budget.limits(), "max_drop": budget.max_drop},
        "teacher": {"accuracy": found.teacher, "test_accuracy": found.tests.get(None)},
        "validation_samples": found.validation_samples,
        "test_samples": found.test_samples,
        "trials": [
            {
                "number": trial.number,
                "place": dict(trial.place),
                **trial.outcome.json(),
                "fits": fits(trial, budget, found.teacher),
            }
            for trial in found.trials
        ],
        "front": [trial.number for trial in found.front],
        "test_accuracy": {str(k): v for k, v in found.tests.items() if k is not None},
        "chosen": None
        if found.chosen is None or firmware is None
        else {
            "number": found.chosen.number,
            "place": dict(found.chosen.place),
            "in_full": found.in_full,
            **found.chosen.outcome.json(),
            "test_accuracy": found.tests.get(found.chosen.number),
            "firmware": firmware.costs.named(),
            "bit_exact": firmware.validation["bit_exact"],
        },
        "nearest": [vars(short) for short in shortfalls(found.trials, budget, found.teacher)],
    }


def unmet_text(found: Found, budget: Budget, folder: Path) -> str:
    """Which trial came nearest to a budget that none keeps, and by how much."""
    failed = [trial for trial in found.trials if trial.outcome.status == "failed"]
    if len(failed) == len(found.trials):
        return f"every trial failed; the first: {failed[0].outcome.reason}"
    limits = ", ".join(
        [*(f"{name} {limit:,}" for name, limit in budget.limits().items())]
        + ([f"drop {budget.max_drop:g}"] if budget.max_drop is not None else [])
    )
    lines = [f"no trial of {len(found.trials)} keeps the budget ({limits}):"]
    near = nearest(found.trials, budget)
    if near is not None and (costs := known_costs(near)) is not None:
        over = budget.excess(costs)
        told = [
            f"{name} {by:,} over ({by / budget.limits()[name]:.1%})" for name, by in over.items()
        ]
        if not over and near.outcome.accuracy is not None:
            told = [
                f"within its sizes, but {found.teacher - near.outcome.accuracy:.2f} points less "
                "than the teacher"
            ]
        guess = ", as estimated" if near.outcome.costs is None else ""
        lines.append(
            f"nearest in all is trial {near.number}: {', '.join(told) or 'not trained'}{guess}"
        )
    lines += [_short_text(short) for short in shortfalls(found.trials, budget, found.teacher)]
    lines.append(
        "widen the search space ([compress.search]) towards smaller networks, try more with "
        f"--trials, or raise the budget; what was tried: {folder / 'pareto.md'}"
    )
    return "\n  ".join(lines)


def _short_text(short: Shortfall) -> str:
    guess = ", as estimated" if short.estimated else ""
    if short.nearest <= short.limit:
        how = "within the limit"
    else:
        how = f"{short.nearest - short.limit:,.6g} above the limit of {short.limit:,.6g}"
    least = f"the least of any trial is {short.nearest:,.6g} (trial {short.trial}{guess})"
    return f"{short.measure}: {least}, {how}"


def front_markdown(found: Found, budget: Budget) -> str:
    """The front as a table in Markdown, and below it all trials in a line each."""
    head = ["trial", *(knob.name for knob in found.knobs), *COLUMNS]
    lines = [
        f"# {found.bench.config.run.name} on {found.bench.target.name}",
        "",
        f"Budget: {budget.text()}. Accuracy on {found.validation_samples:,} validation images, "
        f"where the teacher has {found.teacher:.2f} %; test: on {found.test_samples:,} test "
        "images.",
        "",
        *markdown_table(head, rows(found, budget)),
        "",
        "![accuracy over costs](pareto.svg)",
        "",
        "## All trials",
        "",
        *(f"- {trial_line(trial, budget, found.teacher)}" for trial in found.trials),
    ]
    return "\n".join(lines) + "\n"


def markdown_table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in cells)]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
