"""The flow: stages in order, each result kept under the hash of everything that made it.

An entry of the cache is a folder `<out>/.cache/<stage>-<key16>/`. It is written under the name
`<stage>-<key16>.partial/` and renamed when the stage is complete, so that a run that was stopped
leaves nothing half-written. A stage that is `resumable` finds its partial folder again and goes on.
`<out>/<stage>` is a link to the entry that the last run used.
"""

import dataclasses
import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel

from tinsmith.pipeline.errors import ConfigError, ToolFailed

# How many finished entries (and, apart from them, unfinished ones) stay for each stage.
KEEP_ENTRIES = 3

_ENTRY = "entry.json"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Artifact:
    """The finished result of a stage: the folder `path` with the files that the stage wrote.

    `content` is the sha256 over the names and bytes of those files: what the next stages' keys
    rest on, so that a stage that ran again and gave the same bytes makes nothing run again.
    """

    stage: str
    key: str
    content: str
    path: Path

    def file(self, name: str) -> Path:
        """The path of one file of the result; a missing one is a bug of the stage."""
        path = self.path / name
        assert path.exists(), f"stage '{self.stage}' wrote no '{name}'"
        return path

    def json(self, name: str = "metrics.json") -> Any:
        return json.loads(self.file(name).read_text())


class Progress(Protocol):
    """What a stage calls to tell how far it is: a line of text and the fraction done (0..1)."""

    def __call__(self, message: str, fraction: float | None = None) -> None: ...


class Stage(Protocol):
    """A stage: a frozen dataclass whose fields are its options.

    The key is made of the fields (a `Path` counts by the content of what it names, see `files`),
    the content of the inputs, the source of the modules in `sources`, and the versions in `tools`.
    Change any of them and the stage runs again; nothing else makes it run, unless `is_certain` says
    that there is more.
    """

    name: ClassVar[str]
    # Names of earlier stages whose results `run` is given.
    inputs: ClassVar[tuple[str, ...]] = ()
    # An earlier stage, whose result this one's replaces for all later ones: they ask for it by the
    # same name as they do in a run without this stage.
    stands_for: ClassVar[str] = ""
    # tinsmith's modules or packages that decide the result. The stage's own module always counts.
    sources: ClassVar[tuple[str, ...]] = ()
    # Distributions whose version decides the result ("torch"). Python's minor version always does.
    tools: ClassVar[tuple[str, ...]] = ()
    # Whether `run` goes on from what a stopped run left in `out_dir`.
    resumable: ClassVar[bool] = False

    def files(self) -> tuple[Path, ...]:
        """The user's files that decide the result; by default every option that is a path."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]
        return tuple(value for value in values if isinstance(value, Path))

    def is_certain(self) -> bool:
        """Whether the key knows everything that decides the result. Where it doesn't, the stage
        runs each time; the later ones do only where it gave something else than before.
        """
        return True

    def check(self, known: Mapping[str, Artifact]) -> None:
        """Raise what `run` will raise in the end, as far as it follows from the results that are
        there before the stages in between have run. known: results by the names that are asked for.
        """
        return

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        """Write the result's files into `out_dir`, and nothing anywhere else."""
        ...


