"""A network that fits: what `tinsmith compress` finds for Fashion-MNIST on Cortex-M0+.

    python bench/compress.py [--trials N] [--train N] [--seed N]

32 KiB of flash and 8 KiB of RAM in total, 30 trials of short trainings on 27,000 images, the chosen
network trained in full. Takes about 10 minutes of one processor. A run that was stopped goes on;
all trials are in build/compress-search. A whole run writes its
section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from page import PAGE, table, write_section
from rich.console import Console

from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.report.search_text import rows, trial_line
from tinsmith.pipeline.report.search_view import print_front
from tinsmith.pipeline.search.best import Firmware, write_best
from tinsmith.pipeline.search.budget import parse_budget
from tinsmith.pipeline.search.outcome import Trial
from tinsmith.pipeline.search.search import Found, Request, Watcher, search
from tinsmith.targets.target import target_named

HERE = Path(__file__).resolve().parent
TARGET = "cortex-m0plus"
BUDGET = parse_budget("flash=32KiB,ram=8KiB")
TRIALS = 30
HEAD = ("trial", "width", "-O", "MACs kept", "validation", "drop", "test", "flash", "RAM",
        "instructions", "fits")  # fmt: skip


def configuration(train: int | None, seed: int) -> Config:
    config = load_config(HERE / "compress.toml")
    run = config.run.model_copy(update={"seed": seed})
    data = config.data.model_copy(update={"train": train} if train else {})
    return config.model_copy(update={"run": run, "data": data})


def watcher() -> Watcher:
    def doing(what: str) -> None:
        print(f"\r{what}\033[K", end="", file=sys.stderr, flush=True)

    def say(line: str) -> None:
        print(f"\r\033[K{line}", flush=True)

    def finished(trial: Trial, teacher: float) -> None:
        say(trial_line(trial, BUDGET, teacher))

    return Watcher(say, doing, finished)


def section(found: Found, firmware: Firmware, minutes: float, seed: int) -> str:
    """The benchmark's part of the page."""
    assert found.chosen is not None
    costs, test = firmware.costs, found.tests[found.chosen.number]
    counts = [
        f"{sum(t.outcome.status == status for t in found.trials)} {what}"
        for status, what in (
            ("done", "were trained and measured"),
            ("too large", "given up before training, for what they would cost"),
            ("stopped", "stopped while they were trained"),
        )
    ]
    fitting = [row for row in rows(found, BUDGET) if row[-1] != "no"]
    return "\n".join(
        [
            "## Search under a budget, Fashion-MNIST on Cortex-M0+",
            "",
            "`tinsmith compress --budget flash=32KiB,ram=8KiB -t cortex-m0plus`: everything the "
            "network needs is in these\n32 KiB and 8 KiB: code, weights and constants; arena, data "
            f"and stack. Of {len(found.trials)} trials {', '.join(counts)}.",
            f"The chosen one is right on **{test:.2f} %** of the {found.test_samples:,} test "
            f"images (its teacher on {found.tests[None]:.2f} %), and its\nfirmware takes "
            f"**{costs.flash:,} bytes of flash, {costs.ram:,} of RAM** and {costs.instructions:,} "
            "instructions.",
            "",
            "The part of the Pareto front that fits; `validation` decides, on "
            f"{found.validation_samples:,} images held out of the training\nimages:",
            "",
            *table(HEAD, fitting),
            "",
            f"Seed {seed}; {minutes:.0f} minutes of one processor; `python bench/compress.py` "
            "searches again.",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--train", type=int, help="how many images there are to train on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = configuration(args.train, args.seed)
    out = config.run.out.with_name("compress-search")
    request = Request(config, target_named(TARGET), BUDGET, out, args.trials)
    spent = out / f"minutes-{args.train or 'all'}-{args.seed}.txt"
    began = sum(os.times()[:4])  # of this process and of the compilers that it started
    before = float(spent.read_text()) if spent.exists() else 0.0

    def minutes() -> float:
        times = os.times()
        return before + (sum(times[:4]) - began) / 60

    watch = watcher()
    try:
        found = search(request, watch)
        firmware = write_best(found, BUDGET, out, watch.doing) if found.chosen else None
    finally:
        if out.is_dir():
            spent.write_text(f"{minutes():.2f}\n")
    print(file=sys.stderr)
    print_front(Console(width=160), found, BUDGET)
    if firmware is None:
        print("no trial keeps the budget")
        return 1
    text = section(found, firmware, minutes(), args.seed)
    print(text)
    if args.trials >= TRIALS and args.train is None:
        write_section(PAGE, "compress", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
