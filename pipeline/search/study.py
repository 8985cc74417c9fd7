"""The study: trials in a SQLite file, so that a search that was stopped goes on.

Where the next trial is depends on the seed, on how many trials are finished and on what became of
them, and on nothing else: a search that went on gives the trials of one that was never stopped.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinsmith.pipeline.errors import ConfigError, ToolMissing
from tinsmith.pipeline.search.budget import MEASURES, Budget
from tinsmith.pipeline.search.outcome import Outcome, Trial, outcome_of
from tinsmith.pipeline.search.pareto import known_costs
from tinsmith.pipeline.search.space import Knob, Place, Value, rounded, untried

if TYPE_CHECKING:
    import optuna

# Draws by the sampler before a place that was not tried yet is drawn at random.
SAMPLED = 4
_OUTCOME, _PLACE, _FACTS = "tinsmith:outcome", "tinsmith:place", "tinsmith:facts"
_POPULATION = 10  # of NSGA-II, whose own default is above the usual number of trials


@dataclass(frozen=True, eq=False)
class Study:
    """An open study. sampler: a name of `[compress] sampler`."""

    study: optuna.Study
    knobs: tuple[Knob, ...]
    sampler: str
    seed: int


@dataclass(frozen=True)
class Opened:
    """A study, how many of its trials were there, and in what it differs from the one before it."""

    study: Study
    finished: int
    changed: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Asked:
    """A place to try, and the open trial that it belongs to."""

    place: Place
    trial: optuna.Trial


def need_optuna() -> None:
    """Raise ToolMissing where optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as e:
        raise ToolMissing("the search needs optuna: pip install 'tinsmith[search]'") from e


def open_study(
    path: Path, facts: Mapping[str, Any], knobs: Sequence[Knob], sampler: str, seed: int
) -> Opened:
    """The study of these facts in the file; a fresh one where there is none yet.

    facts: everything that decides what a trial gives, by what a user calls it. A file holds as many
    studies as it is asked for. Raises ConfigError for a file that is no such storage.
    """
    import optuna

    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    digests = {name: _digest(fact) for name, fact in facts.items()}
    with _quiet():
        try:
            storage = optuna.storages.RDBStorage(_url(path))
            before = optuna.get_all_study_summaries(storage)
            study = optuna.create_study(
                storage=storage,
                study_name=_digest(digests)[:16],
                directions=[up, *[down for _ in MEASURES]],
                load_if_exists=True,
            )
        except Exception as e:  # whatever SQLAlchemy says of a file that isn't ours
            raise ConfigError(
                f"'{path}' can't be used to keep trials ({str(e).splitlines()[0]}); delete it, or "
                "name another folder with --out"
            ) from e
        study.set_metric_names(["accuracy", *MEASURES])
        changed: tuple[str, ...] = ()
        if before and study.study_name not in [summary.study_name for summary in before]:
            last = before[-1].user_attrs.get(_FACTS, {})
            changed = tuple(name for name in digests if digests[name] != last.get(name))
        study.set_user_attr(_FACTS, digests)
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    opened = Study(study, tuple(knobs), sampler, seed)
    return Opened(opened, len(finished_trials(opened)), changed)


def finished_trials(study: Study) -> tuple[Trial, ...]:
    """Those with an outcome, in order."""
    found = [
        (trial.user_attrs[_PLACE], outcome_of(trial.user_attrs[_OUTCOME]))
        for trial in study.study.get_trials(deepcopy=False)
        if _OUTCOME in trial.user_attrs
    ]
    return tuple(Trial(number, *parts) for number, parts in enumerate(found))


def ask(study: Study, own: Place) -> Asked | None:
    """The next place to try, or None where every place of the space was tried.

    own: where the configuration itself is, as far as that is in the space: the first trial.
    """
    import optuna

    trials = finished_trials(study)
    tried = [trial.place for trial in trials]
    rng = np.random.default_rng([study.seed, len(trials)])
    fresh = untried(study.knobs, tried, rng)
    if fresh is None:
        return None
    with _quiet():
        for attempt in range(SAMPLED + 1):
            study.study.sampler = _sampler(study, len(trials), attempt)
            if attempt == SAMPLED:
                study.study.enqueue_trial(dict(fresh))
            elif not trials and not attempt and own:
                study.study.enqueue_trial(dict(own))
            trial = study.study.ask(_distributions(study.knobs))
            place = {knob.name: _used(trial.params[knob.name]) for knob in study.knobs}
            if place not in tried:
                break
            study.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        trial.set_user_attr(_PLACE, place)
    return Asked(place, trial)


def tell(study: Study, asked: Asked, outcome: Outcome, budget: Budget) -> Trial:
    """Keep what became of a trial."""
    from optuna.trial import TrialState

    number = len(finished_trials(study))
    trial = Trial(number, asked.place, outcome)
    costs = known_costs(trial)
    with _quiet():
        if costs is not None:
            asked.trial.set_constraint("budget", budget.violation(costs))
        asked.trial.set_user_attr(_OUTCOME, outcome.json())
        if outcome.status == "done":
            assert outcome.costs is not None and outcome.accuracy is not None
            values = [outcome.accuracy, *outcome.costs.named().values()]
            study.study.tell(asked.trial, [float(value) for value in values])
        else:
            study.study.tell(asked.trial, state=TrialState.PRUNED)
    return trial


def give_up(study: Study, asked: Asked) -> None:
    """Close a trial that was interrupted: it is asked for again."""
    from optuna.trial import TrialState

    with _quiet():
        study.study.tell(asked.trial, state=TrialState.FAIL)


def _sampler(study: Study, place: int, attempt: int) -> optuna.samplers.BaseSampler:
    """A sampler with the seed of one draw; the first draws of a trial are the study's own."""
    import optuna

    seed = int(np.random.SeedSequence([study.seed, place, attempt]).generate_state(1)[0])
    if study.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    if study.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def _distributions(knobs: Sequence[Knob]) -> dict[str, Any]:
    from optuna import distributions as d

    found: dict[str, Any] = {}
    for knob in knobs:
        if knob.values:
            found[knob.name] = d.CategoricalDistribution(list(knob.values))
        elif knob.whole:
            found[knob.name] = d.IntDistribution(int(knob.low), int(knob.high), log=knob.log)
        else:
            found[knob.name] = d.FloatDistribution(knob.low, knob.high, log=knob.log)
    return found


def _used(value: Value) -> Value:
    return rounded(value) if isinstance(value, float) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _url(path: Path) -> str:
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep optuna's log lines and its remarks on experimental parts from the user."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
