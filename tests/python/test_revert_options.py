import warnings

import helpers
import keras
import numpy as np
import pytest

from pykguard import GuardWarning, MonitorError, RevertOnLossIncrease, RevertToBestOnIncrease

X, Y = helpers.line()


# ---------------------------------------------------------------- learning rate
def rates_used(learning_rate, script, **options):
    """The rate of each epoch's only step, in a run whose losses follow a script."""
    model = helpers.constant_gradient_model(learning_rate)
    steps = helpers.StepSizes()
    guard = RevertOnLossIncrease(**options)
    model.fit(
        *helpers.ones(),
        epochs=len(script),
        verbose=0,
        callbacks=[steps, helpers.Scripted(loss=script), guard],
    )
    return steps.sizes, guard


def halving(start):
    """A schedule that halves the rate at each step."""
    return keras.optimizers.schedules.ExponentialDecay(start, 1, 0.5)


def test_a_revert_cuts_the_rate_of_the_next_step():
    used, _ = rates_used(0.5, [3, 2, 4, 1, 5, 0], lr_factor=0.25)
    assert used == pytest.approx([0.5, 0.5, 0.5, 0.125, 0.125, 0.03125])


def test_a_revert_cuts_a_schedule_which_goes_on_from_the_restored_step():
    used, _ = rates_used(halving(1.0), [3, 2, 4, 1, 5, 0], lr_factor=0.5)
    assert used == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625, 0.03125])


def test_a_revert_cuts_a_callable():
    used, _ = rates_used(lambda: 0.5, [3, 4, 2, 4, 1], lr_factor=0.5)
    assert used == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.125])


@pytest.mark.parametrize("rate", [lambda: 0.5, halving(0.5)], ids=["callable", "schedule"])
def test_an_event_holds_the_rate_in_force_after_it(rate):
    used, guard = rates_used(rate, [3, 4, 2], lr_factor=0.25)
    assert guard.events[0].learning_rate == pytest.approx(used[2])


def test_without_a_factor_the_rate_stays():
    used, guard = rates_used(0.5, [3, 4, 2])
    assert used == [0.5, 0.5, 0.5]
    assert guard.events[0].learning_rate == 0.5


@pytest.mark.parametrize(
    "rate", [0.5, lambda: 0.5, keras.optimizers.schedules.ExponentialDecay(0.5, 1, 1.0)]
)
def test_the_rate_is_not_cut_below_min_lr(rate):
    used, _ = rates_used(rate, [3, 4, 2, 4, 1], lr_factor=0.1, min_lr=0.25)
    assert used == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25])


@pytest.mark.parametrize(
    "rate", [0.125, lambda: 0.125, keras.optimizers.schedules.ExponentialDecay(0.125, 1, 1.0)]
)
def test_min_lr_raises_no_rate_that_is_smaller(rate):
    used, _ = rates_used(rate, [3, 4, 2], lr_factor=0.1, min_lr=0.25)
    assert used == pytest.approx([0.125, 0.125, 0.125])


def test_the_rate_under_a_loss_scale_is_cut():
    model = helpers.constant_gradient_model(0.5)
    model.compile(keras.optimizers.LossScaleOptimizer(model.optimizer), model.loss)
    steps, script = helpers.StepSizes(), helpers.Scripted(loss=[3, 4, 2])
    guard = RevertOnLossIncrease(lr_factor=0.5)
    model.fit(*helpers.ones(), epochs=3, verbose=0, callbacks=[steps, script, guard])
    assert steps.sizes == pytest.approx([0.5, 0.5, 0.25])


def test_a_model_whose_schedule_was_cut_can_be_saved_and_loaded(tmp_path):
    model = helpers.dense_model(keras.optimizers.SGD(halving(0.5)))
    script, guard = helpers.Scripted(loss=[1, 2]), RevertOnLossIncrease(lr_factor=0.5)
    model.fit(X, Y, batch_size=32, epochs=2, verbose=0, callbacks=[script, guard])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.125)


# ---------------------------------------------------------------- what is restored
@pytest.mark.parametrize(("restore", "steps"), [(True, 1), (False, 3)])
def test_the_optimizer_is_restored_only_if_asked_for(restore, steps):
    model = helpers.dense_model()
    states = helpers.StatesAfterEpochs()
    script = helpers.Scripted(loss=[1, 2, 3])
    guard = RevertOnLossIncrease(restore_optimizer=restore, lr_factor=0.5)
    model.fit(X, Y, batch_size=32, epochs=3, verbose=0, callbacks=[states, script, guard])
    assert int(model.optimizer.iterations.numpy()) == steps
    assert np.array_equal(helpers.flat(model.weights), states.weights[0])


