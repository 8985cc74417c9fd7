"""The table of sound: the front end that makes images of clips, and how clips are varied."""

from typing import Annotated

from pydantic import Field

from tinsmith.pipeline.config.values import ConfigPath, Positive, Table

Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Hertz = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decibels = Annotated[float, Field(allow_inf_nan=False)]


class Audio(Table):
    """Sound as images, for `source = "wav"`: a front end in integers, log-mel or MFCC, whose C
    twin is generated beside the model, and clips varied for training.

    0 dB is a sine of full scale.
    """

    rate_hz: Positive = Field(default=16000, description="The rate of all WAV files.")
    clip_ms: Milliseconds = Field(
        default=1000.0,
        description=(
            "How long a clip is, to whole frames: shorter files are followed by silence, longer "
            "ones are cut."
        ),
    )
    window_ms: Milliseconds = Field(default=30.0, description="How much sound a frame is made of.")
    hop_ms: Milliseconds = Field(
        default=20.0, description="From one frame to the next; less than `window_ms`."
    )
    mels: Positive = Field(default=40, description="Mel bands: the values of a frame.")
    coefficients: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description=(
            "MFCC: frames are so many coefficients of the cosine transform of the bands' levels, "
            "such as 13, the first of which is their mean. 0: frames are the levels."
        ),
    )
    lifter: Annotated[int, Field(ge=0)] = Field(
        default=22,
        description=(
            "Of coefficients: the k-th is multiplied by 1 + lifter / 2 sin(pi k / lifter), as in "
            "HTK, since high ones are small; 0 leaves them as they are."
        ),
    )
    cepstrum_db: Annotated[float, Field(ge=20, le=1000)] = Field(
        default=64.0,
        description=(
            "Of coefficients but the first: the amplitude of a ripple over the bands, so "
            "multiplied, that becomes pixel 0 with one sign, and with the other is just beyond 255."
        ),
    )
    low_hz: Hertz = Field(default=60.0, description="Where the lowest band begins.")
    high_hz: Hertz = Field(default=7600.0, description="Where the highest band ends.")
    floor_db: Decibels = Field(default=-80.0, description="The level that becomes pixel 0.")
    ceiling_db: Decibels = Field(default=-10.0, description="The level that becomes pixel 255.")
    copies: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Varied clips made of each to train on, beside itself, by the keys below.",
    )
    speed: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Largest change of speed and pitch: 0.1 is 90 % to 110 %."
    )
    shift_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=100.0, description="Largest shift in time."
    )
    gain_db: Annotated[float, Field(ge=0, le=60)] = Field(
        default=6.0, description="Largest change of loudness."
    )
    noise: ConfigPath | None = Field(
        default=None,
        description="A folder with WAV files of noise for varied clips; without it noise is white.",
    )
    noise_db: Decibels = Field(
        default=10.0,
        description="How far below the clip the loudest noise is; the softest is 30 dB lower.",
    )
