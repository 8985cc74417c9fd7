"""The commands that look into a network instead of making one; registered by `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinsmith.pipeline.errors import ConfigError

JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")]


def sensitivity(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG|MODEL",
            help="tinsmith.toml, or the folder that holds it; or a float .onnx file.",
            show_default=False,
        ),
    ],
    of: Annotated[
        str | None,
        typer.Option(
            help="Of a configuration: student (by default) or pruned.", show_default=False
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Of a configuration: how many samples to measure on.")
    ] = 1000,
    test: Annotated[
        bool, typer.Option("--test", help="Test samples, not some of those trained on.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Of a model file: .npz with x (floats [N, ...]) and y (labels).",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Of a model file: the SVG to write; MODEL.svg here by default.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", help="NAME=1,32,32,3: an input that an .onnx leaves open."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Per layer: the accuracy with fewer weights, channels, ranks, bits; which layers to spare."""
    from tinsmith.pipeline.cli import console, read_options
    from tinsmith.pipeline.report.sensitivity_view import sensitivity_of_file, sensitivity_of_run

    if model.suffix.lower() not in (".onnx", ".tflite"):
        if inputs is not None or plot is not None or shape:
            raise ConfigError(
                "--inputs, --plot and --shape are for a model file; a configuration has its own "
                "data, and its plot is <out>/sensitivity/sensitivity.svg"
            )
        sensitivity_of_run(model, of or "student", samples, test, json_file, console)
        return
    if inputs is None:
        raise ConfigError(
            "sensitivity of a model file needs labelled samples: --inputs X.npz, with the arrays x "
            "(floats [N, ...]) and y (labels)"
        )
    if of is not None or test:
        raise ConfigError("--of and --test are for a configuration; leave them out")
    options = read_options(None, None, shape)
    out = plot or Path(f"{model.stem}-sensitivity.svg")
    sensitivity_of_file(model, inputs, options, out, json_file, console)


def insight(
    config: Annotated[Path, typer.Argument(help="tinsmith.toml, or the folder that holds it.")],
    samples: Annotated[int, typer.Option(min=1, help="How many test samples to disturb.")] = 500,
    task: Annotated[
        str, typer.Option(help="Of networks with several tasks: which one.", show_default=False)
    ] = "",
    json_file: JsonOption = None,
) -> None:
    """What compression did beyond the mean: classes, disturbed samples, what flipped; a page."""
    from tinsmith.pipeline.cli import console
    from tinsmith.pipeline.report.insight_view import insight_of_run

    insight_of_run(config, samples, task, json_file, console)
