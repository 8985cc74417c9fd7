"""The command line: it parses, calls the library, and prints; errors become exit codes."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from tinsmith.pipeline.cli_insight import insight, sensitivity
from tinsmith.pipeline.errors import (
    ConfigError,
    GateFailed,
    TinsmithError,
    ToolFailed,
    UnsupportedModel,
)
from tinsmith.pipeline.files import write_json, write_whole

if TYPE_CHECKING:
    from tinsmith.pipeline.model_files import ReadOptions

INTERRUPTED = 130  # what a shell reports for Ctrl-C

app = typer.Typer(
    name="tinsmith",
    help="From a trained network to firmware-ready C that computes the same bytes on the device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Where the output is no terminal, lines are as long as a table needs, not 80 columns.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

ModelArgument = Annotated[Path, typer.Argument(help="A .tflite or .onnx file.", show_default=False)]
TargetOption = Annotated[
    str, typer.Option("-t", "--target", help="A target; `tinsmith targets` lists them.")
]
ObjectiveOption = Annotated[
    str, typer.Option("-O", "--objective", help="balanced, time, size or ram.")
]
PreserveOption = Annotated[
    bool, typer.Option("--preserve-inputs", help="A run leaves the inputs as they are.")
]
ArenaOption = Annotated[
    str,
    typer.Option(
        "--arena",
        help="static: the context holds the arena; caller: the firmware hands it to init.",
    ),
]
MemoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--memory",
        help="NAME=BYTES: the most of a memory of the target that the model may take; repeat.",
    ),
]
CalibrateOption = Annotated[
    Path | None,
    typer.Option(help="Samples (.npy, .npz; floats [N, ...]) to quantize a float model with."),
]
ActivationsOption = Annotated[
    int,
    typer.Option("--activations", help="Bits of the activations that --calibrate makes: 8 or 16."),
]


def _c_prefix(name: str | None) -> str | None:
    from tinsmith.codegen.emit import model_name

    if name is not None and model_name(name) != name:
        raise typer.BadParameter(
            f"'{name}' can't be the prefix of C names; one that can is '{model_name(name)}'"
        )
    return name


NameOption = Annotated[
    str | None, typer.Option("-n", "--name", callback=_c_prefix, help="Prefix of the C names.")
]
StartOption = Annotated[
    list[str] | None,
    typer.Option("--start", help="Only the part behind this tensor or layer; repeat for several."),
]
EndOption = Annotated[
    list[str] | None,
    typer.Option("--end", help="Only the part up to this tensor or layer; repeat for several."),
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", help="NAME=1,32,32,3: an input that an .onnx leaves open."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")]
ToolchainOption = Annotated[
    str | None, typer.Option(help="zig, gcc or clang; zig by default.", show_default=False)
]


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="tinsmith.toml, or the folder that holds it.")],
    from_: Annotated[
        str | None, typer.Option("--from", help="Recompute this stage and the later ones.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Stop after this stage.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Recompute every stage.")] = False,
) -> None:
    """Run the pipeline of a tinsmith.toml: only what changed is computed again."""
    from tinsmith.pipeline.report.run_view import run_with_view

    run_with_view(config, from_=from_, to=to, force=force, console=console)


@app.command()
def compress(
    config: Annotated[Path, typer.Argument(help="tinsmith.toml, or the folder that holds it.")],
    target: TargetOption,
    budget: Annotated[
        str | None,
        typer.Option(
            help="The most that the firmware may cost: flash=64KiB,ram=32KiB,instructions=5M.",
            show_default=False,
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="The most points of accuracy to lose to the teacher.", show_default=False
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="How many networks, earlier ones counted.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="The folder to write; '-compress' to [run] out by default.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, help="In place of [run] seed.", show_default=False),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Search the most accurate network whose firmware keeps a budget; goes on after a stop."""
    from tinsmith.pipeline.report.search_view import compress_with_view
    from tinsmith.pipeline.search.budget import parse_budget

    compress_with_view(
        config,
        target,
        parse_budget(budget, max_drop),
        out=out,
        trials=trials,
        seed=seed,
        json_file=json_file,
        console=console,
    )


