"""A rate that is reset is the one by which the next three steps move a weight."""

import learning_rate_table as table
import numpy as np
import pytest


def name_of(case):
    engine, old, new, when, restart = case
    return f"{engine}-{old}-{new}-{when}-{'restart' if restart else 'go on'}"


@pytest.mark.parametrize("case", table.CASES, ids=name_of)
def test_the_next_steps_use_the_rate(case):
    _, _, new, when, restart = case
    rates = table.measure(*case, table.with_kguard)
    np.testing.assert_allclose(rates, table.expected(new, when, restart), rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", table.ENGINES)
def test_the_measure_tells_a_schedule_that_is_ignored(engine):
    rates = table.measure(engine, "schedule", "schedule", "inside", False, table.with_keras)
    new = np.allclose(rates, table.expected("schedule", "inside", False), rtol=0, atol=1e-6)
    assert new == (engine in ("tf eager", "torch"))
