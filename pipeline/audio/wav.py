"""WAV files: 16-bit mono PCM of one rate, read by the standard library, and folders of them."""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.class_folders import LabelledFiles, files_in, labelled_files
from tinsmith.pipeline.errors import DataError

SUFFIXES = (".wav",)

Samples = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips int16 [N, clip] with their labels int64 [N]; how many were shorter or longer."""

    samples: Samples
    labels: NDArray[np.int64]
    padded: int
    cut: int


def read_wav(path: Path, rate_hz: int) -> Samples:
    """The samples of a file. Raises DataError, with how to convert it, for what is not allowed."""
    try:
        with wave.open(str(path), "rb") as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            count = file.getnframes()
            data = file.readframes(count)
    except (wave.Error, EOFError) as e:
        raise _refused(path, f"can't be read ({str(e) or 'it ends too early'})", rate_hz) from e
    except OSError as e:
        raise DataError(f"'{path}' can't be read: {e.strerror}") from e
    for wrong, text in (
        (channels != 1, f"has {channels} channels"),
        (width != 2, f"has {8 * width} bits a sample"),
        (rate != rate_hz, f"has {rate} Hz"),
    ):
        if wrong:
            raise _refused(path, text, rate_hz)
    if len(data) != 2 * count:
        raise DataError(
            f"'{path}' is truncated: its header says {count} samples, but it has {len(data) // 2}"
        )
    return np.frombuffer(data, "<i2").astype(np.int16)


def read_wav_folder(path: Path, p: FrontEnd) -> tuple[Clips, Clips]:
    """The clips of `train/<class>/` and `test/<class>/`, all made p.clip samples long.

    Shorter ones are followed by silence, longer ones lose their end. Raises DataError as
    `read_wav`, and where folders or files are missing.
    """
    files = labelled_files(path, SUFFIXES, "WAV files")
    return _read(files["train"], p), _read(files["test"], p)


def read_noise(folder: Path, p: FrontEnd) -> tuple[Samples, ...]:
    """The recordings of noise in a folder, each at least a clip long, repeated where it is not."""
    files = files_in(folder, SUFFIXES)
    if not files:
        raise DataError(
            f"[audio] noise: '{folder}' has no WAV files; needed: a folder with recordings of noise"
        )
    recordings = [(file, read_wav(file, p.rate_hz)) for file in files]
    for file, samples in recordings:
        if not len(samples):
            raise DataError(f"'{file}' has no samples")
    return tuple(np.tile(x, -(-p.clip // len(x))) for _, x in recordings)


def _read(files: LabelledFiles, p: FrontEnd) -> Clips:
    samples = np.zeros((len(files), p.clip), np.int16)
    padded = cut = 0
    for row, (path, _) in zip(samples, files, strict=True):
        clip = read_wav(path, p.rate_hz)
        padded += len(clip) < p.clip
        cut += len(clip) > p.clip
        row[: len(clip)] = clip[: p.clip]
    return Clips(samples, np.array([label for _, label in files], np.int64), padded, cut)


def _refused(path: Path, what: str, rate_hz: int) -> DataError:
    return DataError(
        f"'{path}' {what}; allowed: WAV files of 16-bit PCM, one channel, {rate_hz} Hz "
        f"([audio] rate_hz). To convert: sox '{path.name}' -b 16 -c 1 -r {rate_hz} out.wav"
    )
