"""On TensorFlow large variables are checked beside the first step of the next epoch.

What is broken is then taken back before the second step, or where there is none, at the end.
"""

import math
from concurrent.futures import Future

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, RestoreBest, RevertOnLossIncrease, RevertToBestOnIncrease

if helpers.BACKEND != "tensorflow":
    pytest.skip("elsewhere all variables are checked at once", allow_module_level=True)

from pykguard.snapshots import _tensorflow

X, Y = helpers.line(32)


@pytest.fixture(autouse=True)
def all_variables_are_large(monkeypatch):
    monkeypatch.setattr(_tensorflow, "AT_ONCE_BYTES", 0)


class Breaks(keras.callbacks.Callback):
    """Makes one number of the first kernel NaN at the end of an epoch, behind a finite loss."""

    def __init__(self, epoch):
        super().__init__()
        self.bad_epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.bad_epoch:
            kernel = self.model.weights[0]
            kernel.assign(np.where(np.arange(4) == 2, math.nan, helpers.array(kernel)))


class States(keras.callbacks.Callback):
    """The training state before each step, behind a guard; and at each epoch's end."""

    def on_train_begin(self, logs=None):
        self.before_steps, self.at_ends, self.logged = {}, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.before_steps[self.epoch, batch] = helpers.training_state(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.at_ends.append(helpers.training_state(self.model))
        self.logged.append(logs["loss"])


def fit(guards, *, broken, epochs=4, batch_size=8, optimizer="adam"):
    model = helpers.dense_model(optimizer)
    states = States()
    model.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=False,
        verbose=0,
        callbacks=[Breaks(broken), *guards, states],
    )
    return model, states


def finite(state):
    return bool(np.isfinite(state).all())


def test_a_broken_state_is_taken_back_before_the_second_step():
    guard = RevertOnLossIncrease(tolerance=100, lr_factor=0.5)
    model, states = fit([guard], broken=1)
    [event] = guard.events
    assert (event.epoch, event.action, event.restored_from) == (1, "revert", 0)
    assert "hides non-finite values in" in event.reason and "kernel" in event.reason
    assert event.learning_rate == pytest.approx(0.0005)
    assert not finite(states.at_ends[1]) and not finite(states.before_steps[2, 0])
    assert np.array_equal(states.before_steps[2, 1], states.at_ends[0])
    assert math.isfinite(states.logged[2])  # the undone step's loss is not in it
    assert finite(helpers.training_state(model))
    assert guard.best_epoch == 3


def test_the_small_variables_are_checked_at_the_end_of_the_epoch(monkeypatch):
    monkeypatch.setattr(_tensorflow, "AT_ONCE_BYTES", 2**20)
    guard = RevertOnLossIncrease(tolerance=100)
    _, states = fit([guard], broken=1)
    assert [event.epoch for event in guard.events] == [1]
    assert np.array_equal(states.at_ends[1], states.at_ends[0])


def test_the_first_epoch_goes_back_to_the_initial_state():
    untrained = helpers.flat(helpers.dense_model("adam").weights)
    guard = RevertOnLossIncrease()
    model, states = fit([guard], broken=0, epochs=2)
    assert [event.restored_from for event in guard.events] == [-1]
    n = len(untrained)
    assert np.array_equal(states.before_steps[1, 1][:n], untrained)
    assert finite(helpers.training_state(model))


def test_epochs_of_one_step_are_taken_back_at_their_end():
    guard = RevertOnLossIncrease(tolerance=100)
    model, states = fit([guard], broken=1, batch_size=32)
    assert [event.epoch for event in guard.events] == [1]
    assert not finite(states.before_steps[2, 0])
    assert np.array_equal(states.at_ends[2], states.at_ends[0])
    assert finite(helpers.training_state(model)) and guard.best_epoch == 3


def test_the_last_epoch_is_taken_back_when_training_ends():
    guard = RevertOnLossIncrease(tolerance=100)
    model, states = fit([guard], broken=3)
    assert [event.epoch for event in guard.events] == [3]
    assert np.array_equal(helpers.training_state(model), states.at_ends[2])


def test_moving_averages_end_as_the_weights_all_the_same():
    optimizer = keras.optimizers.Adam(use_ema=True)
    guard = RevertOnLossIncrease(tolerance=100)
    model, _ = fit([guard], broken=3, optimizer=optimizer)
    averages = helpers.flat(model.optimizer._model_variables_moving_average)
    assert guard.n_reverts == 1
    assert np.array_equal(helpers.flat(model.weights), averages) and finite(averages)


def test_moving_averages_end_as_the_weights_where_a_callback_behind_stops_training():
    stops = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stops.model, "stop_training", epoch == 1)
    )
    guard = RevertOnLossIncrease(tolerance=100)
    model, _ = fit([guard, stops], broken=1, optimizer=keras.optimizers.Adam(use_ema=True))
    averages = helpers.flat(model.optimizer._model_variables_moving_average)
    assert [event.epoch for event in guard.events] == [1]
    assert np.array_equal(helpers.flat(model.weights), averages) and finite(averages)


def test_training_stops_with_the_good_state_in_place():
    guard = RevertOnLossIncrease(tolerance=100, max_reverts=1)
    model, states = fit([guard], broken=1)
    assert [event.action for event in guard.events] == ["revert", "stop"]
    assert len(states.at_ends) == 3
    assert np.array_equal(helpers.training_state(model), states.at_ends[0])


def test_the_best_is_the_one_before_the_broken_one():
    keep = RestoreBest("loss")
    model, states = fit([helpers.Scripted(loss=[3.0, 2.0, 2.5, 2.6]), keep], broken=1)
    assert (keep.best_epoch, keep.best) == (0, 3.0)
    n = len(helpers.flat(model.weights))
    assert np.array_equal(helpers.flat(model.weights), states.at_ends[0][:n])


