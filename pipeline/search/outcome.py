"""What became of a trial, as it is kept in the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from tinsmith.pipeline.search.budget import Costs
from tinsmith.pipeline.search.space import Place

Status = Literal["done", "too large", "stopped", "failed"]
# A trial is stopped where it is behind the median of at least so many others.
LEAST_RIVALS = 4


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    done: trained and measured. too large: its costs were estimated before training, and are beyond
    the budget. stopped: while it was trained, for its accuracy. failed: `reason` says why.
    estimate, costs: of the firmware, before and after training. accuracy: of the integer network,
    percent of the validation images. rungs: epoch -> accuracy while the student was trained.
    kept: share of the MACs that pruning left.
    """

    status: Status
    reason: str = ""
    estimate: Costs | None = None
    costs: Costs | None = None
    accuracy: float | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)
    kept: float = 1.0
    parameters: int | None = None
    macs: int | None = None
    seconds: float = 0.0

    def json(self) -> dict[str, Any]:
        return asdict(self)


def outcome_of(data: Mapping[str, Any]) -> Outcome:
    """The inverse of `Outcome.json`."""
    fields = dict(data)
    for name in ("estimate", "costs"):
        fields[name] = None if fields[name] is None else Costs(**fields[name])
    fields["rungs"] = {int(epoch): value for epoch, value in fields["rungs"].items()}
    return Outcome(**fields)


@dataclass(frozen=True)
class Trial:
    """A finished trial: its number, from 0, and where in the space it is."""

    number: int
    place: Place
    outcome: Outcome


def is_behind(
    epoch: int, accuracy: float, estimate: Costs, kept: float, others: Sequence[Trial]
) -> bool:
    """Whether a trial with this accuracy after an epoch is not worth going on with.

    It is where it is below the median of those that were as far, cost no more in any measure, and
    were not pruned less than it will be: smaller networks are not stopped for being smaller.
    """
    rivals = [
        trial.outcome.rungs[epoch]
        for trial in others
        if epoch in trial.outcome.rungs
        and trial.outcome.estimate is not None
        and trial.outcome.estimate.at_most(estimate)
        and trial.outcome.kept >= kept
    ]
    return len(rivals) >= LEAST_RIVALS and accuracy < median(rivals)