@dataclass(frozen=True)
class Event:
    """What the flow tells its caller about a stage. `seconds` is set when it is done.

    folder: where the stage's files are; until it is done, those that it has written so far.
    """

    stage: str
    kind: Literal["cached", "started", "resumed", "progress", "done"]
    message: str = ""
    fraction: float | None = None
    seconds: float | None = None
    folder: Path | None = None


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that listens to nothing."""


def run_flow(
    stages: Sequence[Stage],
    out: Path,
    from_: str | None = None,
    to: str | None = None,
    force: bool = False,
    progress: Listener = silent,
    given: Mapping[str, Artifact] | None = None,
    keep: int | None = KEEP_ENTRIES,
) -> dict[str, Path]:
    """Run `stages` in order, each only if its result is not in the cache; result: stage -> folder.

    Before the first long stage runs, those behind it are asked whether they will be able to.

    `from_` recomputes that stage and the later ones, `to` stops after that one, `force` recomputes
    all. given: results of other runs that stages may take, by the name that they ask for. keep: how
    many finished entries of each stage stay (None: all). Raises ConfigError for a stage that does
    not exist and where another run uses `out`, and whatever a stage raises; what was finished by
    then stays.
    """
    _check_order(stages, given or {})
    names = [stage.name for stage in stages]
    first = _position(names, "--from", from_) if from_ else len(names)
    last = _position(names, "--to", to) if to else len(names) - 1
    if from_ and first > last:
        raise ConfigError(f"--from {from_} comes after --to {to}; the order is {', '.join(names)}")
    asked_for: dict[str, Artifact] = dict(given or {})
    done: list[Artifact] = []
    unchecked = list(stages[: last + 1])

    def look_ahead() -> None:
        while unchecked and not unchecked[0].stands_for:
            unchecked.pop(0).check(asked_for)
        unchecked.clear()

    with locked(out):
        for index, stage in enumerate(stages[: last + 1]):
            inputs = {name: asked_for[name] for name in stage.inputs}
            recompute = force or index >= first
            done.append(_result(stage, inputs, out, recompute, progress, look_ahead))
            for name in filter(None, (stage.name, stage.stands_for)):
                asked_for[name] = done[-1]
            _link(out, done[-1])
        if keep is not None:
            for artifact in done:
                _forget_old(out / ".cache", artifact, keep)
    return {artifact.stage: artifact.path for artifact in done}


def artifact_at(folder: Path) -> Artifact:
    """The finished result in a folder that `run_flow` gave."""
    record = json.loads((folder / _ENTRY).read_text())
    return Artifact(record["stage"], record["key"], record["content"], folder)


def stage_key(stage: Stage, inputs: Mapping[str, Artifact]) -> str:
    """The sha256 of everything that decides the stage's result, in hex."""
    contents = {name: inputs[name].content for name in stage.inputs}
    parts = {**ingredients(stage), "inputs": contents}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def ingredients(stage: Stage) -> dict[str, Any]:
    """What decides a stage's result beside its inputs, as JSON can tell it."""
    return {
        "stage": stage.name,
        "options": _canonical(stage),
        "files": [(path.name, _path_digest(path)) for path in stage.files()],
        "sources": {
            module: _module_digest(module)
            for module in sorted({type(stage).__module__, *stage.sources})
        },
        "tools": {tool: _version(tool) for tool in stage.tools},
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def _check_order(stages: Sequence[Stage], given: Mapping[str, Artifact]) -> None:
    seen: set[str] = set(given)
    for stage in stages:
        assert stage.name not in seen, f"two stages are called '{stage.name}'"
        missing = {*stage.inputs, *filter(None, (stage.stands_for,))} - seen
        assert not missing, f"stage '{stage.name}' needs {sorted(missing)}, which come later"
        seen.add(stage.name)


def _position(names: list[str], flag: str, name: str) -> int:
    if name not in names:
        raise ConfigError(f"{flag} {name}: there is no such stage; allowed: {', '.join(names)}")
    return names.index(name)


def _result(
    stage: Stage,
    inputs: Mapping[str, Artifact],
    out: Path,
    recompute: bool,
    progress: Listener,
    look_ahead: Callable[[], None],
) -> Artifact:
    key = stage_key(stage, inputs)
    final = out / ".cache" / f"{stage.name}-{key[:16]}"
    recompute = recompute or not stage.is_certain()
    if not recompute and (found := _sound_entry(stage.name, key, final)):
        os.utime(final / _ENTRY)
        progress(Event(stage.name, "cached", folder=final))
        return found
    if stage.resumable:
        look_ahead()
    partial = final.with_name(final.name + _PARTIAL)
    resumed = stage.resumable and not recompute and partial.is_dir()
    if partial.exists() and not resumed:
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    progress(Event(stage.name, "resumed" if resumed else "started", folder=partial))
    started = time.monotonic()

    def tell(message: str, fraction: float | None = None) -> None:
        progress(Event(stage.name, "progress", message, fraction, folder=partial))

    try:
        stage.run(inputs, partial, tell)
        seconds = time.monotonic() - started
        content = _finish(stage, key, partial, final, seconds)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        raise ToolFailed(
            f"stage '{stage.name}': the disk that holds '{out}' is full; make room and run again"
        ) from e
    finally:
        if not stage.resumable and partial.exists():
            shutil.rmtree(partial)
    progress(Event(stage.name, "done", seconds=seconds, folder=final))
    return Artifact(stage.name, key, content, final)


def _finish(stage: Stage, key: str, partial: Path, final: Path, seconds: float) -> str:
    """Write the entry's record and give the folder its final name; result: the content's sha256."""
    sizes = _sizes(partial)
    assert sizes, f"stage '{stage.name}' wrote nothing"
    record = {
        "stage": stage.name,
        "key": key,
        "content": _path_digest(partial),
        "options": _canonical(stage),
        "seconds": round(seconds, 3),
        "sizes": sizes,
    }
    (partial / _ENTRY).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    if final.exists():
        # Not deleted before the new one is complete; a kill between the two renames loses the
        # entry, but leaves none that is broken.
        aside = final.with_name(final.name + ".old")
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
        partial.rename(final)
        shutil.rmtree(aside)
    else:
        partial.rename(final)
    return str(record["content"])


def _sound_entry(name: str, key: str, path: Path) -> Artifact | None:
    """The finished entry at `path`, or None where there is none or a file of it is damaged."""
    try:
        record = json.loads((path / _ENTRY).read_text())
        if record["key"] == key and record["sizes"] == _sizes(path):
            return Artifact(name, key, record["content"], path)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _sizes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in _files_under(folder)
        if path.name != _ENTRY
    }


