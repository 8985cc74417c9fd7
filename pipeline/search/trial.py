"""One trial: estimated first, then trained, quantized and measured, by the stages of `run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tinsmith.pipeline.config import Augment, Config
from tinsmith.pipeline.config.prune_rules import check_prune
from tinsmith.pipeline.errors import ConfigError, DoesNotFit, ModelError, TinsmithError
from tinsmith.pipeline.flow import (
    Artifact,
    Event,
    Listener,
    Progress,
    Stage,
    artifact_at,
    run_flow,
    silent,
)
from tinsmith.pipeline.search.budget import Budget, Costs
from tinsmith.pipeline.search.measure import measure
from tinsmith.pipeline.search.outcome import Outcome, Trial, is_behind
from tinsmith.pipeline.search.space import Place, at_place
from tinsmith.pipeline.stages import stages_of
from tinsmith.targets.target import Target

# An estimate may be over the budget by this share, and by so many bytes of flash, before a trial is
# given up for it: training moves which kernels can take the weights, and which channels go.
SLACK = 0.15
SLACK_FLASH_BYTES = 1024
FEW = 32  # images that a network is estimated on

Tell = Callable[[str], None]


@dataclass(frozen=True)
class FewImages(Stage):
    """Writes data.npz as `load` does, with the first images only: enough to give a network shapes
    and ranges.
    """

    name: ClassVar[str] = "few"
    inputs: ClassVar[tuple[str, ...]] = ("load",)
    tools: ClassVar[tuple[str, ...]] = ("numpy",)

    count: int = FEW

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        with np.load(inputs["load"].file("data.npz")) as file:
            arrays = {name: file[name] for name in file.files}
        few = {
            name: array[: self.count] if name.startswith(("x_", "y_")) else array
            for name, array in arrays.items()
        }
        np.savez(out_dir / "data.npz", **few)


@dataclass(frozen=True)
class Bench:
    """What all trials share.

    config: what a place in the space changes. load, few, teacher: results of these stages, on the
    images that trials are trained and measured on. work: the folder of the stages' results.
    """

    config: Config
    target: Target
    budget: Budget
    load: Artifact
    few: Artifact
    teacher: Artifact
    work: Path


class _Stopped(Exception):
    """A trial that is behind; carries what was measured so far."""

    def __init__(self, rungs: Mapping[int, float]) -> None:
        super().__init__()
        self.rungs = rungs


def run_trial(bench: Bench, place: Place, others: Sequence[Trial], tell: Tell) -> Outcome:
    """Try the network at a place. What is wrong with the place is an outcome; missing tools, full
    disks and interrupts are raised.
    """
    from tinsmith.pipeline.training.loop import TrainingDiverged

    started = time.monotonic()
    known: dict[str, Any] = {}
    try:
        config = at_place(bench.config, place)
        check_prune(config.prune, "[prune]")
        known["kept"] = share_kept(config)
        tell("estimated")
        known["estimate"] = estimate = estimate_costs(bench, config)
        if not may_fit(bench.budget, estimate):
            outcome = Outcome("too large", _excess_text(bench.budget, estimate), **known)
        else:
            outcome = _train(bench, config, estimate, others, tell)
    except _Stopped as stopped:
        rungs = stopped.rungs
        reason = f"{rungs[max(rungs)]:.2f} % after {max(rungs)} epochs, and others cost no more"
        outcome = Outcome("stopped", reason, rungs=rungs, **known)
    except DoesNotFit as e:
        outcome = Outcome("too large", _one_line(e), **known)
    except (ConfigError, ModelError, TrainingDiverged) as e:
        outcome = Outcome("failed", _one_line(e), **known)
    return replace(outcome, seconds=round(time.monotonic() - started, 1))


def estimate_costs(bench: Bench, config: Config) -> Costs:
    """What the firmware will cost: the same stages on a few images, with hardly any training."""
    done = _run(bench, shrunk(config), bench.few, bench.work / "estimates", silent)
    quantized = done["quantize"]
    return measure(config, bench.target, bench.few, quantized)


def shrunk(config: Config) -> Config:
    """The configuration with as little training as there can be."""
    little = {
        "epochs": 1, "step_epochs": 1, "steps": 1, "batch": FEW, "calibration": FEW,
        "measured_on": FEW, "rewind_epoch": 0,
    }  # fmt: skip
    tables = {}
    for name in config.__class__.model_fields:
        table = getattr(config, name)
        if name in ("run", "data", "teacher", "augment", "generate", "compress", "gates"):
            continue
        changes: dict[str, int | str] = {k: n for k, n in little.items() if hasattr(table, k)}
        if name == "quantize":
            changes |= {"epochs": 0, "rounding": "nearest"}
        tables[name] = table.model_copy(update=changes)
    still = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    return config.model_copy(update={**tables, "augment": still})


def share_kept(config: Config) -> float:
    """The share of the student's MACs, or of its weights, that is left of it after its training."""
    kept = config.prune.macs if shapes_move(config) else config.prune.density
    if config.factorize.ranks in ("automatic", "budget"):
        return kept * config.factorize.macs
    return kept * config.factorize.energy if config.factorize.ranks == "energy" else kept


