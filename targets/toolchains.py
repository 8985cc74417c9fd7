"""Compilers: find one, and make an image of a model's sources with it."""

import errno
import fcntl
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tinsmith.pipeline.errors import ConfigError, ToolFailed, ToolMissing
from tinsmith.targets.harness import QEMU_MACHINES, ModelInterface, harness_files
from tinsmith.targets.image import SUFFIXES, Elf, Form, Image, WeightSymbols, measure_sizes
from tinsmith.targets.target import Target

TOOLCHAINS = ("zig", "gcc", "clang")
DEFAULT_OPT = {"cortex-m": "-O2", "aarch64": "-O3", "host": "-O3"}
# Sanitizers see what the optimizer leaves, and compile for minutes above this.
SANITIZED_OPT = "-O1"
OPT_LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os", "-Oz")

WARNINGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wconversion",
    "-Wshadow",
    "-Wundef",
)
# -g keeps the symbols, which zig else drops at -Os; it adds nothing to flash.
_DEVICE_FLAGS = (
    "-g",
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-fno-math-errno",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
)
_SANITIZE_FLAGS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_ERROR_LINES = 12
_COMPILE_SECONDS = 600


@dataclass(frozen=True)
class Toolchain:
    """A compiler that is installed: `command` starts it."""

    name: str
    command: tuple[str, ...]


def find_toolchain(name: str | None, target: Target) -> Toolchain:
    """The compiler of that name for a target; None is zig, which pip installs with tinsmith.

    Raises ConfigError for a name that is not allowed, ToolMissing where it is not installed.
    """
    if name is None:
        name = "zig"
    if name not in TOOLCHAINS or (name == "clang" and target.kind != "host"):
        allowed = TOOLCHAINS if target.kind == "host" else ("zig", "gcc")
        raise ConfigError(
            f"toolchain '{name}' is not known for {target.name}; allowed: {', '.join(allowed)}"
        )
    if name == "zig":
        if importlib.util.find_spec("ziglang") is None:
            raise ToolMissing(
                f"the zig compiler, which builds for {target.name}, is not installed. "
                "Install it with: pip install ziglang==0.15.2"
            )
        return Toolchain("zig", (sys.executable, "-m", "ziglang", "cc"))
    program = f"{target.core.gcc_prefix}{name}"
    if shutil.which(program) is None:
        raise ToolMissing(
            f"{program}, which was asked for to build for {target.name}, is not installed. "
            f"Install it with: {_install_command(program)}; or use the default toolchain, zig."
        )
    return Toolchain(name, (program,))


def sanitizer_compiler() -> Toolchain | None:
    """A compiler of this computer with AddressSanitizer and UBSan; None where there is none.

    zig has no AddressSanitizer runtime, hence only gcc and clang count.
    """
    for name in ("gcc", "clang"):
        if shutil.which(name) is not None and _can_sanitize(name):
            return Toolchain(name, (name,))
    return None


def sanitizers_available() -> bool:
    """Whether compile_image(sanitize=True) can work on this computer."""
    return sanitizer_compiler() is not None


