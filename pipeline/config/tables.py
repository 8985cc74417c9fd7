"""The configuration as a whole, and the tables of the run, its code and its limits."""

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field

from tinsmith.pipeline.config.audio_tables import Audio
from tinsmith.pipeline.config.cluster_table import Cluster
from tinsmith.pipeline.config.compress_table import Compress
from tinsmith.pipeline.config.factorize_table import Factorize
from tinsmith.pipeline.config.training_tables import (
    Augment,
    Data,
    Distil,
    Prune,
    Quantize,
    Teacher,
)
from tinsmith.pipeline.config.values import (
    Bytes,
    CName,
    ConfigPath,
    Fraction,
    Positive,
    SampleCount,
    Table,
)


class Run(Table):
    """The run as a whole."""

    name: Annotated[str, Field(min_length=1)] = Field(
        default="model", description="What the run is called in reports."
    )
    out: ConfigPath = Field(
        default="build",
        description="The output folder: results, and the cache of stages in `.cache`.",
        validate_default=True,
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=0, description="Decides every random choice: split, weights, batches, augmentation."
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description=(
            "Processors to train on. For small images one is nearly as fast as several, and the "
            "result does not depend on how many there are."
        ),
    )


class Generate(Table):
    """Writing of the C code."""

    targets: Annotated[list[str], Field(min_length=1)] = Field(
        default=["cortex-m4"], description="Targets to generate, build and validate for."
    )
    objective: Literal["balanced", "time", "size", "ram"] = Field(
        default="balanced",
        description="What to prefer where kernels differ; ram makes layers in stripes as well.",
    )
    name: CName = Field(
        default="", description="Prefix of all C names; by default made from the name of the run."
    )
    tune: bool = Field(
        default=False,
        description=(
            "Whether kernels are chosen by measuring each layer's candidates in the emulator, "
            "instead of by the cost model."
        ),
    )
    preserve_inputs: bool = Field(
        default=False, description="Whether a run leaves the inputs as they are."
    )
    arena: Literal["static", "caller"] = Field(
        default="static",
        description=(
            "Who has the arena: `static`, the model's context; `caller`, the firmware, which hands "
            "it to `<model>_init`."
        ),
    )
    memories: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description=(
            "The most bytes of a memory of the targets that the model may take, like "
            "`{ dtcm = 65536 }`; 0 leaves the memory out."
        ),
    )


class Validate(Table):
    """Comparison of what the target computes with what the interpreter computes."""

    samples: SampleCount = Field(
        default="all", description="How many test samples run on each target."
    )
    oracle: Literal["auto", "required", "off"] = Field(
        default="auto",
        description=(
            "Whether an independent implementation (tflite-micro, tflite-runtime) has to agree "
            "too: `auto` compares when one is installed."
        ),
    )


class TargetGates(Table):
    """Limits on one target: `[gates.target.NAME]`."""

    flash_bytes: Bytes | None = Field(
        default=None, description="Most flash: code, weights, constants."
    )
    ram_bytes: Bytes | None = Field(default=None, description="Most RAM: arena, data and stack.")
    instructions: Positive | None = Field(
        default=None, description="Most instructions of one inference."
    )


class Gates(Table):
    """Limits that fail the run (exit code 1). Accuracies are in percent, drops in points."""

    teacher_accuracy: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None, description="Least accuracy of the teacher."
    )
    student_ratio: Fraction | None = Field(
        default=None,
        description="Largest share of the teacher's parameters that the student may have.",
    )
    distil_drop: float | None = Field(
        default=None, description="Most points that the student may lose to the teacher."
    )
    factorize_drop: float | None = Field(
        default=None, description="Most points that the factorized student may lose to the student."
    )
    pruned_macs: Fraction | None = Field(
        default=None, description="Largest share of the student's MACs that pruning may leave."
    )
    prune_drop: float | None = Field(
        default=None, description="Most points that the pruned student may lose to the student."
    )
    cluster_drop: float | None = Field(
        default=None, description="Most points that shared values may lose to the pruned student."
    )
    quantize_drop: float | None = Field(
        default=None,
        description="Most points that int8 may lose to the network that is quantized.",
    )
    target: dict[str, TargetGates] = Field(
        default={}, description="A table `[gates.target.NAME]` of limits for each target."
    )


class Config(Table):
    """The whole file."""

    run: Run = Field(default={}, validate_default=True)
    data: Data = Field(default=Data())
    audio: Audio = Field(default=Audio())
    augment: Augment = Field(default=Augment())
    teacher: Teacher
    distil: Distil
    factorize: Factorize = Field(default=Factorize())
    prune: Prune = Field(default=Prune())
    cluster: Cluster = Field(default=Cluster())
    quantize: Quantize = Field(default=Quantize())
    generate: Generate = Field(default=Generate())
    validation: Validate = Field(default=Validate(), alias="validate")
    gates: Gates = Field(default=Gates())
    compress: Compress = Field(default=Compress())


def c_name(config: Config) -> str:
    """What the names of the generated C are made of."""
    return config.generate.name or config.run.name


def keys_of(table: type[Table]) -> list[str]:
    return [field.alias or name for name, field in table.model_fields.items()]


def tables_by_name() -> dict[str, type[Table]]:
    """Every table of the file by its name, in order; the file itself is ''."""
    tables: dict[str, type[Table]] = {"": Config}
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        tables[field.alias or name] = field.annotation
        tables |= _lists_in(field.alias or name, field.annotation)
    tables["gates.target.NAME"] = TargetGates
    return tables


def lists_of_tables() -> dict[str, type[Table]]:
    """Those that come any number of times: `[[name]]`."""
    found: dict[str, type[Table]] = {}
    for name, table in tables_by_name().items():
        found |= _lists_in(name, table)
    return found


def _lists_in(name: str, table: Any) -> dict[str, type[Table]]:
    return {
        f"{name}.{key}": get_args(field.annotation)[0]
        for key, field in table.model_fields.items()
        if get_origin(field.annotation) is list and is_table(get_args(field.annotation)[0])
    }


def is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)
