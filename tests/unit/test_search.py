"""The search: budgets, spaces, outcomes, the front, the study, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tinsmith.pipeline.config import Config, load_config, parse_config
from tinsmith.pipeline.config.write import config_text
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.search.budget import Budget, Costs, parse_budget
from tinsmith.pipeline.search.measure import check_measurable
from tinsmith.pipeline.search.outcome import Outcome, Trial, is_behind, outcome_of
from tinsmith.pipeline.search.pareto import best, dominates, fits, front, nearest, shortfalls
from tinsmith.pipeline.search.plot import pareto_svg
from tinsmith.pipeline.search.space import Knob, Place, at_place, knobs_of, untried
from tinsmith.targets.target import target_named


def config_of(**compress: Any) -> Config:
    tables = {
        "teacher": {"model": "m.py:Teacher"},
        "distil": {"model": "m.py:Student"},
        "compress": compress,
    }
    return parse_config(tables, Path("/nowhere/tinsmith.toml"))


def trial(number: int, accuracy: float, flash: int, ram: int = 10, instructions: int = 10) -> Trial:
    costs = Costs(flash, ram, instructions)
    return Trial(number, {"n": number}, Outcome("done", "", costs, costs, accuracy))


# --- budget


def test_a_budget_is_read_with_its_units() -> None:
    assert parse_budget("flash=64KiB,ram=32KB,instructions=5M") == Budget(65536, 32000, 5_000_000)
    assert parse_budget(" ram = 1.5KiB ", 0.5) == Budget(ram=1536, max_drop=0.5)
    assert parse_budget("flash=100B,instructions=20k").limits() == {
        "flash": 100, "instructions": 20_000,
    }  # fmt: skip
    assert parse_budget(None) == Budget()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rom=3", r"'rom=3' is no limit; allowed.*flash, code, weights.*ram.*instructions"),
        ("flash", r"'flash' is no limit"),
        ("", r"'' is no limit"),
        ("flash=1KiB,", r"'' is no limit"),
        ("flash=64Kib", r"flash=64Kib: needed: a number and a unit, one of B, KB, KiB, MB, MiB"),
        ("instructions=5MiB", r"one of k, K, M, G, or none, like 5M"),
        ("ram=-1", r"ram=-1: needed: a number"),
        ("ram=0", r"ram=0: must be at least 1"),
        ("ram=1,ram=2", r"ram is limited twice"),
    ],
)
def test_a_budget_that_can_not_be_read_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_budget(text)


def test_a_drop_is_in_points() -> None:
    with pytest.raises(ConfigError, match="--max-drop 101: allowed: 0 to 100 points"):
        parse_budget("ram=1", 101)


def test_what_is_over_a_budget_is_a_share_of_its_limits() -> None:
    budget = Budget(flash=1000, ram=100)
    costs = Costs(1100, 150, 10**9)
    assert budget.excess(costs) == {"flash": 100, "ram": 50}
    assert budget.violation(costs) == pytest.approx(0.1 + 0.5)
    assert budget.violation(Costs(1000, 100, 1)) == 0


def test_a_target_that_counts_no_instructions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"-t host: .*can't be measured there; allowed: .*m0plus"):
        check_measurable(target_named("host"))
    check_measurable(target_named("cortex-m0plus"))


# --- space


def test_the_space_is_the_width_rank_pruning_and_the_objective_by_default() -> None:
    names = [knob.name for knob in knobs_of(config_of(), takes_width=True)]
    assert names == ["distil.width", "factorize.ranks", "generate.objective", "prune.macs"]
    ranks, *others = knobs_of(config_of(), takes_width=False)
    assert [knob.name for knob in others] == ["generate.objective", "prune.macs"]
    assert ranks.values == ("off", "automatic")


def test_the_way_of_choosing_ranks_that_a_configuration_has_is_searched_by_default() -> None:
    energy = config_of()
    energy = energy.model_copy(
        update={"factorize": energy.factorize.model_copy(update={"ranks": "energy"})}
    )
    assert knobs_of(energy, takes_width=False)[0].values == ("off", "energy")


def test_a_range_is_of_what_its_key_is() -> None:
    search = {
        "distil": {"width": {"low": 1, "high": 2}},
        "quantize": {"calibration": {"low": 10, "high": 1000, "log": True}},
    }
    width, calibration = knobs_of(config_of(search=search), takes_width=True)
    assert width == Knob("distil.width", (), 1, 2)
    assert calibration == Knob("quantize.calibration", (), 10, 1000, log=True, whole=True)


def test_a_place_is_a_configuration() -> None:
    place = {"distil.width": 0.75, "prune.macs": 0.5, "generate.objective": "ram"}
    config = at_place(config_of(), place)
    assert config.distil.student.width == 0.75
    assert (config.prune.macs, config.generate.objective) == (0.5, "ram")
    assert config.prune.model_copy(update={"macs": 0.65}) == config_of().prune


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"prune": {"macs": [0.5, 2.0]}}, r"\[prune\] macs = 2.0: must be at most 1"),
        ({"prune": {"mcas": [0.5]}}, r"prune.mcas: can't be searched; did you mean 'macs'"),
        ({"teacher": {"epochs": [1]}}, r"teacher: keys of this table can't be searched; allowed"),
        ({"generate": {"tune": [True]}}, r"generate.tune: can't be searched \(allowed: objective"),
        ({"generate": {"objective": ["tiny"]}}, r"objective = \"tiny\": allowed: 'balanced'"),
        ({"distil": {"terms": ["x"]}}, r"distil.terms: can't be searched"),
        ({"distil": {"width": {"low": -1, "high": 1}}}, r"\[distil\] width = -1"),
    ],
)
def test_what_can_not_be_searched_is_said(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        knobs_of(config_of(search=search), takes_width=True)


@pytest.mark.parametrize(
    "values", [[], 3, {"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, [[1]]]
)
def test_values_are_a_list_or_a_range(values: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"macs = .*: must be a list of values, or a range \{ low"
    ):
        config_of(search={"prune": {"macs": values}})


def test_a_place_that_was_tried_is_not_drawn_again() -> None:
    rng = np.random.default_rng(0)
    knobs = (Knob("a", (), 1, 3, whole=True), Knob("b", ("x", "y")))
    tried: list[Place] = []
    while (place := untried(knobs, tried, rng)) is not None:
        tried.append(place)
    assert sorted((p["a"], p["b"]) for p in tried) == [(a, b) for a in (1, 2, 3) for b in "xy"]
    wide = (Knob("a", (), 0.1, 10.0, log=True), Knob("b", (), 0, 10**6, whole=True))
    drawn = [untried(wide, (), rng) for _ in range(200)]
    below = sum(float(place["a"]) < 1 for place in drawn if place)
    assert 70 < below < 130  # half of the factors
    assert all(0.1 <= float(p["a"]) <= 10 and 0 <= p["b"] <= 10**6 for p in drawn if p)


def test_a_width_is_searched_only_where_the_student_takes_one() -> None:
    with pytest.raises(ConfigError, match=r"'/nowhere/m.py:Student' takes no width; give it"):
        knobs_of(config_of(search={"distil": {"width": [1.0]}}), takes_width=False)


def test_a_network_is_given_up_untrained_only_where_an_estimate_can_not_err_so_far() -> None:
    from tinsmith.pipeline.search.trial import may_fit

    budget = Budget(flash=10_000, ram=1000)
    assert may_fit(budget, Costs(12_500, 1150, 10**9))
    assert not may_fit(budget, Costs(12_525, 1000, 1))
    assert not may_fit(budget, Costs(1, 1151, 1))


def test_trials_are_shorter_by_one_factor_and_measured_on_held_out_images() -> None:
    from tinsmith.pipeline.search.search import trial_config

    config = config_of(epochs=6)
    shorter = trial_config(config, target_named("cortex-m0plus"))
    assert (config.distil.epochs, shorter.distil.epochs) == (60, 6)
    assert (config.prune.epochs, shorter.prune.epochs) == (24, 2)
    assert shorter.prune.step_epochs == 1
    assert shorter.quantize.epochs == 0
    assert shorter.data.validation == 0.1
    assert shorter.generate.targets == ["cortex-m0plus"]
    same = trial_config(config_of(), target_named("cortex-m0plus"))
    assert same.distil == config.distil and same.prune == config.prune


def test_a_trial_of_weights_pruned_in_one_training_is_a_sound_configuration() -> None:
    from tinsmith.pipeline.config.prune_rules import check_prune
    from tinsmith.pipeline.search.search import trial_config

    tables = {
        "teacher": {"model": "m.py:Teacher"},
        "distil": {"model": "m.py:Student"},
        "prune": {"scope": "weights", "schedule": "gradual"},
        "compress": {"epochs": 6},
    }
    config = parse_config(tables, Path("/nowhere/tinsmith.toml"))
    assert "prune.macs" not in [knob.name for knob in knobs_of(config, takes_width=True)]
    shorter = trial_config(config, target_named("cortex-m0plus"))
    check_prune(shorter.prune, "[prune]")
    assert shorter.prune.epochs == 2


# --- outcomes and the front


def test_an_outcome_is_read_as_it_was_kept() -> None:
    costs = Costs(1, 2, 3)
    outcome = Outcome("done", "", costs, costs, 88.5, {2: 70.0, 4: 80.0}, 0.5, 1000, 2000, 12.5)
    assert outcome_of(outcome.json()) == outcome
    assert outcome_of(Outcome("failed", "why").json()) == Outcome("failed", "why")


def test_the_front_is_what_none_is_better_than() -> None:
    trials = [
        trial(0, 80.0, 100), trial(1, 85.0, 200), trial(2, 84.0, 200), trial(3, 85.0, 200),
        trial(4, 79.0, 100, ram=5), Trial(5, {}, Outcome("stopped")),
    ]  # fmt: skip
    assert [t.number for t in front(trials)] == [1, 0, 4]
    assert dominates(trials[1], trials[2])
    assert not dominates(trials[0], trials[4]) and not dominates(trials[1], trials[3])


def test_the_front_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    trials = [trial(i, *map(int, rng.integers(0, 6, 4))) for i in range(80)]
    found = {t.number for t in front(trials)}
    for one in trials:
        beaten = any(dominates(other, one) for other in trials)
        assert (
            beaten
            or one.number in found
            or any(t.outcome == one.outcome for t in trials if t.number in found)
        )
        assert not (beaten and one.number in found)


def test_the_best_is_the_most_accurate_within_the_budget() -> None:
    trials = [trial(0, 90.0, 300), trial(1, 85.0, 200), trial(2, 85.0, 150), trial(3, 80.0, 100)]
    chosen = best(trials, Budget(flash=250), reference=91.0)
    assert chosen is not None and chosen.number == 2
    assert best(trials, Budget(flash=90), 91.0) is None
    assert not fits(trials[2], Budget(max_drop=5.9), 91.0)
    assert fits(trials[2], Budget(max_drop=6.0), 91.0)


def test_how_near_a_search_came_is_told_for_each_limit() -> None:
    large = Trial(1, {}, Outcome("too large", "", estimate=Costs(120, 90, 10)))
    trials = [trial(0, 85.0, 150, ram=60), large]
    budget = Budget(flash=100, ram=50, max_drop=1.0)
    near = nearest(trials, budget)
    assert near is not None and near.number == 0
    flash, ram, drop = shortfalls(trials, budget, reference=90.0)
    assert (flash.nearest, flash.trial, flash.estimated) == (120, 1, True)
    assert (ram.nearest, ram.trial, ram.estimated) == (60, 0, False)
    assert (drop.measure, drop.nearest, drop.limit) == ("drop", 5.0, 1.0)


def test_a_trial_is_behind_only_among_those_that_cost_no_more() -> None:
    def rival(accuracy: float, flash: int, kept: float = 1.0) -> Trial:
        return Trial(0, {}, Outcome("done", "", Costs(flash, 1, 1), rungs={2: accuracy}, kept=kept))

    cheap = [rival(80.0 + i, 100) for i in range(4)]
    mine = Costs(100, 1, 1)
    assert is_behind(2, 81.0, mine, 1.0, cheap)
    assert not is_behind(2, 81.6, mine, 1.0, cheap)
    assert not is_behind(4, 10.0, mine, 1.0, cheap)  # none was measured there
    assert not is_behind(2, 10.0, mine, 1.0, cheap[:3])  # too few
    assert not is_behind(2, 10.0, Costs(99, 1, 1), 1.0, cheap)  # all cost more
    pruned = [rival(80.0, 100, kept=0.5) for _ in range(4)]
    assert not is_behind(2, 10.0, mine, 1.0, pruned)  # what they lose by it is still to come


# --- what is written


def test_the_picture_is_sound_xml_with_every_trial_in_every_panel() -> None:
    trials = [trial(0, 80.0, 100), trial(1, 85.0, 200), Trial(2, {}, Outcome("stopped"))]
    text = pareto_svg(trials, front(trials), trials[1], Budget(flash=150))
    root = ElementTree.fromstring(text)
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    # Two trials and the chosen one once more, with its ring, in three panels.
    assert len(circles) == 3 * (3 + 1)
    assert sum("stroke-dasharray" in e.attrib for e in root.iter()) == 1
    ElementTree.fromstring(pareto_svg([], [], None, Budget()))
    ElementTree.fromstring(pareto_svg(trials[:1], [], None, Budget()))  # all of one value


def test_a_written_configuration_is_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    tables = {
        "run": {"name": 'a "quoted" name', "out": "out", "seed": 3},
        "data": {"source": "npz", "path": "data.npz", "validation": 0.2},
        "augment": {"rotate_degrees": 0, "flip": True},
        "teacher": {"model": "m.py:Teacher", "members": ["m.py:Other"], "learning_rate": 1e-3},
        "distil": {
            "model": "m.py:Student",
            "width": 0.75,
            "terms": [{"kind": "soft", "temperature": 2.0}, {"kind": "labels", "weight": 0.5}],
        },
        "generate": {"targets": ["cortex-m0plus"], "memories": {"dtcm": 65536}},
        "gates": {"target": {"cortex-m0plus": {"flash_bytes": 1000}}, "prune_drop": 0.5},
        "compress": {"search": {"prune": {"macs": [1.0, 0.5]}}},
    }
    config = parse_config(tables, tmp_path / "tinsmith.toml")
    written = tmp_path / "far" / "tinsmith.toml"
    written.write_text(config_text(config, written.parent))
    again = load_config(written)
    names = ("augment", "distil", "prune", "quantize", "generate", "gates", "compress")
    for name in names:
        one, other = getattr(config, name), getattr(again, name)
        if name == "distil":
            assert other.model.path.resolve() == one.model.path
            one, other = (t.model_copy(update={"model": None}) for t in (one, other))
        assert one == other, name
    assert again.run.out.resolve() == tmp_path / "out"
    assert again.data.path is not None and again.data.path.resolve() == tmp_path / "data.npz"
    assert [ref.attribute for ref in again.teacher.members] == ["Other"]


def test_validation_images_are_held_out_of_the_training_images(tmp_path: Path) -> None:
    from tinsmith.pipeline.data import read_dataset

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (240, 4, 4), dtype=np.uint8)
    y = np.arange(240) % 4
    np.savez(tmp_path / "d.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    tables = {
        "data": {"source": "npz", "path": "d.npz"},
        "teacher": {"model": "m.py:T"},
        "distil": {"model": "m.py:S"},
    }
    data = parse_config(tables, tmp_path / "tinsmith.toml").data
    whole = read_dataset(data, seed=1)
    held = read_dataset(data.model_copy(update={"validation": 0.25}), seed=1)

    def rows(images: Any) -> set[bytes]:
        return {image.tobytes() for image in images.x}

    assert np.bincount(held.test.y).tolist() == [12, 13, 12, 13] or len(held.test.y) == 50
    assert abs(np.bincount(held.test.y) - 12.5).max() <= 0.5
    assert rows(held.train) | rows(held.test) == rows(whole.train)
    assert not rows(held.train) & rows(held.test)
    assert not rows(whole.test) & (rows(held.train) | rows(held.test))


# --- the study

optuna = pytest.importorskip("optuna", reason="the search needs optuna")

KNOBS = (
    Knob("distil.width", (), 0.5, 1.5),
    Knob("generate.objective", ("size", "ram")),
    Knob("prune.macs", (1.0, 0.75, 0.5)),
)
BUDGET = Budget(flash=20_000, ram=8000)


def made_up(place: Place) -> Outcome:
    """An outcome that is a function of the place."""
    width, macs = float(place["distil.width"]), float(place["prune.macs"])
    costs = Costs(int(3e4 * width**2 * macs), int(9000 * width), int(5e6 * width**2 * macs))
    if BUDGET.violation(costs) > 0.2:
        return Outcome("too large", "made up", estimate=costs)
    return Outcome("done", "", costs, costs, round(80 + 8 * width * macs, 2))


def searched(path: Path, count: int, sampler: str = "tpe", stop_after: int = -1) -> list[Place]:
    """Places of `count` finished trials; a process that is killed leaves one open."""
    from tinsmith.pipeline.search.study import ask, finished_trials, open_study, tell

    study = open_study(path, {"fact": 1}, KNOBS, sampler, 3).study
    while (done := len(finished_trials(study))) < count:
        asked = ask(study, {"distil.width": 1.0, "prune.macs": 0.5})
        assert asked is not None
        if done == stop_after:
            break
        tell(study, asked, made_up(asked.place), BUDGET)
    return [trial.place for trial in finished_trials(study)]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_that_was_killed_goes_on_as_one_that_was_not(tmp_path: Path, sampler: str) -> None:
    whole = searched(tmp_path / "one.db", 14, sampler)
    assert len(searched(tmp_path / "two.db", 14, sampler, stop_after=11)) == 11
    assert searched(tmp_path / "two.db", 14, sampler) == whole
    assert (whole[0]["distil.width"], whole[0]["prune.macs"]) == (1.0, 0.5)
    assert len({tuple(place.values()) for place in whole}) == 14


def test_a_finished_trial_is_kept_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    from tinsmith.pipeline.search.study import finished_trials, open_study

    places = searched(tmp_path / "s.db", 3)
    opened = open_study(tmp_path / "s.db", {"fact": 1}, KNOBS, "tpe", 3)
    assert (opened.finished, opened.changed) == (3, ())
    trials = finished_trials(opened.study)
    assert [t.outcome for t in trials] == [made_up(place) for place in places]


def test_other_facts_begin_another_study_and_say_what_changed(tmp_path: Path) -> None:
    from tinsmith.pipeline.search.study import open_study

    path, knobs = tmp_path / "s.db", KNOBS[2:]
    assert open_study(path, {"data set": 1, "target": "a"}, knobs, "tpe", 0).changed == ()
    opened = open_study(path, {"data set": 1, "target": "b"}, knobs, "tpe", 0)
    assert (opened.finished, opened.changed) == (0, ("target",))
    assert open_study(path, {"data set": 1, "target": "a"}, knobs, "tpe", 0).changed == ()


def test_every_place_of_a_small_space_is_tried_once(tmp_path: Path) -> None:
    from tinsmith.pipeline.search.study import ask, open_study, tell

    study = open_study(tmp_path / "s.db", {}, KNOBS[2:], "tpe", 0).study
    seen = []
    while (asked := ask(study, {})) is not None:
        seen.append(asked.place["prune.macs"])
        tell(study, asked, Outcome("failed", "made up"), BUDGET)
    assert sorted(seen) == [0.5, 0.75, 1.0]


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    from tinsmith.pipeline.search.study import open_study

    (tmp_path / "s.db").write_bytes(b"no data base" * 100)
    with pytest.raises(ConfigError, match=r"s.db' can't be used to keep trials .*; delete it"):
        open_study(tmp_path / "s.db", {}, KNOBS, "tpe", 0)
