"""What each kind of distillation gives over training the same student alone, on Fashion-MNIST.

    python bench/distillation.py [--kinds alone soft ...] [--epochs N] [--train N] [--seed N]

The teacher is trained once. One student is trained on its soft answers for as long as the
configuration says; then each kind, all by one shorter recipe, for the comparison. All are measured
on the 10,000 test images. On all 60,000 training images the teacher takes half an hour of one
processor, the first student likewise, a kind 2 to 5 minutes (an assistant or a second generation
as much again). What is trained is kept in build/distillation and not trained again; a run that was
stopped goes on. A run with `alone` among its kinds writes its section of docs/benchmarks.md.
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

from tinsmith.pipeline.config import CodeRef, Config, Distil, DistilTerm, load_config
from tinsmith.pipeline.flow import Artifact, Event, run_flow
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.quantization import quantize
from tinsmith.pipeline.stages.common import predictions
from tinsmith.pipeline.stages.distil import DistilStudent
from tinsmith.pipeline.stages.load import Load
from tinsmith.pipeline.stages.teacher import TrainTeacher
from tinsmith.pipeline.training.loop import Samples
from tinsmith.pipeline.training.results import read_network, read_samples, read_teacher

HERE = Path(__file__).resolve().parent

CALIBRATION = 500  # images
# Epochs of each kind in the comparison.
SHORT = 5

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

    folder: Path
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
        CodeRef(path=base.model.path, attribute=name) for name in changes.get("assistants", ())
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


def int8_right_answers(folder: Path, samples: Samples) -> NDArray[np.bool_]:
    """Of the network in `folder`, quantized on training images; by the interpreter's bytes."""
    graph = read_model(folder / "model.onnx").graph
    x, labels = samples.x_train[:CALIBRATION].numpy(), samples.y_test.numpy()
    graph = quantize(graph, {graph.inputs[0]: x.transpose(0, 2, 3, 1)})
    entry = graph.tensors[graph.inputs[0]]
    images = to_input(samples.x_test.numpy().transpose(0, 2, 3, 1), entry, "the test images")
    right: NDArray[np.bool_] = predictions(run_samples(graph, {entry.name: images})[0]) == labels
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
    parser.add_argument(
        "--epochs", type=int, default=SHORT, help="passes over the images in the comparison"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = load_config(HERE / "distillation.toml")
    run = config.run.model_copy(update={"seed": args.seed})
    config = config.model_copy(update={"run": run})
    if args.train:
        data = config.data.model_copy(update={"train": args.train})
        config = config.model_copy(update={"data": data})
    distil = config.distil.model_copy(update={"epochs": args.epochs})
    short = config.model_copy(update={"distil": distil})

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

    def student(kind: str, of: Config) -> Result:
        folder = train(of, kind, done)
        network = read_network(folder, of.distil.model, samples)
        right = right_answers(network, samples.x_test, samples.y_test)
        result = Result(folder, kind, right, float((folder / "minutes.txt").read_text()))
        print(f"\r\033[K{kind}, {of.distil.epochs} epochs: {result.accuracy:.2f} %", flush=True)
        return result

    long = student("soft", config)
    int8 = float(100 * int8_right_answers(long.folder, samples).mean())
    print(f"the same in int8: {int8:.2f} %")
    results = [student(kind, short) for kind in args.kinds]
    text = table(accuracy, results)
    print(text)
    if "alone" in args.kinds:
        images = f"{len(samples.y_train):,} images to train on, seed {args.seed}"
        if left := [kind for kind in KINDS if kind not in args.kinds]:
            images += f", without the kinds {', '.join(left)}"
        write_section(PAGE, "distillation", section(long, int8, config, text, short, images))
    return 0


def section(
    long: Result, int8: float, config: Config, rows: str, short: Config, recipe: str
) -> str:
    """The benchmark's part of the page."""
    return (
        "## Distillation, Fashion-MNIST\n\n"
        "A student of 28,000 parameters (28 KB of int8 weights), measured on the 10,000 test "
        f"images. Trained on a\nteacher's soft answers for {config.distil.epochs} epochs it has "
        f"**{long.accuracy:.2f} %** in float, **{int8:.2f} %** in int8 ({long.minutes:.0f} CPU "
        "minutes).\nKinds of distillation compared in float, "
        f"all by one recipe of {short.distil.epochs} epochs:\n\n{rows}\n\n"
        f"{recipe};\n`python bench/distillation.py` trains and measures all again."
    )


if __name__ == "__main__":
    sys.exit(main())
