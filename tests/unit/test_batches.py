"""Many samples at once give what each gives alone, with every op that keeps samples apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import CASES
from support.nets import random_samples
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.verify import verify

BATCH = 5
# Ops that have no batch: what they keep goes from sample to sample.
NEVER = {"svdf"}


@pytest.mark.parametrize("op", sorted(CASES))
def test_a_batch_gives_the_results_of_single_samples(op: str) -> None:
    wide = 0
    for case in CASES[op]:
        rng = np.random.default_rng(3)
        graph = case.build(rng)
        batched = interpreter.with_batch(graph, BATCH)
        if batched is None:
            continue
        wide += 1
        verify(batched)
        samples = random_samples(graph, rng, BATCH)
        together = interpreter.run_samples(graph, samples, batch=BATCH)
        alone = interpreter.run_samples(graph, samples, batch=BATCH + 1)
        for y, z in zip(together, alone, strict=True):
            if y.dtype.kind == "f":
                np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(y, z)
    assert bool(wide) != (op in NEVER)


def test_samples_that_start_from_a_state_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = next(case for case in CASES["lstm"] if case.name == "small").build(
        rng := np.random.default_rng(3)
    )
    assert graph.state
    samples = random_samples(graph, rng, BATCH)
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return run(*arguments)

    run = interpreter.run
    monkeypatch.setattr(interpreter, "run", counted)
    together = interpreter.run_samples(graph, samples, batch=BATCH)
    assert calls == 1
    alone = interpreter.run_samples(graph, samples, batch=BATCH + 1)
    assert calls == 1 + BATCH
    np.testing.assert_array_equal(together[0], alone[0])
