"""What the results of the training stages rest on. Needs no torch: the stages' keys use it."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from tinsmith.pipeline.config import Augment, CodeRef, Distil, Teacher
from tinsmith.pipeline.errors import ToolMissing
from tinsmith.pipeline.user_code import local_sources

TRAINING_SOURCES = (
    *(
        f"tinsmith.pipeline.training.{part}"
        for part in (
            "augment",
            "export",
            "factors",
            "heads",
            "loop",
            "losses",
            "networks",
            "regularizers",
            "removed",
            "results",
            "series",
            "user_losses",
        )
    ),
    "tinsmith.pipeline.tasks",
    "tinsmith.pipeline.user_code",
)
DISTILLATION_SOURCES = tuple(
    f"tinsmith.pipeline.training.{part}"
    for part in ("criteria", "cuts", "cutting", "distillation", "pruning")
)
TRAINING_TOOLS = ("torch", "onnxscript", "numpy")


def need_torch(stage: str) -> None:
    """Raise ToolMissing where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise ToolMissing(f"stage '{stage}' needs torch: pip install 'tinsmith[train]'")


def teacher_files(options: Teacher) -> tuple[Path, ...]:
    """The files that the teacher's networks and its loss are made by."""
    return user_files((options.model, *options.members), (options.loss,))


def distil_files(options: Distil) -> tuple[Path, ...]:
    """The files that the student, its assistants and the terms of its loss are made by."""
    losses = [term.loss for term in options.terms]
    return user_files((*options.assistants, options.model), losses)


def augment_files(options: Augment) -> tuple[Path, ...]:
    """The files that change the samples."""
    return user_files((), (options.function,))


def user_files(models: Iterable[CodeRef], others: Iterable[CodeRef | None]) -> tuple[Path, ...]:
    """The files that these networks and functions are made by, each once."""
    found = {file for model in models for file in local_sources(model.path)}
    found |= {file for ref in others if ref for file in local_sources(ref.path, ref.attribute)}
    return tuple(sorted(found))


def model_files(models: Iterable[CodeRef]) -> tuple[Path, ...]:
    """The files that these networks are made by, each once."""
    return user_files(models, ())
