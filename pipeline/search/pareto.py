"""Which trials are worth having: the Pareto front, and the one that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinsmith.pipeline.search.budget import Budget, Costs
from tinsmith.pipeline.search.outcome import Trial


@dataclass(frozen=True)
class Shortfall:
    """How near a search came to a measure of a budget: the least that a trial had, and which."""

    measure: str
    limit: float
    nearest: float
    trial: int
    estimated: bool


def dominates(one: Trial, other: Trial) -> bool:
    """Whether a trial is no worse than another in accuracy and every cost, and better in one."""
    a, b = _costs(one), _costs(other)
    more, less = _accuracy(one), _accuracy(other)
    return a.at_most(b) and more >= less and (a != b or more > less)


def front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The finished trials that none dominates, the most accurate first; of equals the first."""
    done = [trial for trial in trials if trial.outcome.status == "done"]
    kept: list[Trial] = []
    for trial in done:
        if any(dominates(other, trial) or _same(other, trial) for other in kept):
            continue
        kept = [other for other in kept if not dominates(trial, other)]
        kept.append(trial)
    return tuple(sorted(kept, key=lambda t: (-_accuracy(t), _costs(t).instructions, t.number)))


def fits(trial: Trial, budget: Budget, reference: float) -> bool:
    """Whether a finished trial keeps the budget. reference: accuracy that drops are from."""
    if trial.outcome.costs is None or trial.outcome.accuracy is None:
        return False
    if budget.excess(trial.outcome.costs):
        return False
    return budget.max_drop is None or reference - trial.outcome.accuracy <= budget.max_drop + 1e-9


def best(trials: Sequence[Trial], budget: Budget, reference: float) -> Trial | None:
    """The most accurate trial within the budget; of equals the one with the fewest instructions."""
    return next((trial for trial in front(trials) if fits(trial, budget, reference)), None)


def nearest(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    """The trial that is over the budget by the least share of its limits; estimates count too."""
    known = [(budget.violation(costs), t.number, t) for t in trials if (costs := known_costs(t))]
    return min(known)[2] if known else None


def shortfalls(trials: Sequence[Trial], budget: Budget, reference: float) -> tuple[Shortfall, ...]:
    """For each limit, the least that any trial had of it; the greatest drop is the last."""
    found = []
    for name, limit in budget.limits().items():
        known = [
            (costs.named()[name], t.number, t.outcome.costs is None)
            for t in trials
            if (costs := known_costs(t))
        ]
        if known:
            found.append(Shortfall(name, limit, *min(known)))
    if budget.max_drop is not None:
        drops = [
            (reference - t.outcome.accuracy, t.number)
            for t in trials
            if t.outcome.accuracy is not None
        ]
        if drops:
            least, number = min(drops)
            found.append(Shortfall("drop", budget.max_drop, round(least, 4), number, False))
    return tuple(found)


def known_costs(trial: Trial) -> Costs | None:
    """What a trial's firmware costs, or an estimate of it."""
    return trial.outcome.costs or trial.outcome.estimate


def _costs(trial: Trial) -> Costs:
    assert trial.outcome.costs is not None, "only finished trials are compared"
    return trial.outcome.costs


def _accuracy(trial: Trial) -> float:
    assert trial.outcome.accuracy is not None, "only finished trials are compared"
    return trial.outcome.accuracy


def _same(one: Trial, other: Trial) -> bool:
    return _costs(one) == _costs(other) and _accuracy(one) == _accuracy(other)
