"""Many samples at once give what each gives alone, with every op that keeps samples apart."""

from __future__ import annotations

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
