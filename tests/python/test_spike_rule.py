"""The rule of SpikeGuard, on losses whose cause is known."""

import math
from itertools import groupby, pairwise, product

import numpy as np
import pytest
import spike_runs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spike_runs import Run, falling, on_data, valley

from pykguard.rules import spike
from pykguard.rules.spike import _dead, _drift, _evidence, _levels, _limit, _progress, _search

NAN = math.nan
each_interval = pytest.mark.parametrize("interval", [1, 16])


def spiked(n=400, places=(), factor=10.0, **options):
    losses = falling(n, end=1.5, **options)
    for place in places:
        losses[place] *= factor
    return losses


def without(n, *missing):
    return tuple(t for t in range(n) if t not in missing)


# ---------------------------------------------------------------- healthy training
@each_interval
@pytest.mark.parametrize("shape", spike_runs.SHAPES)
def test_healthy_training_is_left_alone(shape, interval):
    run = Run(on_data(falling(2000, shape=shape)), 2000, interval=interval)
    assert run.state == without(2000)
    assert run.rejected == [] and set(run.causes) == {"good"}
    assert run.rule.scale == 1.0 and not run.stopped


def test_a_cycle_of_easy_and_hard_batches_is_left_alone():
    losses = falling(1500) * np.where(np.arange(1500) % 50 < 10, 1.5, 1.0)
    run = Run(on_data(losses), 1500)
    assert run.rejected == [] and run.rule.scale == 1.0
    assert run.causes.count("drift is data") <= 1


@pytest.mark.parametrize("height", [0.3, 1.0, 1.9])
def test_a_row_that_is_not_learnt_by_heart_as_all_others_are_is_left_alone(height):
    log_normal = np.exp(1.3 * np.random.default_rng(0).normal(size=1000))
    losses = np.maximum(np.exp(-np.arange(1000) / 100), 0.002) * log_normal
    losses[0] = 0.69
    losses[700:900:50] = height * 0.69
    run = Run(on_data(losses), 1000)
    assert run.rejected == [] and run.rule.scale == 1.0
    losses[800] = 100.0
    assert [each.where for each in Run(on_data(losses), 1000).rejected] == [800]


def first_then(*losses):
    """Falling losses after some first ones."""
    return on_data([*losses, *falling(200 - len(losses), start=losses[0])])


@each_interval
@pytest.mark.parametrize(
    "first",
    [  # of the first batches of a small LSTM on the yearly sunspots, unguarded, at three rates
        (0.729, 2.71, 1.67, 2.54, 2.16, 2.49, 1.54, 1.75, 1.54, 1.25),
        (0.729, 5.47, 0.511, 2.2, 1.52, 1.45, 0.759, 0.845, 0.635, 0.395),
        (0.729, 2.64, 1.38, 1.75, 1.07, 1.06, 0.631, 0.951, 1.01, 0.7),
    ],
)
def test_first_batches_that_differ_much_are_left_alone(first, interval):
    run = Run(first_then(*first), 200, interval=interval)
    assert run.rejected == [] and run.state == without(200)


@pytest.mark.parametrize("place", range(1, 8))
def test_of_the_first_losses_one_alone_is_bad_above_ten_times_the_first_and_two_above_three(place):
    def lost(*values):
        losses = [1.0] * 20
        losses[place : place + len(values)] = values
        return set(range(20)) - set(Run(on_data(losses), 20).state)

    assert lost(9.9) == set() and lost(10.1) == {place}
    if place < 7:  # the ninth is not among the first
        assert lost(3.1, 2.9) == set() and place + 1 in lost(3.1, 3.1)


def after_one(**seen):
    rule, _ = spike.step(spike.Options(), spike.State(), spike.Seen((1.0,)))
    return spike.step(spike.Options(), rule, spike.Seen(**seen))


@pytest.mark.parametrize("following", [3.1, NAN, math.inf])
def test_where_the_next_loss_is_known_the_first_of_two_high_ones_is_bad(following):
    _, decision = after_one(losses=(4.0,), following=following)
    assert decision.put_back == "before" and decision.value == 4.0
    _, decision = after_one(losses=(4.0, following))
    assert decision.put_back == "before" and decision.value == 4.0


@pytest.mark.parametrize("following", [2.9, None])
def test_a_high_loss_that_may_be_chance_proves_nothing(following):
    _, decision = after_one(losses=(4.0,), following=following)
    assert decision.cause == "good" and decision.keep == ()
    _, decision = after_one(losses=(2.9,), following=following)
    assert decision.cause == "good" and "proven" in decision.keep


@pytest.mark.parametrize("height", [3.5, 5.0, 9.0])
def test_a_rate_that_throws_the_weights_a_little_too_far_at_once_is_found(height):
    run = Run(lambda t, state, scale: height if state and scale > 0.5 else 1.0, 40)
    assert run.rule.scale < 0.5 and len(run.said("weights")) == 1


def test_after_trouble_one_high_loss_of_the_first_is_enough():
    losses = [1.0] * 20
    losses[2], losses[5] = 1e3, 4.0
    assert Run(on_data(losses), 20).state == without(20, 2, 5)


def test_losses_below_zero_are_judged_by_their_spread():
    losses = -1 - np.linspace(0, 3, 600) + 0.05 * np.random.default_rng(0).normal(size=600)
    losses[300] += 20
    run = Run(on_data(losses), 600)
    assert [each.where for each in run.rejected] == [300]


def test_where_most_losses_are_zero_others_are_judged_by_the_first_level():
    losses = np.where(np.arange(600) < 200, falling(600), 0.0)
    losses[300::7], losses[450] = 1.5, 50.0
    run = Run(on_data(losses), 600)
    assert [each.where for each in run.rejected] == [450] and run.rule.scale == 1.0


def test_where_losses_spread_widely_two_high_ones_in_a_row_are_suspect_and_one_is_not():
    random = np.random.default_rng(0)
    losses = np.where(
        np.arange(600) < 200, falling(600), 1e-3 * np.exp(2 * random.normal(size=600))
    )
    alone, in_a_row = losses.copy(), losses.copy()
    alone[[400, 420, 440]] = in_a_row[[400, 401, 402]] = 8.0  # four times the first level
    assert Run(on_data(alone), 600).rejected == []
    assert [each.where for each in Run(on_data(in_a_row), 600).rejected] == [401, 402]


