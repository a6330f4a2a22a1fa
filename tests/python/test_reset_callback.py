"""The callback that replaces the rate at given epochs."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import (
    GuardError,
    GuardWarning,
    LossHistory,
    OptionTypeError,
    OptionValueError,
    ResetLearningRate,
    RevertOnLossIncrease,
    read_history,
)

SCHEDULES = keras.optimizers.schedules
BATCHES = 4


def halving(rate=0.5):
    return SCHEDULES.ExponentialDecay(rate, 1, 0.5)


def fit(callbacks, rate=0.125, epochs=3, **options):
    """The rates of the steps, a list for each epoch."""
    model = helpers.constant_gradient_model(rate)
    x, y = helpers.ones(BATCHES)
    sizes = helpers.StepSizes()
    model.fit(
        x, y, batch_size=1, epochs=epochs, verbose=0, callbacks=[*callbacks, sizes], **options
    )
    return np.reshape(sizes.sizes, (-1, BATCHES)).tolist()


def near(rates):
    return pytest.approx(np.array(rates, dtype="float64"), abs=1e-6)


RESTARTED = [0.5, 0.25, 0.125, 0.0625]
KEPT = [0.125] * 4


def test_at_one_epoch():
    assert np.array(fit([ResetLearningRate(0.25, 1)])) == near([KEPT, [0.25] * 4, [0.25] * 4])


def test_at_several_epochs_a_schedule_starts_over():
    rates = fit([ResetLearningRate(halving(), [0, 2])], epochs=4)
    went_on = [0.5**5, 0.5**6, 0.5**7, 0.5**8]
    assert np.array(rates) == near([RESTARTED, went_on, RESTARTED, went_on])


def test_without_restart_a_schedule_goes_on_from_the_step():
    rates = fit([ResetLearningRate(halving(), 1, restart=False)], epochs=2)
    assert np.array(rates) == near([KEPT, [0.5**5, 0.5**6, 0.5**7, 0.5**8]])


def test_a_function_says_at_which_epochs():
    rates = fit([ResetLearningRate(halving(), lambda epoch: epoch % 2 == 0)], epochs=3)
    assert np.array(rates)[[0, 2]] == near([RESTARTED, RESTARTED])


def test_a_function_of_the_epoch_gives_the_rate():
    def rate(epoch):
        return halving(1.0 / (1 + epoch)) if epoch else 0.25

    rates = fit([ResetLearningRate(rate, [0, 1, 2])])
    thirds = [1 / 3, 1 / 6, 1 / 12, 1 / 24]
    assert np.array(rates) == near([[0.25] * 4, RESTARTED, thirds])


def test_a_function_without_arguments_is_the_rate():
    assert np.array(fit([ResetLearningRate(lambda: 0.25, 1)])[1]) == near([0.25] * 4)


def test_one_rate_for_each_epoch():
    rates = fit([ResetLearningRate([0.25, halving()], [1, 2])])
    assert np.array(rates) == near([KEPT, [0.25] * 4, RESTARTED])


def test_events_name_the_old_rate_and_the_new(capsys):
    reset = ResetLearningRate([0.25, 0.5], [0, 2], verbose=1)
    fit([reset])
    told = [(e.epoch, e.action, e.value, e.learning_rate) for e in reset.events]
    name = "reset_learning_rate"
    assert told == [(0, name, 0.125, 0.25), (2, name, 0.25, 0.5)]
    assert capsys.readouterr().out.split("\n")[1::2] == [
        "Epoch 1: learning rate 0.125 -> 0.25",
        "Epoch 3: learning rate 0.25 -> 0.5",
    ]


def test_a_later_fit_begins_anew():
    reset = ResetLearningRate(0.25, 1)
    for _ in range(2):
        fit([reset], epochs=2)
        assert len(reset.events) == 1


def test_the_record_has_its_events(tmp_path):
    path = str(tmp_path / "losses.csv")
    reset, history = ResetLearningRate(halving(), [0, 2]), LossHistory(path)
    rates = fit([reset, history])
    assert history.events == reset.events
    assert history.batches["learning_rate"] == pytest.approx(np.ravel(rates), abs=1e-6)
    [record] = read_history(path)
    assert record.events == reset.events


def test_config_makes_an_equal_callback():
    config = ResetLearningRate(0.25, [1, 2], restart=False, verbose=1).get_config()
    assert config == {"learning_rate": 0.25, "epoch": [1, 2], "restart": False, "verbose": 1}
    assert ResetLearningRate(**config).get_config() == config


# ---------------------------------------------------------------- bad use
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), OptionValueError, "`learning_rate` must be a finite number above 0, got 0"),
        (("a", 1), OptionTypeError, "`learning_rate` must be a number above 0.*got 'a'"),
        ((lambda a, b: 1, 1), OptionTypeError, "`learning_rate` must be .*of the epoch"),
        (([0.1, 0.2], 1), OptionValueError, "one rate, or a list of one for each epoch"),
        (([0.1, 0.2], [1]), OptionValueError, "one rate, or a list of one for each epoch"),
        (([0.1, helpers.NAN], [1, 2]), OptionValueError, "got nan"),
        ((0.1, -1), OptionValueError, "`epoch` must be a whole number of at least 0, got -1"),
        ((0.1, 1.5), OptionTypeError, "`epoch` must be a whole number.*got 1.5"),
        ((0.1, "all"), OptionTypeError, "`epoch` must be a whole number.*got 'all'"),
        ((0.1, []), OptionValueError, "an epoch, or several different ones"),
        ((0.1, [1, 1]), OptionValueError, "an epoch, or several different ones"),
        ((0.1, lambda: True), OptionTypeError, "`epoch` must be .* a function of the epoch"),
        ((0.1, None), OptionTypeError, "`epoch` must be a whole number.*got None"),
    ],
)
def test_bad_options_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ResetLearningRate(*arguments)


def test_an_epoch_in_the_past_is_refused_and_the_old_rate_stays():
    model = helpers.constant_gradient_model(0.125)
    x, y = helpers.ones()
    with pytest.raises(OptionValueError, match=r"`epoch` must be at least 3, where .*got \[1, 4\]"):
        model.fit(
            x, y, initial_epoch=3, epochs=6, verbose=0, callbacks=[ResetLearningRate(0.5, [1, 4])]
        )
    assert float(helpers.array(model.optimizer.learning_rate)) == 0.125
    assert helpers.marker(model) == 0


def test_an_epoch_that_will_not_come_is_warned_of():
    with pytest.warns(GuardWarning, match="epoch 7, counted from 0, is beyond the 3 epochs"):
        rates = fit([ResetLearningRate(0.25, [1, 7])])
    assert np.array(rates[1]) == near([0.25] * 4)


def test_a_function_that_gives_no_rate_is_refused_and_the_old_rate_stays():
    model = helpers.constant_gradient_model(0.125)
    x, y = helpers.ones()
    with pytest.raises(OptionTypeError, match=r"`learning_rate` must be .*got 'fast'"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[ResetLearningRate(lambda e: "fast", 1)])
    assert float(helpers.array(model.optimizer.learning_rate)) == 0.125
    with pytest.raises(OptionTypeError, match="`epoch` must be True or False, got None"):
        model.fit(x, y, verbose=0, callbacks=[ResetLearningRate(0.1, lambda e: None)])


def test_a_callback_that_is_in_the_list_twice_is_refused():
    reset = ResetLearningRate(0.25, 1)
    with pytest.raises(GuardError, match="ResetLearningRate: it is in the list of callbacks twice"):
        fit([reset, reset])


# ---------------------------------------------------------------- together with others
def reverting(*epochs, **options):
    """A guard, behind logs that make it take back these epochs."""
    losses = [float(e in epochs) for e in range(10)]
    return [helpers.Scripted(loss=losses), RevertOnLossIncrease(**options)]


def test_a_guard_scales_what_was_set_until_it_is_set_anew():
    guards = reverting(2, lr_factor=0.5)
    rates = fit([ResetLearningRate(halving(), [1, 4]), *guards], epochs=6)
    after_revert = [0.5 * 0.5**step for step in range(5, 9)]  # from the step it went back to
    assert np.array(rates[1]) == near(RESTARTED)
    assert np.array(rates[3]) == near(np.array(after_revert))
    assert np.array(rates[4]) == near(RESTARTED)


def test_a_guard_scales_a_schedule_from_then_on():
    rates = fit(reverting(1, 2, lr_factor=0.5, min_lr=0.015), rate=halving(), epochs=4)
    went_on = 0.5 ** np.arange(5, 9)
    assert np.array(rates[1]) == near(went_on)
    assert np.array(rates[2]) == near(np.maximum(went_on * 0.5, np.minimum(went_on, 0.015)))
    assert np.array(rates[3]) == near(np.maximum(went_on * 0.25, np.minimum(went_on, 0.015)))


def test_a_guard_scales_a_warm_up():
    cosine = SCHEDULES.CosineDecay(0.0, 8, warmup_target=0.5, warmup_steps=8)
    rates = fit(reverting(1, lr_factor=0.5), rate=cosine, epochs=3)
    assert np.array(rates[0]) == near([0.0, 0.0625, 0.125, 0.1875])
    assert np.array(rates[1]) == near([0.25, 0.3125, 0.375, 0.4375])
    assert np.array(rates[2]) == near([0.125, 0.15625, 0.1875, 0.21875])


def test_reduce_lr_on_plateau_and_a_guard_both_cut():
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1)
    scripted, guard = reverting(1, lr_factor=0.5)
    rates = fit([scripted, guard, plateau], epochs=3)
    assert np.array(rates)[:, 0] == near([0.125, 0.125, 0.03125])


def test_learning_rate_scheduler_sets_the_rate_whatever_a_guard_did():
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.25)
    rates = fit([scheduler, *reverting(1, lr_factor=0.5)], epochs=3)
    assert np.array(rates) == near([[0.25] * 4] * 3)


def test_learning_rate_scheduler_that_goes_on_from_the_rate_keeps_a_cut():
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    rates = fit([scheduler, *reverting(1, lr_factor=0.5)], epochs=3)
    assert np.array(rates)[:, 0] == near([0.0625, 0.03125, 0.0078125])


@pytest.mark.parametrize("kind", ["number", "schedule"])
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: keras.optimizers.SGD(rate, momentum=0.5),
        lambda rate: keras.optimizers.SGD(rate, momentum=0.5, nesterov=True),
        lambda rate: keras.optimizers.RMSprop(rate, momentum=0.5),
    ],
    ids=["sgd", "nesterov", "rmsprop"],
)
def test_a_cut_reaches_the_velocities_that_hold_the_rate(make, kind):
    """A run with a cut goes on as one whose optimizer had the lower rate from the beginning."""
    x, y = helpers.ones(BATCHES)
    moves = []
    for factor in (0.25, 1.0):
        model = helpers.constant_gradient_model(0.5)
        rate = 0.125 * (0.25 if factor == 1 else 1)
        rate = rate if kind == "number" else SCHEDULES.PiecewiseConstantDecay([100], [rate, 0.0])
        model.compile(make(rate), model.loss)
        sizes = helpers.StepSizes()
        guards = reverting(1, lr_factor=factor)
        model.fit(
            x, y, batch_size=1, epochs=3, shuffle=False, verbose=0, callbacks=[*guards, sizes]
        )
        moves.append(sizes.sizes)
    cut, low = moves
    assert cut[2 * BATCHES :] == pytest.approx(low[2 * BATCHES :], rel=1e-4)
    assert cut[: 2 * BATCHES] == pytest.approx(np.multiply(low[: 2 * BATCHES], 4), rel=1e-4)


def test_a_cut_leaves_adams_moments_alone():
    x, y = helpers.line()
    states = []
    for factor in (1.0, 0.5):
        model = helpers.dense_model(keras.optimizers.Adam(0.01))
        guards = reverting(1, lr_factor=factor)
        model.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=guards)
        states.append(helpers.training_state(model))
    assert np.array_equal(*states)
