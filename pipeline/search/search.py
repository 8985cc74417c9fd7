"""The search as a whole: from a configuration and a budget to the network that is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from tinsmith.pipeline.config import Config, Gates, Prune
from tinsmith.pipeline.config.prune_rules import has_one_training
from tinsmith.pipeline.flow import (
    Artifact,
    Event,
    artifact_at,
    ingredients,
    locked,
    run_flow,
)
from tinsmith.pipeline.search.budget import Budget
from tinsmith.pipeline.search.measure import check_measurable
from tinsmith.pipeline.search.outcome import Outcome, Trial
from tinsmith.pipeline.search.pareto import best, fits, front
from tinsmith.pipeline.search.scores import test_accuracies
from tinsmith.pipeline.search.space import Knob, Place, Value, knobs_of
from tinsmith.pipeline.search.study import (
    Study,
    ask,
    finished_trials,
    give_up,
    need_optuna,
    open_study,
    tell,
)
from tinsmith.pipeline.search.trial import Bench, FewImages, Tell, run_trial
from tinsmith.pipeline.stages import stages_of
from tinsmith.pipeline.stages.load import Load
from tinsmith.pipeline.stages.teacher import TrainTeacher
from tinsmith.pipeline.training.sources import need_torch
from tinsmith.targets.target import Target

STUDY = "study.db"
WORK = "work"


@dataclass(frozen=True)
class Request:
    """What is asked: `trials` finished ones in all, those of earlier searches in `out` counted."""

    config: Config
    target: Target
    budget: Budget
    out: Path
    trials: int


@dataclass(frozen=True)
class Watcher:
    """Who watches a search.

    say: a line that stays. doing: what is being done just now. finished: a trial is.
    """

    say: Tell
    doing: Tell
    finished: Callable[[Trial, float], None]


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    teacher, tests: accuracy in percent: the teacher's on the validation images, and on the test
    images that of the teacher (None), of the trials on the front and of the chosen one, by number.
    chosen: None where no trial keeps the budget. in_full: whether it is the network that was
    trained in full; then `bench` says how, and the trial's outcome is that network's.
    """

    bench: Bench
    knobs: tuple[Knob, ...]
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    chosen: Trial | None
    teacher: float
    validation_samples: int
    test_samples: int
    tests: Mapping[int | None, float] = field(default_factory=dict)
    in_full: bool = False


def search(request: Request, watcher: Watcher) -> Found:
    """Try networks until so many trials are finished, and choose.

    Goes on where an earlier search of the same in the same folder was stopped. Raises ConfigError
    for what can't be searched, ToolMissing; an interrupt leaves all finished trials in the study.
    """
    need_optuna()
    need_torch("compress")
    check_measurable(request.target)
    config = trial_config(request.config, request.target)
    from tinsmith.pipeline.training.networks import takes_width

    knobs = knobs_of(config, takes_width(config.distil.model))
    with locked(request.out):
        bench = _bench(request, config, knobs, watcher)
        study = _open(request, bench, knobs, watcher)
        teacher = float(bench.teacher.json()["accuracy"])
        _try(request, bench, study, teacher, watcher)
        return _found(request, bench, study, teacher, watcher)


def trial_config(config: Config, target: Target) -> Config:
    """The configuration of a trial, but for its place: one target, validation images, fewer epochs.

    Kernels are chosen by the cost model. Limits are the budget's.
    """
    search = config.compress
    share = config.data.validation or search.validation
    tables: dict[str, Any] = {
        "data": config.data.model_copy(update={"validation": share}),
        "generate": config.generate.model_copy(update={"targets": [target.name], "tune": False}),
        "gates": Gates(),
    }
    if search.epochs is not None and search.epochs < config.distil.epochs:
        factor = search.epochs / config.distil.epochs
        for name in ("distil", "factorize", "prune", "cluster", "quantize"):
            tables[name] = _shorter(getattr(config, name), factor)
    return config.model_copy(update=tables)


def _shorter(table: BaseModel, factor: float) -> BaseModel:
    """A table with as many epochs times a factor; where there are some, one at least."""
    keys = [key for key in ("epochs", "step_epochs") if hasattr(table, key)]
    if isinstance(table, Prune) and has_one_training(table):
        keys.remove("step_epochs")
    shorter = {key: getattr(table, key) * factor for key in keys}
    return table.model_copy(
        update={key: max(1, round(epochs)) if epochs else 0 for key, epochs in shorter.items()}
    )


def _bench(request: Request, config: Config, knobs: tuple[Knob, ...], watcher: Watcher) -> Bench:
    """The data and the teacher, made once for all trials."""
    work = request.out / WORK

    def listen(event: Event) -> None:
        watcher.doing(f"{event.stage} {event.message or event.kind}")

    [folder] = run_flow([Load.from_config(config)], work, progress=listen).values()
    load = artifact_at(folder)
    given = {"load": load}
    [folder] = run_flow([FewImages()], work, given=given).values()
    few = artifact_at(folder)
    _check_students(config, knobs, few)
    [folder] = run_flow(
        [TrainTeacher.from_config(config)], work, given=given, progress=listen
    ).values()
    teacher = artifact_at(folder)
    return Bench(config, request.target, request.budget, load, few, teacher, work)


