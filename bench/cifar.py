"""ResNet8 on CIFAR-10, its channels pruned to half the work: accuracy, and what the device gains.

    python bench/cifar.py --images FOLDER [--epochs N] [--short N] [--only NAME ...]

FOLDER holds `train/<class>/` and `test/<class>/` as examples/cifar10/README.md says; the network,
and how it is trained and pruned, are that example's. First comes the example's own pruning, then
each criterion and each schedule with a short training of one length. Networks are compared on all
test images, paired; int8 by the interpreter, whose bytes the emulated core has to give on the
first of them. With 15,000 images all takes about 25 minutes of one processor. What is finished
is kept in build/cifar and not done again; a run over everything writes its section of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distillation import paired_difference, right_answers
from numpy.typing import NDArray
from page import PAGE, ROOT, millions, table, write_section

from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.deployment import make_program, temporary_build
from tinsmith.pipeline.flow import Artifact, Event, run_flow
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.stages.common import predictions, read_labelled
from tinsmith.pipeline.stages.distil import DistilStudent
from tinsmith.pipeline.stages.load import Load
from tinsmith.pipeline.stages.prune import PruneStudent
from tinsmith.pipeline.stages.quantize import QuantizeStudent
from tinsmith.pipeline.stages.teacher import TrainTeacher
from tinsmith.pipeline.training.results import read_network, read_samples
from tinsmith.pipeline.validation import differing_bytes, run_device
from tinsmith.targets.target import target_named

EXAMPLE = ROOT / "examples" / "cifar10"
CORE = "cortex-m4"
DEVICE_IMAGES = 20  # whose bytes are compared on the emulated core
MOST_POINTS_LOST = 1.0
LEAST_INSTRUCTIONS_SAVED = 45.0

# A short pruning -> what it changes in [prune]; `short` epochs each.
SHORT: Mapping[str, Mapping[str, Any]] = {
    "taylor": {},
    "l1": {"criterion": "l1"},
    "l2": {"criterion": "l2"},
    "gradient": {"criterion": "gradient"},
    "entropy": {"criterion": "entropy"},
    "apoz": {"criterion": "apoz"},
    "loss": {"criterion": "loss"},
    "random": {"criterion": "random"},
    "taylor, uniform": {"allocation": "uniform"},
    "taylor, global": {"allocation": "global"},
    "taylor, sensitivity": {"allocation": "sensitivity"},
    "taylor, iterative": {"steps": 0},
}
FULL = "full"


@dataclass(frozen=True, eq=False)
class Network:
    """A network measured: which test images it gets right, in float and in int8."""

    macs: int
    parameters: int
    right: NDArray[np.bool_]
    minutes: float
    int8_right: NDArray[np.bool_] | None = None
    device: Mapping[str, int] | None = None


def short_options(config: Config, name: str, epochs: int) -> Config:
    """The configuration for a short pruning: all at once, or one step an epoch."""
    changes: dict[str, Any] = {"steps": 1, "epochs": epochs, **SHORT[name]}
    if changes["steps"] == 0:
        changes.update(steps=epochs, step_epochs=1, epochs=1)
    return config.model_copy(update={"prune": config.prune.model_copy(update=changes)})


def pruned(config: Config, name: str, done: Mapping[str, Artifact]) -> tuple[Artifact, float]:
    """The pruned network of a name, made if it is not yet, and the minutes that it took."""
    stage = PruneStudent.from_config(config)
    options = config.prune
    what = f"{name.replace(', ', '-')}-{options.epochs}-{done['teacher'].key[:6]}"
    folder = config.run.out / "pruned" / what
    if not (folder / "minutes.txt").exists():
        folder.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        stage.run({part: done[part] for part in stage.inputs}, folder, _teller(name))
        minutes = (time.process_time() - started) / 60
        (folder / "minutes.txt").write_text(f"{minutes:.1f}\n")
    return Artifact("prune", "", "", folder), float((folder / "minutes.txt").read_text())


def measured(
    config: Config, network: Artifact, minutes: float, done: Mapping[str, Artifact]
) -> Network:
    """A float network on the test images."""
    samples = read_samples(done["load"].path)
    found = read_network(network.path, config.distil.model, samples)
    facts = network.json()
    right = right_answers(found, samples.x_test, samples.y_test)
    return Network(facts["macs"], facts["parameters"], right, minutes)


def deployed(
    config: Config, name: str, network: Artifact, minutes: float, done: Mapping[str, Artifact]
) -> Network:
    """The same quantized, compiled, and run on the emulated core."""
    folder = config.run.out / "int8" / f"{name}-{network.path.name}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.tflite").exists():
        stage = QuantizeStudent.from_config(config)
        stage.run({"load": done["load"], "prune": network}, folder, _teller(name))
    graph = read_model(folder / "model.tflite").graph
    images = read_labelled(done["load"])
    entry = graph.tensors[graph.inputs[0]]
    x = {entry.name: to_input(images.x_test, entry, "the test images")}
    outputs = run_samples(graph, x)[0]
    target = target_named(CORE)
    program = make_program(graph, "net", target)
    few = {entry.name: x[entry.name][:DEVICE_IMAGES]}
    with temporary_build(program, target) as made:
        on_device, instructions, stack = run_device(made, few)
        sizes = made.image.sizes
    wrong = differing_bytes(on_device, (outputs[:DEVICE_IMAGES],))
    if wrong:
        raise SystemExit(f"error: {wrong} bytes of {CORE} differ from the interpreter's")
    assert sizes is not None
    assert instructions is not None
    device = {
        "instructions": instructions,
        "flash": sizes.flash_bytes,
        "ram": sizes.ram_bytes,
        "stack": stack or 0,
    }
    floats = measured(config, network, minutes, done)
    right = predictions(outputs) == images.y_test
    return Network(floats.macs, floats.parameters, floats.right, minutes, right, device)


def _teller(name: str) -> Any:
    def tell(message: str, fraction: float | None = None) -> None:
        print(f"\r{name}: {message}\033[K", end="", file=sys.stderr, flush=True)

    return tell


def _percent(right: NDArray[np.bool_]) -> str:
    return f"{100 * right.mean():.2f} %"


def _points(ours: NDArray[np.bool_], others: NDArray[np.bool_]) -> str:
    points, half = paired_difference(ours, others)
    return f"{points:+.2f} ± {half:.2f}"


def device_table(before: Network, after: Network) -> list[str]:
    """What the firmware was and is."""
    assert before.device is not None
    assert after.device is not None
    assert before.int8_right is not None
    assert after.int8_right is not None

    def numbers(label: str, a: int, b: int) -> list[str]:
        return [label, f"{a:,}", f"{b:,}", f"{100 * (b / a - 1):+.1f} %"]

    rows = [
        ["accuracy, float", _percent(before.right), _percent(after.right),
         f"{_points(after.right, before.right)} points"],
        ["accuracy, int8", _percent(before.int8_right), _percent(after.int8_right),
         f"{_points(after.int8_right, before.int8_right)} points"],
        numbers("MACs", before.macs, after.macs),
        numbers("parameters", before.parameters, after.parameters),
        *(numbers(f"{CORE}: {key}{'' if key == 'instructions' else ', bytes'}",
                  before.device[key], after.device[key]) for key in before.device),
    ]  # fmt: skip
    return table(["", "before", "pruned", "change"], rows)


def short_table(before: Network, results: Mapping[str, Network]) -> list[str]:
    rows = [
        [
            f"`{name.replace(', ', '`, `')}`", millions(r.macs), _percent(r.right),
            _points(r.right, before.right), f"{r.minutes:.1f}",
        ]
        for name, r in results.items()
    ]  # fmt: skip
    return table(["pruned by", "MACs", "accuracy", "points, 95 % interval", "CPU minutes"], rows)


def section(
    config: Config,
    images: int,
    before: Network,
    after: Network,
    short: Mapping[str, Network],
    epochs: int,
) -> str:
    """The benchmark's part of the page; images: how many to train on."""
    prune = config.prune
    trained = prune.step_epochs * (prune.steps - 1) + prune.epochs
    return "\n".join([
        "## Pruning, CIFAR-10",
        "",
        f"ResNet8 (16, 32, 64 channels) of [examples/cifar10](../examples/cifar10), trained for "
        f"{config.teacher.epochs} epochs on",
        f"{images:,} images and measured on {len(before.right):,}. Whole channels go until "
        f"{100 * prune.macs:.0f} % of the MACs are left, then the",
        f"network learns what it said before, {trained} epochs in all; the unpruned one is not "
        "trained further. Intervals are of paired differences on the test",
        f"images; the C's bytes are the interpreter's. Bars: at most {MOST_POINTS_LOST:.0f} point "
        f"lost, instructions {LEAST_INSTRUCTIONS_SAVED:.0f} % fewer.",
        "",
        *device_table(before, after),
        "",
        f"Criteria, allocations and schedules, float, after only {epochs} epochs of training each: "
        "all channels at once,",
        "or (`iterative`) a share before each epoch. The allocation is `budget` where none is "
        "named.",
        "",
        *short_table(before, short),
        "",
        f"Seed {config.run.seed}, {after.minutes:.0f} minutes of one processor for the full "
        "pruning; `python bench/cifar.py` measures all again.",
    ])  # fmt: skip


