"""The wheel: complete, one namespace, and strictly typed as installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pipeline", "codegen", "targets")
SUFFIXES = (".py", ".j2", ".toml", ".c", ".h", ".ld")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree; made without a build environment of its own, so without a network."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(out), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the unpacked wheel."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_has_every_module_and_template(installed: Path) -> None:
    missing = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                inside = installed / "tinsmith" / path.relative_to(ROOT)
                if not inside.exists():
                    missing.append(str(path.relative_to(ROOT)))
    assert not missing, f"list these in pyproject.toml: {missing}"


def test_the_top_folders_are_no_packages_of_their_own() -> None:
    code = (
        "import sys; import tinsmith.pipeline.cli, tinsmith.codegen.emit, tinsmith.targets.target; "
        "print([m for m in ('pipeline', 'codegen', 'targets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == "[]"


def test_the_installed_wheel_is_strictly_typed(installed: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
         "--cache-dir", str(ROOT / ".mypy_cache" / "wheel"),
         *(word for name in FOLDERS for word in ("-p", f"tinsmith.{name}"))],
        capture_output=True, text=True, check=False, cwd=installed,
        env={"MYPYPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(installed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


def test_the_tree_is_linted_and_formatted() -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