def test_two_guards_take_a_broken_epoch_back_once():
    first, second = (RevertOnLossIncrease(tolerance=100) for _ in "ab")
    model, states = fit([first, second], broken=1)
    assert [event.epoch for event in first.events] == [1] and second.events == []
    assert np.array_equal(states.before_steps[2, 1], states.at_ends[0])
    assert first.best_epoch == second.best_epoch == 3
    assert finite(helpers.training_state(model))


def test_a_saved_state_waits_for_the_check():
    guard = RevertOnLossIncrease(tolerance=100)
    saved = []

    class Saves(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            saved.append(guard.state_dict())

    fit([guard, Saves()], broken=1, epochs=2)
    assert all(np.isfinite(array).all() for array in saved[1]["kept"])
    assert [event["epoch"] for event in saved[1]["events"]] == [1]


def test_an_epoch_that_is_let_pass_is_checked_at_its_end():
    guard = RevertOnLossIncrease(patience=2)
    _, states = fit([helpers.Scripted(loss=[1.0, 2.0, 0.5, 0.4]), guard], broken=1)
    assert [event.epoch for event in guard.events] == [1]
    assert "hides" in guard.events[0].reason
    assert np.array_equal(states.at_ends[1], states.at_ends[0])


def test_an_epoch_that_is_not_the_best_is_checked_at_its_end():
    guard = RevertToBestOnIncrease(tolerance=10)
    _, states = fit([helpers.Scripted(loss=[1.0, 2.0, 0.5, 0.4]), guard], broken=1)
    assert [event.epoch for event in guard.events] == [1]
    assert np.array_equal(states.at_ends[1], states.at_ends[0])


def test_a_guard_that_stopped_late_trains_again_after_it_was_loaded():
    guard = RevertOnLossIncrease(tolerance=100, max_reverts=1)
    model, _ = fit([guard], broken=1)
    guard.load_state_dict(guard.state_dict())
    before = helpers.flat(model.weights)
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[guard])
    assert not np.array_equal(helpers.flat(model.weights), before)


def test_the_best_that_another_guard_behind_would_undo_stays():
    keep, guard = RestoreBest("loss"), RevertOnLossIncrease(tolerance=100)
    scripted = helpers.Scripted(loss=[3.0, 2.0, 2.5, 2.6])
    model, states = fit([scripted, keep, guard], broken=3)
    n = len(helpers.flat(model.weights))
    assert keep.best_epoch == 1
    assert np.array_equal(helpers.flat(model.weights), states.at_ends[1][:n])


def test_ctrl_c_while_waiting_for_the_check_does_not_make_the_state_good(monkeypatch):
    result, calls = Future.result, []

    def interrupted(self, timeout=None):
        calls.append(self)
        if len(calls) == 2:  # the first epoch's is asked for without being disturbed
            raise KeyboardInterrupt
        return result(self, timeout)

    monkeypatch.setattr(Future, "result", interrupted)
    keep = RestoreBest("loss")
    model = helpers.dense_model("adam")
    scripted = helpers.Scripted(loss=[3.0, 2.0, 1.0])
    with pytest.raises(KeyboardInterrupt), keep:
        callbacks = [Breaks(1), scripted, keep]
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
    assert keep.best_epoch == 0
    assert np.isfinite(helpers.flat(model.weights)).all()


@pytest.mark.filterwarnings("ignore:LossHistory. a batch's own loss could not be seen")
def test_a_history_says_that_the_undone_step_is_not_in_the_mean():
    guard, history = RevertOnLossIncrease(tolerance=100), LossHistory()
    fit([guard, history], broken=1)
    rows = history.batches
    undone = (rows["epoch"] == 2) & (rows["batch"] == 0)
    assert np.isnan(rows["loss"][undone]).all()
    assert np.isfinite(rows["loss"][~undone]).all()


def looked_at(snapshots):
    broken, seen = snapshots.look()
    return broken, seen if seen is not None else snapshots.take()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_broken_number_is_found_in_each_precision(dtype, value, snapshots_of):
    model = keras.Sequential([keras.Input((4,), dtype=dtype), keras.layers.Dense(3, dtype=dtype)])
    kernel = model.weights[0]
    snapshots, good = snapshots_of(model, optimizer=False), []
    for last, expected in ((1.0, []), (value, [kernel.path])):
        kernel.assign(np.append(np.ones(11), last).reshape(4, 3))
        broken, seen = looked_at(snapshots)
        assert broken == []
        good.clear()
        assert snapshots.check_rest(seen, if_good=lambda: good.append(True))() == expected
        assert good == ([] if expected else [True])


def test_numbers_whose_squares_overflow_are_not_broken(snapshots_of):
    model = helpers.dense_model()
    model.weights[0].assign(np.full(model.weights[0].shape, 1e30, "float32"))
    snapshots = snapshots_of(model, optimizer=False)
    assert snapshots.check_rest(looked_at(snapshots)[1], if_good=lambda: None)() == []


def test_what_was_infinite_before_training_is_not_broken(snapshots_of):
    model = helpers.dense_model()
    kernel, bias = model.weights[:2]
    kernel.assign(np.full(kernel.shape, -math.inf, "float32"))
    snapshots = snapshots_of(model, optimizer=False)
    assert snapshots.accept_infinite() == []
    assert snapshots.check_rest(looked_at(snapshots)[1], if_good=lambda: None)() == []
    bias.assign(np.full(bias.shape, math.inf, "float32"))
    assert snapshots.check_rest(looked_at(snapshots)[1], if_good=lambda: None)() == [bias.path]
