"""Python files of the user's that a configuration names: what they rest on, what is in them, and
what to say where they fail. Needs no torch: the keys of stages use it.
"""

import ast
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinsmith.pipeline.config.values import CodeRef
from tinsmith.pipeline.errors import ConfigError, TinsmithError


def user_function(ref: CodeRef, where: str) -> Any:
    """The function or class that `ref` names, of a file that is imported anew.

    where: what errors begin with, such as "[data] path". Raises ConfigError for a file that is not
    there or can't be imported, and for a name that is none of a function or class.
    """
    module = import_file(ref.path, where)
    found = getattr(module, ref.attribute, None)
    if callable(found):
        return found
    own = [
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    raise ConfigError(
        f"{where}: '{ref.path}' has no function or class '{ref.attribute}'; it has "
        f"{', '.join(own) or 'none'}"
    )


def import_file(path: Path, where: str) -> Any:
    """Import a file under a name of its own, with its folder on the path for what it imports.

    Raises ConfigError where it is not there or can't be imported.
    """
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file '{path}'")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"tinsmith_user_{digest}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with users_own(path, f"{where}: the file can't be imported"), folder_on_path(path.parent):
        sys.modules[spec.name] = module  # dataclasses look their module up while it is made
        spec.loader.exec_module(module)
    return module


@contextmanager
def users_own(path: Path, what: str, error: type[TinsmithError] = ConfigError) -> Iterator[None]:
    """Code of the user's file `path` runs inside: what it raises becomes an `error` that begins
    with `what` and names file and line. The chain keeps the traceback.
    """
    try:
        yield
    except (Exception, SystemExit) as e:
        raise error(f"{what}: {blamed(e, path)}") from e


def blamed(error: BaseException, path: Path) -> str:
    """An exception in one line, with the innermost place in the user's file or in one beside it."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ('{error.filename}', line {error.lineno})"
    folder = path.resolve().parent
    places = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(folder)
        and not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)
        and not Path(frame.filename).resolve().is_relative_to(Path(__file__).resolve().parent)
    ]
    return f"{text} ('{places[-1].filename}', line {places[-1].lineno})" if places else text


@contextmanager
def folder_on_path(folder: Path) -> Iterator[None]:
    """Let imports find files in `folder`, and forget them afterwards: another file's folder may
    have files of the same names.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]


def local_sources(path: Path, where: str = "model") -> tuple[Path, ...]:
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
            for name in _imported_names(current, where)
            for file in (current.parent / f"{name}.py", current.parent / name / "__init__.py")
            if file.is_file()
        ]
    return tuple(sorted(found))


def _imported_names(path: Path, where: str) -> set[str]:
    """The first parts of the names that a file imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except FileNotFoundError as e:
        raise ConfigError(f"{where}: there is no file '{path}'") from e
    except (OSError, SyntaxError, ValueError) as e:
        raise ConfigError(f"{where}: '{path}' can't be read as Python: {e}") from e
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
