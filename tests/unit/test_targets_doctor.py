"""What is installed here is looked up, not imported."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinsmith.targets import doctor
from tinsmith.targets.doctor import checks

NAMES = (
    "python",
    "ziglang",
    "unicorn",
    "capstone",
    "torch",
    "onnxruntime",
    "tflite-micro",
    "tflite-runtime",
    "gcc",
    "arm-none-eabi-gcc",
    "qemu-system-arm",
    "qemu-arm",
    "qemu-aarch64",
    "sanitizers",
)


def test_every_tool_is_checked_and_says_how_to_install_it() -> None:
    found = checks()
    assert tuple(check.name for check in found) == NAMES
    assert all(check.detail and check.install for check in found)
    assert {c.name for c in found if c.needed} == {"python", "ziglang", "unicorn", "capstone"}


def test_what_is_needed_is_found_with_its_version() -> None:
    found = {check.name: check for check in checks()}
    assert found["python"].ok
    for name in ("ziglang", "unicorn", "capstone"):
        assert found[name].ok
        assert found[name].detail == importlib.metadata.version(name)


def test_what_is_missing_says_what_is_not_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", no_version)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "_PYTHON_NEEDED", (4, 0))
    found = {check.name: check for check in checks()}
    assert not any(check.ok for check in found.values())
    assert "4.0 or later" in found["python"].detail
    assert found["torch"].detail == "no training, no torch models"
    assert found["torch"].install == "pip install 'tinsmith[train]'"
    assert found["qemu-system-arm"].install == "apt install qemu-system-arm"
    assert "ASan" in found["sanitizers"].detail


@pytest.mark.parametrize(
    ("script", "detail"),
    [("echo 'tool 1.2'; echo more", "tool 1.2"), ("exit 3", "/gcc"), ("echo", "/gcc")],
)
def test_a_program_gives_its_version_or_else_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, detail: str
) -> None:
    program = tmp_path / "gcc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program) if name == "gcc" else None)
    found = {check.name: check for check in checks()}
    assert found["gcc"].ok
    assert found["gcc"].detail.endswith(detail)


def test_a_program_that_does_not_start_gives_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "gcc"
    program.write_bytes(b"\x00")
    program.chmod(0o755)
    assert doctor._version(str(program)) == str(program)
    monkeypatch.setattr(doctor, "_VERSION_SECONDS", 0.1)
    program.write_text("#!/bin/sh\nexec sleep 5\n")
    assert doctor._version(str(program)) == str(program)


def test_checking_does_not_import_torch() -> None:
    code = "import sys; from tinsmith.targets.doctor import checks; checks(); "
    code += "print(sorted({'torch', 'unicorn', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
