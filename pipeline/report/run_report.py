"""The report of a run: what the stages measured, in one place, and whether the gates held."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinsmith.pipeline.config import Config, TargetGates


@dataclass(frozen=True)
class GateResult:
    """One limit of [gates]: what was asked, what came out."""

    name: str
    limit: float
    value: float | None
    held: bool


# (key of the report, stage that measured it)
_NETWORKS = (
    ("teacher", "teacher"),
    ("student", "distil"),
    ("factorized", "factorize"),
    ("pruned", "prune"),
    ("clustered", "cluster"),
)


def _quantized(config: Config) -> str:
    """How the report calls the quantized network: by the type of its activations."""
    return f"int{config.quantize.activations}"


def collect(config: Config, folders: Mapping[str, Path]) -> dict[str, Any]:
    """report.json: accuracy (percent of all test images), parameters, MACs, validation by target,
    weights (bytes when packed, and the grid of each layer) where there is a budget of them, and
    coded_bytes (of a file of all weights) where they share values. Of several tasks accuracy is the
    mean, and `tasks` has that of each by stage.

    Only what the stages in `folders` have measured is there.
    """
    report: dict[str, Any] = {"name": config.run.name, "accuracy": {}, "parameters": {}, "macs": {}}
    tasks: dict[str, dict[str, float]] = {}
    for key, stage in _NETWORKS:
        if stage in folders:
            metrics = json.loads((folders[stage] / "metrics.json").read_text())
            report["accuracy"][key] = metrics["accuracy"]
            tasks[key] = metrics.get("tasks", {})
            report["parameters"][key] = metrics["parameters"]
            report["macs"][key] = metrics["macs"]
            report["test_samples"] = metrics["test_samples"]
    if "cluster" in folders:
        report["coded_bytes"] = metrics["coded_bytes"]
    if "quantize" in folders:
        metrics = json.loads((folders["quantize"] / "metrics.json").read_text())
        report["accuracy"][_quantized(config)] = metrics["accuracy"]
        tasks[_quantized(config)] = metrics.get("tasks", {})
        if "layers" in metrics:  # a budget of weight bytes
            report["weights"] = {key: metrics[key] for key in ("weight_bytes", "layers")}
    if "validate" in folders:
        validation = json.loads((folders["validate"] / "validation.json").read_text())
        report["validation"] = validation
        devices = [v for name, v in validation.items() if name in config.generate.targets]
        report["accuracy"]["device"] = min(v["accuracy"] for v in devices)
        names = devices[0].get("tasks", {})
        tasks["device"] = {name: min(v["tasks"][name] for v in devices) for name in names}
    if "generate" in folders:
        report["sources"] = {
            target: str(Path("generate") / target) for target in config.generate.targets
        }
    if any(tasks.values()):
        report["tasks"] = tasks
    report["gates"] = [vars(gate) for gate in check_gates(config, report)]
    return report


def _by_task(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By task, as names of gates end with it, the accuracy by stage; one task has no such end."""
    if "tasks" not in report:
        return {"": report["accuracy"]}
    stages = report["tasks"]
    names = dict.fromkeys(name for of_stage in stages.values() for name in of_stage)
    return {f": {name}": {s: own[name] for s, own in stages.items()} for name in names}


def check_gates(config: Config, report: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """Every limit that the configuration sets, and that each target computes the same bytes.

    A limit on something that was not measured (a run with --to) is left out. One on accuracy has
    to hold in each task.
    """
    macs, parameters = report["macs"], report["parameters"]
    accuracies = _by_task(report)
    gates = config.gates
    found: list[GateResult] = []

    def at_most(name: str, limit: float | None, value: float | None) -> None:
        if limit is not None and value is not None:
            # Accuracies are multiples of 1/samples: their differences carry noise of the last bit.
            found.append(GateResult(name, limit, value, value <= limit + 1e-9))

    def drop(name: str, limit: float | None, before: str, after: str) -> None:
        for task, accuracy in accuracies.items():
            if before in accuracy and after in accuracy:
                at_most(name + task, limit, accuracy[before] - accuracy[after])

    for task, accuracy in accuracies.items():
        if (least := gates.teacher_accuracy) is not None and "teacher" in accuracy:
            percent = accuracy["teacher"]
            found.append(GateResult(f"teacher_accuracy{task}", least, percent, percent >= least))
    if "student" in parameters:
        ratio = parameters["student"] / parameters["teacher"]
        at_most("student_ratio", gates.student_ratio, ratio)
    drop("distil_drop", gates.distil_drop, "teacher", "student")
    drop("factorize_drop", gates.factorize_drop, "student", "factorized")
    if "pruned" in macs:
        at_most("pruned_macs", gates.pruned_macs, macs["pruned"] / macs["student"])
    drop("prune_drop", gates.prune_drop, "student", "pruned")
    drop("cluster_drop", gates.cluster_drop, "pruned", "clustered")
    before = "clustered" if config.cluster.takes_part else "pruned"
    drop("quantize_drop", gates.quantize_drop, before, _quantized(config))
    for target, fields in report.get("validation", {}).items():
        wrong = fields["mismatches"] + sum(fields["oracles"].values())
        at_most(f"{target}: bytes that differ", 0, wrong)
        limits = gates.target.get(target, TargetGates())
        at_most(f"{target}: flash_bytes", limits.flash_bytes, fields["flash_bytes"])
        ram = fields["arena_bytes"] + (fields["stack_bytes"] or 0)
        at_most(f"{target}: ram_bytes", limits.ram_bytes, ram)
        at_most(f"{target}: instructions", limits.instructions, fields["instructions"])
        if "sanitizers" in fields:
            clean = not fields["sanitizers"].endswith("differ")
            found.append(GateResult(f"{target}: sanitizers", 0, 0 if clean else 1, clean))
    return tuple(found)