@pytest.mark.parametrize(
    ("guard", "kept"), [(RevertOnLossIncrease, 1), (RevertToBestOnIncrease, 0)]
)
def test_the_two_guards_go_back_to_different_epochs(guard, kept):
    model = helpers.dense_model()
    states = helpers.StatesAfterEpochs()
    callbacks = [states, helpers.Scripted(loss=[1, 1.5, 9]), guard(tolerance=1)]
    model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks)
    assert np.array_equal(helpers.flat(model.weights), states.weights[kept])


def test_max_reverts_ends_the_fit_with_the_good_state():
    model = helpers.dense_model()
    states = helpers.StatesAfterEpochs()
    guard = RevertOnLossIncrease(max_reverts=2)
    script = helpers.Scripted(loss=[2, 3, 1, 3, 0])
    history = model.fit(X, Y, epochs=5, verbose=0, callbacks=[states, script, guard])
    assert history.epoch == [0, 1, 2, 3]
    assert np.array_equal(helpers.flat(model.weights), states.weights[2])
    assert [event.action for event in guard.events] == ["revert", "revert", "stop"]
    assert "2 reverts that `max_reverts` allows" in guard.events[-1].reason


# ---------------------------------------------------------------- what is watched
def test_epochs_without_validation_are_not_judged():
    model = helpers.dense_model()
    kick = helpers.KickAfterLastBatch(epoch=4, value=50)
    states = helpers.StatesAfterEpochs()
    guard = RevertOnLossIncrease("val_loss")
    callbacks = [kick, states, guard]
    model.fit(
        X, Y, epochs=6, validation_split=0.25, validation_freq=3, verbose=0, callbacks=callbacks
    )
    assert [(event.epoch, event.restored_from) for event in guard.events] == [(5, 2)]
    assert guard.best_epoch == 2
    assert np.array_equal(helpers.flat(model.weights), states.weights[2])