@app.command()
def generate(
    model: ModelArgument,
    target: TargetOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    name: NameOption = None,
    objective: ObjectiveOption = "balanced",
    preserve_inputs: PreserveOption = False,
    arena: ArenaOption = "static",
    memory: MemoryOption = None,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Measure every kernel of every layer, and take the best."),
    ] = False,
    calibrate: CalibrateOption = None,
    activations: ActivationsOption = 8,
    toolchain: ToolchainOption = None,
    start: StartOption = None,
    end: EndOption = None,
    shape: ShapeOption = None,
) -> None:
    """Write C sources that stand alone: model, header, build file, README, self-test."""
    from tinsmith.codegen.summaries import streaming_summary
    from tinsmith.pipeline.code_options import CodeOptions, parse_memories
    from tinsmith.pipeline.generation import generate as make
    from tinsmith.pipeline.model_files import read_quantized
    from tinsmith.pipeline.output_folder import check_folder, write_folder
    from tinsmith.pipeline.report.tables import print_sizes, print_tuning
    from tinsmith.pipeline.tuning import check_tunable
    from tinsmith.targets.target import target_named
    from tinsmith.targets.toolchains import find_toolchain

    device = target_named(target)
    limits = parse_memories(memory or (), device)
    options = CodeOptions(objective, preserve_inputs, arena, limits)
    check_folder(out)
    if tune:
        check_tunable(device)
    read = read_quantized(model, calibrate, read_options(start, end, shape, activations))
    made = make(
        read.graph,
        device,
        name=name or model.stem,
        options=options,
        toolchain=find_toolchain(toolchain, device),
        tune=tune,
        model_sha256=read.sha256,
    )
    write_folder(out, made.files)
    if made.tuning is not None:
        print_tuning(console, made.tuning)
    print_sizes(console, made.sizes, made.instructions)
    if text := streaming_summary(made.program):
        console.print(text, markup=False)
    console.print(f"The C is in {out}", markup=False)