def cache_dir() -> Path:
    """The user's folder for compiled parts: $XDG_CACHE_HOME/tinsmith or ~/.cache/tinsmith."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "tinsmith"


def compile_image(
    toolchain: Toolchain,
    target: Target,
    sources: Mapping[str, str],
    interface: ModelInterface,
    out_dir: Path,
    *,
    opt: str | None = None,
    extra_flags: tuple[str, ...] = (),
    weight_symbols: WeightSymbols = (),
    sanitize: bool = False,
    lto: bool = False,
    emulator: str | None = None,
) -> Image:
    """Build a model with the harness into `out_dir`, and write nowhere else but the cache.

    `sources` is {relative path: text}; its .c files are compiled, with all warnings as errors.
    `opt` is one of OPT_LEVELS, by default that of DEFAULT_OPT or SANITIZED_OPT. `weight_symbols`
    says which symbols hold weights, for `Image.sizes`. `sanitize` (host only) builds a program
    under ASan and UBSan.
    `lto`: the whole image is optimized when it is linked. `emulator`: what the image is for, by
    default unicorn or the host; "qemu" for the cores of QEMU_MACHINES.
    Raises ConfigError for what is not allowed, ToolFailed with the first errors of the compiler.
    """
    if opt is None:
        opt = SANITIZED_OPT if sanitize else DEFAULT_OPT[target.kind]
    if opt not in OPT_LEVELS:
        raise ConfigError(f"optimization level {opt!r}; allowed: {', '.join(OPT_LEVELS)}")
    if sanitize and (target.kind != "host" or toolchain.name == "zig"):
        raise ConfigError(
            f"sanitizers need gcc or clang on the host, not {toolchain.name} for {target.name}"
        )
    form = _form(target, emulator, sanitize)
    harness = harness_files(target, interface, qemu=form == "semihosted")
    files = {**_checked(sources), **harness}
    path = out_dir / f"{interface.name}{SUFFIXES[form]}"
    _write_all(out_dir, files)
    units = tuple(sorted(name for name in files if name.endswith(".c")))
    flags = (
        *target.cflags["zig" if toolchain.name == "zig" else "gcc"],
        opt,
        *WARNINGS,
        *_form_flags(form, toolchain),
        *extra_flags,
    )
    if lto:
        # Not the harness: what it calls by name stays, and what it costs is told apart.
        own = {name: f"{name}.o" for name in units if name in harness}
        for name, made in own.items():
            command = (*_without_link(flags), "-I.", "-c", name, "-o", made)
            run_compiler(toolchain, command, out_dir)
        units = ("-flto", *own.values(), *(name for name in units if name not in own))
    run_compiler(toolchain, (*flags, "-I.", *units, "-o", path.name), out_dir)
    sizes = measure_sizes(Elf(path), weight_symbols) if target.kind != "host" else None
    return Image(path, form, target, interface, toolchain.name, sizes)


def run_compiler(toolchain: Toolchain, arguments: tuple[str, ...], folder: Path) -> None:
    """Run a compiler in a folder; ToolFailed with its first errors where it fails."""
    if toolchain.name == "zig":
        with _zig_cache() as cache:
            places = {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
            _run(toolchain, arguments, folder, {**os.environ, **places})
    else:
        _run(toolchain, arguments, folder, dict(os.environ))


@contextmanager
def _zig_cache() -> Iterator[Path]:
    """One of a few cache folders, for one process at a time.

    zig's processes may share a cache, but then wait for each other's locks in no fixed order and,
    now and then, for ever. So each folder has a lock of ours; there are as many as processors.
    """
    slots = range(max(os.cpu_count() or 1, 1))
    root = cache_dir() / "zig"
    _make_folder(root)
    with ExitStack() as stack:
        for slot in slots:
            lock = stack.enter_context(open(root / f"lock-{slot}", "w"))
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        else:
            # All are taken: wait for the one that this process would have had by chance.
            slot = os.getpid() % len(slots)
            lock = stack.enter_context(open(root / f"lock-{slot}", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        cache = root / str(slot)
        _make_folder(cache)
        yield cache


def _run(
    toolchain: Toolchain, arguments: tuple[str, ...], folder: Path, environment: dict[str, str]
) -> None:
    try:
        done = subprocess.run(
            (*toolchain.command, *arguments),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_SECONDS,
            check=False,
        )
    except OSError as e:
        raise ToolFailed(f"{toolchain.name} could not be started: {e}") from e
    except subprocess.TimeoutExpired as e:
        raise ToolFailed(
            f"{toolchain.name} did not finish within {_COMPILE_SECONDS} seconds"
        ) from e
    if done.returncode != 0:
        raise ToolFailed(_failure(toolchain, done.stderr or done.stdout, folder))


def _failure(toolchain: Toolchain, output: str, folder: Path) -> str:
    lines = output.splitlines()
    full = [line for line in lines if "No space left" in line or "NoSpaceLeft" in line]
    if full:
        return (
            f"the disk is full: {toolchain.name} could not write to {folder} or to its cache in "
            f"{cache_dir()} ({full[0].strip()}). Free some space and run again."
        )
    errors = [i for i, line in enumerate(lines) if "error:" in line or "undefined" in line]
    first = errors[0] if errors else 0
    shown = "\n  ".join(lines[first : first + _ERROR_LINES])
    return f"{toolchain.name} could not compile the sources in {folder}:\n  {shown}"


def _form(target: Target, emulator: str | None, sanitize: bool) -> Form:
    """The form of an image that the emulator runs; ConfigError where it has not got the target."""
    if target.kind == "host":
        allowed: tuple[str, ...] = ("host",)
    elif target.cpu in QEMU_MACHINES:
        allowed = ("unicorn", "qemu")
    else:
        allowed = ("unicorn",)
    if emulator is not None and emulator not in allowed:
        raise ConfigError(
            f"emulator {emulator!r} does not run {target.name}; allowed: {', '.join(allowed)}"
        )
    if target.kind == "host":
        return "program" if sanitize else "shared"
    return "semihosted" if emulator == "qemu" else "elf"


def _without_link(flags: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that a compilation takes which links nothing."""
    return tuple(flag for flag in flags if not flag.startswith("-Wl,") and flag != "-shared")


