"""What a front end of sound is made by: its parameters, and what follows from them."""

from dataclasses import dataclass

from tinsmith.pipeline.errors import ConfigError

MAX_FRAMES = 10_000
FFT_SIZES = (64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class FrontEnd:
    """The parameters, with the names and units that the table [audio] gives them.

    Frame t of a clip covers the `window` samples that end with sample (t + 1) * hop; before the
    clip there is silence. So every `hop` samples give one frame, as they come. 0 dB is a sine of
    full scale; levels count from `floor_db` to `ceiling_db`.

    Without `coefficients` a frame is the levels of the mel bands (log-mel): `floor_db` becomes the
    pixel 0 and `ceiling_db` the pixel 255. With them it is so many of the levels' cosine transform
    (MFCC): the first is their mean, with the same pixels; the k-th after it is the amplitude, in
    dB, of the ripple of k half waves over the bands, times 1 + lifter / 2 sin(pi k / lifter) (HTK's
    lifter): -`cepstrum_db` becomes the pixel 0, and 0 dB the pixel 128.
    Raises ConfigError for parameters that give no front end.
    """

    rate_hz: int = 16000
    clip_ms: float = 1000.0
    window_ms: float = 30.0
    hop_ms: float = 20.0
    mels: int = 40
    low_hz: float = 60.0
    high_hz: float = 7600.0
    floor_db: float = -90.0
    ceiling_db: float = -10.0
    coefficients: int = 0
    lifter: int = 22
    cepstrum_db: float = 64.0

    def __post_init__(self) -> None:
        _check(self)

    def samples(self, milliseconds: float) -> int:
        """The nearest multiple of 4 samples."""
        return 4 * round(self.rate_hz * milliseconds / 4000)

    @property
    def clip(self) -> int:
        """Samples of a clip: whole hops."""
        return self.frames * self.hop

    @property
    def window(self) -> int:
        """Samples that a frame covers."""
        return self.samples(self.window_ms)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return self.samples(self.hop_ms)

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return round(self.rate_hz * self.clip_ms / 1000 / self.hop)

    @property
    def values(self) -> int:
        """Values of a frame."""
        return self.coefficients or self.mels

    @property
    def fft(self) -> int:
        """Points of the Fourier transform: the window, filled up with zeros."""
        return next(size for size in FFT_SIZES if size >= self.window)


def _check(p: FrontEnd) -> None:
    if not 4000 <= p.rate_hz <= 192_000:
        raise ConfigError(f"[audio] rate_hz = {p.rate_hz}: allowed: 4000 to 192000")
    if not 32 <= p.window <= FFT_SIZES[-1]:
        raise ConfigError(
            f"[audio] window_ms = {p.window_ms}: this is {p.window} samples at {p.rate_hz} Hz; "
            f"allowed: 32 to {FFT_SIZES[-1]}"
        )
    if not 4 <= p.hop < p.window:
        raise ConfigError(
            f"[audio] hop_ms = {p.hop_ms}: this is {p.hop} samples; allowed: 4 to {p.window - 4}, "
            f"less than the window's {p.window}"
        )
    if not 1 <= p.frames <= MAX_FRAMES:
        raise ConfigError(
            f"[audio] clip_ms = {p.clip_ms}: this is {p.frames} frames of hop_ms = {p.hop_ms}; "
            f"allowed: 1 to {MAX_FRAMES}"
        )
    if not 0 <= p.low_hz < p.high_hz <= p.rate_hz / 2:
        raise ConfigError(
            f"[audio] low_hz = {p.low_hz}, high_hz = {p.high_hz}: low_hz has to be less, and "
            f"high_hz at most half of rate_hz, {p.rate_hz / 2:g}"
        )
    if not 1 <= p.mels <= 256:
        raise ConfigError(f"[audio] mels = {p.mels}: allowed: 1 to 256")
    if not (p.floor_db >= -140 and p.floor_db + 10 <= p.ceiling_db <= 20):
        raise ConfigError(
            f"[audio] floor_db = {p.floor_db}, ceiling_db = {p.ceiling_db}: allowed: floor_db from "
            "-140, ceiling_db up to 20 and at least 10 above floor_db"
        )
    if not 0 <= p.coefficients <= p.mels:
        raise ConfigError(
            f"[audio] coefficients = {p.coefficients}: allowed: 0, which leaves the mel bands as "
            f"they are, to mels = {p.mels}"
        )
    if p.lifter and p.lifter < max(p.coefficients, 2):
        raise ConfigError(
            f"[audio] lifter = {p.lifter}: allowed: 0, which weighs all coefficients alike, or at "
            f"least {max(p.coefficients, 2)}, as many as there are coefficients"
        )
    if not 20 <= p.cepstrum_db <= 1000:
        raise ConfigError(f"[audio] cepstrum_db = {p.cepstrum_db}: allowed: 20 to 1000")
