"""The learning rates in a record are those by which weights moved."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory

SCHEDULES = keras.optimizers.schedules


class Moves(keras.callbacks.Callback):
    """How far each batch moved a weight whose gradient is 1."""

    def on_train_begin(self, logs=None):
        self.at = self.weight()
        self.by = []

    def on_train_batch_end(self, batch, logs=None):
        before, self.at = self.at, self.weight()
        self.by.append(before - self.at)

    def weight(self):
        return float(helpers.marker(self.model))


class Sets(keras.callbacks.Callback):
    """Gives the optimizer another rate before the batch of this number in the second epoch."""

    def __init__(self, rate, batch):
        super().__init__()
        self.rate = rate
        self.batch = batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, self.batch):
            self.model.optimizer.learning_rate = self.rate


def compiled(rate, **options):
    model = helpers.constant_gradient_model(0.5)
    model.compile(keras.optimizers.SGD(rate), model.loss, **options)
    return model


def fit(model, *callbacks, **options):
    x, y = helpers.ones(24)
    model.fit(
        x, y, batch_size=4, epochs=3, verbose=0, shuffle=False, callbacks=list(callbacks), **options
    )


RATES = {
    "float": lambda: 0.25,
    "schedule": lambda: SCHEDULES.ExponentialDecay(0.5, 3, 0.5),
    "stairs": lambda: SCHEDULES.PiecewiseConstantDecay([2, 7], [0.5, 0.25, 0.125]),
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("first", [True, False])
def test_the_rates_are_those_by_which_a_weight_moved(name, first):
    history, moves = LossHistory(), Moves()
    fit(compiled(RATES[name]()), *([history, moves] if first else [moves, history]))
    rates = history.batches["learning_rate"]
    assert len(rates) == 18
    np.testing.assert_allclose(rates, moves.by, rtol=1e-5, atol=2e-7)


@helpers.needs_several_steps
@pytest.mark.parametrize("name", ["float", "schedule"])
def test_each_step_of_an_execution_has_its_rate(name):
    history, alone = LossHistory(), LossHistory()
    fit(compiled(RATES[name](), steps_per_execution=4), history)
    fit(compiled(RATES[name]()), alone)
    assert np.array_equal(history.batches["learning_rate"], alone.batches["learning_rate"])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [("float", "float"), ("schedule", "schedule"), ("float", "schedule"), ("schedule", "stairs")],
)
def test_a_rate_that_is_replaced_counts_from_the_step_that_used_it(old, new, first):
    history, moves = LossHistory(), Moves()
    replaced = 0.0625 if new == "float" else RATES[new]()
    model = compiled(RATES[old]())
    others = [moves, Sets(replaced, 2)]
    fit(model, *([history, *others] if first else [*others, history]))
    np.testing.assert_allclose(history.batches["learning_rate"], moves.by, rtol=1e-5, atol=2e-7)


def test_a_callable_is_not_called_for_the_record():
    calls = []

    def rate():
        calls.append(1)
        return 0.125

    histories, numbers = [LossHistory()], []
    for callbacks in ([], histories):
        calls.clear()
        fit(compiled(rate), *callbacks)
        numbers.append(len(calls))
    assert numbers[0] == numbers[1]
    assert np.isnan(histories[0].batches["learning_rate"]).all()


def test_a_schedule_that_the_compiled_step_ignores_is_not_in_the_record():
    class Replaces(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = RATES["stairs"]()

    history, moves, (x, y) = LossHistory(), Moves(), helpers.ones(24)
    model = compiled(RATES["schedule"]())
    fit(model, Replaces(), history, moves, validation_data=(x, y), validation_freq=2)
    np.testing.assert_allclose(history.batches["learning_rate"], moves.by, rtol=1e-5, atol=2e-7)


def test_under_a_loss_scale_the_rate_is_that_of_the_optimizer_within():
    inner = keras.optimizers.SGD(SCHEDULES.ExponentialDecay(0.5, 3, 0.5))
    model = helpers.constant_gradient_model(0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    model.compile(optimizer, model.loss)
    history, moves = LossHistory(), Moves()
    fit(model, history, moves)
    np.testing.assert_allclose(history.batches["learning_rate"], moves.by, rtol=1e-5, atol=2e-7)


def test_a_second_fit_goes_on_with_the_schedule():
    model, history, moves = compiled(RATES["schedule"]()), LossHistory(), Moves()
    for _ in range(2):
        fit(model, history, moves)
        np.testing.assert_allclose(history.batches["learning_rate"], moves.by, rtol=1e-5, atol=2e-7)
    assert history.batches["learning_rate"][0] < 0.01


def test_a_model_that_is_compiled_anew_is_recorded_with_its_new_optimizer():
    model, history = compiled(0.25), LossHistory()
    fit(model, history)
    model.compile(keras.optimizers.SGD(0.125), model.loss)
    fit(model, history)
    assert set(history.batches["learning_rate"]) == {0.125}


def test_of_several_optimizers_the_rate_is_that_of_the_first_in_use():
    model = compiled(0.25)
    model.second = keras.optimizers.Adam(0.5)
    history = LossHistory()
    fit(model, history)
    assert set(history.batches["learning_rate"]) == {0.25}