@app.command()
def validate(
    model: ModelArgument,
    target: TargetOption,
    objective: ObjectiveOption = "balanced",
    preserve_inputs: PreserveOption = False,
    arena: ArenaOption = "static",
    memory: MemoryOption = None,
    inputs: Annotated[
        Path | None, typer.Option(help=".npy or .npz of samples [N, ...]; random by default.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many random samples.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 0,
    save_outputs: Annotated[
        Path | None, typer.Option(help="Write the target's outputs to this .npy or .npz.")
    ] = None,
    json_file: JsonOption = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Compare every layer on the target.")
    ] = False,
    calibrate: CalibrateOption = None,
    activations: ActivationsOption = 8,
    toolchain: ToolchainOption = None,
    emulator: Annotated[
        str | None,
        typer.Option(help="unicorn or qemu; unicorn by default.", show_default=False),
    ] = None,
    start: StartOption = None,
    end: EndOption = None,
    shape: ShapeOption = None,
) -> None:
    """Run a model on a target and compare every byte with the interpreter and the oracles."""
    from tinsmith.codegen.emit import model_name
    from tinsmith.pipeline.code_options import CodeOptions, parse_memories
    from tinsmith.pipeline.deployment import make_program
    from tinsmith.pipeline.model_files import read_arrays, read_quantized, to_input
    from tinsmith.pipeline.report.tables import print_validation
    from tinsmith.pipeline.validation import RANDOM_NOTE, random_samples
    from tinsmith.pipeline.validation import validate as compare
    from tinsmith.targets.target import target_named
    from tinsmith.targets.toolchains import find_toolchain

    device = target_named(target)
    limits = parse_memories(memory or (), device)
    options = CodeOptions(objective, preserve_inputs, arena, limits)
    chosen = find_toolchain(toolchain, device)
    graph = read_quantized(model, calibrate, read_options(start, end, shape, activations)).graph
    if inputs is None:
        data, note = random_samples(graph, samples, seed), RANDOM_NOTE
    else:
        arrays = read_arrays(inputs, graph)
        data = {n: to_input(a, graph.tensors[n], str(inputs)) for n, a in arrays.items()}
        note = str(inputs.name)
    if save_outputs is not None:
        _check_outputs_file(save_outputs, len(graph.outputs))
    program = make_program(graph, model_name(model.stem), device, options)
    report, outputs = compare(
        program,
        device,
        data,
        toolchain=chosen,
        per_layer=per_layer,
        note=note,
        emulator=emulator,
    )
    print_validation(console, report)  # before the files: one that can't be written loses nothing
    if save_outputs is not None:
        _save_outputs(save_outputs, dict(zip(graph.outputs, outputs, strict=True)))
    if json_file is not None:
        write_json(json_file, report.json())
    if not report.bit_exact:
        first = f"; the first layer that differs is '{report.first_difference}'"
        raise GateFailed(
            f"{model.name} on {device.name} is not bit-exact: {report.mismatches} bytes differ "
            f"from the interpreter, {sum(report.oracles.values())} from the oracles"
            f"{first if report.first_difference else ''}"
        )


@app.command()
def analyze(
    model: ModelArgument,
    target: Annotated[
        str | None, typer.Option("-t", "--target", help="Also plan the arena for this target.")
    ] = None,
    objective: ObjectiveOption = "balanced",
    preserve_inputs: PreserveOption = False,
    memory: MemoryOption = None,
    json_file: JsonOption = None,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", help="Draw what lies where in the arena (SVG) to this file."),
    ] = None,
    calibrate: CalibrateOption = None,
    activations: ActivationsOption = 8,
    start: StartOption = None,
    end: EndOption = None,
    shape: ShapeOption = None,
) -> None:
    """Per layer: shapes, MACs, weights, activations; with a target, whether it fits."""
    from tinsmith.pipeline.analysis import analyze as look
    from tinsmith.pipeline.code_options import CodeOptions, parse_memories
    from tinsmith.pipeline.memory_map import arena_map
    from tinsmith.pipeline.model_files import read_model, read_quantized
    from tinsmith.pipeline.report.tables import print_analysis
    from tinsmith.targets.target import target_named

    device = None if target is None else target_named(target)
    if memory and device is None:
        raise ConfigError("--memory says what the model may take of a target: name one with -t")
    if map_file is not None and device is None:
        raise ConfigError("--map draws the arena for a target: name one with -t")
    if map_file is not None and map_file.suffix.lower() != ".svg":
        raise ConfigError(f"--map {map_file}: allowed: an .svg file")
    limits = () if device is None else parse_memories(memory or (), device)
    options = CodeOptions(objective, preserve_inputs, memories=limits)
    reading = read_options(start, end, shape, activations)
    quantizes = calibrate is not None or activations != 8
    read = read_quantized(model, calibrate, reading) if quantizes else read_model(model, reading)
    report = look(read.graph, device, options)
    if json_file is not None:
        write_json(json_file, report.json())
    print_analysis(console, report)
    if report.unsupported:
        raise UnsupportedModel(
            f"{model.name} has what is not supported on {report.target}:\n  "
            + "\n  ".join(report.unsupported)
        )
    if map_file is not None and device is not None:
        write_whole(map_file, arena_map(read.graph, device, options).encode())


