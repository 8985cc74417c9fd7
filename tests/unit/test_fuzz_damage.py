"""A few hundred of the damaged files of tests/fuzz_models.py; run that for as many as you like."""

from __future__ import annotations

from pathlib import Path

import pytest

import fuzz_models


def test_damaged_files_of_both_formats_end_in_good_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = fuzz_models.main(["--count", "400", "--start", "1000000", "--keep", str(tmp_path)])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "'refused'" in told and "'read'" in told


def test_a_file_comes_again_from_its_number() -> None:
    files = fuzz_models.seeds()
    assert fuzz_models.mutant(files, 3, 17) == fuzz_models.mutant(files, 3, 17)
    assert fuzz_models.mutant(files, 3, 17) != fuzz_models.mutant(files, 3, 18)


def test_a_process_that_dies_is_told_and_the_rest_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real = fuzz_models.run_one

    def run_one(path: Path, number: int) -> fuzz_models.Outcome:
        if number == 5:
            os._exit(9)
        return real(path, number)

    monkeypatch.setattr(fuzz_models, "run_one", run_one)
    found = fuzz_models.run_chunk(0, range(3, 8), tmp_path)
    assert [o.number for o in found] == [3, 4, 5, 6, 7]
    assert found[2].kind == "process died"
