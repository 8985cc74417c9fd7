"""Spoken keywords: accuracy on speakers that nothing was trained on, and what the firmware takes.

    python bench/keywords.py [--archive FILE] [--folds N] [--only K ...]

Trains the example examples/keywords once for each fold of the speakers of the Arabic Speech
Commands (24 speakers, 1,104 clips of a second, 10 words and a class of other words), quantizes it,
and runs the int8 network over every test clip on the emulated Cortex-M4. What a run has made is
kept in build/keywords-folds and not made again. A fold takes 2 to 3 minutes of one processor; a
run over all folds writes its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import DATA, PAGE, ROOT, table, write_section

from tinsmith.pipeline.audio.dataset import front_end_of
from tinsmith.pipeline.audio.device import FrontEndCost, measure_front_end
from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.deployment import make_program, temporary_build
from tinsmith.pipeline.flow import Artifact, Event, run_flow
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.stages import stages_of
from tinsmith.pipeline.stages.common import predictions, read_for_device
from tinsmith.pipeline.validation import differing_bytes, run_device
from tinsmith.targets.target import target_named

EXAMPLE = ROOT / "examples" / "keywords"
ARCHIVE = DATA / "data" / "arabic_speech_commands" / "asc_10kw_train_val.tar.xz"
OUT = ROOT / "build" / "keywords-folds"
CORE = "cortex-m4"

sys.path.insert(0, str(EXAMPLE))
from unpack import unpack  # noqa: E402


@dataclass(frozen=True, eq=False)
class Fold:
    """A fold measured. accuracy: percent by network. right: which test clips int8 gets right on the
    device. device: what the firmware takes."""

    accuracy: Mapping[str, float]
    right: NDArray[np.bool_]
    device: Mapping[str, int]
    minutes: float


def config_of(fold: int, folds: int, archive: Path) -> Config:
    """The example's configuration for a fold, whose clips are unpacked if they are not yet."""
    clips = OUT / f"clips-{fold}-of-{folds}"
    if not (clips / "noise").is_dir():
        unpack(archive, clips, fold, folds)
    config = load_config(EXAMPLE)
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"out": OUT / f"fold-{fold}-of-{folds}"}),
            "data": config.data.model_copy(update={"path": clips}),
            "audio": config.audio.model_copy(update={"noise": clips / "noise"}),
        }
    )


def measure(config: Config) -> Fold:
    """Trains, quantizes, and runs every test clip on the device."""
    started = time.process_time()

    def listen(event: Event) -> None:
        if event.message:
            line = f"\r{config.run.out.name} {event.stage}: {event.message}\033[K"
            print(line, end="", file=sys.stderr, flush=True)

    folders = run_flow(stages_of(config), config.run.out, to="quantize", progress=listen)
    minutes = config.run.out / "minutes.txt"
    if not minutes.exists():
        minutes.write_text(f"{(time.process_time() - started) / 60:.1f}\n")
    accuracy = {
        name: json.loads((folders[stage] / "metrics.json").read_text())["accuracy"]
        for name, stage in (("teacher", "teacher"), ("student", "prune"), ("int8", "quantize"))
    }
    right, device = deployed(folders)
    return Fold(accuracy, right, device, float(minutes.read_text()))


def deployed(folders: Mapping[str, Path]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which test clips the int8 network gets right on the emulated core, and what it takes."""
    done = {name: Artifact(name, "", "", path) for name, path in folders.items()}
    graph = read_model(folders["quantize"] / "model.tflite").graph
    labelled = read_for_device(done["load"], done["quantize"])
    entry = graph.tensors[graph.inputs[0]]
    x = {entry.name: to_input(labelled.x_test, entry, "the test clips")}
    program, target = make_program(graph, "net", target_named(CORE)), target_named(CORE)
    with temporary_build(program, target) as made:
        outputs, instructions, stack = run_device(made, x)
        sizes = made.image.sizes
    if wrong := differing_bytes(outputs, run_samples(graph, x)):
        raise SystemExit(f"error: {wrong} bytes of {CORE} differ from the interpreter's")
    assert sizes is not None
    assert instructions is not None
    right = predictions(outputs[0]) == labelled.y_test
    weights = sum(
        t.data.nbytes for t in graph.tensors.values() if t.data is not None and t.data.ndim > 1
    )
    return right, {
        "int8 weights": weights,
        "flash": sizes.flash_bytes,
        "RAM": sizes.ram_bytes + (stack or 0),
        "instructions": instructions,
    }


def fold_table(folds: Sequence[Fold]) -> list[str]:
    rows = [
        [
            f"fold {i}", str(len(f.right)), *(f"{f.accuracy[n]:.2f} %" for n in f.accuracy),
            f"{100 * f.right.mean():.2f} %", f"{f.minutes:.1f}",
        ]
        for i, f in enumerate(folds)
    ]  # fmt: skip
    counts = np.array([len(f.right) for f in folds])
    means = [
        f"{np.average([f.accuracy[n] for f in folds], weights=counts):.2f} %"
        for n in folds[0].accuracy
    ]
    right = np.concatenate([f.right for f in folds])
    minutes = sum(f.minutes for f in folds)
    rows.append(["all", str(len(right)), *means, f"{100 * right.mean():.2f} %", f"{minutes:.1f}"])
    head = ["", "clips", "teacher", "student", "int8", f"int8 on {CORE}", "CPU minutes"]
    return table(head, rows)


def device_table(device: Mapping[str, int], sound: FrontEndCost, frames: int) -> list[str]:
    assert sound.instructions is not None
    instructions = sound.instructions * frames
    rows = [
        ["flash, bytes", f"{device['flash']:,}", f"{sound.flash_bytes:,}"],
        ["RAM with stack, bytes", f"{device['RAM']:,}",
         f"{sound.ram_bytes + (sound.stack_bytes or 0):,}"],
        ["instructions of a clip", f"{device['instructions']:,}", f"{instructions:,}"],
    ]  # fmt: skip
    return table([CORE, "network", "front end"], rows)


def section(folds: Sequence[Fold], config: Config) -> str:
    """The benchmark's part of the page."""
    p = front_end_of(config.audio)
    sound = measure_front_end(p, target_named(CORE))
    device = folds[0].device
    return "\n".join(
        [
            "## Keywords: ten spoken words from WAV files",
            "",
            f"examples/keywords on the Arabic Speech Commands (10 words and other words, 24 "
            f"speakers) in {len(folds)} folds: nobody\nwho speaks in the test is heard in "
            f"training. The network has {device['int8 weights']:,} bytes of int8 weights; an MFCC "
            "with a support\nvector machine gets 83.3 % on the archive's own split. "
            "`python bench/keywords.py` makes all again.",
            "",
            *fold_table(folds),
            "",
            *device_table(device, sound, p.frames),
            "",
            f"A frame of the front end ({p.window} samples every {p.hop}, {p.mels} mel bands, "
            f"integers only) takes {sound.instructions:,} instructions.",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--archive", type=Path, default=ARCHIVE)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--only", type=int, nargs="+", help="some of the folds; writes no section")
    args: Any = parser.parse_args()
    if not args.archive.is_file():
        raise SystemExit(f"error: there is no archive '{args.archive}'; name it with --archive")
    config, results = load_config(EXAMPLE), []
    for fold in args.only or range(args.folds):
        results.append(measure(config_of(fold, args.folds, args.archive)))
        print(f"\r\033[Kfold {fold}: {100 * results[-1].right.mean():.2f} %", flush=True)
    text = section(results, config)
    print(text)
    if not args.only:
        write_section(PAGE, "keywords", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
