"""Measures networks that no kernel was tuned to: models of other people and 30 random ones.

    python bench/networks.py [--cores cortex-m4 ...] [--only NAME ...] [--list]

Every output byte is compared with the interpreter, and with tflite-micro's where its outputs are
kept; a difference is an error. --list prints every layer; layers whose kernel takes more
instructions than the plain C one are printed always. A run over all cores and networks writes its
section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from layers import Layer, Measured, measure
from ordinary import FAMILIES, PER_FAMILY, networks
from page import DATA, PAGE, ROOT, millions, table, write_section

from tinsmith.pipeline import interpreter
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.model_files import read_quantized
from tinsmith.pipeline.validation import differing_bytes, interpret, random_samples

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4")
SHARED = {
    "person_detect": "tflm/person_detect_int8",
    "micro_speech": "tflm/micro_speech_int8",
    "mnist_lstm": "tflm/mnist_lstm_int8",
    "hello_world": "tflm/hello_world_int8",
    "microWakeWord okay_nabu": "microwakeword_v2/okay_nabu",
    "microWakeWord vad": "microwakeword_v2/vad",
}
PACKAGED = ("alexa", "hey_jarvis", "hey_mycroft")  # in pymicro-wakeword
SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with samples [N, *shape] by input.

    y: tflite-micro's first output, if known. apart: it was reset before each sample.
    """

    name: str
    graph: Graph
    samples: Mapping[str, Array]
    y: Array | None = None
    apart: bool = True


def models(data: Path) -> list[Subject]:
    """Those that are here; the others are named on the standard error."""
    found = []
    for name, path in SHARED.items():
        model, golden = data / "models" / f"{path}.tflite", data / "goldens" / f"{path}.npz"
        if not model.exists() or not golden.exists():
            print(f"{name}: skipped, {model} or its goldens are not here", file=sys.stderr)
            continue
        graph = read_quantized(model).graph
        with np.load(golden) as file:
            x, y = file["x"][:SAMPLES], file["y_tflm"][:SAMPLES]
            apart = not bool(file["stateful"])
        feed = graph.inputs[0]
        x = x.reshape(len(x), *graph.tensors[feed].shape)
        found.append(Subject(name, graph, {feed: x}, y, apart))
    package = importlib.util.find_spec("pymicro_wakeword")
    if package is None or package.origin is None:
        print("pymicro-wakeword's models: skipped, it is not installed", file=sys.stderr)
        return found
    for word in PACKAGED:
        graph = read_quantized(Path(package.origin).parent / "models" / f"{word}.tflite").graph
        found.append(Subject(f"microWakeWord {word}", graph, random_samples(graph, SAMPLES)))
    return found


def random_networks() -> list[Subject]:
    return [Subject(name, g, random_samples(g, 2)) for name, g in networks().items()]


def check(subject: Subject) -> int:
    """Bytes in which the interpreter differs from tflite-micro."""
    if subject.y is None:
        return 0
    run = interpreter.run_samples if subject.apart else interpret
    (first, *_) = run(subject.graph, subject.samples)
    return differing_bytes([first], [subject.y.reshape(first.shape)])


Results = Mapping[str, Mapping[str, Measured]]  # by network, then core


def network_rows(results: Results, cores: Sequence[str]) -> list[list[str]]:
    rows = []
    for name, by_core in results.items():
        row = [name, millions(next(iter(by_core.values())).macs)]
        for core in cores:
            found = by_core[core]
            plain = sum(layer.plain for layer in found.layers)
            ratio = f"{found.instructions / found.macs:.2f}" if found.macs else "-"
            row += [
                millions(found.instructions), ratio, f"{plain / found.instructions:.1f}x",
            ]  # fmt: skip
        rows.append(row)
    return rows


