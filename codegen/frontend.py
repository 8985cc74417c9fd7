"""The C twin of a front end of sound (`pipeline.audio.front_end`), beside the model's sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.emit import environment
from tinsmith.codegen.literals import golden_rows, rows
from tinsmith.pipeline.audio import tables as fixed
from tinsmith.pipeline.audio.cepstrum import SUM_SHIFT, Cepstrum, cepstrum_tables
from tinsmith.pipeline.audio.front_end import frames_of
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.audio.tables import Tables, tables


def frontend_files(name: str, p: FrontEnd, isa: Sequence[str]) -> Mapping[str, str]:
    """`<name>_frontend.h` and `.c`: {path: text}, for a model's name and the target's instruction
    sets."""
    t = tables(p)
    cepstrum = cepstrum_tables(p) if p.coefficients else None
    arrays = _arrays(t) + (_cepstrum_arrays(cepstrum) if cepstrum else [])
    context: dict[str, Any] = {
        "name": name,
        "upper": name.upper(),
        "generator": f"tinsmith {version('tinsmith')}",
        "p": p,
        "t": t,
        "bins": len(t.weights),
        "arrays": [_array(*array) for array in arrays],
        "table_bytes": sum(array.nbytes for _, array, _ in arrays),
        "cepstrum": cepstrum,
        "sum_shift": SUM_SHIFT,
        "ram_bytes": ram_bytes(p),
        "state_bytes": 2 * (p.window - p.hop),
        "parts": _parts(p),
        # How far apart the numbers of each stage are, after the first two.
        "halves": [1 << bit for bit in range(2, (p.fft // 2).bit_length() - 1)],
        # Cortex-M0+ multiplies 32 by 32 bits to 32.
        "long_multiply": "m0" not in isa,
        "spectrum_bits": fixed.SPECTRUM_BITS,
        "log_bits": fixed.LOG_BITS,
        "log_index_bits": fixed.LOG_INDEX_BITS,
        "weight_bits": fixed.WEIGHT_BITS,
        "gain_bits": fixed.GAIN_BITS,
    }
    env = environment()
    return {
        f"{name}_frontend.{suffix}": env.get_template(f"frontend/frontend.{suffix}.j2").render(
            context
        )
        for suffix in ("h", "c")
    }


def probe_files(
    name: str, p: FrontEnd, isa: Sequence[str], *, whole: bool = False
) -> Mapping[str, str]:
    """The front end with a wrapper that makes a model of it, to be run as models are: its runs take
    the next hop of samples, or a `whole` clip."""
    context = {
        "name": name,
        "upper": name.upper(),
        "call": "clip" if whole else "push",
        "samples": p.clip if whole else p.hop,
        "values": p.frames * p.values if whole else p.values,
    }
    env = environment()
    probe = {
        f"{name}.{suffix}": env.get_template(f"frontend/probe.{suffix}.j2").render(context)
        for suffix in ("h", "c")
    }
    return {**frontend_files(name, p, isa), **probe}


def sound_facts(p: FrontEnd) -> dict[str, Any]:
    """What README and self-test say of a front end; golden: the frames of the test's sound."""
    frames = frames_of(p, selftest_sound(p)[None])[0, :_TEST_HOPS].astype(np.int16) - 128
    golden = [golden_rows(frame.astype(np.int8)) for frame in frames]
    return {"p": p, "ram_bytes": ram_bytes(p), "golden": golden}


# The self-test pushes so many hops of noise, each half as loud as the one before.
_TEST_HOPS = 4


def selftest_sound(p: FrontEnd) -> NDArray[np.int16]:
    """A clip that begins with the sound of the self-test."""
    state, samples = 0, np.zeros(p.clip, np.int16)
    for i in range(min(_TEST_HOPS, p.frames) * p.hop):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        value = (state >> 16) - 32768
        # C's division rounds towards zero.
        samples[i] = abs(value) // (1 << (i // p.hop)) * (1 if value >= 0 else -1)
    return samples


def _parts(p: FrontEnd) -> list[dict[str, Any]]:
    """A window in pairs of samples: parts that lie in one place and where it rises or falls."""
    past, half = p.window - p.hop, p.window // 2
    corners = sorted({0, past, half, p.window})
    return [
        {
            "samples": f"ctx->past + {first}" if first < past else f"samples + {first - past}",
            "first": first // 2,
            "pairs": (end - first) // 2,
            "weight": f"hann + {first if first < half else p.window - 1 - first}",
            "step": 1 if first < half else -1,
        }
        for first, end in pairwise(corners)
    ]


def ram_bytes(p: FrontEnd) -> int:
    """sizeof(<name>_frontend_t)."""
    return 2 * (p.window - p.hop) + 4 * p.fft


def _arrays(t: Tables) -> list[tuple[str, NDArray[Any], str]]:
    """(name, values, comment) of the tables in C."""
    cosine, sine = t.twiddles.astype(np.int32).T
    twiddles = (sine << 16) + (cosine & 0xFFFF)
    order = t.order.astype(np.uint8) if len(t.order) <= 256 else t.order
    return [
        ("hann", t.window, "The first half of the window, times 2^15."),
        ("order", order, "Where each complex sample goes: its place with the bits reversed."),
        (
            "twiddles",
            twiddles,
            f"cos and, 2^16 times, -sin of 2 pi k / {2 * len(order)}, times 2^15.",
        ),
        ("ends", t.starts[1:].astype(np.uint16), "Where the bins between two corners end."),
        ("weights", t.weights, "How far from one corner to the next each bin lies, times 2^16."),
        ("logarithms", t.logarithms, "log2(1 + (i + 1/2) / 128), times 2^8."),
    ]


def _cepstrum_arrays(t: Cepstrum) -> list[tuple[str, NDArray[Any], str]]:
    count = t.cosines.shape[1]
    return [
        (
            "cosines",
            t.cosines.reshape(-1),
            f"cos(pi k (i + 1/2) / {count}), times 2^{t.cosine_bits}, of coefficient k and band i.",
        ),
        (
            "gains",
            t.gains,
            f"What a sum, over 2^{SUM_SHIFT}, gives of a coefficient, times 2^{t.gain_bits}.",
        ),
    ]


def _array(name: str, values: NDArray[Any], comment: str) -> dict[str, Any]:
    ctype = f"{values.dtype.name}_t"
    return {
        "name": name,
        "ctype": ctype,
        "size": values.size,
        "comment": comment,
        "rows": rows(values, None),
    }
