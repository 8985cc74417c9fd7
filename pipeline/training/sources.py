"""What the results of the training stages rest on. Needs no torch: the stages' keys use it."""

import ast
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from tinsmith.pipeline.config import ModelRef, Teacher
from tinsmith.pipeline.errors import ConfigError, ToolMissing

TRAINING_SOURCES = tuple(
    f"tinsmith.pipeline.training.{part}"
    for part in ("augment", "export", "loop", "losses", "networks", "results", "series")
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


def local_sources(path: Path) -> tuple[Path, ...]:
    """The Python file and the files beside it that it imports, directly or not.

    Raises ConfigError where the file is missing or isn't Python.
    """
    found: list[Path] = []
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.append(current)
        waiting += [
            file
            for name in _imported_names(current)
            for file in (current.parent / f"{name}.py", current.parent / name / "__init__.py")
            if file.is_file()
        ]
    return tuple(sorted(found))


def _imported_names(path: Path) -> set[str]:
    """The first parts of the names that a file imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except FileNotFoundError as e:
        raise ConfigError(f"model: there is no file '{path}'") from e
    except (OSError, SyntaxError, ValueError) as e:
        raise ConfigError(f"model: '{path}' can't be read as Python: {e}") from e
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