def _form_flags(form: Form, toolchain: Toolchain) -> tuple[str, ...]:
    # Below -O1, and only there, zig turns UBSan on, which needs a runtime.
    plain = ("-fno-sanitize=all",) if toolchain.name == "zig" else ()
    if form == "shared":
        return (*plain, "-shared", "-fPIC")
    if form == "program":
        return ("-DTINSMITH_PROGRAM", *_SANITIZE_FLAGS)
    link: tuple[str, ...] = (
        "-Wl,-T,tinsmith_harness.ld",
        "-Wl,-e,tinsmith_h_start",
        "-Wl,--gc-sections",
    )
    if form == "semihosted":
        link = ("-DTINSMITH_QEMU", *link)
    if toolchain.name == "zig":
        return (*plain, *_DEVICE_FLAGS, *link)
    # Firmware teams link newlib's small memcpy and gcc's own arithmetic; nothing else is there.
    libraries = ("-nostartfiles", "--specs=nano.specs")
    return (*_DEVICE_FLAGS, *link, *libraries)


def _checked(sources: Mapping[str, str]) -> dict[str, str]:
    for name in sources:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ConfigError(f"source '{name}' is not a path inside the sources' folder")
        if path.name.startswith("tinsmith_harness"):
            raise ConfigError(f"source '{name}': names with tinsmith_harness are taken")
    return dict(sources)


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        _make_folder(path.parent)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as e:
            raise ToolFailed(_write_failure(path, e)) from e


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ToolFailed(_write_failure(folder, e)) from e


def _write_failure(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {path} could not be written. Free some space and run again."
    return f"{path} could not be written: {error.strerror}"


def _install_command(program: str) -> str:
    if program.startswith("arm-none-eabi-"):
        return "apt install gcc-arm-none-eabi"
    if program.startswith("aarch64-none-elf-"):
        return "the Arm GNU toolchain, https://developer.arm.com"
    return f"apt install {program}"


@functools.cache
def _can_sanitize(compiler: str) -> bool:
    """A compiler may be there without its sanitizer libraries: link one program to know."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
        done = subprocess.run(
            (compiler, *_SANITIZE_FLAGS, str(source), "-o", str(Path(folder, "probe"))),
            capture_output=True,
            check=False,
        )
    return done.returncode == 0