def _check_students(config: Config, knobs: tuple[Knob, ...], few: Artifact) -> None:
    """ConfigError for a width that the student can't be made with, before a teacher is trained."""
    from tinsmith.pipeline.search.space import WIDTH
    from tinsmith.pipeline.training.networks import make_network
    from tinsmith.pipeline.training.results import read_samples, sample_of

    samples = read_samples(few.path)
    widths = next((knob.ends() for knob in knobs if knob.name == WIDTH), (config.distil.width,))
    for width in widths:
        model = config.distil.model.model_copy(update={"width": width})
        make_network(model, sample_of(samples), samples.tasks)


def _open(request: Request, bench: Bench, knobs: tuple[Knob, ...], watcher: Watcher) -> Study:
    config = bench.config
    opened = open_study(
        request.out / STUDY, _facts(request, bench, knobs), knobs,
        config.compress.sampler, config.run.seed,
    )  # fmt: skip
    if opened.changed:
        watcher.say(
            f"a new search begins: since the last one in '{request.out}' there is another "
            f"{', '.join(opened.changed)}. What was trained is kept, and used where it fits"
        )
    elif opened.finished:
        watcher.say(
            f"{opened.finished} trials are finished already, of {request.trials}; "
            f"they are in '{request.out / STUDY}'"
        )
    return opened.study


def _facts(request: Request, bench: Bench, knobs: tuple[Knob, ...]) -> dict[str, Any]:
    """All that decides what a trial gives, by what a user calls it."""
    config = bench.config
    stages = [
        s for s in stages_of(config) if s.name not in ("load", "teacher", "build", "validate")
    ]
    made = {stage.name: ingredients(stage) for stage in stages}
    return {
        "data set": bench.load.content,
        "teacher": bench.teacher.content,
        "target": request.target.name,
        "budget": [request.budget.limits(), request.budget.max_drop],
        "search space": [vars(knob) for knob in knobs],
        "sampler": config.compress.sampler,
        "seed": config.run.seed,
        "configuration": {name: parts["options"] for name, parts in made.items()},
        "file of networks": {name: parts["files"] for name, parts in made.items()},
        "version of tinsmith or its tools": {
            name: [parts["sources"], parts["tools"], parts["python"]]
            for name, parts in made.items()
        },
    }


def _try(request: Request, bench: Bench, study: Study, teacher: float, watcher: Watcher) -> None:
    while (count := len(others := finished_trials(study))) < request.trials:
        asked = ask(study, _own_place(bench.config, study.knobs))
        if asked is None:
            watcher.say(f"every place of the search space was tried, in {count} trials")
            return

        def doing(what: str, number: int = count) -> None:
            watcher.doing(f"trial {number + 1} of {request.trials}: {what}")

        try:
            outcome: Outcome = run_trial(bench, asked.place, others, doing)
        except BaseException:
            give_up(study, asked)
            raise
        watcher.finished(tell(study, asked, outcome, request.budget), teacher)


def _own_place(config: Config, knobs: tuple[Knob, ...]) -> Place:
    """Where the configuration itself is, in the knobs whose space has it."""
    place: dict[str, Value] = {}
    for knob in knobs:
        table, _, key = knob.name.partition(".")
        value = getattr(getattr(config, table), key)
        value = 1.0 if value is None else value
        inside = value in knob.values if knob.values else knob.low <= value <= knob.high
        if inside:
            place[knob.name] = value
    return place


def _found(request: Request, bench: Bench, study: Study, teacher: float, watcher: Watcher) -> Found:
    trials = finished_trials(study)
    kept, chosen = front(trials), best(trials, request.budget, teacher)
    full = None
    if chosen is not None and _has_shorter_trials(request.config):
        full = _in_full(request, bench, chosen, teacher, watcher)
    # The chosen one in full is the last: its number is that of a trial on the front.
    measured = [*((bench, trial) for trial in kept), *([full] if full else [])]
    tests, count = test_accuracies(bench, measured, watcher.doing)
    with np.load(bench.load.file("data.npz")) as file:
        validation = len(file["y_test"])
    last, chosen = full or (bench, chosen)
    return Found(
        last, study.knobs, trials, kept, chosen, teacher, validation, count, tests,
        full is not None,
    )  # fmt: skip


def _has_shorter_trials(config: Config) -> bool:
    search = config.compress
    return search.finish and search.epochs is not None and search.epochs < config.distil.epochs


def _in_full(
    request: Request, bench: Bench, chosen: Trial, teacher: float, watcher: Watcher
) -> tuple[Bench, Trial] | None:
    """The chosen network trained in full, where it keeps the budget and is the better one."""
    whole = request.config.compress.model_copy(update={"epochs": None})
    config = request.config.model_copy(update={"compress": whole})
    longer = replace(bench, config=trial_config(config, request.target))

    def doing(what: str) -> None:
        watcher.doing(f"trial {chosen.number} in full: {what}")

    outcome = run_trial(longer, chosen.place, (), doing)
    again = replace(chosen, outcome=outcome)
    before = chosen.outcome.accuracy or 0.0
    after = "-" if outcome.accuracy is None else f"{outcome.accuracy:.2f} %"
    taken = fits(again, request.budget, teacher) and (outcome.accuracy or 0.0) > before
    watcher.say(
        f"trial {chosen.number} trained in full: {after} of the validation images after "
        f"{before:.2f} %; "
        + ("it is taken" if taken else f"it is not taken ({outcome.reason or 'no better'})")
    )
    return (longer, again) if taken else None
