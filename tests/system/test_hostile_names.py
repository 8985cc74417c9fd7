"""Names out of a model file can't get into C or a shell: such models generate, compile and run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.nets import Net
from tinsmith.codegen.emit import emit, model_name
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.cli import main
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Graph, GraphBuilder
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.validation import random_samples, validate
from tinsmith.targets.target import target_named

HOSTILE = (
    'a"; #error quote',
    "b\n#error line",
    "c*/ #error comment /*",
    "d\\\n#error continued",
    "e\r\n#include </etc/passwd>",
    "{{ 7 * 7 }}{% raw %}",
    "ä ö 中文 \u202e\x00\x1b[2J",
    "$(touch pwned)`touch pwned`; rm -rf .",
    "??/\n#error trigraph",
    "int",
    "logistic_table",
    "conv2d_c",
    "%s%n%d",
    "../../../etc/x",
    "-rf",
    "'",
)


def hostile_net() -> Graph:
    """A chain with every hostile name as that of a layer's tensor, its weights, input and state."""
    net = Net("*/ #error model\n\"'{{ x }}", np.random.default_rng(0))
    b: GraphBuilder = net.builder
    y = net.input((1, 4, 4, 3), name='in"*/\n#error input')
    for i, name in enumerate(HOSTILE):
        if i % 3 == 0:
            w = net.weights((4, 1, 1, b.tensors[y].shape[3]), y, axis=0)
            y = net.node("conv2d", [y, w], Conv2dAttrs(), name=name)
        else:
            y = net.node("logistic" if i % 3 == 1 else "tanh", [y], name=name)
    quant = b.tensors[y].quant
    for name in ('s"*/\n#error', "s_error", "int", "s/error"):
        held = b.state_var(name, np.zeros(b.tensors[y].shape, np.int8), quant)
        b.assign(name, y)
        joined = b.node("maximum", [y, held], name=f"{name} joined", quant=quant)
        y = joined
    return net.graph([y])


def all_text(folder: Path) -> str:
    return "\n".join(p.read_text("utf-8") for p in sorted(folder.rglob("*")) if p.is_file())


def test_the_c_of_hostile_names_compiles_without_a_warning_and_is_exact() -> None:
    graph = read_tflite(to_tflite(hostile_net()), '"; #error name\n*/')
    for name in ("host", "cortex-m4"):
        target = target_named(name)
        program = lower(graph, model_name(graph.name), target.isa)
        report, _ = validate(program, target, random_samples(graph, 4), oracles=False)
        assert report.bit_exact
    texts = emit(lower(graph, model_name(graph.name), ("c",))).model
    for path, text in texts.items():
        assert re.fullmatch(r"\w+\.[ch]", path)
        assert text.isascii()
        assert not re.search(r"^\s*#\s*error", text, re.MULTILINE)
        # Every comment ends where it was meant to: without comments no text of a name is left.
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert "#error" not in code and "7 * 7" not in code and "</etc" not in code


def test_a_folder_generated_from_hostile_names_builds_and_passes_its_self_test(
    tmp_path: Path,
) -> None:
    model = tmp_path / "$(touch pwned) 'x\"; #error .tflite"
    model.write_bytes(to_tflite(hostile_net()))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        main(["generate", str(model), "-t", "host", "-o", str(out)])
    assert not end.value.code
    sources = sorted(str(p) for p in out.rglob("*.c"))
    program = tmp_path / "selftest"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-std=c99", "-Wall", "-Wextra", "-Werror"]
    folders = sorted({f"-I{p.parent}" for p in out.rglob("*.h")})
    done = subprocess.run(
        [*compiler, *folders, *sources, "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not list(tmp_path.rglob("pwned"))
    for path in out.rglob("CMakeLists.txt"):
        text = path.read_text()
        assert "#error" not in text and "$(" not in text
    assert "\x1b" not in all_text(out)


def test_reports_show_hostile_names_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(to_tflite(hostile_net()))
    with pytest.raises(SystemExit) as end:
        main(["analyze", str(model), "-t", "cortex-m4"])
    assert not end.value.code
    assert "\x1b" not in capsys.readouterr().out
