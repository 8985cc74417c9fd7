"""The flow: what runs, what comes from the cache, and what a stop leaves behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tinsmith.pipeline import flow
from tinsmith.pipeline.errors import ConfigError, ToolFailed
from tinsmith.pipeline.flow import (
    Artifact,
    Event,
    Progress,
    Stage,
    artifact_at,
    run_flow,
    stage_key,
)


@dataclass(frozen=True)
class Number(Stage):
    """Writes a number, or the one that a file of the user holds."""

    name: ClassVar[str] = "number"
    value: int = 1
    file: Path | None = None

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        value = int(self.file.read_text()) if self.file else self.value
        progress(f"the number is {value}", 0.5)
        (out_dir / "n.txt").write_text(str(value))


@dataclass(frozen=True)
class Sign(Stage):
    """Writes the sign of the number."""

    name: ClassVar[str] = "sign"
    inputs: ClassVar[tuple[str, ...]] = ("number",)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        number = int(inputs["number"].file("n.txt").read_text())
        (out_dir / "sign.txt").write_text("+" if number > 0 else "-")


@dataclass(frozen=True)
class Negative(Stage):
    """Writes the number with the other sign, which later stages are given instead of the number."""

    name: ClassVar[str] = "negative"
    inputs: ClassVar[tuple[str, ...]] = ("number",)
    stands_for: ClassVar[str] = "number"

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        (out_dir / "n.txt").write_text(str(-int(inputs["number"].file("n.txt").read_text())))


@dataclass(frozen=True)
class Report(Stage):
    """Writes a line about both."""

    name: ClassVar[str] = "report"
    inputs: ClassVar[tuple[str, ...]] = ("sign",)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        sign = inputs["sign"].file("sign.txt").read_text()
        (out_dir / "report.txt").write_text(f"it is {sign}")


@dataclass(frozen=True)
class Counting(Stage):
    """Counts to five in a file, and stops once at three with what `stop` says."""

    name: ClassVar[str] = "counting"
    stop: str = "interrupt"

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        path = out_dir / "count.txt"
        first = int(path.read_text()) if path.exists() else 0
        for count in range(first + 1, 6):
            path.write_text(str(count))
            if count == 3 and first == 0:
                if self.stop == "full disk":
                    raise OSError(errno.ENOSPC, "No space left on device")
                raise KeyboardInterrupt


@dataclass(frozen=True)
class ResumableCounting(Counting):
    """The same, but goes on where it stopped."""

    name: ClassVar[str] = "counting"
    resumable: ClassVar[bool] = True


def ran(stages: list[Stage], out: Path, **options: object) -> list[str]:
    """Run the flow; result: the stages that were computed rather than found."""
    events: list[Event] = []
    run_flow(stages, out, progress=events.append, **options)  # type: ignore[arg-type]
    return [event.stage for event in events if event.kind in ("started", "resumed")]


def entries(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ".cache").iterdir() if path.is_dir())


def test_each_stage_gets_the_results_that_it_asks_for(tmp_path: Path) -> None:
    results = run_flow([Number(-7), Sign(), Report()], tmp_path)
    assert list(results) == ["number", "sign", "report"]
    assert (results["report"] / "report.txt").read_text() == "it is -"


def test_a_stage_may_stand_for_an_earlier_one(tmp_path: Path) -> None:
    def sign(*stages: Stage) -> str:
        return (run_flow(stages, tmp_path)["sign"] / "sign.txt").read_text()

    assert sign(Number(3), Sign()) == "+"
    assert sign(Number(3), Negative(), Sign()) == "-"
    # Without it, all is as it was: what was kept is still right.
    events: list[Event] = []
    run_flow((Number(3), Sign()), tmp_path, progress=events.append)
    assert [event.kind for event in events] == ["cached", "cached"]
    with pytest.raises(AssertionError, match="needs \\['number'\\], which come later"):
        run_flow((Negative(),), tmp_path)


def test_the_same_again_computes_nothing(tmp_path: Path) -> None:
    stages = [Number(), Sign(), Report()]
    assert ran(stages, tmp_path) == ["number", "sign", "report"]
    assert ran(stages, tmp_path) == []


def test_another_option_computes_what_rests_on_it(tmp_path: Path) -> None:
    ran([Number(1), Sign(), Report()], tmp_path)
    assert ran([Number(-1), Sign(), Report()], tmp_path) == ["number", "sign", "report"]


def test_a_stage_that_gives_the_same_bytes_makes_nothing_run_again(tmp_path: Path) -> None:
    ran([Number(1), Sign(), Report()], tmp_path)
    assert ran([Number(2), Sign(), Report()], tmp_path) == ["number", "sign"]


def test_going_back_to_earlier_options_finds_the_earlier_results(tmp_path: Path) -> None:
    ran([Number(1), Sign()], tmp_path)
    ran([Number(-1), Sign()], tmp_path)
    assert ran([Number(1), Sign()], tmp_path) == []


def test_a_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "n.txt", tmp_path / "b" / "n.txt"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text("4")
    out = tmp_path / "out"
    ran([Number(file=first)], out)
    assert ran([Number(file=second)], out) == []
    second.write_text("5")
    assert ran([Number(file=second)], out) == ["number"]


def test_the_source_of_the_stage_is_part_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_key(Number(), {})
    monkeypatch.setattr(flow, "_module_digest", lambda module: "other source")
    assert stage_key(Number(), {}) != before


def test_the_versions_of_the_tools_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Number, "tools", ("numpy",))
    before = stage_key(Number(), {})
    monkeypatch.setattr(flow, "_version", lambda tool: "0.0")
    assert stage_key(Number(), {}) != before


def test_a_package_counts_with_every_file_in_it() -> None:
    assert flow._module_digest("tinsmith.pipeline") != flow._module_digest("tinsmith.targets")


def test_an_option_without_a_canonical_form_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="an option of type object has no canonical form"):
        run_flow([Number(object())], tmp_path)  # type: ignore[arg-type]


def test_from_computes_that_stage_and_the_later_ones(tmp_path: Path) -> None:
    stages = [Number(), Sign(), Report()]
    ran(stages, tmp_path)
    assert ran(stages, tmp_path, from_="sign") == ["sign", "report"]


def test_to_stops_after_that_stage(tmp_path: Path) -> None:
    assert ran([Number(), Sign(), Report()], tmp_path, to="sign") == ["number", "sign"]


def test_force_computes_everything(tmp_path: Path) -> None:
    stages = [Number(), Sign()]
    ran(stages, tmp_path)
    assert ran(stages, tmp_path, force=True) == ["number", "sign"]


@pytest.mark.parametrize("flag", ["from_", "to"])
def test_a_stage_that_does_not_exist_is_refused_with_those_that_do(
    tmp_path: Path, flag: str
) -> None:
    message = f"--{flag.strip('_')} sgin: there is no such stage; allowed: number, sign"
    with pytest.raises(ConfigError, match=message):
        ran([Number(), Sign()], tmp_path, **{flag: "sgin"})


def test_from_after_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from sign comes after --to number"):
        ran([Number(), Sign()], tmp_path, from_="sign", to="number")


def test_a_stage_before_its_input_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="'sign' needs"):
        run_flow([Sign(), Number()], tmp_path)


def test_a_stopped_stage_leaves_no_entry(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_flow([Counting()], tmp_path)
    assert entries(tmp_path) == []
    assert not (tmp_path / "counting").exists()


def test_a_resumable_stage_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_flow([ResumableCounting()], tmp_path)
    assert [name.endswith(".partial") for name in entries(tmp_path)] == [True]
    events: list[Event] = []
    results = run_flow([ResumableCounting()], tmp_path, progress=events.append)
    assert [event.kind for event in events] == ["resumed", "done"]
    assert (results["counting"] / "count.txt").read_text() == "5"
    assert [name.endswith(".partial") for name in entries(tmp_path)] == [False]


def test_what_was_done_before_the_stop_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_flow([Number(), Counting()], tmp_path)
    assert ran([Number()], tmp_path) == []


def test_a_recomputation_that_is_stopped_keeps_the_old_result(tmp_path: Path) -> None:
    file = tmp_path / "n.txt"
    file.write_text("4")
    out = tmp_path / "out"
    run_flow([Number(file=file)], out)
    key = stage_key(Number(file=file), {})
    [folder] = [out / ".cache" / name for name in entries(out)]
    assert folder.name == f"number-{key[:16]}"

    def stop(event: Event) -> None:
        if event.kind == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_flow([Number(file=file)], out, force=True, progress=stop)
    assert (folder / "n.txt").read_text() == "4"
    assert ran([Number(file=file)], out) == []


def test_a_damaged_entry_is_computed_again(tmp_path: Path) -> None:
    [folder] = run_flow([Number(12)], tmp_path).values()
    (folder / "n.txt").write_text("1")
    assert ran([Number(12)], tmp_path) == ["number"]
    assert (folder / "n.txt").read_text() == "12"


def test_an_entry_without_its_record_is_computed_again(tmp_path: Path) -> None:
    [folder] = run_flow([Number()], tmp_path).values()
    (folder / "entry.json").write_text("{")
    assert ran([Number()], tmp_path) == ["number"]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"stage 'counting': the disk that holds .* is full"):
        run_flow([Counting(stop="full disk")], tmp_path)


def test_an_output_folder_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the output folder .* can't be written"):
        run_flow([Number()], tmp_path / "file")


def test_the_record_says_what_made_the_entry(tmp_path: Path) -> None:
    [folder] = run_flow([Number(3)], tmp_path).values()
    record = json.loads((folder / "entry.json").read_text())
    assert record["options"] == {"value": 3, "file": None}
    assert record["sizes"] == {"n.txt": 1}
    assert record["seconds"] >= 0


def test_a_link_leads_to_the_result_of_the_last_run(tmp_path: Path) -> None:
    for value in (1, 2):
        run_flow([Number(value)], tmp_path)
        assert (tmp_path / "number" / "n.txt").read_text() == str(value)


def test_a_file_of_the_user_is_not_replaced_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("mine")
    run_flow([Number()], tmp_path)
    assert (tmp_path / "number").read_text() == "mine"


def test_only_the_last_few_entries_of_a_stage_stay(tmp_path: Path) -> None:
    for value in range(flow.KEEP_ENTRIES + 3):
        [folder] = run_flow([Number(value)], tmp_path).values()
        os.utime(folder / "entry.json", (value, value))
    kept = sorted((path / "n.txt").read_text() for path in (tmp_path / ".cache").glob("number-*"))
    assert kept == [str(value) for value in range(3, flow.KEEP_ENTRIES + 3)]


def test_progress_carries_the_stage_and_the_fraction(tmp_path: Path) -> None:
    events: list[Event] = []
    run_flow([Number(5)], tmp_path, progress=events.append)
    assert [event.kind for event in events] == ["started", "progress", "done"]
    partial = events[1].folder
    assert partial is not None and partial.name.endswith(".partial")
    assert events[1] == Event("number", "progress", "the number is 5", 0.5, folder=partial)
    assert events[2].seconds is not None


def test_results_of_other_runs_are_given_by_the_name_that_a_stage_asks_for(tmp_path: Path) -> None:
    [folder] = run_flow([Number(-3)], tmp_path / "one").values()
    given = {"number": artifact_at(folder)}
    results = run_flow([Sign(), Report()], tmp_path / "two", given=given)
    assert list(results) == ["sign", "report"]
    assert (results["report"] / "report.txt").read_text() == "it is -"
    assert not (tmp_path / "two" / "number").exists()


def test_every_entry_stays_where_all_are_to_be_kept(tmp_path: Path) -> None:
    for value in range(flow.KEEP_ENTRIES + 3):
        run_flow([Number(value)], tmp_path, keep=None)
    assert len(list((tmp_path / ".cache").glob("number-*"))) == flow.KEEP_ENTRIES + 3


def test_two_runs_do_not_share_an_output_folder(tmp_path: Path) -> None:
    refused: list[str] = []

    def second_run(event: Event) -> None:
        if event.kind == "started":
            with pytest.raises(ConfigError) as caught:
                run_flow([Number()], tmp_path)
            refused.append(str(caught.value))

    run_flow([Number()], tmp_path, progress=second_run)
    assert f"another run (process {os.getpid()}) is using '{tmp_path}'" in refused[0]


def test_a_killed_run_leaves_no_lock_and_nothing_half_written(tmp_path: Path) -> None:
    waiting = tmp_path / "waiting"
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_flow import Number
from tinsmith.pipeline.flow import run_flow
def wait(event):
    if event.kind == "progress":
        Path({str(waiting)!r}).write_text("")
        time.sleep(60)
run_flow([Number(9)], Path({str(tmp_path / "out")!r}), progress=wait)
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 30
    while not waiting.exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    [left] = entries(tmp_path / "out")
    assert left.endswith(".partial")
    assert ran([Number(9)], tmp_path / "out") == ["number"]
    assert (tmp_path / "out" / "number" / "n.txt").read_text() == "9"


@dataclass(frozen=True)
class Long(Sign):
    """As Sign, but it takes long."""

    resumable: ClassVar[bool] = True


@dataclass(frozen=True)
class Picky(Report):
    """As Report, of small numbers only, and not of all networks that stand for others."""

    most: int = 9

    def check(self, known: Mapping[str, Artifact]) -> None:
        assert set(known) == {"number"}
        if int(known["number"].file("n.txt").read_text()) > self.most:
            raise ConfigError(f"at most {self.most} can be told of")


def test_what_a_later_stage_will_refuse_is_told_before_a_long_one_runs(tmp_path: Path) -> None:
    events: list[tuple[str, str]] = []

    def listen(event: Event) -> None:
        events.append((event.stage, event.kind))

    with pytest.raises(ConfigError, match="at most 9 can be told of"):
        run_flow([Number(20), Long(), Picky()], tmp_path, progress=listen)
    assert ("number", "done") in events
    assert not any(stage == "sign" for stage, _ in events)
    run_flow([Number(20), Long(), Picky()], tmp_path, to="sign")
    run_flow([Number(3), Long(), Picky()], tmp_path)
    # Behind a stage that changes what later ones are given, nothing can be said yet.
    run_flow([Number(20), Negative(), Long(), Picky()], tmp_path)
