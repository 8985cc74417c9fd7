"""The front end of sound: int16 samples to grey pixels, in integers. This is its definition.

The generated C computes the same. What each step may hold at most stands beside it; int64 is used
throughout, and that every value fits the C's type is asserted. Inside, frames are the last axis, so
that numpy's loops are long.
"""

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.audio.cepstrum import cepstrum
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.audio.tables import (
    GAIN_BITS,
    LOG_BITS,
    LOG_INDEX_BITS,
    SPECTRUM_BITS,
    WEIGHT_BITS,
    Tables,
    tables,
)

_Ints = NDArray[np.int64]
# Frames computed at once: few enough for the processor's cache.
_CHUNK = 100


def frames_of(p: FrontEnd, samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Pixels [N, frames, values] of clips [N, clip], which begin after silence."""
    assert samples.dtype == np.int16 and samples.shape[1:] == (p.clip,), samples.shape
    silence = np.zeros((len(samples), p.window - p.hop), np.int16)
    padded = np.concatenate([silence, samples], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, p.window, axis=1)[:, :: p.hop]
    frames = windows.reshape(-1, p.window)
    pixels = np.empty((len(frames), p.values), np.uint8)
    for first in range(0, len(frames), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        logs = logarithms(p, frames[chunk])
        pixels[chunk] = cepstrum(p, logs) if p.coefficients else _pixels(logs, tables(p))
    return pixels.reshape(len(samples), p.frames, p.values)


def logarithms(p: FrontEnd, frames: NDArray[np.int16]) -> _Ints:
    """The logarithms [N, mels], with LOG_BITS fraction bits, of frames [N, window]."""
    t = tables(p)
    powers, shift = _powers(_spectrum(t, _windowed(p, t, frames)), t)
    return _log2(_mel_powers(powers, t), shift, t).T


def _pixels(logs: _Ints, t: Tables) -> NDArray[np.uint8]:
    """The logarithms from floor to ceiling as 0 to 255."""
    scaled = ((logs - t.floor) * t.gain + (1 << (GAIN_BITS - 1))) >> GAIN_BITS
    return np.clip(_int32(scaled), 0, 255).astype(np.uint8)


def _windowed(p: FrontEnd, t: Tables, frames: NDArray[np.int16]) -> tuple[_Ints, _Ints]:
    """Samples times the window, filled up with zeros: even ones as real and odd ones as imaginary
    parts [fft / 2, N], in the order in which the transform takes them. At most 2^30."""
    half = t.window.astype(np.int64)
    whole = np.concatenate([half, half[::-1]])
    x = np.zeros((p.fft, len(frames)), np.int64)
    x[: p.window] = frames.T * whole[:, None]
    return _int32(x[0::2][t.order]), _int32(x[1::2][t.order])


def _spectrum(t: Tables, z: tuple[_Ints, _Ints]) -> tuple[_Ints, _Ints]:
    """The spectrum, times 2^15 / fft, of real samples: bins [fft / 2, N], of which 0 is not used.

    The complex transform of even and odd samples, radix 2, each stage halved, so that no complex
    value grows: it stays at most sqrt(2) * 2^30. Then even and odd are taken apart and put
    together.
    """
    half = 1
    while half < len(z[0]):
        z = _stage(t, *z, half)
        half *= 2
    return _untangled(t, *z)


def _stage(t: Tables, re: _Ints, im: _Ints, half: int) -> tuple[_Ints, _Ints]:
    """Butterflies between places that are `half` apart: a / 2 + w b / 2 and a / 2 - w b / 2."""
    count, n = re.shape
    ar, br = re.reshape(-1, 2, half, n).transpose(1, 0, 2, 3)
    ai, bi = im.reshape(-1, 2, half, n).transpose(1, 0, 2, 3)
    if half == 1:  # w = 1
        tr, ti = br >> 1, bi >> 1
    elif half == 2:  # w = 1, -i
        tr = np.stack([br[:, 0] >> 1, bi[:, 1] >> 1], axis=1)
        ti = np.stack([bi[:, 0] >> 1, -(br[:, 1] >> 1)], axis=1)
    else:
        tr, ti = _half_product(br, bi, t.twiddles[:: count // half][:half])
    ar, ai = ar >> 1, ai >> 1
    re = np.stack([ar + tr, ar - tr], axis=1).reshape(count, n)
    im = np.stack([ai + ti, ai - ti], axis=1).reshape(count, n)
    return _int32(re), _int32(im)


def _half_product(re: _Ints, im: _Ints, w: NDArray[np.int16]) -> tuple[_Ints, _Ints]:
    """z w / 2, of z [..., K, N] and twiddles [K, 2]: each real product is rounded down."""
    wr, wi = w.astype(np.int64).T[:, :, None]
    real = ((re * wr) >> 16) - ((im * wi) >> 16)
    imaginary = ((re * wi) >> 16) + ((im * wr) >> 16)
    return _int32(real), _int32(imaginary)


def _untangled(t: Tables, re: _Ints, im: _Ints) -> tuple[_Ints, _Ints]:
    """The bins of real samples from the transform z of their even and odd ones.

    Bin k is e / 2 + w o / 2 and bin fft / 2 - k the conjugate of e / 2 - w o / 2, where e is the
    mean of z[k] and conj z[-k], and i o half of their difference. The sign of an imaginary part
    does not count, and is left.
    """
    count = len(re)
    k = np.arange(1, count // 2 + 1)
    re, im = re >> 1, im >> 1
    odd = _int32(im[k] + im[count - k]), _int32(re[count - k] - re[k])
    tr, ti = _half_product(*odd, t.twiddles[k])
    er, ei = _int32(re[k] + re[count - k]) >> 1, _int32(im[k] - im[count - k]) >> 1
    re, im = np.zeros_like(re), np.zeros_like(im)
    re[k], im[k] = er + tr, ei + ti
    re[count - k], im[count - k] = er - tr, ei - ti  # the middle bin is written twice
    return _int32(re), _int32(im)


def _powers(z: tuple[_Ints, _Ints], t: Tables) -> tuple[_Ints, _Ints]:
    """The powers [bins, N] of the bins that count, at most 2^31; and by how many bits [N] their
    values were shifted right, so that the largest fits int16."""
    re, im = (part[t.first_bin : t.first_bin + len(t.weights)] for part in z)
    bits = np.bitwise_or.reduce(re ^ (re >> 63)) | np.bitwise_or.reduce(im ^ (im >> 63))
    shift = np.maximum(_bit_length(bits) - SPECTRUM_BITS, 0)
    return (re >> shift) ** 2 + (im >> shift) ** 2, shift


def _mel_powers(powers: _Ints, t: Tables) -> _Ints:
    """The power in each filter [mels, N], times 2^WEIGHT_BITS: at most 2^57."""
    weighted = powers * t.weights.astype(np.int64)[:, None]
    rising = np.add.reduceat(weighted, t.starts[:-1])
    falling = (np.add.reduceat(powers, t.starts[:-1]) << WEIGHT_BITS) - rising
    powers_in_bands: _Ints = rising[:-1] + falling[1:]
    return powers_in_bands


def _log2(x: _Ints, shift: _Ints, t: Tables) -> _Ints:
    """log2 of x * 4^shift with LOG_BITS fraction bits; 0 where x is 0."""
    exponent = np.maximum(_bit_length(x) - 1, 0)
    down = np.maximum(exponent - LOG_INDEX_BITS, 0)
    up = np.maximum(LOG_INDEX_BITS - exponent, 0)
    index = ((x >> down) << up) & ((1 << LOG_INDEX_BITS) - 1)
    fraction = t.logarithms.astype(np.int64)[index]
    return np.where(x > 0, ((exponent + 2 * shift) << LOG_BITS) + fraction, 0)


def _bit_length(x: _Ints) -> _Ints:
    """Bits of numbers from 0 to 2^62; 0 has none."""
    high = x >> 31
    bits: _Ints = np.frexp(np.where(high > 0, high, x).astype(np.float64))[1].astype(np.int64)
    return np.where(high > 0, bits + 31, bits)


def _int32(x: _Ints) -> _Ints:
    assert x.size == 0 or (x.min() >= -(1 << 31) and x.max() < 1 << 31)
    return x
