"""[prune]: what goes with what, and what the errors say."""

import re
from pathlib import Path

import pytest

from tinsmith.pipeline.config import Config, Prune, load_config
from tinsmith.pipeline.config.prune_rules import SCOPES, check_prune
from tinsmith.pipeline.errors import ConfigError

MODELS = '[teacher]\nmodel = "m.py:A"\n[distil]\nmodel = "m.py:B"\nepochs = 5\n[prune]\n'


def read(folder: Path, text: str) -> Config:
    (folder / "tinsmith.toml").write_text(MODELS + text)
    return load_config(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            'scope = "layers"',
            '[prune] criterion: scope = "layers" can\'t take "l2"; allowed: ',
        ),
        ('scope = "weights"\ncriterion = "entropy"', 'can\'t take "entropy"; allowed: l1, l2, gr'),
        (
            'scope = "hidden"\ncriterion = "apoz"',
            'scope = "hidden" can\'t take "apoz"; allowed',
        ),
        ('scope = "blocks"\nallocation = "sensitivity"', "allowed: budget, global, uniform"),
        ('schedule = "movement"', '[prune] schedule: scope = "channels" can\'t take "movement"'),
        (
            "density = 0.3",
            '[prune] density: scope = "channels" with schedule = "steps" has no',
        ),
        ('scope = "weights"\nmacs = 0.3', "[prune] macs: scope"),
        ('scope = "weights"\nof = 4', "[prune] of: scope"),
        ("rewind_epoch = 2", "[prune] rewind_epoch: scope"),
        ('schedule = "rewind"\nrewind_epoch = 6', "[prune] rewind_epoch: 6 is after the end of"),
        ('scope = "blocks"\nof = 4', "every group keeps the same number of blocks"),
        (
            'scope = "weights"\nschedule = "movement"\ncriterion = "l1"',
            'schedule = "movement" is a criterion of its own; leave it out',
        ),
        (
            'scope = "weights"\nschedule = "gradual"\ncriterion = "taylor"',
            'schedule = "gradual" goes by magnitudes; "taylor"',
        ),
        (
            'scope = "weights"\nschedule = "gradual"\nallocation = "global"',
            '[prune] allocation: schedule = "gradual" can\'t take "global"',
        ),
        (
            'scope = "weights"\nschedule = "movement"\nstep_epochs = 2',
            "[prune] step_epochs: schedule",
        ),
    ],
)
def test_what_a_scope_can_not_take_is_refused_with_what_it_can(
    lines: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(tmp_path, lines)


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_takes_what_it_says(scope: str) -> None:
    rules = SCOPES[scope]
    for criterion in rules.criteria:
        for allocation in rules.allocations:
            options = Prune(scope=scope, criterion=criterion, allocation=allocation)
            check_prune(options, "here")
    for schedule in rules.schedules:
        own = {} if schedule == "movement" else {"criterion": rules.criteria[0]}
        check_prune(Prune(scope=scope, schedule=schedule, **own), "here")


def test_a_student_that_is_not_trained_starts_from_its_teacher(tmp_path: Path) -> None:
    text = MODELS.replace("epochs = 5", "epochs = 0")
    (tmp_path / "tinsmith.toml").write_text(text)
    with pytest.raises(ConfigError, match="0 leaves random weights as they are"):
        load_config(tmp_path)
    (tmp_path / "tinsmith.toml").write_text(text.replace("[prune]", 'start = "teacher"\n[prune]'))
    assert load_config(tmp_path).distil.epochs == 0
