"""The picture of the arena over time, and where users see it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.nets import Net
from support.random_network import random_network
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Memory, Program
from tinsmith.pipeline.cli import main
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.memory_map import arena_text, memory_map
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs

SVG = "{http://www.w3.org/2000/svg}"


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def _dense(name: str = "dense") -> Program:
    return lower(_graph(name), "small", ("c",))


def _graph(name: str = "dense") -> Graph:
    net = Net("small", np.random.default_rng(0))
    x = net.input((1, 6))
    w = net.weights((4, 6), x)
    y = net.node("fully_connected", [x, w, net.bias(w, x, 4)], FullyConnectedAttrs(), name=name)
    return net.graph([y])


def _rectangles(svg: str) -> dict[str, ElementTree.Element]:
    """By tooltip, the rectangle of each buffer."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and rect is not None:
            found[title.text or ""] = rect
    return found


def _size(rect: ElementTree.Element, key: str) -> float:
    return float(rect.attrib[key])


def test_every_buffer_is_a_rectangle_with_its_name_bytes_and_life() -> None:
    for seed in range(6):
        program = lower(random_network(seed), "net", ("dsp", "c"))
        found = _rectangles(memory_map(program))
        assert len(found) == len(program.buffers), seed
        for buffer in program.buffers:
            end = buffer.offset + buffer.nbytes - 1
            place = f"{buffer.nbytes:,} bytes at {buffer.offset:,} to {end:,}"
            assert any(place in told for told in found), (seed, place)


def test_rectangles_are_as_high_as_buffers_are_large_and_as_wide_as_they_live() -> None:
    program = _dense()
    told = {t.split(":")[0]: r for t, r in _rectangles(memory_map(program)).items()}
    by_name = {b.name: b for b in program.buffers}
    x, y = told[program.graph.inputs[0]], told["dense"]
    input_bytes, output_bytes = (b.nbytes for b in by_name.values())
    ratio = _size(x, "height") / _size(y, "height")
    assert ratio == pytest.approx(input_bytes / output_bytes, rel=0.05)
    assert _size(x, "x") < _size(y, "x"), "the input is there before the first call"
    assert _size(x, "x") + _size(x, "width") < _size(y, "x") + _size(y, "width")


def test_names_are_escaped_and_the_picture_says_what_it_shows() -> None:
    svg = memory_map(_dense('a <b> & "c"'))
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert 'a <b> & "c"' in "".join(root.itertext())
    (title,) = (e for e in root if e.attrib.get("id") == "title")
    assert "proven to be the smallest" in (title.text or "")


def test_each_of_several_arenas_has_a_panel_of_its_own_buffers() -> None:
    graph = random_network(3)
    whole = lower(graph, "net", ("dsp", "c"))
    half = whole.arena_bytes // 2
    memories = (Memory("tcm", 0, ".tcm", half), Memory("sram", 0, "", 1 << 20))
    program = lower(graph, "net", ("dsp", "c"), LowerOptions(memories=memories))
    assert len(program.arenas) == 2, "this network tests nothing"
    svg = memory_map(program)
    assert len(_rectangles(svg)) == len(program.buffers)
    assert "tcm: bytes" in svg and "sram: bytes" in svg
    assert "in tcm" in arena_text(program)


def test_the_text_gives_the_bound_where_nothing_is_proven() -> None:
    program = _dense()
    loose = replace(program, arena_bytes=1000, arena_lower_bound=900)
    assert "1,000 bytes; less than 900 is impossible" in arena_text(loose)


def test_analyze_draws_the_map_of_a_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, drawn = tmp_path / "small.tflite", tmp_path / "map.svg"
    model.write_bytes(to_tflite(_graph()))
    assert _run("analyze", model, "-t", "cortex-m4", "--map", drawn) == 0
    assert "proven to be the least for these calls" in " ".join(capsys.readouterr().out.split())
    assert _rectangles(drawn.read_text())
    report = tmp_path / "report.json"
    assert _run("analyze", model, "-t", "cortex-m4", "--json", report) == 0
    fields = json.loads(report.read_text())
    assert fields["arena_is_proven"] is True
    assert fields["arena_lower_bound"] == fields["arena_bytes"]
    assert _run("analyze", model, "--map", drawn) == 2
    assert "name one with -t" in " ".join(capsys.readouterr().err.split())
