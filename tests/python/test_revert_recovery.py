import math

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, RevertOnLossIncrease

X, Y = helpers.line()

OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "SGD with momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


class CopiedRecipe(keras.callbacks.Callback):
    """What people copy today: keeps the weights, and nothing of the optimizer."""

    def on_train_begin(self, logs=None):
        self.best = math.inf
        self.kept = self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        if logs["loss"] <= self.best:
            self.best = logs["loss"]
            self.kept = self.model.get_weights()
        else:
            self.model.set_weights(self.kept)


def fit_poisoned(model, guard, *, poisoned, epochs):
    data = helpers.PoisonedData(X, Y, poisoned)
    callbacks = [data, guard]
    history = model.fit(data.data, shuffle=False, epochs=epochs, verbose=0, callbacks=callbacks)
    return history.history["loss"]


class Heals(keras.callbacks.Callback):
    """Puts the first weights back before each batch."""

    def on_train_begin(self, logs=None):
        self.kept = self.model.get_weights()

    def on_train_batch_begin(self, batch, logs=None):
        self.model.set_weights(self.kept)


def test_the_poison_is_in_all_batches_of_its_epochs_and_in_no_other():
    data, history = helpers.PoisonedData(X, Y, {0, 2, 3}), LossHistory()
    callbacks = [data, Heals(), history]
    helpers.dense_model().fit(data.data, shuffle=False, epochs=6, verbose=0, callbacks=callbacks)
    poisoned = np.isnan(history.losses).reshape(6, 4)
    assert poisoned.all(axis=1).tolist() == [True, False, True, True, False, False]
    assert poisoned.any(axis=1).tolist() == [True, False, True, True, False, False]


@each_optimizer
def test_training_recovers_from_a_poisoned_epoch(optimizer):
    guard = RevertOnLossIncrease()
    losses = fit_poisoned(helpers.dense_model(optimizer()), guard, poisoned={2}, epochs=6)
    assert math.isnan(losses[2])
    assert [event.epoch for event in guard.events] == [2]
    later = [losses[1], *losses[3:]]
    assert np.isfinite(later).all() and later == sorted(later, reverse=True)


@each_optimizer
def test_weights_alone_do_not_recover(optimizer):
    model = helpers.dense_model(optimizer())
    losses = fit_poisoned(model, CopiedRecipe(), poisoned={2}, epochs=6)
    assert np.isfinite(losses[:2]).all()
    assert np.isnan(losses[2:]).all()


@each_optimizer
def test_a_guard_that_leaves_the_optimizer_alone_does_not_recover_either(optimizer):
    guard = RevertOnLossIncrease(restore_optimizer=False, lr_factor=0.5)
    losses = fit_poisoned(helpers.dense_model(optimizer()), guard, poisoned={2}, epochs=6)
    assert np.isnan(losses[2:]).all()


def built():
    return helpers.dense_model("adam")


def sequential_without_input():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def subclassed():
    keras.utils.set_random_seed(1)
    model = helpers.Subclassed()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


@pytest.mark.parametrize("make", [built, sequential_without_input, subclassed])
def test_a_poisoned_first_epoch_goes_back_to_the_very_initial_state(make):
    untrained = make()
    untrained(X)
    model = make()
    guard = RevertOnLossIncrease()
    fit_poisoned(model, guard, poisoned={0}, epochs=1)
    assert np.array_equal(helpers.flat(model.weights), helpers.flat(untrained.weights))
    assert not helpers.flat(v for v in model.optimizer.variables if "learning" not in v.path).any()
    assert [event.restored_from for event in guard.events] == [-1]


@pytest.mark.parametrize("make", [built, sequential_without_input, subclassed])
def test_training_recovers_from_a_poisoned_first_epoch(make):
    guard = RevertOnLossIncrease(tolerance=100)
    losses = fit_poisoned(make(), guard, poisoned={0}, epochs=4)
    assert np.isfinite(losses[1:]).all() and losses[3] < losses[1]


@pytest.fixture
def mixed_precision():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    yield
    keras.mixed_precision.set_dtype_policy("float32")


def assert_rolled_back_as_if_it_had_not_been(make):
    """Epochs 1, 2, a poisoned one and 3 end exactly where epochs 1, 2 and 3 end."""
    plain, rescued = make(), make()
    fit_poisoned(plain, keras.callbacks.Callback(), poisoned=set(), epochs=3)
    guard = RevertOnLossIncrease(tolerance=100)
    fit_poisoned(rescued, guard, poisoned={2}, epochs=4)
    assert guard.n_reverts == 1
    assert np.array_equal(helpers.training_state(rescued), helpers.training_state(plain))


STEPS = {
    "Adam": lambda: helpers.noisy_model(keras.optimizers.Adam(0.01)),
    "two steps an execution": lambda: helpers.noisy_model(
        keras.optimizers.Adam(0.01), steps_per_execution=2
    ),
    "accumulated gradients and averaged weights": lambda: helpers.noisy_model(
        keras.optimizers.Adam(0.01, gradient_accumulation_steps=3, use_ema=True)
    ),
    "a schedule": lambda: helpers.noisy_model(
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9), 0.9)
    ),
}


MARKS = {"two steps an execution": helpers.needs_several_steps}


@pytest.mark.parametrize(
    "make", [pytest.param(make, id=name, marks=MARKS.get(name, ())) for name, make in STEPS.items()]
)
def test_a_rolled_back_epoch_leaves_no_trace(make):
    assert_rolled_back_as_if_it_had_not_been(make)


def test_a_rolled_back_epoch_leaves_no_trace_in_mixed_precision(mixed_precision):
    def make():
        return helpers.noisy_model(keras.optimizers.Adam(0.01))

    assert isinstance(make().optimizer, keras.optimizers.LossScaleOptimizer)
    assert_rolled_back_as_if_it_had_not_been(make)


def test_averaged_weights_are_put_back_even_where_the_optimizer_is_not():
    model = helpers.dense_model(keras.optimizers.SGD(0.01, use_ema=True))
    data = helpers.PoisonedData(X, Y, {2})
    guard = RevertOnLossIncrease(restore_optimizer=False, tolerance=100)
    model.fit(data.data, shuffle=False, epochs=3, verbose=0, callbacks=[data, guard])
    assert guard.n_reverts == 1
    assert np.isfinite(helpers.flat(model.weights)).all()


def test_a_model_with_averaged_weights_can_be_guarded_in_a_second_fit():
    model = helpers.dense_model(keras.optimizers.SGD(0.01, use_ema=True))
    for _ in range(2):
        losses = fit_poisoned(model, RevertOnLossIncrease(tolerance=100), poisoned={1}, epochs=3)
        assert np.isfinite(losses).tolist() == [True, False, True]
