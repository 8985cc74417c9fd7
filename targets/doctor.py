"""What of tinsmith's tools is installed here, and how to install what is not."""

import importlib.metadata
import shutil
import subprocess
import sys
from dataclasses import dataclass

from tinsmith.targets.toolchains import sanitizer_compiler

_PYTHON_NEEDED = (3, 11)
_VERSION_SECONDS = 10


@dataclass(frozen=True)
class Check:
    """One tool. `needed` tells a tool that tinsmith can't do without from one that adds something.

    `detail` is its version where `ok`, else what is not possible without it; `install` is the
    command that installs it.
    """

    name: str
    ok: bool
    needed: bool
    detail: str
    install: str


@dataclass(frozen=True)
class _Tool:
    name: str
    needed: bool
    without: str
    install: str


# Looked up by their metadata, never imported: torch alone takes seconds.
_PACKAGES = (
    _Tool("ziglang", True, "no code can be built for a target", "pip install ziglang==0.15.2"),
    _Tool("unicorn", True, "no core can be emulated", "pip install unicorn==2.1.4"),
    _Tool("capstone", True, "instructions can't be checked", "pip install capstone"),
    _Tool("torch", False, "no training, no torch models", "pip install 'tinsmith[train]'"),
    _Tool("onnxruntime", False, "float ONNX can't be compared", "pip install 'tinsmith[train]'"),
    _Tool("tflite-micro", False, "no TFLM oracle", "pip install 'tinsmith[tflite]'"),
    _Tool("tflite-runtime", False, "no TFLite oracle", "pip install 'tinsmith[tflite]'"),
)
_PROGRAMS = (
    _Tool("gcc", False, "no build with gcc on the host", "apt install gcc"),
    _Tool(
        "arm-none-eabi-gcc", False, "no Cortex-M build with gcc", "apt install gcc-arm-none-eabi"
    ),
    _Tool("qemu-system-arm", False, "no QEMU for Cortex-M", "apt install qemu-system-arm"),
    _Tool("qemu-arm", False, "no 32-bit Raspberry Pi in QEMU", "apt install qemu-user"),
    _Tool("qemu-aarch64", False, "no 64-bit Raspberry Pi in QEMU", "apt install qemu-user"),
)


def checks() -> tuple[Check, ...]:
    """Look for every tool; nothing is imported and nothing is changed."""
    found = [_python()]
    found += [_package(tool) for tool in _PACKAGES]
    found += [_program(tool) for tool in _PROGRAMS]
    found.append(_sanitizers())
    return tuple(found)


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info[:2] >= _PYTHON_NEEDED
    needed = ".".join(str(part) for part in _PYTHON_NEEDED)
    detail = version if ok else f"{version} is too old: {needed} or later is needed"
    return Check("python", ok, True, detail, f"install Python {needed} or later")


def _package(tool: _Tool) -> Check:
    try:
        version = importlib.metadata.version(tool.name)
    except importlib.metadata.PackageNotFoundError:
        return Check(tool.name, False, tool.needed, tool.without, tool.install)
    return Check(tool.name, True, tool.needed, version, tool.install)


def _program(tool: _Tool) -> Check:
    path = shutil.which(tool.name)
    if path is None:
        return Check(tool.name, False, tool.needed, tool.without, tool.install)
    return Check(tool.name, True, tool.needed, _version(path), tool.install)


def _version(path: str) -> str:
    """The first line of `--version`; the path alone where the program does not say."""
    try:
        done = subprocess.run(
            (path, "--version"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return path
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else path


def _sanitizers() -> Check:
    compiler = sanitizer_compiler()
    if compiler is None:
        detail = "generated C can't run under ASan and UBSan (zig has no ASan)"
        return Check("sanitizers", False, False, detail, "apt install gcc")
    return Check("sanitizers", True, False, f"ASan and UBSan of {compiler.name}", "apt install gcc")