@app.command()
def diff(
    model: Annotated[Path, typer.Argument(metavar="A", help="A .tflite or .onnx file.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="Another; left out, A itself.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help=".npy or .npz of samples [N, ...]; random by default.")
    ] = None,
    runtime_a: Annotated[
        str, typer.Option(help="What runs A: interpreter, tflite-micro, tflite-runtime, a target.")
    ] = "interpreter",
    runtime_b: Annotated[str, typer.Option(help="What runs B.")] = "interpreter",
    samples: Annotated[int, typer.Option(min=1, help="At most so many samples.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Exit 1 on any difference.")] = False,
    shape: ShapeOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare two models, or one in two runtimes, layer by layer."""
    from tinsmith.pipeline.comparison import Side, compare, inputs_for
    from tinsmith.pipeline.layer_traces import check_runtime, trace
    from tinsmith.pipeline.model_files import read_arrays, read_model
    from tinsmith.pipeline.report.tables import print_comparison

    check_runtime(runtime_a)
    check_runtime(runtime_b)
    if other is None and runtime_a == runtime_b:
        raise ConfigError("diff: give a second model, or another --runtime-b, to compare with")
    options = read_options(None, None, shape)
    graphs = [read_model(path, options).graph for path in (model, other) if path is not None]
    given = None if inputs is None else read_arrays(inputs, graphs[0])
    where = "random input" if inputs is None else str(inputs)
    data = inputs_for(graphs, given, where, samples, seed)
    sides = [
        Side(f"{path.name} by {runtime}", graph, trace(graph, feeds, runtime))
        for path, runtime, graph, feeds in (
            (model, runtime_a, graphs[0], data[0]),
            (other or model, runtime_b, graphs[-1], data[-1]),
        )
    ]
    report = compare(sides[0], sides[1])
    if json_file is not None:
        write_json(json_file, report.json())
    print_comparison(console, report)
    if exact and not report.identical:
        raise GateFailed(f"--exact: the first layer that differs is '{report.first_difference}'")


app.command()(sensitivity)
app.command()(insight)


@app.command()
def targets() -> None:
    """List the targets: cores and boards."""
    from tinsmith.pipeline.report.tables import print_targets

    print_targets(console)


@app.command()
def ops() -> None:
    """List the ops, with the oracle that defines each and its kernels."""
    from tinsmith.pipeline.report.tables import print_ops

    print_ops(console)


@app.command()
def doctor() -> None:
    """Check the tools that tinsmith uses, and say how to install what is missing."""
    from tinsmith.pipeline.report.tables import print_doctor

    print_doctor(console)


def read_options(
    start: Sequence[str] | None,
    end: Sequence[str] | None,
    shape: Sequence[str] | None,
    activations: int = 8,
) -> ReadOptions:
    """The flags that say how a model file is read."""
    from tinsmith.pipeline.model_files import ReadOptions, parse_shapes

    return ReadOptions(start or (), end or (), parse_shapes(shape or ()), activations)


def _check_outputs_file(path: Path, count: int) -> None:
    """ConfigError where so many outputs can't go into such a file: told before anything runs."""
    if path.suffix != ".npz" and (path.suffix != ".npy" or count != 1):
        raise ConfigError(
            f"--save-outputs {path}: allowed: an .npz file, or an .npy file for one output"
        )


def _save_outputs(path: Path, outputs: dict[str, Any]) -> None:
    import io

    import numpy as np

    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **outputs)
    else:
        np.save(buffer, next(iter(outputs.values())))
    write_whole(path, buffer.getvalue())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs a command and ends the process with its exit code."""
    try:
        app(args=None if arguments is None else list(arguments), standalone_mode=True)
    except TinsmithError as e:
        errors.print(f"tinsmith: {e}", markup=False)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(INTERRUPTED)
    except SystemExit as e:
        # typer turns Ctrl-C into this exit by itself, without a word.
        if e.code == INTERRUPTED:
            _say_interrupted()
        raise
    except BrokenPipeError:
        sys.exit(0)
    except OSError as e:
        what = "the disk is full" if e.errno == errno.ENOSPC else str(e)
        errors.print(f"tinsmith: {what}", markup=False)
        sys.exit(ToolFailed.exit_code)
    sys.exit(0)


def _say_interrupted() -> None:
    errors.print(
        "tinsmith: interrupted; no file is half-written. `run` keeps the stages that were "
        "finished, `compress` its trials, `--tune` what it measured"
    )
