"""Coding of weights: every code gives back what it got, and is as short as the theory says."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinsmith.pipeline.coding import ans, bits, container, gaps, huffman
from tinsmith.pipeline.coding.container import (
    CODES,
    FLOAT16,
    FLOAT32,
    GAPS,
    decode_weights,
    encode_weights,
)
from tinsmith.pipeline.errors import ModelError

RNG = np.random.default_rng(0)

CODERS = {"huffman": huffman, "ans": ans}
SYMBOLS = {
    "none": (np.zeros(0, np.int64), 5),
    "one kind": (np.full(100, 3), 5),
    "one of one": (np.zeros(40, np.int64), 1),
    "two kinds": (np.array([0, 1, 1, 1]), 2),
    "skewed": (np.minimum(RNG.geometric(0.6, 5000) - 1, 15), 16),
    "even": (RNG.integers(0, 256, 3000), 256),
    "rare": (np.concatenate([np.zeros(100_000, np.int64), np.arange(30)]), 32),
    "fibonacci": (np.repeat(np.arange(24), [max(1, int(1.6**i)) for i in range(24)]), 24),
}


def entropy_bits(symbols: np.ndarray) -> float:
    counts = np.bincount(symbols)
    p = counts[counts > 0] / len(symbols)
    return float(-(p * np.log2(p)).sum() * len(symbols))


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("kind", SYMBOLS)
def test_a_code_gives_back_its_symbols(coder: str, kind: str) -> None:
    symbols, alphabet = SYMBOLS[kind]
    data = CODERS[coder].encode(symbols.astype(np.int64), alphabet)
    np.testing.assert_array_equal(CODERS[coder].decode(data, len(symbols), alphabet), symbols)


@given(st.lists(st.integers(0, 40), max_size=200), st.sampled_from(sorted(CODERS)))
@settings(max_examples=200, deadline=None)
def test_any_symbols_come_back(values: list[int], coder: str) -> None:
    symbols = np.array(values, np.int64)
    data = CODERS[coder].encode(symbols, 41)
    np.testing.assert_array_equal(CODERS[coder].decode(data, len(symbols), 41), symbols)


def test_ans_is_within_a_hundredth_of_the_entropy_and_huffman_within_its_bound() -> None:
    symbols, alphabet = SYMBOLS["skewed"]
    best = entropy_bits(symbols)
    short = 8 * (len(ans.encode(symbols, alphabet)) - bits.fixed_bytes(alphabet, 13) - 4)
    assert best - 8 <= short <= 1.01 * best + 8
    usual = 8 * (len(huffman.encode(symbols, alphabet)) - bits.fixed_bytes(alphabet, 4))
    assert best <= usual <= best + len(symbols)


def test_huffman_lengths_are_those_of_the_textbook() -> None:
    counts = np.array([45, 13, 12, 16, 9, 5])  # Cormen et al., figure 16.3
    assert huffman.code_lengths(counts).tolist() == [1, 3, 3, 3, 4, 4]


def test_huffman_lengths_stay_below_16_bits_and_fill_the_code_space() -> None:
    counts = np.array([int(1.7**i) for i in range(40)])
    lengths = huffman.code_lengths(counts)
    assert lengths.max() <= huffman.MAX_BITS
    assert sum(2.0 ** -int(length) for length in lengths) == 1.0


@pytest.mark.parametrize("coder", CODERS)
def test_a_code_that_is_cut_off_is_refused(coder: str) -> None:
    symbols, alphabet = SYMBOLS["even"]
    data = CODERS[coder].encode(symbols, alphabet)
    with pytest.raises(ValueError, match="breaks off after"):
        CODERS[coder].decode(data[:-9], len(symbols), alphabet)
    with pytest.raises(ValueError, match="is cut off"):
        CODERS[coder].decode(data[:9], len(symbols), alphabet)


@given(st.lists(st.booleans(), max_size=400), st.sampled_from((1, 3, 7, 31)))
@settings(max_examples=200, deadline=None)
def test_gaps_give_back_the_places(present: list[bool], escape: int) -> None:
    places = np.flatnonzero(np.array(present, bool))
    symbols = gaps.to_gaps(places, escape)
    assert symbols.size == 0 or 0 <= symbols.min() <= symbols.max() <= escape
    np.testing.assert_array_equal(gaps.from_gaps(symbols, escape), places)


def sparse(shape: tuple[int, ...], density: float, values: int) -> np.ndarray:
    book = np.linspace(-1, 1, values).astype(np.float16).astype(np.float32)
    w = book[RNG.integers(0, values, shape)]
    return np.where(RNG.random(shape) < density, w, 0).astype(np.float32)


WEIGHTS = {
    "sparse": (sparse((300, 100), 0.08, 16), CODES),
    "very sparse": (sparse((300, 100), 0.003, 16), GAPS),
    "constant": (np.full((800, 700), 0.5, np.float32), CODES),
    "dense codes": (sparse((64, 3, 3, 16), 1.0, 8), CODES),
    "float16": (RNG.normal(size=5000).astype(np.float16).astype(np.float32), FLOAT16),
    "float32": (RNG.normal(size=5000).astype(np.float32), FLOAT32),
    "zeros": (np.zeros((5, 7), np.float32), CODES),
    "nothing": (np.zeros((0, 3), np.float32), FLOAT16),
    "scalar": (np.float32(0.1).reshape(()), FLOAT32),
    "signed zero": (np.array([0.0, -0.0] * 40, np.float32), CODES),
    "not finite": (np.array([np.nan, np.inf, -np.inf] * 9, np.float32), CODES),
}


def test_weights_come_back_to_the_bit_and_every_byte_is_counted() -> None:
    weights = {name: array for name, (array, _) in WEIGHTS.items()}
    data, records = encode_weights(weights)
    again = decode_weights(data)
    assert list(again) == list(weights)
    for name, array in weights.items():
        assert again[name].shape == array.shape
        assert again[name].tobytes() == array.tobytes(), name
    assert len(data) == 6 + sum(record.nbytes for record in records)
    forms = {record.name: record.form for record in records}
    assert forms == {name: form for name, (_, form) in WEIGHTS.items()}


def test_more_than_a_file_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.zeros(3, np.float32)
    with pytest.raises(ModelError, match="65536 arrays"):
        encode_weights({str(place): one for place in range(65_536)})
    monkeypatch.setattr(container, "MOST_WEIGHTS", 2)
    with pytest.raises(ModelError, match="'layer': 3 values"):
        encode_weights({"layer": one})


def test_a_sparse_layer_is_as_short_as_the_entropies_of_its_places_and_values() -> None:
    array = WEIGHTS["sparse"][0]
    data, (record,) = encode_weights({"w": array})
    p = record.nonzero / record.values
    places = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) * record.values
    values = entropy_bits(np.unique(array[array != 0], return_inverse=True)[1])
    assert len(data) <= 1.06 * (places + values) / 8 + 110  # codebook, tables and headers


def test_every_damage_of_a_file_is_a_model_error_or_other_weights() -> None:
    whole, _ = encode_weights({"a": sparse((40, 30), 0.2, 8), "b": np.ones(4, np.float32)})
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(600):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.integers(len(data)) :]
        else:
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(ModelError):
            decode_weights(bytes(data))
            refused -= 1
        refused += 1
    assert refused > 200