def kernel_rows(results: Results, cores: Sequence[str]) -> list[list[str]]:
    """Of each kernel that multiplies: how many layers, and what a multiply-accumulate costs."""
    found: dict[tuple[str, str], list[Layer]] = defaultdict(list)
    for by_core in results.values():
        for core in cores:
            for layer in by_core[core].layers:
                if layer.macs:
                    found[core, layer.kernel].append(layer)
    rows = []
    for (core, kernel), layers in sorted(found.items()):
        layers.sort(key=lambda layer: layer.instructions / layer.macs)
        costs = [layer.instructions / layer.macs for layer in layers]
        total = sum(layer.instructions for layer in layers) / sum(layer.macs for layer in layers)
        rows.append([
            f"`{kernel}`", core.removeprefix("cortex-"), str(len(layers)), f"{total:.2f}",
            f"{costs[0]:.2f}", f"{np.median(costs):.2f}", f"{costs[-1]:.2f}",
            f"{layers[-1].shape}",
        ])  # fmt: skip
    return rows


def section(results: Results, cores: Sequence[str]) -> str:
    names = [core.removeprefix("cortex-") for core in cores]
    head = ["network", "MACs"]
    for name in names:
        head += [name, "a MAC", "plain C"]
    slower = [
        layer
        for by in results.values()
        for core in cores
        for layer in by[core].layers
        if layer.is_slower
    ]
    count = sum(len(by[core].layers) for by in results.values() for core in cores)
    kernels = ["kernel", "core", "layers", "all", "best", "median", "worst", "which"]
    return "\n".join([
        "## Networks that nothing was tuned to",
        "",
        "Models that other people trained, and random ones of ordinary shapes (`bench/ordinary.py`",
        f"makes {PER_FAMILY} of each of {len(FAMILIES)} families from fixed seeds). For each core:",
        "instructions of one inference, instructions per multiply-accumulate (MAC), and how many",
        "times as many the same network takes with the plain C kernels. Default configuration;",
        "every output byte equals the interpreter's, and tflite-micro's where its outputs are",
        "known (those of the first six).",
        "",
        *table(head, network_rows(results, cores)),
        "",
        f"Of these {count:,} layers, {len(slower)} take more instructions than with the plain C",
        "kernel. Instructions per multiply-accumulate of single layers, by kernel:",
        "",
        *table(kernels, kernel_rows(results, cores)),
        "",
        "`python bench/networks.py --list` prints every layer.",
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--cores", nargs="+", choices=CORES, default=list(CORES))
    parser.add_argument("--only", nargs="+", default=[], help="names of networks, or their starts")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with models/ and goldens/")
    parser.add_argument("--list", action="store_true", help="print every layer")
    options = parser.parse_args(arguments)
    subjects = [*models(options.data), *random_networks()]
    wanted = [s for s in subjects if not options.only or s.name.startswith(tuple(options.only))]
    results: dict[str, dict[str, Measured]] = {}
    wrong = 0
    for subject in wanted:
        wrong += check(subject)
        results[subject.name] = {}
        for core in options.cores:
            found = measure(subject.graph, core, subject.samples)
            results[subject.name][core] = found
            wrong += found.mismatches
            print(as_line(subject.name, found), flush=True)
            for layer in found.layers:
                if options.list or layer.is_slower:
                    print(f"    {layer.told()}", flush=True)
    if wrong:
        print(f"error: {wrong} output bytes differ", file=sys.stderr)
        return 1
    everything = len(SHARED) + len(PACKAGED) + len(FAMILIES) * PER_FAMILY
    if len(results) == everything and len(options.cores) == len(CORES):
        write_section(PAGE, "networks", section(results, options.cores))
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def as_line(name: str, found: Measured) -> str:
    a_mac = f"{found.instructions / found.macs:6.2f}" if found.macs else "     -"
    state = "exact" if not found.mismatches else f"{found.mismatches} BYTES DIFFER"
    plain = sum(layer.plain for layer in found.layers)
    return (
        f"{name:26} {found.core:14} {found.macs:>11,} MACs {found.instructions:>12,} instructions "
        f"{a_mac} a MAC, plain C {plain:>12,}  {state}"
    )


if __name__ == "__main__":
    sys.exit(main())
