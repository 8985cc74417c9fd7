"""Data sets of a user's own function: what they may be, and what is said of the others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tinsmith.pipeline.config import CodeRef, Config, Data, parse_config
from tinsmith.pipeline.data import read_dataset, to_float
from tinsmith.pipeline.errors import ConfigError, DataError
from tinsmith.pipeline.flow import Event, run_flow
from tinsmith.pipeline.stages.load import Load
from tinsmith.pipeline.user_code import user_function

WINDOWS = """
import numpy as np
from shapes import TIME

def load(count=12, kind="float32"):
    x = np.arange(count * 3 * TIME).reshape(count, 3, TIME).astype(kind)
    y = np.arange(count) % 3
    return (x, y), (x[:6] + 1, y[:6])
"""


def write(folder: Path, text: str) -> Data:
    (folder / "data.py").write_text(text)
    return Data(source="python", path=folder / "data.py:load")


def config_of(folder: Path, more: str = "", path: str = "data.py:load") -> Config:
    tables = {
        "data": {"source": "python", "path": path},
        "teacher": {"model": "models.py:A"},
        "distil": {"model": "models.py:B"},
    }
    for name, table in tomllib.loads(more).items():
        tables[name] = {**tables.get(name, {}), **table}
    return parse_config(tables, folder / "tinsmith.toml")


@pytest.fixture
def windows(tmp_path: Path) -> Data:
    (tmp_path / "shapes.py").write_text("TIME = 5\n")
    return write(tmp_path, WINDOWS)


def test_floats_of_any_shape_come_as_they_are(windows: Data) -> None:
    dataset = read_dataset(windows, 0)
    assert dataset.classes == 3
    assert dataset.train.x.shape == (12, 3, 5)
    assert to_float(dataset.train.x).dtype == np.float32
    np.testing.assert_array_equal(to_float(dataset.train.x)[1, 0], np.arange(15, 20))


def test_the_function_gets_its_arguments(windows: Data) -> None:
    more = windows.model_copy(update={"arguments": {"count": 9, "kind": "float64"}})
    assert read_dataset(more, 0).train.x.shape == (9, 3, 5)


def test_a_draw_takes_windows_of_every_class(windows: Data) -> None:
    drawn = read_dataset(windows.model_copy(update={"train": 6, "test": 3}), 0)
    assert np.bincount(drawn.train.y).tolist() == [2, 2, 2]
    assert np.bincount(drawn.test.y).tolist() == [1, 1, 1]


def test_bytes_are_images_as_elsewhere(windows: Data) -> None:
    images = windows.model_copy(update={"arguments": {"kind": "uint8"}})
    dataset = read_dataset(images, 0)
    assert dataset.train.x.shape == (12, 3, 5, 1)
    np.testing.assert_array_equal(
        to_float(dataset.train.x)[0, 0, 0], np.arange(5, dtype=np.float32) / np.float32(255)
    )


_HEAD = "import numpy as np\nX, Y = np.zeros((6, 4), np.float32), np.arange(6) % 2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def load(): return X, Y", "it gives (ndarray, ndarray); needed: ((x_train, y_train), "),
        ("def load(): return None", "it gives NoneType; needed: ((x_train, y_train), "),
        ("def load(): return (X, Y), (X[:, :3], Y)", "training samples are 4 but test samples 3"),
        (
            "def load(): return (X, Y), (X.astype(np.uint8)[..., None], Y)",
            "training samples are 4 but test samples 4 x 1 x 1 (float32 and uint8)",
        ),
        ("def load(): return (X, Y[:5]), (X, Y)", "train: 6 samples but 5 labels"),
        ("def load(): return (X, Y - 1), (X, Y)", "train: label -1 is negative"),
        ("def load(): return (X, Y), (X, Y + 1)", "test: label 2 does not occur in training"),
        ("def load(): return (X, Y * 7), (X, Y)", "train: no sample of class 1, 2, 3, 4, 5, 6;"),
        ("def load(): return (X, Y * 0), (X, Y)", "all labels are 0; at least two classes"),
        ("def load(): return (X[:0], Y[:0]), (X, Y)", "train: there are no samples"),
        ("def load(): return (X, Y), (X, Y * 1.0)", "labels are float64 of shape (6,); allowed"),
        ("def load(): return (X, np.stack([Y, Y])), (X, Y)", "6 samples but 2 labels"),
        ("def load(): return (X.astype(int), Y), (X, Y)", "samples are int64; allowed: float32, "),
        ("def load(): return (X[:, 0], Y), (X, Y)", "samples have shape (6,); allowed: (N, ...)"),
        ("def load(): return (['a'], Y), (X, Y)", "samples are <U1; allowed: arrays of numbers"),
        (
            "def load():\n    X[4, 1] = np.nan\n    return (X, Y), (X, Y)",
            "train: 1 of 6 samples hold NaN or infinite values, the first is 4",
        ),
        (
            "def load(): return (X.astype(float) + 1e300, Y), (X, Y)",
            "train: 6 of 6 samples hold NaN or infinite values, the first is 0",
        ),
    ],
)
def test_data_that_can_not_be_used_are_refused_with_the_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    data = write(tmp_path, _HEAD + text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_dataset(data, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def load():\n    return {}['x']\n", r"the function failed: KeyError: 'x' \(.*line 2\)"),
        ("def load(): raise SystemExit(3)", r"the function failed: SystemExit: 3 \(.*line 1\)"),
        ("def load(a): pass", "missing 1 required positional argument: 'a'"),
        ("import parts\ndef load(): return parts.f()", r"ZeroDivisionError.*parts.py', line 2\)"),
    ],
)
def test_what_the_function_raises_is_told_with_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "parts.py").write_text("def f():\n    return 1 / 0\n")
    with pytest.raises(DataError, match=message):
        read_dataset(write(tmp_path, text), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def load(:", r"can't be imported: SyntaxError: .*data.py', line 1\)"),
        ("import no_such_module", r"ModuleNotFoundError: .*no_such_module.*data.py', line 1\)"),
        ("def loads(): pass\n_x = 1", "has no function or class 'load'; it has loads"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_with_the_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_dataset(write(tmp_path, text), 0)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    ref = CodeRef(path=tmp_path / "none.py", attribute="load")
    with pytest.raises(ConfigError, match=r"\[data\] path: there is no file '.*none.py'"):
        user_function(ref, "[data] path")
    stage = Load.from_config(config_of(tmp_path, path="none.py:load"))
    with pytest.raises(ConfigError, match=r"\[data\] path: there is no file '.*none.py'"):
        stage.files()


def test_dataclasses_in_a_users_file_are_no_trouble(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Load:\n    x: int = 1\n"
    )
    (tmp_path / "parts.py").write_text(text)
    made = user_function(CodeRef(path=tmp_path / "parts.py", attribute="Load"), "here")
    assert made().x == 1


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ("", "data.py", 'needs a Python file and a function in it, like "data.py:load"'),
        ("", "data.npz:load", 'needs a Python file and a function in it, like "data.py:load"'),
        ("[data]\nsource = 'npz'\narguments = {a = 1}", "x", 'are for source = "python"'),
        ("[data]\narguments = {a = [1]}", "data.py:load", r"\[data.arguments\] a"),
        ("[augment]\nfunction = 'a.py:f'\nflip = true", "data.py:load", r"\[augment\] flip: "),
        ("[[distil.terms]]\nkind = 'python'", "data.py:load", 'like loss = "losses.py:focal"'),
    ],
)
def test_keys_that_do_not_go_together_are_refused(
    tmp_path: Path, more: str, path: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(tmp_path, more, path)


def test_own_data_are_not_augmented_unless_the_table_asks_for_it(tmp_path: Path) -> None:
    assert not any(value for _, value in config_of(tmp_path).augment)
    assert config_of(tmp_path, "[augment]\nflip = true").augment.rotate_degrees == 12


def test_the_function_runs_each_time_but_only_other_data_make_another_result(
    windows: Data, tmp_path: Path
) -> None:
    content = "import numpy as np\n" + "load_file = lambda: np.load(__file__[:-7] + 'x.npy')\n"
    text = content + "def load():\n    x = load_file()\n    return (x, [0, 1]), (x, [0, 1])\n"
    write(tmp_path, text)
    stage = Load.from_config(config_of(tmp_path))
    kinds: list[str] = []

    def listen(event: Event) -> None:
        if event.kind in ("cached", "done"):
            kinds.append(event.kind)

    def content_after(x: float) -> bytes:
        np.save(tmp_path / "x.npy", np.full((2, 3), x, np.float32))
        run_flow([stage], tmp_path / "out", progress=listen)
        return (tmp_path / "out" / "load" / "data.npz").read_bytes()

    first = content_after(1.0)
    assert content_after(1.0) == first
    assert content_after(2.0) != first
    assert kinds == ["done"] * 3


def test_unlabelled_windows_are_of_the_shape_of_the_others(windows: Data, tmp_path: Path) -> None:
    for shape, count in (((4, 3, 5), 4), ((4, 3, 6), None)):
        np.savez(tmp_path / "more.npz", x=np.zeros(shape, np.float32))
        config = config_of(tmp_path, "[data]\nunlabelled = 'more.npz'")
        if count is None:
            with pytest.raises(DataError, match="samples are 3 x 6 but those with labels"):
                run_flow([Load.from_config(config)], tmp_path / "out")
        else:
            out = run_flow([Load.from_config(config)], tmp_path / "out")["load"]
            with np.load(out / "data.npz") as file:
                assert file["x_unlabelled"].shape == shape
