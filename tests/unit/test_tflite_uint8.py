"""Models of uint8, as old converters wrote them, are refused with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from support.nets import Net
from support.tflite_edit import edit
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs


def to_uint8(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT8:
            tensor.type = schema.TensorType.UINT8
            tensor.quantization.zeroPoint = tensor.quantization.zeroPoint + 128


def test_every_layer_of_uint8_is_refused_with_what_to_do() -> None:
    net = Net("net", np.random.default_rng(0))
    y = net.input((1, 8))
    for name in ("first", "second"):
        weights = net.weights((8, 8), y, axis=0)
        y = net.node("fully_connected", [y, weights], FullyConnectedAttrs(), name=name)
    with pytest.raises(UnsupportedModel) as error:
        read_tflite(edit(to_tflite(net.graph([y])), to_uint8))
    told = str(error.value)
    assert "'first_out'" in told and "'second_out'" in told
    assert "convert the model again to int8, or give the float model and --calibrate" in told
