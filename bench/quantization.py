"""What quantization costs on Fashion-MNIST: observers, training in integers, few bits, mixed bits.

    python bench/quantization.py [--student FOLDER] [--only TABLE ...] [--images N] [--seed N]

Two float networks are trained once (5 epochs each, a student of 28,000 parameters and one like
MobileNetV2), or the student is read from a folder that a training stage wrote; each row quantizes
one of them, and its drop is over the same test images, paired. All takes about 20 minutes of one
processor. What is finished is kept in build/quantization and not done again. A run over all tables
and all images writes its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deep_compression import samples_of
from distillation import paired_difference, right_answers
from numpy.typing import NDArray
from page import PAGE, ROOT, millions, table, write_section
from quantization_nets import EPOCHS, teller, trained
from torch import nn

from tinsmith.pipeline.config import Augment
from tinsmith.pipeline.deployment import make_program, temporary_build
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.quantization import QuantizeOptions, plan_precision, quantize
from tinsmith.pipeline.quantization.equalize import (
    divide,
    pairs_of,
    parameters_of,
    with_parameters,
)
from tinsmith.pipeline.stages.common import predictions
from tinsmith.pipeline.training.distillation import recollection
from tinsmith.pipeline.training.integer_network import IntegerNetwork
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable
from tinsmith.pipeline.validation import differing_bytes, run_device
from tinsmith.targets.target import target_named

OUT = ROOT / "build" / "quantization"
CALIBRATION = 500
TRAINED_ON = 20_000  # images of an epoch of training in integers
SPREAD = 10.0  # channels are scaled by up to this, up or down
DEVICE_IMAGES = 4  # whose bytes are compared on the emulated cores
CORES = ("cortex-m0plus", "cortex-m4")


@dataclass(frozen=True)
class Row:
    """options: of QuantizeOptions; share: a budget of weight bytes in shares of int8's; epochs: of
    training in integers; spread: channels of unequal ranges; device: measured on the cores too."""

    name: str
    network: str = "student"
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float | None = None
    epochs: int = 0
    rate: float = 5e-4
    spread: bool = False
    device: bool = False


def int4(**more: Any) -> dict[str, Any]:
    return {"weights": "int4", **more}


def ends(weights: str, **more: Any) -> dict[str, Any]:
    return {"weights": weights, "int8_ends": True, **more}


ADAROUND = {"rounding": "adaround"}
ONE_SCALE = {"per_channel": False}
TABLES: Mapping[str, Sequence[Row]] = {
    "int8": (
        Row("int8, minmax", device=True),
        *(Row(f"int8, {o}", options={"observer": o}) for o in ("percentile", "mse", "entropy")),
        Row("int8, one scale a tensor", options=ONE_SCALE),
        Row("int8, scales of powers of two", options={"power_of_two": True}),
        Row("16-bit activations", options={"activations": 16}),
        Row("int8, trained in integers", epochs=1),
        Row(
            "powers of two, trained in integers",
            options={"power_of_two": True, "observer": "mse"},
            epochs=1,
        ),
    ),
    "equalization": (
        Row("a scale a channel", "mobile"),
        Row("one scale a tensor", "mobile", ONE_SCALE),
        Row("one scale a tensor, channels spread", "mobile", ONE_SCALE, spread=True),
        Row(
            "one scale a tensor, channels spread, equalized",
            "mobile",
            {**ONE_SCALE, "equalize": True},
            spread=True,
        ),
        Row(
            "the same with corrected biases",
            "mobile",
            {**ONE_SCALE, "equalize": True, "correct_biases": True},
            spread=True,
        ),
    ),
    "few bits": (
        Row("4 bits, nearest", options=int4()),
        Row("4 bits, nearest, corrected biases", options=int4(correct_biases=True)),
        Row("4 bits, AdaRound", options=int4(**ADAROUND), device=True),
        Row("4 bits, one scale a tensor, nearest", options=int4(**ONE_SCALE)),
        Row("4 bits, one scale a tensor, AdaRound", options=int4(**ONE_SCALE, **ADAROUND)),
        Row("4 bits, trained in integers", options=int4(), epochs=1, rate=1e-3),
        Row("2 bits, nearest", options=ends("int2")),
        Row("2 bits, AdaRound", options=ends("int2", **ADAROUND)),
        Row("2 bits, trained in integers", options=ends("int2"), epochs=2, rate=2e-3),
        Row("ternary, trained in integers", options=ends("ternary"), epochs=2, rate=2e-3,
            device=True),
        Row("binary, trained in integers", options=ends("binary"), epochs=2, rate=2e-3,
            device=True),
    ),
    "mixed bits": tuple(
        Row(f"{100 * share:.0f} % of int8's weight bytes, {how}", options=options, share=share)
        for share in (0.6, 0.4, 0.3)
        for how, options in (("nearest", {}), ("AdaRound", ADAROUND))
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Result:
    """right: which test images are classified rightly. layers: bits by layer, where they differ."""

    right: NDArray[np.bool_]
    minutes: float
    weight_bytes: int
    layers: Mapping[str, str]
    device: Mapping[str, Mapping[str, int]]

    @property
    def accuracy(self) -> float:
        return float(100 * self.right.mean())


@dataclass(frozen=True, eq=False)
class Subject:
    """A float network, in torch and as a graph, with the images it is measured on."""

    network: nn.Module
    graph: Graph
    samples: Samples
    seed: int

    @property
    def calibration(self) -> dict[str, Array]:
        chosen = np.random.default_rng(self.seed).permutation(len(self.samples.x_train))
        images = self.samples.x_train[np.sort(chosen[:CALIBRATION])]
        return {self.graph.inputs[0]: images.permute(0, 2, 3, 1).numpy()}


def measure(row: Row, subject: Subject, folder: Path) -> Result:
    """Quantize and measure, or read what was measured of the same."""
    tensors = (t for t in subject.graph.tensors.values() if t.data is not None)
    weights = hashlib.sha256(b"".join(t.value().tobytes() for t in tensors))
    facts = repr((row, weights.hexdigest(), len(subject.samples.y_test), subject.seed))
    place = folder / hashlib.sha256(facts.encode()).hexdigest()[:16]
    if not (place / "right.npy").exists():
        place.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        graph, facts_of = quantized(row, subject, place)
        facts_of["minutes"] = (time.process_time() - started) / 60
        outputs = answers(graph, subject.samples)
        if row.device:
            facts_of["device"] = on_devices(graph, subject.samples, outputs)
        (place / "facts.json").write_text(json.dumps(facts_of, indent=1) + "\n")
        np.save(place / "right.npy", predictions(outputs) == subject.samples.y_test.numpy())
    known = json.loads((place / "facts.json").read_text())
    return Result(np.load(place / "right.npy"), **known)


def quantized(row: Row, subject: Subject, place: Path) -> tuple[Graph, dict[str, Any]]:
    """The integer graph of a row, and what there is to say of it."""
    tell, samples = teller(row.name), subject.calibration
    options = QuantizeOptions(seed=subject.seed, **row.options)
    graph = spread(subject.graph, subject.seed) if row.spread else subject.graph
    facts: dict[str, Any] = {"weight_bytes": 0, "layers": {}, "device": {}}
    if row.share is not None:
        size = plan_precision(graph, samples, options, 1 << 40).weight_bytes
        plan = plan_precision(graph, samples, options, int(row.share * size), tell)
        options = replace(options, layers=plan.layers)
        facts |= {"weight_bytes": plan.weight_bytes, "layers": plan.layers}
    with repeatable(subject.seed, 1):
        if not row.epochs:
            return quantize(graph, samples, options, tell), facts
        network = IntegerNetwork(graph, samples, options)
        loss = recollection(subject.network)
        change = Augment(rotate_degrees=0, shift_pixels=1, scale=0, shear=0, flip=True)
        recipe = Recipe(row.epochs, 100, row.rate, 0.0, change, subject.seed)
        fit(network, part_of(subject.samples, subject.seed), recipe, loss, place / "c.pt", tell)
    return network.integer_graph(), facts


def part_of(samples: Samples, seed: int) -> Samples:
    """The images of an epoch of training in integers; few to look at its progress."""
    chosen = np.random.default_rng(seed).permutation(len(samples.y_train))[:TRAINED_ON]
    return replace(
        samples,
        x_train=samples.x_train[chosen],
        y_train=samples.y_train[chosen],
        x_test=samples.x_test[:500],
        y_test=samples.y_test[:500],
    )


def spread(graph: Graph, seed: int) -> Graph:
    """The same float network with channels of unequal ranges wherever a factor may pass on."""
    rng, pairs = np.random.default_rng(seed), pairs_of(graph)
    values = parameters_of(graph, pairs)
    for pair in pairs:
        divide(pair, values, SPREAD ** rng.uniform(-1, 1, pair.channels))
    return with_parameters(graph, values)


def answers(graph: Graph, samples: Samples) -> Array:
    """The outputs of the test images, by the interpreter."""
    return run_samples(graph, feeds(graph, samples, len(samples.y_test)))[0]


def feeds(graph: Graph, samples: Samples, count: int) -> dict[str, Array]:
    entry = graph.tensors[graph.inputs[0]]
    images = samples.x_test[:count].permute(0, 2, 3, 1).contiguous().numpy()
    return {entry.name: to_input(images, entry, "the test images")}


def on_devices(graph: Graph, samples: Samples, outputs: Array) -> dict[str, dict[str, int]]:
    """Instructions and flash of each core; an error where a byte differs."""
    found = {}
    for core in CORES:
        target = target_named(core)
        with temporary_build(make_program(graph, "net", target), target) as made:
            got, instructions, _ = run_device(made, feeds(graph, samples, DEVICE_IMAGES))
            sizes = made.image.sizes
        wrong = differing_bytes(got, (outputs[:DEVICE_IMAGES],))
        if wrong:
            raise SystemExit(f"error: {wrong} bytes of {core} differ from the interpreter's")
        assert sizes is not None
        assert instructions is not None
        found[core] = {"instructions": instructions, "flash": sizes.flash_bytes}
    return found


def drop(right: NDArray[np.bool_], before: NDArray[np.bool_]) -> str:
    points, half = paired_difference(right, before)
    return f"{points:+.2f} ± {half:.2f}"


def rows_of(
    rows: Sequence[Row],
    results: Mapping[str, Result],
    floats: Mapping[str, NDArray[np.bool_]],
    int8: NDArray[np.bool_],
) -> list[list[str]]:
    """One row each; the change over int8 is given for the network that int8 was measured of."""
    lines = []
    for row in rows:
        r = results[row.name]
        beside = drop(r.right, int8) if row.network == "student" else ""
        lines.append([
            row.name, f"{r.accuracy:.2f} %", drop(r.right, floats[row.network]), beside,
            f"{r.minutes:.1f}",
        ])  # fmt: skip
    return lines


HEAD = ("weights", "accuracy", "over float, points", "over int8, points", "CPU minutes")


def text_of(
    name: str, results: Mapping[str, Result], floats: Mapping[str, NDArray[np.bool_]], int8: Result
) -> list[str]:
    """A table, and below it what the layers got, or what the cores do with it."""
    rows = TABLES[name]
    lines = table(HEAD, rows_of(rows, results, floats, int8.right))
    for row in rows:
        if row.share is not None and "rounding" not in row.options:
            bits = ", ".join(results[row.name].layers.values())
            lines += ["", f"{row.name.split(',')[0]}: {results[row.name].weight_bytes:,} bytes; "
                      f"layers from input to output: {bits}."]  # fmt: skip
    return lines


def device_lines(results: Mapping[str, Result]) -> list[str]:
    head = ["weights", *(f"{c}, {what}" for c in CORES for what in ("instructions", "flash"))]
    lines = []
    for name, r in results.items():
        if r.device:
            cells = (
                (millions(r.device[c]["instructions"]), f"{r.device[c]['flash']:,}") for c in CORES
            )
            lines.append([name, *(cell for pair in cells for cell in pair)])
    return table(head, lines)


PROSE: Mapping[str, str] = {
    "int8": "The student, a scale a channel where nothing else is said:",
    "equalization": (
        f"A network like MobileNetV2. Spread: channels between two layers are scaled by up to "
        f"{SPREAD:.0f}\nand by a {SPREAD:.0f}th, which the next layer undoes, so that the float "
        "network stays what it is:"
    ),
    "few bits": (
        "The student with fewer bits a weight. 4 bits: in all layers; the others keep int8 in the "
        "first and\nthe last one:"
    ),
    "mixed bits": (
        "8, 4 or 2 bits for each layer of the student, so that the packed weights stay in a budget:"
    ),
}


def section(
    results: Mapping[str, Result],
    floats: Mapping[str, NDArray[np.bool_]],
    recipe: str,
) -> str:
    """The benchmark's part of the page."""
    lines = [
        "## Quantization, Fashion-MNIST",
        "",
        "Float networks and what is left of their accuracy in integers: paired differences on the",
        "10,000 test images with 95 % intervals, by the interpreter, whose bytes are those of the",
        "device. Float: "
        + ", ".join(f"{n} {100 * r.mean():.2f} %" for n, r in floats.items())
        + ".",
    ]
    int8 = results[TABLES["int8"][0].name]
    for name in TABLES:
        lines += ["", PROSE[name], "", *text_of(name, results, floats, int8)]
    lines += [
        "",
        "Firmware holds every weight as a byte, so that few bits save next to no flash. Small "
        "integers let\nthe core without dual multiplies join more products of one sum:",
        "",
        *device_lines(results),
        "",
        recipe,
    ]
    return "\n".join(lines)


