"""Layers have names that fit a table and a C identifier, and are told apart."""

from __future__ import annotations

import re

import pytest

from support.goldens import INT8, load
from tinsmith.codegen.emit import emit
from tinsmith.codegen.kernels.packing import c_identifier
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.frontends.tflite_import import layer_name


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        ("model/activation/Relu;model/conv2d/BiasAdd;model/conv2d/Conv2D1", "activation/Relu"),
        ("MobilenetV1/MobilenetV1/Conv2d_0/Relu6", "Conv2d_0/Relu6"),
        ("labels_softmax", "labels_softmax"),
        ("StatefulPartitionedCall:0", "softmax"),
        ("StatefulPartitionedCall:01", "softmax"),
        ("Identity_int8", "softmax"),
        ("model/out:0", "model/out"),
        ("", "softmax"),
        ("//;", "softmax"),
        ("a\nb\x1b[31m", "a?b?[31m"),
        ("x/" + "y" * 39, "y" * 39),
        ("z" * 99, "z" * 40),
    ],
)
def test_a_layer_is_named_by_the_end_of_its_outputs_path(tensor: str, name: str) -> None:
    assert layer_name(tensor, "softmax") == name


@pytest.mark.parametrize("name", INT8)
def test_the_layers_of_a_model_have_short_names_each_its_own(name: str) -> None:
    graph = load(name)
    names = [n.name for n in graph.nodes]
    assert len(set(names)) == len(names)
    assert all(0 < len(n) <= 43 and ";" not in n for n in names)


@pytest.mark.parametrize("name", ["mlperf_tiny/kws_ref_model_int8", "microwakeword_v2/okay_nabu"])
def test_the_identifiers_in_c_are_short_and_unique(name: str) -> None:
    sources = emit(lower(load(name), "net", ("c",)))
    weights = sources.model["net_weights.h"]
    arrays = re.findall(r"^static const \w+ (\w+)\[", weights, re.MULTILINE)
    assert len(arrays) == len(set(arrays)) > 5
    assert all(len(a) <= 40 for a in arrays)


def test_an_identifier_is_cut_at_the_end() -> None:
    assert c_identifier("a b-" + "c" * 50) == "a_b_" + "c" * 24
    assert c_identifier("x" * 27 + "/y") == "x" * 27
    assert c_identifier("", 5) == "n"
