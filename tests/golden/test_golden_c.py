"""The generated C is stable byte for byte: a small network's files against those kept here.

After a change that is meant: python tests/golden/test_golden_c.py --update-golden
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.graph import Activation, DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.targets.target import target_named

FOLDER = Path(__file__).parent
TARGETS = ("cortex-m0plus", "cortex-m4", "raspberry-pi-4")


def network() -> Graph:
    """Convolution, depthwise, pointwise, mean, fully connected, softmax: one of each."""
    rng = np.random.default_rng(1)
    b = GraphBuilder("golden")

    def quant(scale: float, zero_point: int = 0) -> QuantParams:
        return QuantParams.per_tensor(scale, zero_point)

    def weights(name: str, shape: tuple[int, ...], axis: int, x_scale: float) -> tuple[str, str]:
        scale = rng.uniform(0.004, 0.01, shape[axis])
        w = rng.integers(-127, 128, shape).astype(np.int8)
        bias = rng.integers(-500, 500, shape[axis]).astype(np.int32)
        w_quant = QuantParams(tuple(scale), (0,), axis)
        b_quant = QuantParams(tuple(scale * x_scale), (0,), 0)
        return b.constant(f"{name}_w", w, w_quant), b.constant(f"{name}_b", bias, b_quant)

    relu = Activation.RELU
    x = b.input("image", (1, 8, 8, 1), DType.INT8, quant(1 / 255, -128))
    w, bias = weights("conv", (4, 3, 3, 1), 0, 1 / 255)
    x = b.node("conv2d", [x, w, bias], Conv2dAttrs((2, 2), (1, 1), (0, 1, 0, 1), relu),
               name="conv", quant=quant(0.02, -128))  # fmt: skip
    w, bias = weights("depthwise", (1, 3, 3, 4), 3, 0.02)
    x = b.node("depthwise_conv2d", [x, w, bias],
               DepthwiseConv2dAttrs((1, 1), (1, 1), (1, 1, 1, 1), relu),
               name="depthwise", quant=quant(0.03, -128))  # fmt: skip
    w, bias = weights("pointwise", (8, 1, 1, 4), 0, 0.03)
    x = b.node("conv2d", [x, w, bias], Conv2dAttrs(), name="pointwise", quant=quant(0.05, 3))
    x = b.node("mean", [x], ReduceAttrs((1, 2)), name="mean", quant=quant(0.04, 1))
    dense_w = rng.integers(-127, 128, (3, 8)).astype(np.int8)
    w = b.constant("dense_w", dense_w, quant(0.007))
    bias = b.constant("dense_b", np.array([10, -20, 30], np.int32), quant(0.007 * 0.04))
    x = b.node("fully_connected", [x, w, bias], FullyConnectedAttrs(), name="dense",
               quant=quant(0.1, 5))  # fmt: skip
    x = b.node("softmax", [x], SoftmaxAttrs(), name="softmax", quant=quant(1 / 256, -128))
    return b.build([x])


def generated() -> dict[str, str]:
    """{<target>/<file>: text} of the model's own files."""
    files = {}
    for target in TARGETS:
        sources = emit(lower(network(), "golden", target_named(target).isa))
        files.update({f"{target}/{name}": text for name, text in sources.model.items()})
    return files


@pytest.mark.parametrize("target", TARGETS)
def test_generated_c_is_what_it_was(target: str) -> None:
    files = {n: t for n, t in generated().items() if n.startswith(f"{target}/")}
    kept = {f"{target}/{p.name}" for p in (FOLDER / target).iterdir()}
    assert set(files) == kept, "run: python tests/golden/test_golden_c.py --update-golden"
    for name, text in files.items():
        assert text == (FOLDER / name).read_text(), (
            f"{name} changed; where that is meant: "
            "python tests/golden/test_golden_c.py --update-golden"
        )


def test_generating_twice_gives_the_same_bytes() -> None:
    assert generated() == generated()


if __name__ == "__main__":
    if sys.argv[1:] != ["--update-golden"]:
        sys.exit(__doc__)
    for path, text in generated().items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(text)
