"""What each kind of distillation gives over training the same student alone, on Fashion-MNIST.

    python bench/distillation.py [--kinds alone soft ...] [--train N] [--epochs N] [--seed N]

The teacher is trained once, each student is trained by the same recipe, and all are measured on
the 10,000 test images. What a run has trained is kept in build/distillation and is not trained
again; a run that was stopped goes on. One student takes 15 to 25 minutes of one processor on all
60,000 images, the teacher half an hour. A run over all kinds writes its section of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from page import PAGE, write_section

from tinsmith.pipeline.config import Config, Distil, DistilTerm, ModelRef, load_config
from tinsmith.pipeline.flow import Artifact, Event, run_flow
from tinsmith.pipeline.stages.distil import DistilStudent
from tinsmith.pipeline.stages.load import Load
from tinsmith.pipeline.stages.teacher import TrainTeacher
from tinsmith.pipeline.training.results import read_network, read_samples, read_teacher

HERE = Path(__file__).resolve().parent

SOFT = {"kind": "soft", "weight": 0.9, "temperature": 4.0}
LABELS = {"kind": "labels", "weight": 0.1}
LAYERS = {"student_layer": "down2", "teacher_layer": "down2"}

# The name of a kind -> what it changes in [distil].
KINDS: Mapping[str, Mapping[str, Any]] = {
    "alone": {"terms": [{"kind": "labels"}]},
    "soft": {"terms": [SOFT, LABELS]},
    "hard": {"terms": [{"kind": "hard", "weight": 0.5}, {"kind": "labels", "weight": 0.5}]},
    "decoupled": {"terms": [{"kind": "decoupled", "beta": 2.0, "weight": 0.5}, {"kind": "labels"}]},
    "hint": {"terms": [SOFT, LABELS, {"kind": "hint", "weight": 0.5, **LAYERS}]},
    "attention": {"terms": [SOFT, LABELS, {"kind": "attention", "weight": 5.0, **LAYERS}]},
    "relations": {"terms": [SOFT, LABELS, {"kind": "relations", "weight": 2.0}]},
    "assistant": {"terms": [SOFT, LABELS], "assistants": ["assistant"]},
    "born again": {"terms": [SOFT, LABELS], "generations": 2},
    "cut out": {"terms": [SOFT, LABELS], "start": "teacher"},
}


@dataclass(frozen=True)
class Result:
    """A student on the test images: which answers are right, and what the training took."""

    kind: str
    right: NDArray[np.bool_]
    minutes: float

    @property
    def accuracy(self) -> float:
        return float(100 * self.right.mean())


def options_of(kind: str, base: Distil) -> Distil:
    """[distil] with the changes of a kind."""
    changes = dict(KINDS[kind])
    changes["terms"] = [DistilTerm(**term) for term in changes["terms"]]
    changes["assistants"] = [
        ModelRef(path=base.model.path, attribute=name) for name in changes.get("assistants", ())
    ]
    return base.model_copy(update=changes)


def train(config: Config, kind: str, done: Mapping[str, Artifact]) -> Path:
    """The folder with the student of a kind, trained there if it is not yet."""
    stage = DistilStudent(
        options_of(kind, config.distil), config.teacher, config.augment, config.run.seed, 1
    )
    name = f"{kind.replace(' ', '-')}-{done['load'].key[:6]}-{done['teacher'].key[:6]}"
    folder = config.run.out / "students" / f"{name}-{config.distil.epochs}-{config.run.seed}"
    if not (folder / "minutes.txt").exists():
        folder.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        stage.run({name: done[name] for name in stage.inputs}, folder, _teller(kind))
        minutes = (time.process_time() - started) / 60
        (folder / "minutes.txt").write_text(f"{minutes:.1f}\n")
    return folder


def _teller(kind: str) -> Any:
    def tell(message: str, fraction: float | None = None) -> None:
        print(f"\r{kind}: {message}\033[K", end="", file=sys.stderr, flush=True)

    return tell


def right_answers(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> NDArray[np.bool_]:
    network.eval()
    with torch.no_grad():
        said = torch.cat([network(part).argmax(1) for part in x.split(500)])
    right: NDArray[np.bool_] = (said == y).numpy()
    return right


def paired_difference(ours: NDArray[np.bool_], others: NDArray[np.bool_]) -> tuple[float, float]:
    """The difference in points, and half the width of its 95 % confidence interval.

    Both are of the same images, so that the interval is that of the mean of paired differences.
    """
    d = ours.astype(np.float64) - others.astype(np.float64)
    return float(100 * d.mean()), float(100 * 1.96 * d.std(ddof=1) / np.sqrt(len(d)))


def table(teacher: float, results: Sequence[Result]) -> str:
    """One row a student; gains are over the one that was trained alone."""
    alone = next((r for r in results if r.kind == "alone"), None)
    lines = [
        "| student | accuracy | gain over alone, 95 % interval | CPU minutes |",
        "|---|---|---|---|",
        f"| (teacher) | {teacher:.2f} % | | |",
    ]
    for r in results:
        gain = ""
        if alone is not None and r is not alone:
            points, half = paired_difference(r.right, alone.right)
            gain = f"{points:+.2f} ± {half:.2f} points"
        lines.append(f"| {r.kind} | {r.accuracy:.2f} % | {gain} | {r.minutes:.0f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--train", type=int, help="how many of the 60,000 images to train on")
    parser.add_argument("--epochs", type=int, help="passes of each student over the images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = load_config(HERE / "distillation.toml")
    run = config.run.model_copy(update={"seed": args.seed})
    config = config.model_copy(update={"run": run})
    if args.train:
        data = config.data.model_copy(update={"train": args.train})
        config = config.model_copy(update={"data": data})
    if args.epochs:
        distil = config.distil.model_copy(update={"epochs": args.epochs})
        config = config.model_copy(update={"distil": distil})

    def listen(event: Event) -> None:
        if event.message:
            _teller(event.stage)(event.message)

    stages = (Load.from_config(config), TrainTeacher.from_config(config))
    folders = run_flow(stages, config.run.out, progress=listen)
    done = {
        name: Artifact(name, path.name.partition("-")[2], "", path)
        for name, path in folders.items()
    }
    samples = read_samples(folders["load"])
    teacher = read_teacher(folders["teacher"], config.teacher, samples)
    accuracy = float(100 * right_answers(teacher, samples.x_test, samples.y_test).mean())
    results = []
    for kind in args.kinds:
        folder = train(config, kind, done)
        network = read_network(folder, config.distil.model, samples)
        right = right_answers(network, samples.x_test, samples.y_test)
        results.append(Result(kind, right, float((folder / "minutes.txt").read_text())))
        print(f"\r\033[K{kind}: {results[-1].accuracy:.2f} %", flush=True)
    text = table(accuracy, results)
    print(text)
    if args.kinds == [*KINDS]:
        images = len(samples.y_train)
        recipe = f"{images} images to train on, {config.distil.epochs} epochs, seed {args.seed}"
        write_section(PAGE, "distillation", section(text, recipe))
    return 0


def section(table: str, recipe: str) -> str:
    """The benchmark's part of the page."""
    return (
        "## Distillation, Fashion-MNIST\n\nA student of 28,000 parameters (28 KB of int8 "
        "weights), trained by the same recipe on other terms,\nmeasured on the 10,000 test images; "
        f"`python bench/distillation.py` trains and measures all again.\n\n{table}\n\n{recipe}."
    )


if __name__ == "__main__":
    sys.exit(main())