def _files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _canonical(value: Any) -> Any:
    """Options as JSON: records by their fields, paths left out, since `files` counts them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        items = sorted(value.items())
        return {str(key): _canonical(item) for key, item in items if not isinstance(item, Path)}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an option of type {type(value).__name__} has no canonical form")


def _path_digest(path: Path) -> str:
    """sha256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in _files_under(path):
        if file_path.name != _ENTRY:
            line = f"{file_path.relative_to(path).as_posix()}\0{_path_digest(file_path)}\n"
            digest.update(line.encode())
    return digest.hexdigest()


@functools.cache
def _module_digest(module: str) -> str:
    """sha256 of a module's source; of a package, everything in its folder (templates count)."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"no module {module}"
    assert spec.origin is not None, f"{module} has no __init__.py"
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return _path_digest(origin)
    digest = hashlib.sha256()
    for path in _files_under(origin.parent):
        if "__pycache__" not in path.parts:
            name = path.relative_to(origin.parent).as_posix()
            digest.update(f"{name}\0{_path_digest(path)}\n".encode())
    return digest.hexdigest()


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold `<out>/.cache/lock`; the kernel lets go of it when the process ends, however it ends."""
    try:
        (out / ".cache").mkdir(parents=True, exist_ok=True)
        lock = (out / ".cache" / "lock").open("a+")
    except OSError as e:
        raise ConfigError(
            f"the output folder '{out}' can't be written ({e.strerror}); give another one"
        ) from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise ConfigError(
                f"another run (process {owner}) is using '{out}'; "
                "wait until it ends, or give this run another output folder"
            ) from e
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _link(out: Path, artifact: Artifact) -> None:
    """Point `<out>/<stage>` to the entry; a file or folder of that name that isn't ours stays."""
    link = out / artifact.stage
    if link.exists() and not link.is_symlink():
        return
    fresh = out / ".cache" / "link"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path(".cache") / artifact.path.name)
    fresh.replace(link)


def _forget_old(cache: Path, current: Artifact, keep: int) -> None:
    """Delete all but the `keep` most recently used entries of the stage, finished and unfinished
    apart."""

    def last_use(path: Path) -> float:
        record = path / _ENTRY
        return (record if record.exists() else path).stat().st_mtime

    length = len(current.stage) + 17
    ours = [path for path in cache.glob(f"{current.stage}-*") if path.is_dir()]
    finished = [path for path in ours if len(path.name) == length and path != current.path]
    unfinished = [path for path in ours if path.name.endswith(_PARTIAL)]
    leftover = [path for path in ours if path.name.endswith(".old")]
    for paths, most in ((finished, keep - 1), (unfinished, keep), (leftover, 0)):
        paths.sort(key=last_use, reverse=True)
        for path in paths[most:]:
            shutil.rmtree(path)
