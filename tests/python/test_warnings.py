"""Nothing that goes wrong is passed over in silence, however often it happens."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import (
    GuardWarning,
    LossHistory,
    MonitorError,
    RestoreBest,
    RevertOnLossIncrease,
)

X, Y = helpers.line()


def warnings_of(fit):
    with pytest.warns(GuardWarning) as caught:
        fit()
    return helpers.guard_warnings(caught)


def test_a_second_fit_warns_as_the_first_did():
    model = helpers.dense_model()
    for _ in range(2):
        said = warnings_of(lambda: model.fit(X, Y, verbose=0, callbacks=[RestoreBest()]))
        assert len(said) == 1
        assert "'val_loss' was in no epoch's metrics" in said[0]


def test_a_warning_points_to_the_users_line():
    with pytest.warns(GuardWarning) as caught:
        helpers.dense_model().fit(X, Y, verbose=0, callbacks=[RestoreBest()])
    [told] = [w for w in caught if w.category is GuardWarning]
    assert told.filename == __file__


@pytest.mark.parametrize(
    ("options", "values"),
    [({}, [np.nan, np.inf]), ({"start_from_epoch": 5}, [1.0, 2.0])],
    ids=["not finite", "too early"],
)
def test_restore_best_says_so_when_nothing_was_the_best(options, values):
    model = helpers.dense_model()
    callbacks = [helpers.Scripted(loss=values), RestoreBest("loss", **options)]
    said = warnings_of(lambda: model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks))
    assert len(said) == 1
    assert "no epoch was the best: of 2" in said[0]


def test_a_model_that_holds_nan_at_the_start_is_named():
    model = helpers.dense_model()
    model.layers[0].kernel.assign(model.layers[0].kernel * np.nan)
    guard = RevertOnLossIncrease(max_reverts=1)
    said = warnings_of(lambda: model.fit(X, Y, verbose=0, callbacks=[guard]))
    assert "holds NaN before its first step" in said[0]
    assert "kernel" in said[0]


class SilentTest(keras.Sequential):
    """A test step that does not update the loss tracker."""

    test_step = helpers.idle_step(
        lambda model, data: {
            "loss": model._loss_tracker.result(),
            "mean": keras.ops.mean(model(data[0]) - data[1]),
        }
    )


class NamelessTest(keras.Sequential):
    test_step = helpers.idle_step(lambda model, data: {"mean": keras.ops.mean(model(data[0]))})


def own_test(kind):
    model = kind([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    "guard",
    [lambda: RestoreBest(), lambda: RestoreBest(probe=(X, Y))],
    ids=["validation", "probe"],
)
def test_a_loss_of_zero_from_a_test_step_of_ones_own_is_a_warning(guard):
    said = warnings_of(
        lambda: own_test(SilentTest).fit(X, Y, validation_split=0.5, verbose=0, callbacks=[guard()])
    )
    assert "is exactly 0: a `test_step` of your own" in said[0]


def test_a_probe_needs_a_test_step_that_returns_a_loss():
    with pytest.raises(MonitorError, match=r"`probe` needs .* it returned mean"):
        own_test(NamelessTest).fit(X, Y, verbose=0, callbacks=[RestoreBest(probe=(X, Y))])


def test_a_mistyped_monitor_is_answered_with_the_metrics_there_are():
    guard = RevertOnLossIncrease("val_los")
    with pytest.raises(MonitorError, match=r"'val_los', but .* 'loss', 'val_loss'"):
        helpers.dense_model().fit(X, Y, validation_split=0.5, verbose=0, callbacks=[guard])


def test_a_schedule_that_undoes_the_cut_is_a_warning():
    guard = RevertOnLossIncrease(lr_factor=0.1)
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    callbacks = [helpers.Scripted(loss=[1, 5, 5, 5]), guard, scheduler]
    said = warnings_of(
        lambda: helpers.dense_model().fit(X, Y, epochs=4, verbose=0, callbacks=callbacks)
    )
    assert len(said) == 1
    assert "LearningRateScheduler" in said[0]


def test_a_note_in_the_logs_is_no_metric_and_stops_nothing():
    class Notes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["note"] = "warm"

    history = LossHistory()
    helpers.dense_model().fit(X, Y, verbose=0, callbacks=[Notes(), history])
    assert list(history.epochs) == ["epoch", "loss"]
