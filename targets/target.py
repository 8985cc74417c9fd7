"""Targets: a core with the limits of a device, and the boards that people own."""

import dataclasses
import difflib
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinsmith.pipeline.errors import ConfigError, UnknownTarget
from tinsmith.targets.cores import CORES, CORES_BY_NAME, Core, Kind

_KINDS = ("cortex-m", "aarch64", "host")
_BOARDS = Path(__file__).parent / "boards"
_BOARD_KEYS = {
    "title",
    "core",
    "flash_bytes",
    "ram_bytes",
    "clock_hz",
    "regions",
    "multiply_cycles",
}
_REGION_KEYS = {"name", "kind", "start", "bytes"}
_SECTION = re.compile(r"[\w.$]*", re.ASCII)
_SECTION_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Region:
    """One memory of a board: `start` is its address, `bytes` its size.

    `section`: the linker's section that lies in it, by which a model's arena or weights get there;
    "" for the RAM where variables lie anyway. None: nothing of a model goes there by itself.
    """

    name: str
    kind: Literal["flash", "ram"]
    start: int
    bytes: int
    section: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"region {self.name!r}: its name is not a text")
        if self.kind not in ("flash", "ram"):
            raise ConfigError(f"region '{self.name}': kind {self.kind!r}; allowed: 'flash', 'ram'")
        whole = isinstance(self.bytes, int) and isinstance(self.start, int)
        if not whole or self.bytes <= 0 or self.start < 0:
            raise ConfigError(
                f"region '{self.name}': start {self.start!r} and bytes {self.bytes!r} "
                "are not a memory"
            )
        if self.section is not None:
            self._check_section()

    def _check_section(self) -> None:
        if not isinstance(self.section, str) or not _SECTION.fullmatch(self.section):
            raise ConfigError(
                f"region '{self.name}': section {self.section!r}; allowed: letters, digits, "
                "'_', '.' and '$'"
            )
        if self.kind == "flash" and not self.section:
            raise ConfigError(
                f"region '{self.name}': a flash without a section needs no key 'section'"
            )
        if not _SECTION_NAME.fullmatch(self.name):
            raise ConfigError(
                f"region '{self.name}': with a section, its name becomes a part of C names; "
                "allowed: small letters, digits and '_', a letter first"
            )


@dataclass(frozen=True)
class Target:
    """A device to generate for.

    `flash_bytes`, `ram_bytes` and `clock_hz` are None where the target sets no limit.
    `ram_bytes` is the largest RAM that one object may fill; `regions` lists every memory, those
    with sections from the fastest to the slowest.
    `multiply_cycles` is what MULS takes on a Cortex-M0+, whose maker chooses 1 or 32; None where
    that is not known.
    `cflags` holds, per toolchain ("zig", "gcc"), the flags that select the core.
    Raises ConfigError when a field is not allowed.
    """

    name: str
    title: str
    core: Core
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    clock_hz: int | None = None
    multiply_cycles: int | None = None
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a target needs a name")
        if self.kind not in _KINDS:
            raise ConfigError(f"target '{self.name}': kind {self.kind!r}; allowed: {_KINDS}")
        if not self.isa or self.isa[-1] != "c":
            raise ConfigError(f"target '{self.name}': isa {self.isa} must end with 'c'")
        for field in ("flash_bytes", "ram_bytes", "clock_hz", "multiply_cycles"):
            value = getattr(self, field)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise ConfigError(f"target '{self.name}': {field} is {value!r}, not a whole number")
            if value is not None and value <= 0:
                raise ConfigError(f"target '{self.name}': {field} is {value}; it must be above 0")

    @property
    def arena_regions(self) -> tuple[Region, ...]:
        """The RAM that arenas may lie in, from the fastest to the slowest."""
        return tuple(r for r in self.regions if r.kind == "ram" and r.section is not None)

    @property
    def weight_regions(self) -> tuple[Region, ...]:
        """The flash that weights may lie in beside the target's own."""
        return tuple(r for r in self.regions if r.kind == "flash" and r.section is not None)

    @property
    def kind(self) -> Kind:
        return self.core.kind

    @property
    def cpu(self) -> str:
        return self.core.name

    @property
    def isa(self) -> tuple[str, ...]:
        return self.core.isa

    @property
    def pointer_bytes(self) -> int:
        return self.core.pointer_bytes

    @property
    def triple(self) -> str:
        return self.core.triple

    @property
    def mcpu(self) -> str:
        return self.core.mcpu

    @property
    def cpu_model(self) -> str | None:
        return self.core.cpu_model

    @property
    def cflags(self) -> dict[str, tuple[str, ...]]:
        if self.kind == "host":
            return {"zig": (f"-mcpu={self.mcpu}",), "gcc": ()}
        return {"zig": ("-target", self.triple, f"-mcpu={self.mcpu}"), "gcc": self.core.gcc}