def test_losses_of_exactly_zero_do_not_make_the_next_one_bad_data_for_ever():
    losses = np.where(np.arange(600) < 200, falling(600), 0.0)
    losses[400:] = 0.01
    run = Run(on_data(losses), 600)
    assert run.state[-1] == 599 and run.rule.scale == 1.0


def test_in_calm_states_are_kept_ever_further_apart_up_to_the_interval():
    curve = on_data(falling(200, noise=0.0))
    assert Run(curve, 200, interval=32).kept_at == [0, 1, 4, *range(16, 200, 32)]
    assert Run(curve, 200, interval=10).kept_at == [0, 1, 4, *range(14, 200, 10)]
    assert Run(curve, 200, interval=1).kept_at == list(range(200))
    at_the_end = Run(curve, 200, interval=32, n_known=True).kept_at
    assert at_the_end == [0, 1, 4, *range(16, 187, 32), 187, 195]


def test_a_new_best_ends_the_suspicion_of_a_drift():
    run = Run(on_data(falling(110, noise=0.0)), 110, interval=32)
    suspicious = run.rule._replace(seems_off=True)
    lower = spike.Seen((0.9 * run.rule.progress.best,), kept=False)
    assert not spike.step(run.options, suspicious, lower)[0].seems_off


def test_batches_are_judged_together_only_in_calm():
    def after(n, losses=None, n_left=1000, interval=32):
        run = Run(
            on_data(falling(n, noise=0.0) if losses is None else losses), n, interval=interval
        )
        return spike.together(run.options, run.rule, n_left)

    # To the next of the states before the batches 1, 4, 16, 48 and 80, but no more than 8.
    assert [after(n) for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16)] == [3, 2, 1, 8, 8, 8, 8, 7, 1, 8]
    assert [after(n) for n in (40, 41, 47, 49, 71, 73)] == [8, 7, 1, 8, 8, 7]
    assert after(40, interval=1) == 1
    assert [after(40, n_left=left) for left in (None, 12, 14, 15, 20, 21)] == [1, 1, 1, 2, 7, 8]
    spike_at_40 = falling(60, noise=0.0)
    spike_at_40[40] = NAN
    assert after(60, spike_at_40) == 1