class Turns(keras.callbacks.Callback):
    """Makes a perfect classifier perfectly wrong in one epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.turned = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.turned:
            helpers.mark(self.model, -helpers.marker(self.model))


def test_an_accuracy_that_falls_is_reverted():
    x = np.array([[-1.0], [1.0]] * 8, "float32")
    y = (x > 0).astype("float32")
    dense = keras.layers.Dense(1, "sigmoid", use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy", metrics=["accuracy"])
    guard = RevertOnLossIncrease("val_accuracy")
    model.fit(x, y, epochs=3, validation_data=(x, y), verbose=0, callbacks=[Turns(1), guard])
    [event] = guard.events
    assert (event.epoch, event.value, event.reference) == (1, 0.0, 1.0)
    assert helpers.marker(model) == 1.0


def kicked_after_the_last_epoch(guard):
    model = helpers.dense_model()
    kick = helpers.KickAfterLastBatch(epoch=2)
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[kick, guard])
    return np.abs(helpers.flat(model.weights)).max()


def test_a_probe_sees_a_weight_that_broke_after_the_last_batch():
    guard = RevertOnLossIncrease(probe=(X, Y))
    assert kicked_after_the_last_epoch(guard) < 100
    assert [(event.epoch, event.monitor) for event in guard.events] == [(2, "probe_loss")]


def test_the_training_loss_does_not_see_it():
    guard = RevertOnLossIncrease("loss")
    assert kicked_after_the_last_epoch(guard) == 1e6
    assert guard.events == []


def test_the_value_of_a_probe_is_the_loss_of_the_kept_weights():
    model = helpers.dense_model()
    guard = RevertOnLossIncrease(probe=(X, Y))
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[guard])
    assert guard.best == pytest.approx(np.mean((model.predict(X, verbose=0) - Y) ** 2), rel=1e-5)


def test_a_monitor_that_is_missing_is_an_error_that_names_what_there_is():
    guard = RevertOnLossIncrease("val_auc", mode="max")
    with pytest.raises(MonitorError, match=r"'val_auc'.* are 'loss', 'val_loss'"):
        helpers.dense_model().fit(X, Y, validation_split=0.25, verbose=0, callbacks=[guard])


def test_a_validation_that_never_came_is_a_warning_that_names_what_there_is():
    guard = RevertOnLossIncrease("val_loss")
    with pytest.warns(GuardWarning, match="'val_loss' was in no epoch's metrics.* 'loss'"):
        helpers.dense_model().fit(X, Y, epochs=2, verbose=0, callbacks=[guard])


def test_a_loss_of_zero_from_a_train_step_of_ones_own_is_a_warning():
    class Silent(keras.Sequential):
        train_step = helpers.idle_step(lambda model, data: {"loss": keras.ops.mean(model(data[0]))})

    model = Silent([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.warns(GuardWarning, match="loss is exactly 0"):
        model.fit(X, Y, verbose=0, callbacks=[RevertOnLossIncrease()])


# ---------------------------------------------------------------- non-finite weights
class HoldsMask(keras.layers.Layer):
    """Adds a constant that is -inf where nothing may pass, as attention masks do."""

    def build(self, shape):
        mask = np.array([0, -np.inf, 0, 0], "float32")
        self.mask = self.add_weight(shape=(4,), initializer=lambda *a, **k: mask, trainable=False)

    def call(self, inputs):
        return keras.ops.softmax(inputs + self.mask)


def masked_model():
    layers = [keras.Input((3,)), keras.layers.Dense(4), HoldsMask(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


def test_a_mask_of_infinities_is_no_reason_to_revert():
    model, guard = masked_model(), RevertOnLossIncrease(tolerance=100)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[guard])
    assert guard.events == [] and guard.best is not None


def test_a_mask_of_infinities_hides_no_other_broken_weight():
    model, guard = masked_model(), RevertOnLossIncrease(tolerance=100)
    kick = helpers.KickAfterLastBatch(epoch=1, value=np.inf)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[kick, guard])
    [event] = guard.events
    assert event.epoch == 1 and np.isfinite(event.value)
    assert event.reason == f"hides non-finite values in {model.weights[-1].path}"
    assert np.isfinite(helpers.array(model.weights[-1])).all()


# ---------------------------------------------------------------- what is said
def warnings_of(guard, script):
    model = helpers.dense_model()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(
            X,
            Y,
            epochs=len(script),
            verbose=0,
            callbacks=[helpers.Scripted(loss=script), guard],
        )
    return helpers.guard_warnings(caught)


def test_going_back_to_the_same_state_again_and_again_is_warned_of_once():
    [message] = warnings_of(RevertOnLossIncrease(), [1, 2, 2, 2, 2])
    assert "RevertOnLossIncrease: two epochs running" in message and "lr_factor" in message


def test_going_back_with_a_smaller_rate_is_not_warned_of():
    assert warnings_of(RevertOnLossIncrease(lr_factor=0.5), [1, 2, 2, 2]) == []


def test_going_back_to_different_states_is_not_warned_of():
    assert warnings_of(RevertOnLossIncrease(), [3, 4, 2, 3, 1, 2]) == []


def test_a_rate_that_min_lr_holds_up_is_warned_of():
    guard = RevertOnLossIncrease(lr_factor=0.5, min_lr=0.01)
    assert len(warnings_of(guard, [1, 2, 2])) == 1


def printed(capsys, guard, model, losses):
    capsys.readouterr()
    helpers.drive(guard, model, [{"loss": loss} for loss in losses])
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_a_revert_is_told_in_one_line(capsys, marked):
    guard = RevertOnLossIncrease(tolerance=0.01, lr_factor=0.3, verbose=1)
    assert printed(capsys, guard, marked, [5, 4, 3, 2, 1, 0.412, 2.31]) == [
        "Epoch 7: loss 2.31 is worse than best 0.412 (epoch 6) + 0.01: "
        "reverted to epoch 6, learning rate 0.1 -> 0.03"
    ]


def test_a_revert_to_the_initial_state_is_told(capsys, marked):
    guard = RevertOnLossIncrease(verbose=1)
    assert printed(capsys, guard, marked, [np.nan, 1]) == [
        "Epoch 1: loss nan is not finite: reverted to the initial state"
    ]


def test_a_revert_of_a_maximised_value_is_told(capsys, marked):
    guard = RevertOnLossIncrease(mode="max", reference="previous", tolerance=0.5, verbose=1)
    assert printed(capsys, guard, marked, [3, 2.75, 2]) == [
        "Epoch 3: loss 2 is worse than previous 2.75 (epoch 2) - 0.5: reverted to epoch 2"
    ]


def test_a_stop_is_told(capsys, marked):
    guard = RevertOnLossIncrease(max_reverts=1, verbose=1)
    assert printed(capsys, guard, marked, [1, 2])[1] == (
        "Epoch 2: loss 2 used up the 1 revert that `max_reverts` allows: training stopped"
    )


def test_nothing_is_printed_unless_asked_for(capsys, marked):
    assert printed(capsys, RevertOnLossIncrease(), marked, [1, 2, np.nan]) == []


def test_an_event_prints_as_its_line(marked):
    guard = RevertOnLossIncrease()
    helpers.drive(guard, marked, [{"loss": 1}, {"loss": 2}])
    assert str(guard.events[0]) == (
        "Epoch 2: loss 2 is worse than best 1 (epoch 1): reverted to epoch 1"
    )