def with_limits(
    target: Target, *, flash_bytes: int | None = None, ram_bytes: int | None = None
) -> Target:
    """The same target with other limits; None keeps the limit that is there."""
    return dataclasses.replace(
        target,
        flash_bytes=target.flash_bytes if flash_bytes is None else flash_bytes,
        ram_bytes=target.ram_bytes if ram_bytes is None else ram_bytes,
    )


def with_memories(target: Target, limits: Mapping[str, int]) -> Target:
    """The same target with at most so many bytes of its memories by name; 0 leaves one out.

    ConfigError for a memory that the target lacks, and for more than it has.
    """
    named = {r.name: r for r in target.regions}
    for name, limit in limits.items():
        if name not in named:
            allowed = ", ".join(named) or "none: it has one memory; see `tinsmith targets`"
            raise ConfigError(f"{target.name} has no memory '{name}'; allowed: {allowed}")
        if not 0 <= limit <= named[name].bytes:
            raise ConfigError(
                f"memory '{name}' of {target.name}: {limit:,} bytes; allowed: 0 to "
                f"{named[name].bytes:,}"
            )
    for name, limit in limits.items():
        region = named[name]
        field = "flash_bytes" if region.kind == "flash" else "ram_bytes"
        if region.section is None and region.bytes == getattr(target, field):
            target = with_limits(target, **{field: max(limit, 1)})
    kept = (r for r in target.regions if limits.get(r.name) != 0)
    limited = (dataclasses.replace(r, bytes=limits.get(r.name, r.bytes)) for r in kept)
    return dataclasses.replace(target, regions=tuple(limited))


def all_targets() -> tuple[Target, ...]:
    """Every target: the host, the bare Cortex-M cores, then the boards by name."""
    return tuple(_targets().values())


def target_named(name: str) -> Target:
    """The target of that name, or of a board file (.toml) of the user's own.

    UnknownTarget, with the nearest names, where there is none; ConfigError for a wrong file.
    """
    if name.endswith(".toml"):
        return read_board(Path(name))
    targets = _targets()
    if name in targets:
        return targets[name]
    near = difflib.get_close_matches(name.lower(), targets, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UnknownTarget(
        f"target '{name}' does not exist.{hint} `tinsmith targets` lists all {len(targets)}."
    )


def read_board(path: Path) -> Target:
    """Read a board file; its name is the file's. Raises ConfigError where the file is wrong."""
    try:
        return _board(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as e:
        raise ConfigError(f"board file {path}: it can't be read: {e.strerror}") from e
    except (ConfigError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"board file {path}: {e}") from e


def _board(name: str, data: dict[str, Any]) -> Target:
    _check_keys(data, _BOARD_KEYS, required={"title", "core"})
    for key in ("title", "core"):
        if not isinstance(data[key], str):
            raise ConfigError(f"{key} is {data[key]!r}, not a text")
    core = CORES_BY_NAME.get(data["core"])
    if core is None:
        raise ConfigError(
            f"core {data['core']!r} is not known; allowed: {', '.join(CORES_BY_NAME)}"
        )
    entries = data.get("regions", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError("'regions' are tables: [[regions]]")
    regions: list[Region] = []
    for entry in entries:
        _check_keys(entry, {*_REGION_KEYS, "section"}, required=_REGION_KEYS)
        region = Region(**entry)
        if any(r.name == region.name for r in regions):
            raise ConfigError(f"there are two regions '{region.name}'")
        regions.append(region)
    return Target(
        name=name,
        title=data["title"],
        core=core,
        flash_bytes=data.get("flash_bytes"),
        ram_bytes=data.get("ram_bytes"),
        clock_hz=data.get("clock_hz"),
        multiply_cycles=data.get("multiply_cycles"),
        regions=tuple(regions),
    )


def _check_keys(data: dict[str, Any], allowed: set[str], required: set[str]) -> None:
    for key in data:
        if key not in allowed:
            raise ConfigError(f"'{key}' is not known; allowed: {', '.join(sorted(allowed))}")
    for key in sorted(required):
        if key not in data:
            raise ConfigError(f"'{key}' is missing")


@functools.cache
def _targets() -> dict[str, Target]:
    generic = [
        Target(name=core.name, title=core.title, core=core)
        for core in CORES
        if core.kind != "aarch64"
    ]
    boards = [read_board(path) for path in sorted(_BOARDS.glob("*.toml"))]
    return {target.name: target for target in (*generic, *boards)}
