"""What low rank saves on Cortex-M4, and costs, on Fashion-MNIST.

    python bench/low_rank.py [--train N] [--epochs N] [--tuning N] [--seed N]

A network of five convolutions is trained on the labels, factorized to several shares of its MACs,
and trained on for a while on what it said before; so is the network as it is, to compare with. All
are quantized, measured on the 10,000 test images by the interpreter, and run once in the emulator.
Takes about ten minutes of one processor; what is finished is kept in build/low_rank. Fashion-MNIST
is Debian's dataset-fashion-mnist. A run without options writes its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distillation import paired_difference
from fashion_models import Net
from numpy.typing import NDArray
from page import PAGE, ROOT, millions, table, write_section
from torch import nn

from tinsmith.pipeline.config import Augment
from tinsmith.pipeline.data_files import read_idx_dataset
from tinsmith.pipeline.deployment import make_program
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.quantization import QuantizeOptions, quantize
from tinsmith.pipeline.tasks import Task
from tinsmith.pipeline.training.distillation import recollection
from tinsmith.pipeline.training.export import export_onnx
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable
from tinsmith.pipeline.training.losses import label_loss
from tinsmith.pipeline.training.low_rank import Plan, factorize
from tinsmith.pipeline.training.networks import accuracy, cost
from tinsmith.pipeline.tuning import measure
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import find_toolchain

OUT = ROOT / "build" / "low_rank"
FASHION = Path("/usr/share/datasets/fashion-mnist")
TARGET = "cortex-m4"
CALIBRATION = 200

# How the network is factorized; None leaves it as it is.
PLANS: Mapping[str, Plan | None] = {
    "as it is": None,
    "automatic, 70 %": Plan("automatic", 0.7),
    "automatic, 50 %": Plan("automatic", 0.5),
    "automatic, 35 %": Plan("automatic", 0.35),
    "50 % of each layer": Plan("budget", 0.5),
}


def samples_of(train: int) -> Samples:
    parts: dict[str, Any] = {}
    for name, images in zip(("train", "test"), read_idx_dataset(FASHION), strict=True):
        count = train if name == "train" else len(images.y)
        x = np.ascontiguousarray(images.x[:count].transpose(0, 3, 1, 2), np.float32) / 255
        parts[f"x_{name}"] = torch.from_numpy(x)
        parts[f"y_{name}"] = torch.from_numpy(images.y[:count])
    return Samples(**parts, tasks=(Task("", 10),))


def tell(message: str, fraction: float | None = None) -> None:
    print(f"\r{message}\033[K", end="", file=sys.stderr, flush=True)


def trained(samples: Samples, epochs: int, seed: int, folder: Path) -> nn.Module:
    """The network that is factorized; kept."""
    network, kept = Net(16, 32, 64, 10, 0.1), folder / "network.pt"
    if kept.exists():
        network.load_state_dict(torch.load(kept, weights_only=True))
    else:
        fit(network, samples, recipe(epochs, 4e-3, seed), label_loss, folder / "fit.pt", tell)
        torch.save(network.state_dict(), kept)
    return network.eval()


def recipe(epochs: int, rate: float, seed: int) -> Recipe:
    change = Augment(rotate_degrees=0, shift_pixels=1, scale=0, shear=0, flip=True)
    return Recipe(epochs, 100, rate, 1e-4, change, seed)


def result_of(
    name: str, network: nn.Module, samples: Samples, epochs: int, seed: int, folder: Path
) -> dict[str, Any]:
    """What a plan gives; kept. right: of each test image, whether int8 says its class."""
    kept = folder / f"{list(PLANS).index(name)}.json"
    if kept.exists():
        known: dict[str, Any] = json.loads(kept.read_text())
        return known
    made, plan, sample = copy.deepcopy(network), PLANS[name], samples.x_test[:1]
    factored = factorize(made, sample, plan) if plan else ()
    untrained = accuracy(made, samples.x_test, samples.y_test)
    loss = recollection(network)
    checkpoint = kept.with_suffix(".pt")
    fit(made, samples, recipe(epochs, 2e-3, seed + 1), loss, checkpoint, tell)
    right, instructions, flash = firmware(made, samples, folder)
    found = {
        "macs": cost(made, sample).total_macs,
        "layers": len(factored),
        "untrained": untrained,
        "float": accuracy(made, samples.x_test, samples.y_test),
        "int8": 100 * float(right.mean()),
        "instructions": instructions,
        "flash": flash,
        "right": right.astype(int).tolist(),
    }
    kept.write_text(json.dumps(found) + "\n")
    checkpoint.unlink()
    return found


def firmware(
    network: nn.Module, samples: Samples, folder: Path
) -> tuple[NDArray[np.bool_], float, float]:
    """Which test images int8 has right, and the instructions and flash of its C."""
    tell("quantizing, measuring")
    export_onnx(network, samples.x_test[:1], folder / "model.onnx")
    graph = read_model(folder / "model.onnx").graph
    name = graph.inputs[0]
    calibration = samples.x_train[:CALIBRATION].numpy().transpose(0, 2, 3, 1)
    x = {name: to_input(np.ascontiguousarray(calibration), graph.tensors[name], "samples")}
    integers = quantize(graph, x, QuantizeOptions(ranges={name: (0.0, 1.0)}))
    entry = integers.tensors[integers.inputs[0]]
    images = np.ascontiguousarray(samples.x_test.numpy().transpose(0, 2, 3, 1))
    own = {entry.name: to_input(images, entry, "the test images")}
    outputs = run_samples(integers, own)[0].reshape(len(images), -1)
    target = target_named(TARGET)
    program = make_program(integers, "net", target)
    one = {entry.name: own[entry.name][:1]}
    spent = measure(program, target, one, find_toolchain(None, target))
    return outputs.argmax(1) == samples.y_test.numpy(), spent.instructions, spent.flash_bytes


def row(name: str, found: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    points, half = paired_difference(np.asarray(found["right"]), np.asarray(whole["right"]))
    change = f"{points:+.2f} ± {half:.2f}" if found is not whole else ""
    return [
        name,
        millions(found["macs"]),
        f"{found['untrained']:.2f} %",
        f"{found['float']:.2f} %",
        f"{found['int8']:.2f} %",
        change,
        millions(int(found["instructions"])),
        f"{100 * found['instructions'] / whole['instructions']:.0f} %",
        f"{int(found['flash']):,}",
    ]


HEAD = (
    "MACs kept", "MACs", "before training", "float", "int8", "change in points, 95 % interval",
    "instructions", "of those as it is", "flash",
)  # fmt: skip


def section(rows: list[list[str]], args: argparse.Namespace) -> str:
    return "\n".join(
        [
            "## Low rank",
            "",
            f"A network of five 3x3 convolutions, trained on {args.train:,} images of "
            f"Fashion-MNIST for {args.epochs} epochs, factorized, and",
            f"trained for {args.tuning} more on what it said before; the first row is the network "
            "as it is with the same training.",
            "Accuracy on the 10,000 test images; instructions and flash of the C on Cortex-M4.",
            "",
            *table(HEAD, rows),
            "",
            f"Seed {args.seed}; `python bench/low_rank.py` measures all again.",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--tuning", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = OUT / f"{args.train}-{args.epochs}-{args.tuning}-{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    with repeatable(args.seed, 1):
        samples = samples_of(args.train)
        network = trained(samples, args.epochs, args.seed, folder)
        whole: dict[str, Any] = {}
        for name in PLANS:
            found = result_of(name, network, samples, args.tuning, args.seed, folder)
            whole = whole or found
            rows.append(row(name, found, whole))
            print("\r\033[K" + " | ".join(rows[-1]), flush=True)
    if args == parser.parse_args([]):
        write_section(PAGE, "low-rank", section(rows, args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
