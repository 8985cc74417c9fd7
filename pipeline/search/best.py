"""The chosen network as a folder: its C, its model, and the configuration that makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinsmith.pipeline.config import Config, Gates, TargetGates
from tinsmith.pipeline.config.write import config_text
from tinsmith.pipeline.errors import GateFailed
from tinsmith.pipeline.flow import Artifact, artifact_at, run_flow
from tinsmith.pipeline.output_folder import MANIFEST, write_folder
from tinsmith.pipeline.search.budget import Budget, Costs
from tinsmith.pipeline.search.outcome import Trial
from tinsmith.pipeline.search.search import Found
from tinsmith.pipeline.search.space import at_place
from tinsmith.pipeline.search.trial import Tell
from tinsmith.pipeline.stages import stages_of

FOLDER = "best"
SAMPLES = 100  # images that run on the target, where the configuration says "all"


@dataclass(frozen=True)
class Firmware:
    """The chosen network's firmware: what `validate` says of it, and the folder where its C is."""

    costs: Costs
    validation: Mapping[str, Any]
    folder: Path


def write_best(found: Found, budget: Budget, out: Path, doing: Tell) -> Firmware:
    """Generate, build and validate the chosen network, and write `<out>/best`.

    Raises GateFailed where the firmware is not what the trial measured, which is a bug, and
    ConfigError where the folder holds files of the user's.
    """
    trial = found.chosen
    assert trial is not None, "there is a network to write"
    config = at_place(found.bench.config, trial.place)
    done = _firmware(found, config, doing)
    name = found.bench.target.name
    validation = done["validate"].json("validation.json")[name]
    costs = Costs(
        validation["flash_bytes"],
        validation["arena_bytes"] + validation["stack_bytes"],
        validation["instructions"],
    )
    if not validation["bit_exact"] or budget.excess(costs):
        raise GateFailed(
            f"trial {trial.number}: the firmware is not what was measured: {costs.named()} and "
            f"{validation['mismatches']} bytes that differ from the interpreter"
        )
    folder = out / FOLDER
    sources = done["generate"].path / name
    files: dict[str, str | bytes] = {
        f"sources/{path.relative_to(sources).as_posix()}": path.read_bytes()
        for path in sorted(sources.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    files["model.tflite"] = done["quantize"].file("model.tflite").read_bytes()
    files["tinsmith.toml"] = _text(config, trial, budget, name, folder)
    files["validation.json"] = json.dumps(validation, indent=2) + "\n"
    write_folder(folder, files)
    return Firmware(costs, validation, folder)


def _firmware(found: Found, config: Config, doing: Tell) -> dict[str, Artifact]:
    """The results of all stages of the chosen network; those of its trial are there already."""
    samples = config.validation.samples
    few = SAMPLES if samples == "all" else samples
    validation = config.validation.model_copy(update={"samples": few})
    config = config.model_copy(update={"validation": validation})
    given = {"load": found.bench.load, "teacher": found.bench.teacher}
    stages = [stage for stage in stages_of(config) if stage.name not in given]
    folders = run_flow(
        stages, found.bench.work, given=given, keep=None,
        progress=lambda event: doing(f"{event.stage} {event.message or event.kind}"),
    )  # fmt: skip
    return {stage: artifact_at(path) for stage, path in folders.items()}


def _text(config: Config, trial: Trial, budget: Budget, target: str, folder: Path) -> str:
    """The configuration of the chosen network, with the budget as its gates."""
    limits = budget.limits()
    gates = TargetGates(
        flash_bytes=limits.get("flash"),
        ram_bytes=limits.get("ram"),
        instructions=limits.get("instructions"),
    )
    run = config.run.model_copy(update={"out": folder.parent / "best-run"})
    config = config.model_copy(
        update={
            "run": run,
            "gates": Gates(target={target: gates}) if limits else Gates(),
            "compress": type(config.compress)(),
        }
    )
    return (
        f"# Trial {trial.number} of a search. `tinsmith run` of this file makes the same network "
        "again, byte for byte.\n# To train on all images and measure on the test images, take "
        "`validation` out of [data].\n\n" + config_text(config, folder)
    )