def shapes_move(config: Config) -> bool:
    """Whether what is pruned goes physically, instead of becoming 0."""
    return config.prune.scope not in ("weights", "blocks")


def _train(
    bench: Bench, config: Config, estimate: Costs, others: Sequence[Trial], tell: Tell
) -> Outcome:
    rungs: dict[int, float] = {}

    def listen(event: Event) -> None:
        if event.message:
            tell(f"{event.stage} {event.message}")
        if event.stage != "distil" or event.folder is None:
            return
        fresh = _rungs_of(event) - rungs.items()
        rungs.update(fresh)
        if event.kind in ("resumed", "progress") and any(
            is_behind(epoch, accuracy, estimate, share_kept(config), others)
            for epoch, accuracy in fresh
        ):
            raise _Stopped(dict(sorted(rungs.items())))

    done = _run(bench, config, bench.load, bench.work, listen)
    tell("measured")
    costs = measure(config, bench.target, bench.few, done["quantize"])
    network = done[_last_network(done)].json()
    return Outcome(
        "done",
        estimate=estimate,
        costs=costs,
        accuracy=round(done["quantize"].json()["accuracy"], 4),
        rungs=dict(sorted(rungs.items())),
        kept=share_kept(config),
        parameters=network["parameters"],
        macs=network["macs"],
    )


def results_of(bench: Bench, place: Place) -> dict[str, Artifact]:
    """The results of a finished trial's stages, from the student to its integers."""
    return _run(bench, at_place(bench.config, place), bench.load, bench.work, silent)


def _run(
    bench: Bench,
    config: Config,
    load: Artifact,
    out: Path,
    listen: Listener,
) -> dict[str, Artifact]:
    """The results of the stages from the student to its integers."""
    given = {"load": load, "teacher": bench.teacher}
    stages = [stage for stage in stages_of(config) if stage.name not in given]
    folders = run_flow(stages, out, to="quantize", given=given, keep=None, progress=listen)
    return {name: artifact_at(path) for name, path in folders.items()}


def _rungs_of(event: Event) -> set[tuple[int, float]]:
    """The accuracies that a stage which trains a student, or has, measured so far."""
    from tinsmith.pipeline.training.series import history_so_far

    assert event.folder is not None
    if event.kind in ("cached", "done"):
        metrics = artifact_at(event.folder).json()
        measured = [(epoch["epoch"], epoch["accuracy"]) for epoch in metrics["epochs"]]
    else:
        measured = [(epoch.epoch, epoch.accuracy) for epoch in history_so_far(event.folder)]
    return {
        (place, accuracy) for place, (_, accuracy) in enumerate(measured, 1) if accuracy is not None
    }


def _last_network(done: Mapping[str, Artifact]) -> str:
    """The last stage that wrote a float network."""
    return [name for name in done if name != "quantize"][-1]


def may_fit(budget: Budget, estimate: Costs) -> bool:
    """Whether a network could keep the budget once it is trained."""
    spent = estimate.named()
    spent["flash"] -= SLACK_FLASH_BYTES
    return all(spent[name] <= limit * (1 + SLACK) for name, limit in budget.limits().items())


def _excess_text(budget: Budget, costs: Costs) -> str:
    return ", ".join(f"{name}: {by:,} too many" for name, by in budget.excess(costs).items())


def _one_line(error: TinsmithError) -> str:
    return " ".join(str(error).split())
