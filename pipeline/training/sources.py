"""What the results of the training stages rest on. Needs no torch: the stages' keys use it."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from tinsmith.pipeline.config import ModelRef, Teacher
from tinsmith.pipeline.errors import ToolMissing
from tinsmith.pipeline.user_code import local_sources

TRAINING_SOURCES = (
    *(
        f"tinsmith.pipeline.training.{part}"
        for part in (
            "augment",
            "export",
            "factors",
            "loop",
            "losses",
            "networks",
            "regularizers",
            "results",
            "series",
        )
    ),
    "tinsmith.pipeline.user_code",
)
DISTILLATION_SOURCES = tuple(
    f"tinsmith.pipeline.training.{part}"
    for part in ("criteria", "cutting", "distillation", "pruning")
)
TRAINING_TOOLS = ("torch", "onnxscript", "numpy")


def need_torch(stage: str) -> None:
    """Raise ToolMissing where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise ToolMissing(f"stage '{stage}' needs torch: pip install 'tinsmith[train]'")


def teacher_files(options: Teacher) -> tuple[Path, ...]:
    """The files that the teacher's networks are made by."""
    return model_files((options.model, *options.members))


def model_files(models: Iterable[ModelRef]) -> tuple[Path, ...]:
    """The files that these networks are made by, each once."""
    return tuple(sorted({file for model in models for file in local_sources(model.path)}))