def subject_of(
    name: str, given: Path | None, seed: int, samples: Samples, shown: Samples, epochs: int
) -> Subject:
    folder = given or OUT / f"{name}-{len(samples.y_train)}-{epochs}-{seed}"
    network = trained(name, samples, folder, seed, epochs)
    return Subject(network, read_model(folder / "model.onnx").graph, shown, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--student", type=Path, help="folder of a student that is trained already")
    parser.add_argument("--only", nargs="+", choices=[*TABLES], default=[*TABLES])
    parser.add_argument("--images", type=int, default=10_000, help="of the test images")
    parser.add_argument("--train", type=int, default=60_000, help="images to train on")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the float networks")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    samples = samples_of("fashion", args.seed)
    samples = replace(
        samples, x_train=samples.x_train[: args.train], y_train=samples.y_train[: args.train]
    )
    shown = replace(
        samples, x_test=samples.x_test[: args.images], y_test=samples.y_test[: args.images]
    )
    wanted = [row for name in args.only for row in TABLES[name]]
    subjects = {
        name: subject_of(
            name,
            args.student if name == "student" else None,
            args.seed,
            samples,
            shown,
            args.epochs,
        )
        for name in dict.fromkeys(row.network for row in wanted)
    }
    floats = {
        name: right_answers(s.network, shown.x_test, shown.y_test) for name, s in subjects.items()
    }
    results = {}
    for row in wanted:
        results[row.name] = measure(row, subjects[row.network], OUT / "rows")
        r = results[row.name]
        print(
            f"\r\033[K{row.name}: {r.accuracy:.2f} % ({drop(r.right, floats[row.network])})",
            flush=True,
        )
    if args.only == [*TABLES] and args.images == 10_000 and args.train == 60_000:
        recipe = (
            f"Seed {args.seed}, {args.epochs} epochs for the float networks, {TRAINED_ON:,} images "
            "an epoch for\ntraining in integers, which learns from the float network; "
            "`python bench/quantization.py` does all of it\nagain."
        )
        write_section(PAGE, "quantization", section(results, floats, recipe))
    return 0


if __name__ == "__main__":
    sys.exit(main())
