"""`tinsmith sensitivity` in a terminal: of a configuration's network, or of a model file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tinsmith.pipeline.config import Config, load_config
from tinsmith.pipeline.errors import ConfigError, DataError
from tinsmith.pipeline.files import write_json, write_whole
from tinsmith.pipeline.flow import artifact_at, run_flow
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.insight.sensitivity import Sensitivity, bits_readings, from_json
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import ReadOptions, read_model, to_input
from tinsmith.pipeline.report.line_chart import line_chart
from tinsmith.pipeline.report.run_view import FlowView
from tinsmith.pipeline.report.sensitivity_tables import panels_of, print_sensitivity
from tinsmith.pipeline.stages import stages_of
from tinsmith.pipeline.stages.common import accuracy
from tinsmith.pipeline.stages.sensitivity import FOUND, PLOT, MeasureSensitivity

# The networks of a run that can be measured, and the stages that make them, the last one counts.
NETWORKS: Mapping[str, Sequence[str]] = {
    "student": ("distil", "factorize"),
    "pruned": ("prune", "cluster"),
}


def maker_of(network: str, stages: Iterable[str]) -> str:
    """Which of the stages of a run makes this network."""
    return [name for name in stages if name in NETWORKS[network]][-1]


def sensitivity_of_run(
    path: Path, of: str, count: int, test: bool, json_file: Path | None, console: Console
) -> None:
    """Runs the stages that make the network, measures it, and prints; the plot is
    `<out>/sensitivity/sensitivity.svg`.
    """
    if of not in NETWORKS:
        raise ConfigError(f"--of {of}: allowed: {', '.join(NETWORKS)}")
    config = load_config(path)
    folders, maker = networks_of_run(config, of, console)
    stage = MeasureSensitivity.from_config(config, f"the {of} network", count, test)
    given = {"load": artifact_at(folders["load"]), "student": artifact_at(folders[maker])}
    view = FlowView(console)
    done = run_flow([stage], config.run.out, given=given, progress=view.event)
    folder = done[stage.name]
    found = from_json(json.loads((folder / FOUND).read_text()))
    _show(found, console, json_file)
    plot = config.run.out.resolve() / stage.name / PLOT
    console.print(f"plot: {plot}", markup=False)


def networks_of_run(config: Config, of: str, console: Console) -> tuple[dict[str, Path], str]:
    """Run the stages up to the one that makes this network; the results, and that stage's name."""
    stages = stages_of(config)
    maker = maker_of(of, (stage.name for stage in stages))
    folders = run_flow(stages, config.run.out, to=maker, progress=FlowView(console).event)
    return folders, maker


def sensitivity_of_file(
    model: Path,
    samples: Path,
    options: ReadOptions,
    out: Path,
    json_file: Path | None,
    console: Console,
) -> None:
    """Measures few bits in the layers of a float model on labelled samples; the plot is `out`.

    Raises ConfigError for a quantized model, DataError for samples that don't fit.
    """
    graph = read_model(model, options).graph
    if graph.is_quantized:
        raise ConfigError(
            f"'{model}' is quantized already; sensitivity to few bits is measured on a float model"
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ConfigError(
            f"'{model}' has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
            "sensitivity is measured on models with one of each"
        )
    x, y = read_labelled_samples(samples, graph)
    outputs = run_samples(graph, {graph.inputs[0]: x})

    def tell(message: str, fraction: float) -> None:
        status.update(message)

    with console.status("") as status:
        readings = tuple(bits_readings(graph, x, y, tell))
    found = Sensitivity(
        model.name,
        f"samples of {samples.name}",
        len(y),
        round(accuracy(outputs, y), 4),
        readings,
        ("weights, channels and rank need the network in torch: give a tinsmith.toml",),
    )
    write_whole(out, line_chart(panels_of(found)).encode())
    _show(found, console, json_file)
    console.print(f"plot: {out}", markup=False)


def read_labelled_samples(path: Path, graph: Graph) -> tuple[Array, NDArray[np.int64]]:
    """The arrays `x` [N, *input shape] and `y` [N] of an .npz file. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile) or {"x", "y"} - set(file.files):
                raise DataError(
                    f"'{path}' needs the arrays x (samples) and y (labels): np.savez(path, x=, y=)"
                )
            x, y = file["x"], file["y"]
    except FileNotFoundError as e:
        raise DataError(f"there is no file of samples '{path}'") from e
    except (OSError, ValueError, EOFError) as e:
        raise DataError(f"'{path}' is no .npz file of numbers: {e}") from e
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(x) != len(y) or len(y) == 0:
        raise DataError(
            f"'{path}': y is {y.dtype}{list(y.shape)} beside {len(x)} samples; allowed: a whole "
            "number for each sample"
        )
    entry = graph.tensors[graph.inputs[0]]
    if x.dtype.kind == "f":
        x = x.astype(np.float32)
    return to_input(x, entry, f"'{path}', x"), y.astype(np.int64)


def _show(found: Sensitivity, console: Console, json_file: Path | None) -> None:
    if json_file is not None:
        write_json(json_file, found.json())
    print_sensitivity(console, found)
