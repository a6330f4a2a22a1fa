import helpers
import numpy as np
import pytest

from pykguard import GuardWarning, RestoreBest, SnapshotError

X, Y = helpers.line()


def fit(guard, *, script, extra=()):
    """Losses follow a script; returns the model and the weights that each epoch ended with."""
    model = helpers.dense_model()
    states = helpers.StatesAfterEpochs()
    callbacks = [states, helpers.Scripted(loss=script), guard, *extra]
    try:
        model.fit(X, Y, epochs=len(script), verbose=0, callbacks=callbacks)
    finally:
        guard.weights_after = states.weights
        guard.model_used = model
    return model, states.weights


def test_the_best_weights_are_left_in_the_model():
    guard = RestoreBest("loss")
    model, after = fit(guard, script=[3, 1, 2, 1, 4])
    assert np.array_equal(helpers.flat(model.weights), after[1])
    assert (guard.best, guard.best_epoch) == (1, 1)
    [event] = guard.events
    assert (event.action, event.epoch, event.restored_from) == ("restore", 4, 1)


def test_a_validation_loss_is_watched_by_default():
    model = helpers.dense_model()
    guard, states = RestoreBest(), helpers.StatesAfterEpochs()
    script = helpers.Scripted(val_loss=[3, 1, 2])
    model.fit(X, Y, epochs=3, validation_split=0.25, verbose=0, callbacks=[states, script, guard])
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


@pytest.mark.filterwarnings("ignore::pykguard.GuardWarning")
def test_training_is_not_touched_while_it_runs():
    guard = RestoreBest("loss")
    _, watched = fit(guard, script=[3, 1, 2, 4])
    _, alone = fit(RestoreBest("loss", start_from_epoch=99), script=[3, 1, 2, 4])
    assert np.array_equal(watched, alone)


@pytest.mark.parametrize(("restore", "steps"), [(True, 2), (False, 4)])
def test_the_optimizer_is_restored_only_if_asked_for(restore, steps):
    model = helpers.dense_model()
    callbacks = [
        helpers.Scripted(loss=[3, 1, 2, 4]),
        RestoreBest("loss", restore_optimizer=restore),
    ]
    model.fit(X, Y, batch_size=32, epochs=4, verbose=0, callbacks=callbacks)
    assert int(model.optimizer.iterations.numpy()) == steps


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError], ids=lambda e: e.__name__)
def test_the_best_weights_are_left_when_training_is_cut_short(error):
    raising = helpers.RaisesInEpoch(3, error())
    with pytest.raises(error), RestoreBest("loss") as guard:
        fit(guard, script=[3, 1, 2, 4], extra=[raising])
    assert np.array_equal(helpers.flat(guard.model_used.weights), guard.weights_after[1])


def test_without_the_context_the_last_weights_stay_when_training_is_cut_short():
    guard = RestoreBest("loss")
    with pytest.raises(RuntimeError):
        fit(guard, script=[3, 1, 2, 4], extra=[helpers.RaisesInEpoch(3, RuntimeError())])
    assert np.array_equal(helpers.flat(guard.model_used.weights), guard.weights_after[2])


def test_the_context_restores_only_once():
    with RestoreBest("loss") as guard:
        fit(guard, script=[3, 1, 2])
    assert [event.action for event in guard.events] == ["restore"]


def test_the_context_leaves_alone_what_was_trained_after_the_fit():
    with RestoreBest("loss") as guard:
        model, _ = fit(guard, script=[3, 1, 2])
        helpers.mark(model, 7)
    assert helpers.marker(model) == 7


def test_the_best_weights_can_be_restored_by_hand():
    guard = RestoreBest("loss")
    model, after = fit(guard, script=[3, 1, 2])
    model.fit(X, Y, verbose=0)
    assert not np.array_equal(helpers.flat(model.weights), after[1])
    guard.restore()
    assert np.array_equal(helpers.flat(model.weights), after[1])


def test_there_is_nothing_to_restore_before_a_fit():
    with pytest.raises(SnapshotError, match="RestoreBest has not been in a `fit` yet"):
        RestoreBest().restore()


def test_the_context_can_be_left_without_a_fit():
    with RestoreBest() as guard:
        pass
    assert guard.events == []


def test_all_epochs_poisoned_ends_in_the_initial_state():
    model = helpers.dense_model()
    initial = helpers.flat(model.weights)
    poison = helpers.PoisonedData(X, Y, {0, 1})
    guard = RestoreBest("loss")
    with pytest.warns(GuardWarning, match="no epoch was finite.* initial state"):
        model.fit(poison.data, shuffle=False, epochs=2, verbose=0, callbacks=[poison, guard])
    assert np.array_equal(helpers.flat(model.weights), initial)
    assert (guard.best, guard.best_epoch) == (None, None)
    assert [event.restored_from for event in guard.events] == [-1]


def test_poisoned_epochs_after_a_good_one_end_in_the_good_one():
    model = helpers.dense_model()
    poison = helpers.PoisonedData(X, Y, {1, 2})
    guard, states = RestoreBest("loss"), helpers.StatesAfterEpochs()
    model.fit(poison.data, shuffle=False, epochs=3, verbose=0, callbacks=[poison, states, guard])
    assert np.array_equal(helpers.flat(model.weights), states.weights[0])


def test_broken_weights_behind_a_low_loss_are_not_the_best():
    model = helpers.dense_model()
    kick = helpers.KickAfterLastBatch(epoch=1, value=np.nan)
    guard = RestoreBest("loss")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[kick, guard])
    assert guard.best_epoch == 0
    assert np.isfinite(helpers.flat(model.weights)).all()


@pytest.mark.parametrize(("probe", "best_epoch"), [((X, Y), 1), (None, 2)])
def test_only_a_probe_sees_a_weight_that_broke_after_the_last_batch(probe, best_epoch):
    model = helpers.dense_model()
    kick = helpers.KickAfterLastBatch(epoch=2)
    guard = RestoreBest("loss", probe=probe)
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[kick, guard])
    assert guard.best_epoch == best_epoch
    assert (np.abs(helpers.flat(model.weights)).max() == 1e6) == (probe is None)


def test_a_validation_that_never_came_is_warned_of_and_changes_nothing():
    model = helpers.dense_model()
    states = helpers.StatesAfterEpochs()
    with pytest.warns(GuardWarning, match="'val_loss' was in no epoch's metrics"):
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[states, RestoreBest()])
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


def test_the_restored_epoch_is_told_in_one_line(capsys, marked):
    guard = RestoreBest("loss", verbose=1)
    helpers.drive(guard, marked, [{"loss": 2}, {"loss": 0.5}, {"loss": 1}])
    guard.on_train_end()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines == ["After epoch 3: loss 0.5 of epoch 2 is the best: restored epoch 2"]
