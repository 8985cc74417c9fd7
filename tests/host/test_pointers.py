"""No kernel forms an address outside the arrays it is given, not even one that it never reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.kernel_edges import NONE, RELU, SAME, conv, dense, depthwise, most_specific
from support.mac_cases import ConvSpec, FcSpec, conv_case, depthwise_case, fully_connected_case
from support.merge import merge
from support.pointers import escapes
from tinsmith.codegen.kernels import wide_dsp
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.graph import DType, Graph
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.targets.cores import CORES_BY_NAME

ISAS = {core: CORES_BY_NAME[core].isa for core in ("cortex-m4", "cortex-m3", "cortex-m0plus")}
ISAS["plain C"] = ("c",)
BESIDE = (3, 0, 0, 4)  # padding such that some windows lie beside the image


def layers(dtype: DType) -> list[Graph]:
    """Borders on every side, windows that miss the image, dilation, groups, odd counts."""
    specs = [
        ConvSpec("window", (1, 5, 6, 4), 5, (3, 2), pads="same"),
        ConvSpec("beside", (2, 5, 6, 3), 3, (3, 2), (1, 2), pads=BESIDE),
        ConvSpec("dilated", (1, 5, 6, 4), 3, (3, 3), dilation=(2, 2), pads="same"),
        ConvSpec("groups", (1, 5, 4, 4), 4, (3, 3), pads="same", groups=2),
        ConvSpec("point", (1, 5, 3, 4), 6, (1, 1)),
    ]
    deep = [
        ConvSpec("window", (1, 5, 6, 4), 4, (3, 3), pads="same"),
        ConvSpec("beside", (2, 5, 6, 3), 3, (3, 2), (1, 2), pads=BESIDE),
        ConvSpec("dilated", (1, 1, 6, 4), 4, (3, 3), dilation=(2, 2), pads="same"),
        ConvSpec("deep", (1, 5, 4, 2), 6, (1, 3), pads="same"),
    ]
    rows = [FcSpec("rows", (count, 6), 6, 5) for count in (1, 3)]
    rng = np.random.default_rng(3)
    graphs = [conv_case(replace(s, dtype=dtype)).build(rng) for s in specs]
    graphs += [depthwise_case(replace(s, dtype=dtype)).build(rng) for s in deep]
    return graphs + [fully_connected_case(replace(s, dtype=dtype)).build(rng) for s in rows]


def tiled() -> list[Graph]:
    """Layers that the tiles take: windows of three, in place or by rows, fours of channels."""
    rng = np.random.default_rng(4)
    strided = [
        DepthwiseConv2dAttrs(stride, pads=pads, activation=RELU)
        for stride in ((1, 1), (1, 2), (2, 2)) for pads in (SAME, (1, 2, 2, 1))
    ]  # fmt: skip
    graphs = [depthwise(rng, (2, 5, 6, 8), attrs) for attrs in strided]
    graphs.append(depthwise(rng, (1, 4, 41, 4), DepthwiseConv2dAttrs(pads=SAME, activation=NONE)))
    graphs += [
        conv(rng, (1, 5, 6, c), 4, (3, 3), Conv2dAttrs(pads=SAME, activation=RELU)) for c in (1, 4)
    ]
    graphs.append(conv(rng, (1, 3, 7, 8), 8, (1, 1), Conv2dAttrs()))
    return [*graphs, dense(rng, 3, 12, 7)]


# Layers on int16 have no kernels of their own on cortex-m3 and cortex-m0plus.
PAIRS = [("int16", "cortex-m4"), ("int16", "plain C")]
PAIRS += [(kind, isa) for kind in ("int8", "tiles") for isa in ISAS]


@pytest.mark.parametrize(("kind", "isa"), PAIRS)
def test_every_address_lies_in_its_array_or_just_behind_it(
    kind: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for op in ("conv2d", "fully_connected"):  # those on int16 also where plain C is faster
        monkeypatch.setattr(wide_dsp, f"{op}_pays", lambda call: True)
    graph = merge(kind, tiled() if kind == "tiles" else layers(DType[kind.upper()]))
    # Inputs that no output lies over have addresses of their own.
    options = replace(most_specific(graph, ISAS[isa]), preserve_inputs=True)
    assert escapes(lower(graph, "net", ISAS[isa], options), tmp_path) == []


def test_an_address_before_an_array_and_one_far_behind_it_are_found(tmp_path: Path) -> None:
    graph = conv(np.random.default_rng(5), (1, 4, 4, 4), 4, (3, 3), Conv2dAttrs(pads=SAME))
    program = lower(graph, "net", ("c",), LowerOptions(preserve_inputs=True))

    def spoilt(text: str) -> str:
        name = "const int8_t *const row = "
        assert text.count(name) == 1
        return text.replace(name, f"x -= 1;\nx += 1;\nx += 66;\nx -= 66;\n{name}")

    found = set(escapes(program, tmp_path, spoilt))
    assert {"x -= 1;", "x += 66;"} <= found <= {"x -= 1;", "x += 66;", "x -= 66;"}
