"""The clips of a folder as grey images, those to train on with their varied copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.audio.front_end import frames_of
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.audio.tables import tables
from tinsmith.pipeline.audio.variations import Variations, varied
from tinsmith.pipeline.audio.wav import read_noise, read_wav_folder
from tinsmith.pipeline.config import Config
from tinsmith.pipeline.config.audio_tables import Audio
from tinsmith.pipeline.errors import ConfigError

Tell = Callable[[str], None]
Labelled = tuple[NDArray[np.int16], NDArray[np.int64]]


def front_end(config: Config) -> FrontEnd | None:
    """The front end before a configuration's network; None where its data are not sound.

    Raises ConfigError for parameters that give none, and for [audio] beside other data.
    """
    if config.data.source == "wav":
        if config.quantize.activations != 8:
            raise ConfigError(
                f"[quantize] activations = {config.quantize.activations}: the front end of sound "
                "writes int8; allowed with it: 8"
            )
        return front_end_of(config.audio)
    if config.audio.model_fields_set:
        raise ConfigError(
            f'[audio]: [data] source = "{config.data.source}" has no sound; leave the table out, '
            'or use source = "wav"'
        )
    return None


def front_end_of(audio: Audio) -> FrontEnd:
    """The table's front end. Raises ConfigError for parameters that give none."""
    p = FrontEnd(**{name: getattr(audio, name) for name in FrontEnd.__dataclass_fields__})
    tables(p)  # refuses bands that are too narrow
    return p


def read_clips(path: Path, audio: Audio, tell: Tell) -> tuple[Labelled, Labelled]:
    """Clips int16 [N, clip] to train on and to test, each with their labels [N].

    Raises DataError for folders and files that can't be used. tell: takes how many clips were too
    short or too long.
    """
    p = front_end_of(audio)
    train, test = read_wav_folder(path, p)
    for count, text in (
        (train.padded + test.padded, "shorter than clip_ms, and silence follows"),
        (train.cut + test.cut, "longer than clip_ms, and cut"),
    ):
        if count:
            tell(f"{count} clip{'s are' if count > 1 else ' is'} {text}")
    return (train.samples, train.labels), (test.samples, test.labels)


def as_images(clips: NDArray[np.int16], audio: Audio, copies: int, seed: int) -> NDArray[np.uint8]:
    """Images [N (1 + copies), frames, values, 1] of clips [N, clip], and of varied copies."""
    p = front_end_of(audio)
    options = Variations(copies, audio.speed, audio.shift_ms, audio.gain_db, audio.noise_db)
    noise = () if audio.noise is None or not copies else read_noise(audio.noise, p)
    rng = np.random.default_rng(seed)
    made = varied(clips, noise, options, p.rate_hz, rng).reshape(-1, p.clip)
    return frames_of(p, np.concatenate([clips, made]))[..., None]