def missed(before: Network, after: Network) -> list[str]:
    """The bars that were not reached."""
    assert before.device is not None
    assert after.device is not None
    assert before.int8_right is not None
    assert after.int8_right is not None
    lost = -paired_difference(after.int8_right, before.int8_right)[0]
    saved = 100 - 100 * after.device["instructions"] / before.device["instructions"]
    found = []
    if lost > MOST_POINTS_LOST:
        found.append(f"{lost:.2f} points lost; at most {MOST_POINTS_LOST}")
    if 2 * after.macs > before.macs:
        found.append(f"{after.macs} MACs are more than half of {before.macs}")
    if saved < LEAST_INSTRUCTIONS_SAVED:
        found.append(f"{saved:.1f} % of the instructions saved; {LEAST_INSTRUCTIONS_SAVED} needed")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of images (examples/cifar10/images)")
    parser.add_argument("--epochs", type=int, help="of the training, and of the full pruning")
    parser.add_argument("--short", type=int, default=2, help="epochs of the short prunings")
    parser.add_argument("--only", nargs="*", choices=[*SHORT], help="these short prunings")
    args = parser.parse_args()
    config = load_config(EXAMPLE)
    changes: dict[str, Any] = {
        "run": config.run.model_copy(update={"out": ROOT / "build" / "cifar", "threads": 1})
    }
    if args.images:
        changes["data"] = config.data.model_copy(update={"path": args.images.resolve()})
    if args.epochs:
        for name in ("teacher", "prune"):
            changes[name] = getattr(config, name).model_copy(update={"epochs": args.epochs})
    config = config.model_copy(update=changes)

    def listen(event: Event) -> None:
        if event.message:
            _teller(event.stage)(event.message)

    stages = (
        Load.from_config(config), TrainTeacher.from_config(config),
        DistilStudent.from_config(config),
    )  # fmt: skip
    folders = run_flow(stages, config.run.out, progress=listen)
    done = {
        name: Artifact(name, path.name.partition("-")[2], "", path)
        for name, path in folders.items()
    }
    before = deployed(config, "before", done["distil"], 0.0, done)
    print(f"\r\033[Kbefore: {_percent(before.right)}, {json.dumps(before.device)}", flush=True)
    network, minutes = pruned(config, FULL, done)
    after = deployed(config, FULL, network, minutes, done)
    print(f"\r\033[K{FULL}: {_percent(after.right)}, {json.dumps(after.device)}", flush=True)
    short = {}
    for name in [*SHORT] if args.only is None else args.only:
        own = short_options(config, name, args.short)
        short[name] = measured(own, *pruned(own, name, done), done)
        print(
            f"\r\033[K{name}: {_percent(short[name].right)}, {short[name].macs:,} MACs", flush=True
        )
    images = len(read_samples(done["load"].path).y_train)
    text = section(config, images, before, after, short, args.short)
    print(f"\r\033[K{text}")
    for line in missed(before, after):
        print(f"missed: {line}", file=sys.stderr)
    if args.only is None and not args.epochs:
        write_section(PAGE, "cifar", text)
    return 1 if missed(before, after) else 0


if __name__ == "__main__":
    sys.exit(main())