def test_those_that_are_judged_together_end_where_the_kernels_are_looked_at():
    options, rule, looks = spike.Options(interval=32), spike.State(), []
    t = 0
    while t < 300:
        n = spike.together(options, rule, 1000 - t)
        kept = spike.is_due(options, rule, 1000 - t)
        for place in range(n):
            seen = spike.Seen((1.0,), kept and place == 0, n_left=999 - t, n_all=1000)
            rule, decision = spike.step(options, rule, seen)
            if decision.mark is not None:
                looks.append((decision.mark, t, place == n - 1))
            if decision.mark == 2:
                rule, _ = spike.compared(options, rule, spike_runs.kernels(8))
            t += 1
    assert [mark for mark, _, _ in looks] == [0, 1, 2] * (len(looks) // 3) and len(looks) >= 9
    assert all(is_at_the_end for _, _, is_at_the_end in looks)
    apart = [t - before for (_, before, _), (mark, t, _) in pairwise(looks) if mark]
    assert set(apart) == {4}


# ---------------------------------------------------------------- bad data
@pytest.mark.parametrize("factor", [3, 5, 10, 1e4, math.inf, NAN])
def test_an_isolated_bad_batch_leaves_no_trace_and_costs_no_rate(factor):
    places = (60, 62, 150, 330)
    run = Run(on_data(spiked(places=places, factor=factor)), 400)
    assert run.state == without(400, *places)
    assert [each.where for each in run.rejected] == list(places)
    assert {each.cause for each in run.rejected} == {"data"}
    assert run.rule.scale == 1.0


def test_the_evidence_is_the_loss_and_the_median_of_the_accepted_ones():
    losses = spiked(places=(200,))
    [rejected] = Run(on_data(losses), 400).rejected
    assert rejected.value == losses[200]
    assert rejected.reference == pytest.approx(np.median(losses[200 - 128 : 200]))


def test_with_sparse_states_a_bad_batch_takes_back_those_since_the_last_one():
    run = Run(on_data(spiked(places=(201,), noise=0.0)), 400, interval=16)
    lost = set(range(400)) - set(run.state)
    assert lost == set(range(max(t for t in run.kept_at if t < 201), 202))
    assert [each.cause for each in run.rejected] == ["unclear"]
    assert run.rule.scale == 1.0


def test_after_a_bad_batch_every_state_is_kept_so_the_next_one_costs_only_itself():
    run = Run(on_data(spiked(places=(201, 240), noise=0.0)), 400, interval=16)
    lost = set(range(400)) - set(run.state)
    assert 240 in lost and not lost & set(range(202, 240))
    assert [each.cause for each in run.rejected] == ["unclear", "data"]


@pytest.mark.parametrize("value", [1e4, NAN])
def test_bad_data_in_a_third_of_the_batches_cost_no_rate(value):
    bad = np.random.default_rng(0).random(600) < 1 / 3
    bad[:3] = False
    losses = np.where(bad, value, falling(600))
    run = Run(on_data(losses), 600)
    assert run.rule.scale == 1.0
    good = set(np.flatnonzero(~bad))
    assert set(run.state) <= good
    missing = good - set(run.state) - {598}  # the last one is unproven
    assert len(missing) <= 12 and max(missing) < 40  # by which it was seen that data are bad


def test_a_bad_first_batch_does_not_define_what_is_normal():
    losses = falling(200)
    losses[0] = 1e6
    losses[40] = 1e5
    run = Run(on_data(losses), 200)
    assert 40 not in run.state


def test_where_the_first_batches_are_bad_training_begins_anew_without_them():
    losses = falling(200)
    bad = [0, 2, 5, 6, 9]
    losses[bad] = [6e6, 2e7, 1e6, 3e6, 1e7]
    run = Run(on_data(losses), 200)
    assert run.rejected[0][:4] == (0, 6e6, losses[3], "first")
    assert not set(run.state) & set(bad) and run.rule.scale == 1.0
    assert set(range(10, 200)) <= set(run.state)


def test_the_normal_loss_is_none_of_those_that_a_bad_first_batch_made():
    losses = falling(200)
    losses[[0, 2, 4]] = [6e9, 1e10, 3e4]
    moved = lambda state: 1e4 if 0 in state else 1  # noqa: E731
    run = Run(lambda t, state, scale: losses[t] * moved(state), 200)
    assert not set(run.state) & {0, 2, 4} and run.rule.scale == 1.0
    assert [each.where for each in run.rejected] == [0, 4]
    assert _levels.initial_level(run.rule.levels) < 3


def test_where_the_initial_weights_are_far_off_one_good_update_is_no_offence():
    losses = falling(200)
    run = Run(lambda t, state, scale: losses[t] * (1 if state else 300), 200)
    assert run.rejected == [] and not run.stopped and run.rule.scale == 1.0
    assert set(range(200)) - set(run.state) == set(range(1, 7))  # by which it was found out


def test_a_burst_of_bad_labels_is_passed_by():
    losses = spiked(places=range(200, 208), factor=30)
    run = Run(on_data(losses), 400)
    assert run.state == without(400, *range(200, 209))  # one was measured at older weights
    assert run.rule.scale == 1.0


def test_where_data_stay_at_a_new_level_it_becomes_the_normal_one():
    losses = falling(600)
    losses[300:] = 4 * (1 + 0.05 * np.sin(np.arange(300)))
    run = Run(on_data(losses), 600)
    assert len(set(range(600)) - set(run.state)) <= 24
    assert run.rule.scale == 1.0 and "level" in run.causes


def test_a_slow_rise_of_the_data_costs_no_rate():
    losses = falling(900)
    losses[400:] = losses[399] * np.exp(np.arange(500) / 120)
    run = Run(on_data(losses), 900)
    assert "drift is data" in run.causes
    assert run.rule.scale == 1.0 and run.state[-1] > 880


@pytest.mark.parametrize("interval", [1, 100])
@pytest.mark.parametrize("is_rate", [True, False])
def test_a_lasting_rise_is_found_though_losses_differ_much(is_rate, interval):
    n_cut = n_looked = 0
    for seed in range(10):
        curve = falling(650, noise=0.0) * np.random.default_rng(seed).gamma(3, 1 / 3, size=650)

        def loss(t, state, scale, curve=curve):
            is_high = any(each >= 450 for each in state) and scale == 1.0 if is_rate else t >= 450
            return float(curve[t]) * (4.0 if is_high else 1.0)

        run = Run(loss, 650, interval=interval)
        n_looked += "drift is data" in run.causes
        if run.rule.scale < 1.0:
            n_cut += 1
            assert min(t for t in range(650) if run.scales[t] < 1.0) >= 450
            assert not any(450 <= each < 470 for each in run.state)
    assert n_cut >= 7 if is_rate else n_cut == 0 and n_looked >= 8


def test_chance_does_not_put_a_rise_of_the_data_down_to_the_rate():
    for seed in range(12):
        noise = np.random.default_rng(seed).gamma(3, 1 / 3, size=700)
        losses = falling(700, noise=0.0) * noise * np.where(np.arange(700) < 400, 1, 4)
        assert Run(on_data(losses), 700).rule.scale == 1.0, seed


def n_checking(n_known, seed):
    """How many batches the longest check takes, where a drifted state is not clearly worse."""
    noise = np.random.default_rng(seed).gamma(1.5, 1 / 1.5, size=700)
    curve = falling(700, noise=0.0) * noise

    def loss(t, state, scale):
        return float(curve[t]) * (3.0 if any(each >= 630 for each in state) else 1.0)

    causes = Run(loss, 700, n_known=n_known).causes
    return max(len(list(same)) for cause, same in groupby(causes) if cause == "checking")


def test_a_check_takes_a_quarter_of_the_batches_that_are_left_at_most():
    assert 20 <= max(n_checking(False, seed) for seed in range(6)) <= 40
    assert max(n_checking(True, seed) for seed in range(6)) <= 70 // 4


def test_a_few_hard_batches_that_look_like_a_drift_cost_no_rate():
    """They are over when the best state is measured; so the present one is measured too."""
    losses = falling(800, end=1.5, noise=0.02)
    losses[400:413] *= 1.9
    run = Run(on_data(losses), 800)
    assert "drift is data" in run.causes
    assert run.rejected == [] and run.rule.scale == 1.0


def test_weights_that_are_not_finite_are_blamed_on_the_batch_before():
    finite = lambda state: 100 not in state  # noqa: E731
    run = Run(on_data(falling(300)), 300, finite=finite)
    assert run.state == without(300, 100, 101)
    [rejected] = run.rejected
    assert (rejected.where, rejected.cause, rejected.weights_finite) == (100, "data", False)
    assert run.rule.n_bad == 1


def test_weights_that_each_update_breaks_are_blamed_on_the_rate():
    bad = lambda state, scale: len(state) > 150 and scale > 0.3  # noqa: E731
    scales = {}

    def loss(t, state, scale):
        scales[(*state, t)] = scale
        return float(falling(400)[t])

    finite = lambda state: not state or not bad(state, scales[state])  # noqa: E731
    run = Run(loss, 400, finite=finite)
    assert run.said("weights") and 0.25 in run.scales and run.rule.scale < 0.3
    assert len(run.state) > 200


# ---------------------------------------------------------------- rates at fault
@each_interval
@pytest.mark.parametrize("too_high", [3, 10, 1e3, 1e6])
def test_a_rate_that_is_too_high_is_found_in_time(too_high, interval):
    loss = valley(0.5 * too_high)
    run = Run(loss, 500, interval=interval)
    assert loss.weights[run.state] ** 2 < 1e-3
    found = [s for s, cause in zip(run.scales, run.causes, strict=True) if cause == "found"]
    assert all(0.5 * too_high * scale < 2 for scale in found) and bool(found) == (too_high > 3)
    assert not run.stopped


def test_a_rate_is_searched_from_the_initial_state():
    loss = valley(100.0)
    run = Run(loss, 60)
    first = run.rejected[0]
    assert first.cause == "weights" and run.causes.count("weights") >= 3
    assert run.scales[-1] <= 0.3**3


def test_the_search_ends_with_the_state_and_the_rate_of_the_best_trial():
    def loss(t, state, scale):  # the second trial is the one that ends lowest
        if scale == 1.0:
            return 1e3 if state else 2.0
        ends = {1: 1.0, 2: 0.5, 3: 0.8}
        return 2.0 - (2.0 - ends[round(math.log(scale, 0.3))]) * min(len(state), 20) / 20

    run = Run(loss, 90)
    assert [each.cause for each in run.rejected] == ["weights", "trial", "trial", "found"]
    place = run.causes.index("found")
    assert run.scales[place] == run.scale == pytest.approx(0.09)
    assert run.rejected[-1].value == pytest.approx(0.8, rel=0.2)
    assert len(run.state) > 24 and run.state[0] == run.slots["best"][0]


@pytest.mark.parametrize(("end", "scale"), [(1.01, 0.09), (1.2, 0.3)])
def test_of_two_trials_that_end_alike_the_one_at_the_lower_rate_is_taken(end, scale):
    noise = np.where(np.arange(200) % 2, 0.95, 1.05)

    def loss(t, state, scale):
        if scale == 1.0:
            return 1e3 if state else 2.0
        level = {1: 1.0, 2: end}[round(math.log(scale, 0.3))]
        return float(noise[t]) * (2.0 - (2.0 - level) * min(len(state), 10) / 10)

    run = Run(loss, 90)
    assert [each.cause for each in run.rejected] == ["weights", "trial", "found"]
    assert run.rule.scale == pytest.approx(scale)
    assert len(run.state) > 24 and run.state[0] == run.slots["best"][0]


def poisoned(n, begins_with, seed):
    """Batches a third of which hold bad data, and which they are at first."""
    bad = np.random.default_rng(seed).random(n) < 1 / 3
    bad[: len(begins_with)] = begins_with
    return dict.fromkeys(np.flatnonzero(bad).tolist(), 100.0)


# Two bad in a row, one that is good at the initial weights, and another bad one: nothing tells them
# from broken weights where no batch has been found bad yet.
MISLEADING = (0, 0, 1, 1, 0, 1)


@pytest.mark.parametrize("seed", range(8))
def test_a_rate_that_bad_data_made_look_too_high_is_tried_again(seed):
    loss = valley(0.02, bad=poisoned(800, MISLEADING, seed))
    run = Run(loss, 800)
    causes = [each.cause for each in run.rejected if each.cause != "data"]
    assert causes == ["weights", "trial", "again", "found"]
    assert run.scales[run.causes.index("found")] == 1.0
    assert loss.weights[run.state] ** 2 < 1e-3


@pytest.mark.parametrize("seed", [1, 6, 7])
def test_a_rate_that_is_too_high_breaks_also_where_it_is_tried_again(seed):
    loss = valley(20.0, bad=poisoned(800, (), seed))
    run = Run(loss, 800)
    causes = [each.cause for each in run.rejected if each.cause != "data"]
    place = causes.index("again")
    assert causes[place + 1] == "weights" and not run.stopped
    assert 20.0 * run.rule.scale < 2
    assert loss.weights[run.state] ** 2 < 1e-3


def test_no_rate_is_tried_again_where_the_data_are_good():
    run = Run(valley(500.0), 300)
    assert len(run.said("weights")) >= 4 and not run.said("again")


# ---------------------------------------------------------------- trials
def by_rate(ends, *, broken=1.0, noise=0.0):
    """Losses of trials that end at a level for each power of 0.3, after a rate that breaks."""
    random = np.random.default_rng(0)

    def loss(t, state, scale):
        if scale == broken:
            return 1e3 if state else 2.0
        end = ends[min(round(math.log(scale, 0.3)), len(ends)) - 1]
        level = 2.0 - (2.0 - end) * min(len(state), 20) / 20
        return float(level * (1 + noise * random.normal()))

    return loss


def test_on_a_plateau_the_rate_is_not_lowered_for_the_sake_of_less_noise():
    run = Run(by_rate([2.3, 2.1, 2.09, 2.08, 2.07, 2.06]), 120)
    assert run.scales[run.causes.index("found")] == pytest.approx(0.09)


def test_after_a_trial_that_ends_far_off_the_rate_is_cut_twice():
    run = Run(by_rate([5.0, 4.5, 1.0, 0.5, 0.8]), 120)
    tried = list(dict.fromkeys(run.scales))
    assert tried[:4] == pytest.approx([1.0, 0.3, 0.3**3, 0.3**4])


def test_a_trial_after_which_most_units_have_ceased_to_learn_is_abandoned():
    ends = by_rate([0.5, 0.6, 1.0, 1.2])  # the higher the rate, the quicker, but it kills units
    rates = {}

    def loss(t, state, scale):
        rates[(*state, t)] = scale
        return ends(t, state, scale)

    kills = lambda state: 1 if len(state) > 6 and rates[state] > 0.05 else 8  # noqa: E731
    run = Run(loss, 150, units=kills)
    assert len(run.said("dead")) == 2
    assert run.scales[run.causes.index("found")] == pytest.approx(0.027)


def test_a_trial_that_kills_is_abandoned_in_its_middle():
    rates = {}
    ends = by_rate([1.5, 1.0, 0.8])

    def loss(t, state, scale):
        rates[(*state, t)] = scale
        return ends(t, state, scale)

    kills = lambda state: 0 if len(state) > 3 and rates[state] > 0.2 else 8  # noqa: E731
    run = Run(loss, 100, units=kills)
    places = {cause: t for t, cause in zip(run.when, run.causes, strict=True)}
    assert places["dead"] - places["weights"] == 12


def test_a_lower_rate_that_seems_to_kill_ends_the_search():
    rates = {}
    ends = by_rate([1.0, 0.8, 0.5])

    def loss(t, state, scale):
        rates[(*state, t)] = scale
        return ends(t, state, scale)

    units = lambda state: 0 if len(state) > 6 and rates[state] < 0.2 else 8  # noqa: E731
    run = Run(loss, 80, units=units)
    assert len(run.said("dead")) == 1 and not run.stopped
    assert run.rule.scale == pytest.approx(0.3)


@pytest.mark.parametrize(("n_all", "n"), [(0, 24), (100, 16), (300, 18), (384, 24), (10**6, 24)])
def test_a_trial_has_a_sixteenth_of_the_training_within_limits(n_all, n):
    assert _search.length(n_all) == n


# ---------------------------------------------------------------- comparisons of rates
def narrow_at_first(rate):
    """Gradient descent whose curvature is 100 where it begins and 0.1 near the minimum."""
    weights = {(): 3.0}

    def loss(t, state, scale):
        w = weights[state]
        slope = 0.1 * w if abs(w) <= 1 else math.copysign(100 * (abs(w) - 1) + 0.1, w)
        there = w - rate * scale * slope
        weights[(*state, t)] = there if abs(there) < 1e100 else math.nan
        value = 0.05 * w * w + 50 * max(abs(w) - 1, 0) ** 2
        return value if math.isfinite(value) else math.inf

    loss.weights = weights
    return loss


def test_a_rate_that_was_too_high_at_first_is_raised_again_as_long_as_that_helps():
    loss = narrow_at_first(1.0)
    run = Run(loss, 1200)
    assert min(run.scales) < 0.05 and run.causes.count("raised") >= 3
    assert run.rule.scale == 1.0  # and no higher
    assert 0.05 * loss.weights[run.state] ** 2 < 1e-6


def hovering(level, *, n=2000, seed=0, noise=0.1):
    """Losses that hover at a level which depends on the rate, after the rate was at fault."""
    noise = np.exp(noise * np.random.default_rng(seed).normal(size=n))
    curve = falling(300)

    def loss(t, state, scale):
        if any(each >= 250 for each in state) and scale == 1.0:
            return 1e3
        return float(curve[t]) if t < 300 else float(level(scale) * noise[t])

    return loss


def test_where_the_loss_hovers_a_lower_rate_is_taken_if_that_helps():
    run = Run(hovering(lambda scale: 0.1 + 0.2 * scale), 2000)
    assert run.causes.count("lowered") >= 1 and "raised" not in run.causes
    assert run.rule.scale <= 0.3 * 0.5


@pytest.mark.parametrize("seed", range(6))
def test_where_rates_make_no_difference_it_mostly_stays(seed):
    run = Run(hovering(lambda scale: 0.2, n=8000, seed=seed), 8000)
    assert run.causes.count("lowered") + run.causes.count("raised") <= 2
    assert run.rule.scale > 0.1


def test_a_rate_that_stays_is_compared_ever_more_seldom():
    run = Run(hovering(lambda scale: 0.2, n=8000, noise=0.0), 8000)
    places = [t for t, cause in zip(run.when, run.causes, strict=True) if cause == "compared"]
    waits = np.diff(places)
    assert len(places) >= 4 and "raised" not in run.causes
    assert all(later > 1.5 * earlier for earlier, later in pairwise(waits))


def test_what_a_rate_that_lost_has_trained_is_taken_back():
    run = Run(hovering(lambda scale: 0.2 if scale == 0.5 else 0.4), 700)
    began, lost = (run.causes.index(cause) for cause in ("comparing", "compared"))
    assert run.when[lost] - run.when[began] == 24
    assert not set(run.state) & set(range(run.when[began], run.when[lost] + 1))
    assert run.scales[lost] == run.rule.scale == 0.5
    assert len(set(run.scales[began:lost])) == 1 and run.scales[began] != 0.5


def test_a_rate_that_breaks_the_weights_loses():
    def loss(t, state, scale):
        if any(each >= 250 for each in state) and scale > 0.6:
            return 1e3
        return float(curve[t])

    curve = falling(1500)
    run = Run(loss, 1500)
    assert "compared" in run.causes and len(run.said("weights")) == 1
    assert run.rule.scale == 0.5


def test_no_rates_are_compared_while_there_are_few_losses_to_say_whether_they_hover():
    run = Run(hovering(lambda scale: 0.2), 300)
    few = run.rule._replace(progress=type(run.rule.progress)(), since_compared=10**6)
    rule, n = few, 0
    while rule.comparison is None:
        rule, n = spike.step(run.options, rule, spike.Seen((0.2,)))[0], n + 1
    assert n == 8


def test_a_comparison_that_training_ends_in_leaves_the_state_and_the_rate_of_before():
    whole = Run(hovering(lambda scale: 0.2), 900)
    began = whole.when[whole.causes.index("comparing")]
    run = Run(hovering(lambda scale: 0.2), began + 5)
    assert run.rule.comparison.other is not None
    assert run.state == run.slots["held"] and run.state[-1] < began
    assert spike.warmed(run.rule).scale == 0.5


def test_what_was_reached_while_much_was_left_out_is_no_best_state():
    """Most losses are 0 and those above are taken for bad data, as where weights are huge."""
    state = spike.State(is_under_way=True, progress=_progress.Progress(best=0.0))
    for n_bad, is_set_aside in ((9, True), (15, False)):
        troubled = state._replace(n_seen=100, n_bad=n_bad)
        evidence = spike._types.Rejected(None, 0.0, None)
        after, decision = spike._trials.begin_anew(troubled, "dead", evidence)
        assert decision.set_aside == is_set_aside
        assert after.aside == (0.0 if is_set_aside else math.inf)


def test_a_network_whose_units_are_lost_after_the_search_begins_anew_at_a_lower_rate():
    rates = {}
    ends = by_rate([0.5, 0.6, 1.0, 1.2])

    def loss(t, state, scale):
        rates[(*state, t)] = scale
        return ends(t, state, scale)

    kills = lambda state: 1 if len(state) > 40 and rates[state] > 0.2 else 8  # noqa: E731
    run = Run(loss, 1000, units=kills, n_known=True)
    assert len(run.said("harmed")) == 1 and run.said("harmed")[0].value == pytest.approx(0.5)
    assert spike.warmed(run.rule).scale < 0.2


# ---------------------------------------------------------------- a part of the batches
@pytest.mark.parametrize("seed", range(6))
def test_weights_that_explode_on_a_part_of_the_batches_are_no_bad_data(seed):
    explodes = np.random.default_rng(seed).random(600) < 0.4
    curve = falling(600)

    def loss(t, state, scale):
        return 1e6 if state and scale > 0.2 and explodes[t] else float(curve[t])

    run = Run(loss, 600)
    assert run.said("some")
    assert run.rule.scale < 0.2 and not run.stopped


@pytest.mark.parametrize("seed", range(6))
def test_bad_data_are_bad_at_the_initial_weights_too(seed):
    bad = np.random.default_rng(seed).random(600) < 0.3
    bad[:4] = False
    run = Run(on_data(np.where(bad, 1e6, falling(600))), 600)
    assert run.rule.scale == 1.0 and not run.said("some")
    assert 2 <= run.causes.count("checking") < 30


# ---------------------------------------------------------------- rates at fault later
def test_a_rate_at_fault_late_goes_back_to_the_best_state_and_is_cut_once():
    curve = falling(700)

    def loss(t, state, scale):
        broken = any(each >= 400 for each in state) and scale == 1.0
        return 1e3 if broken else float(curve[t])

    run = Run(loss, 700)
    assert set(run.scales[400:450]) == {1.0, 0.5}
    assert run.rule.scale <= 0.7  # it may be raised again, but not to where it was at fault
    assert [each.cause for each in run.rejected] == ["weights"]
    assert len(set(range(400)) - set(run.state)) <= 16
    assert 420 in run.state


def test_a_drift_that_the_best_state_does_not_share_is_the_rates_fault():
    curve = falling(900)

    def loss(t, state, scale):
        drifting = sum(each >= 400 for each in state) if scale == 1.0 else 0
        return float(curve[t]) * math.exp(drifting / 30)

    run = Run(loss, 900)
    assert [each.cause for each in run.rejected if each.cause != "data"] == ["drift"]
    assert 0.5 in run.scales and run.rule.scale <= 0.7 and "drift is data" not in run.causes


@pytest.mark.parametrize(("n", "is_clear"), [(5, False), (10, True)])
def test_enough_measured_losses_say_themselves_how_much_they_differ(n, is_clear):
    bimodal = _progress.Progress(last=(0.5,) * 16 + (1.7,) * 16)
    near = (1 + 0.02 * np.resize([-2, -1, 0, 1, 2], n)).tolist()
    check = spike._types.Check(1.7, None, 40, tuple(0.7 * each for each in near), tuple(near))
    assert _drift._is_clear(spike.State(progress=bimodal), check) == is_clear


def test_the_factor_is_the_users():
    def loss(t, state, scale):
        return 1e3 if any(each >= 200 for each in state) and scale == 1.0 else float(curve[t])

    curve = falling(400)
    scales = Run(loss, 400, lr_factor=0.1).scales
    assert list(dict.fromkeys(scales))[:2] == [1.0, 0.1]


def test_a_dead_network_begins_anew_with_a_lower_rate():
    curve = np.concatenate([falling(200), np.full(300, 0.2)])
    units = lambda state: 0 if any(200 <= t < 300 for t in state) else 8  # noqa: E731
    run = Run(on_data(curve), 500, units=units)
    assert run.said("dead") and run.scale < 1
    assert not set(run.state) & set(range(200))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_a_network_is_dead_where_more_than_half_of_its_kernels_coast(n):
    alive, coasts = spike.Moves(1.0, 1.0, 0.3), spike.Moves(1.0, 0.5, 0.5)
    for units in product((alive, coasts, spike.Moves(1.0, 0.0, 0.0)), repeat=n):
        n_dead = sum(moves is not alive for moves in units)
        learning = _dead.n_learning([[moves, coasts] for moves in units])
        assert _dead.is_dead(learning) == (n_dead > n / 2)


def test_what_a_late_dead_network_had_reached_is_put_back_if_nothing_better_comes():
    curve = falling(300, end=0.3)
    dead = lambda state: len(state) >= 250 and 0 in state  # noqa: E731
    stuck = lambda state: 0.5 if dead(state) else 2.0  # noqa: E731
    losses = lambda t, state, scale: curve[t] if t < 250 else stuck(state)  # noqa: E731
    run = Run(losses, 400, units=lambda state: 0 if dead(state) else 8)
    assert run.said("dead")
    assert set(run.state) <= set(range(250)) and len(run.state) > 200


@pytest.mark.parametrize("seed", range(8))
def test_the_best_state_is_one_whose_own_loss_is_good(seed):
    curve = falling(600, seed=seed, shape="gamma")
    run = Run(on_data(curve), 600, interval=16)
    t = len(run.slots["best"])  # none was undone, so this batch's loss was measured there
    assert run.rejected == [] and t > 100
    newest = curve[t - 15 : t + 1]
    deviation = 1.4826 * np.median(abs(newest - np.median(newest)))
    assert curve[t] <= np.sort(newest)[2:-2].mean() + deviation


@pytest.mark.parametrize("n_known", [True, False])
def test_right_before_the_end_a_small_rise_is_verified_too(n_known):
    curve = falling(600, noise=0.02)

    def loss(t, state, scale):
        return curve[t] * (1.45 if any(each >= 560 for each in state) else 1)

    run = Run(loss, 600, n_known=n_known, interval=150)
    assert bool(set(run.state) & set(range(560, 590))) != n_known


def test_a_state_that_is_far_better_is_gone_back_to_though_the_data_are_hard():
    curve = falling(400)

    def loss(t, state, scale, harder=math.inf):  # the update of batch 320 makes it worse
        return curve[t] * (2.2 if t >= harder else 1) * (1.9 if 320 in state else 1)

    first = Run(loss, 400).causes.index("checking")
    run = Run(lambda *given: loss(*given, harder=first + 1), 400)
    assert run.said("drift") and run.scale < 1 and 320 not in run.state


def test_a_living_network_that_makes_no_progress_is_left_alone():
    curve = np.concatenate([falling(200), np.full(3000, 0.2)])
    run = Run(on_data(curve), 3200)
    assert run.rejected == [] and run.rule.scale == 1.0


def test_after_trouble_the_rate_is_lowered_for_the_end():
    run = Run(valley(30.0), 400, n_known=True)
    for t in (360, 388):
        assert run.used[t] == pytest.approx(0.3 * run.used[t - 1])
    assert run.causes.count("end") == 2
    warmed = spike.warmed(run.rule)
    assert warmed.scale == pytest.approx(run.rule.scale / 0.09) and warmed.n_annealed == 0
    assert "end" not in Run(valley(30.0), 400).causes
    assert "end" not in Run(valley(0.5), 400, n_known=True).causes


@pytest.mark.parametrize(("every", "n_lowered"), [(5, 2), (20, 0)])
def test_where_much_of_the_data_is_bad_the_rate_is_lowered_for_the_end(every, n_lowered):
    run = Run(valley(0.5, bad=dict.fromkeys(range(5, 400, every), NAN)), 400, n_known=True)
    assert len(run.said("data")) >= len(range(5, 400, every)) - 3 and not run.said("weights")
    assert run.causes.count("end") == n_lowered
    assert {scale for t, scale in enumerate(run.used) if t < 359} == {1.0}
    assert spike.warmed(run.rule).scale == pytest.approx(1.0)


def test_a_dead_network_is_found_among_bad_data():
    bad = np.random.default_rng(0).random(600) < 1 / 3
    bad[:3] = False
    curve = np.where(bad, NAN, np.concatenate([falling(200), np.full(400, 0.3)]))
    units = lambda state: 0 if any(200 <= t < 300 for t in state) else 8  # noqa: E731
    run = Run(on_data(curve), 600, units=units)
    assert run.said("dead")


def random_course(random, n):
    """Losses that fall, with noise, bad data, and rates that explode, harm or drift."""
    bad = random.random(n) < random.choice([0.0, 0.02, 0.3])
    bad_value = random.choice([NAN, math.inf, 1e6])
    noise = np.exp(random.choice([0.02, 0.2, 1.0]) * random.normal(size=n))
    explodes = random.random(n) < random.choice([1.0, 0.5])
    level, drift = random.choice([1.0, 100.0]), random.choice([0.0, 0.0, 0.01])
    highest, harmful = 10 ** random.uniform(-4, 0.5), 10 ** random.uniform(-4, 1)
    rates = {}

    def loss(t, state, scale):
        rates[(*state, t)] = scale
        if bad[t]:
            return float(bad_value)
        n_good = len(state)
        if state and scale > highest and explodes[t] and n_good > random.integers(1, 300):
            return float(random.choice([NAN, 1e6, 50 * level]))
        fallen = 0.1 + 0.9 * math.exp(-n_good * min(scale / highest, 1) / 60)
        rises = math.exp(drift * max(0, n_good - 200) * (scale > highest / 3))
        return float(level * fallen * noise[t] * rises)

    def units(state):
        return int(random.integers(0, 9)) if state and rates[state] > harmful else 8

    return loss, units, bad


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_no_state_is_missing_and_no_rate_above_the_first(seed):
    random = np.random.default_rng(seed)
    n = 4 * int(random.integers(25, 200))
    loss, units, bad = random_course(random, n)
    options = {"steps": int(random.choice([1, 1, 4])), "n_known": bool(random.random() < 0.7)}
    run = Run(loss, n, units=units, interval=int(random.choice([1, 16, 32])), **options)
    assert 0 < max(run.scales) <= 1.0 and spike.warmed(run.rule).scale <= 1.0
    if options["steps"] == 1:  # at most the last batch, and what was tried when training ended
        assert sum(bad[t] for t in run.state) <= 1 + sum(bad[t] for t in range(min(n, 12)))
    assert spike.from_dict(spike.to_dict(run.rule)).scale == run.rule.scale


# ---------------------------------------------------------------- where nothing helps
def test_where_no_rate_trains_it_stops_at_the_initial_state():
    run = Run(lambda t, state, scale: NAN if state else 2.0, 3000)
    assert run.stopped and run.state == ()
    assert run.causes[-1] == "exhausted"


def test_where_every_batch_is_bad_it_stops():
    losses = falling(2000)
    losses[300:] = NAN
    run = Run(on_data(losses), 2000)
    assert run.stopped and run.causes[-1] == "all bad"
    assert run.state and max(run.state) < 300


@pytest.mark.parametrize("most", [1, 3])
def test_it_stops_at_the_best_state_when_the_rollbacks_are_used_up(most):
    losses = spiked(n=800, places=range(100, 800, 50))
    run = Run(on_data(losses), 800, max_rollbacks=most)
    assert run.stopped and len(run.rejected) == most
    assert run.causes[-1] == "max_rollbacks"
    assert run.state == run.slots["best"] and len(run.state) > 60


def test_a_last_batch_that_was_bad_is_not_left_in_the_weights():
    run = Run(on_data(spiked(places=(399,))), 400)
    assert run.state == without(398)  # what a good loss was last measured at
    finite = lambda state: 399 not in state  # noqa: E731
    assert 399 not in Run(on_data(falling(400)), 400, finite=finite).state


# ---------------------------------------------------------------- several steps an execution
def test_an_execution_is_undone_as_a_whole():
    run = Run(on_data(spiked(places=(202,))), 400, steps=4)
    assert run.state == without(400, 200, 201, 202, 203)
    assert run.rule.scale == 1.0 and run.rule.n_bad == 1


def test_a_rate_that_breaks_each_execution_is_found():
    loss = valley(50.0)
    run = Run(loss, 800, steps=4)
    assert loss.weights[run.state] ** 2 < 1e-3
    assert len(run.said("data")) <= 2 * len(run.said("weights"))


# ---------------------------------------------------------------- saving
def test_a_saved_state_goes_on_with_its_levels_and_its_rate():
    run = Run(valley(5.0), 400)
    again = spike.from_dict(spike.to_dict(run.rule))
    assert again.scale == run.rule.scale < 1
    assert again.levels == run.rule.levels and again.progress.best == run.rule.progress.best
    assert spike.to_dict(again) == spike.to_dict(run.rule)
    _, decision = spike.step(run.options, again, spike.Seen((1e4,), True))
    assert decision.put_back == "before"


def test_a_state_that_somebody_else_put_back_is_a_proven_one():
    run = Run(on_data(spiked(places=(399,))), 400)
    assert run.rule.pending and run.rule.standing == "unproven"
    state = spike.moved(run.rule._replace(aside=0.1))
    assert math.isinf(state.progress.best) and state.pending == () and math.isinf(state.aside)
    _, decision = spike.step(run.options, state, spike.Seen((1e4,), True))
    assert (decision.put_back, decision.cause) == ("before", "data")


# ---------------------------------------------------------------- properties
finite = st.floats(-1e6, 1e6, allow_nan=False)
any_loss = st.one_of(
    st.floats(0.001, 100), st.floats(0.1, 2), finite, st.sampled_from([NAN, math.inf])
)
traces = st.lists(any_loss, min_size=1, max_size=120)
intervals = st.sampled_from([1, 3, 16])
FEW = settings(max_examples=40, deadline=None)


def quick(losses, **options):
    chosen = {"warmup": 8, "window": 16, **options}
    return Run(on_data(losses), len(losses), **chosen)


@FEW
@given(traces, intervals, st.integers(1, 3))
def test_no_accepted_loss_is_infinite_and_no_state_missing(losses, interval, steps):
    losses = losses[: len(losses) - len(losses) % steps] or losses[:1] * steps
    run = Run(on_data(losses), len(losses), steps=steps, warmup=8, window=16, interval=interval)
    assert all(map(math.isfinite, run.rule.levels.recent))
    assert list(run.rule.levels.ordered) == sorted(run.rule.levels.recent)
    assert not any(math.isnan(each) for each in run.rule.levels.initial)


@FEW
@given(traces, intervals)
def test_the_rate_is_never_above_where_it_began_and_the_rollbacks_are_counted(losses, interval):
    run = quick(losses, interval=interval)
    assert all(0 < scale <= 1 for scale in run.scales)
    assert run.rule.n_rollbacks == len(run.rejected) <= 2 * len(losses)


@FEW
@given(traces, st.integers(-40, 40))
def test_losses_in_another_unit_are_judged_alike(losses, exponent):
    scaled = [loss * 2.0**exponent for loss in losses]
    assume(
        all(math.isnan(a) or b * 2.0**-exponent == a for a, b in zip(losses, scaled, strict=True))
    )
    one, other = quick(losses), quick(scaled)
    assert (one.state, one.causes, one.scales) == (other.state, other.causes, other.scales)


@FEW
@given(traces)
def test_equal_losses_give_equal_decisions(losses):
    assert repr(quick(losses).rejected) == repr(quick(list(losses)).rejected)


@FEW
@given(traces, st.integers(1, 4))
def test_there_are_never_more_rollbacks_than_allowed(losses, most):
    run = quick(losses, max_rollbacks=most)
    assert run.rule.n_rollbacks <= most + 12  # of several batches that are settled together
    assert run.stopped == (run.rule.n_rollbacks >= most)


@FEW
@given(
    st.sets(st.integers(60, 395), max_size=12), st.sampled_from([8.0, 1e3, NAN]), st.integers(0, 9)
)
def test_isolated_bad_batches_never_cost_rate(places, factor, seed):
    apart = [p for p in sorted(places) if not {p - 1, p - 2, p - 3} & places]
    run = Run(on_data(spiked(places=apart, factor=factor, seed=seed)), 400)
    assert set(run.scales) == {1.0}
    assert run.state == without(400, *apart)


@FEW
@given(st.lists(finite, max_size=40), finite, st.floats(0.5, 10), st.integers(1, 20))
def test_a_loss_is_bad_iff_it_is_above_the_limit(before, loss, threshold, warmup):
    levels = _levels.add_initial(_levels.Levels(), 1.0)
    for each in before:
        levels = _levels.add(levels, each, 32)
    above = loss > _limit.limit(levels, threshold, warmup)
    assert _limit.is_bad(levels, loss, threshold, warmup) == above


@pytest.mark.parametrize(
    ("n_seen", "n_bad", "loss", "expected"),
    [(0, 0, 9.0, 2), (5000, 0, 9.0, 2), (5000, 0, NAN, 4), (300, 100, 9.0, 9), (100, 99, 9.0, 12)],
)
def test_bad_data_in_a_row_are_believed_as_long_as_they_are_likely(n_seen, n_bad, loss, expected):
    n = _evidence.needed(n_seen, n_bad, loss)
    assert n == expected
    p = (n_bad + 0.1) / (n_seen + 10)
    assert p**n <= 1e-4 or n == 12


@pytest.mark.parametrize(
    ("n_seen", "n_bad", "n", "expected"),
    [(90, 30, 2, True), (90, 30, 5, True), (90, 30, 6, False), (90, 2, 2, False), (90, 4, 2, True)],
)
def test_a_verdict_is_in_doubt_once_bad_data_are_seen_to_be_frequent(n_seen, n_bad, n, expected):
    assert _evidence.is_doubtful(n_seen, n_bad, n) == expected
    assert (((n_bad + 0.1) / (n_seen + 10)) ** n > 1e-3) == expected
    assert not _evidence.is_doubtful(n_seen, n_bad, _evidence.needed(n_seen, n_bad, 9.0))


@pytest.mark.parametrize(
    ("initial", "expected"),
    [
        ((2.0,), 6.0),
        ((1.0, 4.0), 12.0),
        ((1.0, 2.0, 1e6, 1e6), 6.0),
        ((-2.0,), 2.0),
        ((), math.inf),
    ],
)
def test_the_first_limit_is_three_times_the_highest_normal_loss_at_the_initial_weights(
    initial, expected
):
    levels = _levels.Levels()
    for each in (*initial, NAN, math.inf):
        levels = _levels.add_initial(levels, each)
    assert _limit.limit(levels, 6.0, 32) == expected


@FEW
@given(st.lists(st.floats(0.1, 10), min_size=9, max_size=60), st.floats(0.5, 10), st.floats(1, 500))
def test_the_limit_is_the_documented_one(losses, threshold, initial):
    levels = _levels.Levels()
    for each in losses:
        levels = _levels.add(levels, each, 32)
    a = np.array(losses[-32:])
    (m_cbrt, s_cbrt), (m_log, s_log) = (
        ((m := np.median(v)), 1.4826 * np.median(abs(v - m))) for v in (np.cbrt(a), np.log(a))
    )
    levels = _levels.add_initial(levels, initial)
    highest = 10 * initial if s_log > 1 else initial / 4
    of_logs = min(math.exp(m_log + threshold * s_log), highest)
    expected = max(2 * np.median(a), (m_cbrt + threshold * s_cbrt) ** 3, of_logs)
    assert _limit.limit(levels, threshold, 9) == pytest.approx(expected)
