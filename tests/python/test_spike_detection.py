"""What SpikeGuard's rule sees: the cases of `spike_detection.py`, fewer of each."""

import numpy as np
import pytest
import spike_detection as detection

SEEDS = range(20, 24)  # others than those that were looked at when the rule was made


@pytest.mark.parametrize(
    ("noise", "factor"),
    [
        ("normal, 10 %", 3),
        ("Student t, 5 d.f., 10 %", 3),
        ("log-normal, sd 0.3", 10),
        ("normal, 10 %", 10),
    ],
)
def test_spikes_that_noise_does_not_make_are_all_seen(noise, factor):
    assert all(detection.recall(factor, noise, seed)[0] == 1 for seed in SEEDS)


@pytest.mark.parametrize("course", ["falls", "falls to nothing", "warm-up"])
@pytest.mark.parametrize("noise", ["normal, 10 %", "log-normal, sd 0.3"])
def test_healthy_training_gives_at_most_one_false_alarm_in_ten_thousand_batches(course, noise):
    n = 2500
    assert sum(detection.false_alarms(course, noise, seed, n) for seed in SEEDS) <= 1


def test_a_rise_by_the_weights_cuts_the_rate_and_one_by_the_data_does_not():
    by_weights = [detection.drifting(seed, by_weights=True) for seed in SEEDS]
    assert np.median([cut for cut, _ in by_weights]) < 128
    by_data = [detection.drifting(seed, by_weights=False) for seed in SEEDS]
    assert by_data == [(None, True)] * len(SEEDS)
