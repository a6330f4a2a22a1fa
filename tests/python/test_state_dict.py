import pickle

import helpers
import numpy as np
import pytest

from pykguard import RestoreBest, RevertOnLossIncrease, RevertToBestOnIncrease, SnapshotError

X, Y = helpers.line()
SCRIPT = [3.0, 1.0, 1.25, float("nan"), 1.5, 0.5]

GUARDS = [
    lambda: RevertOnLossIncrease(tolerance=0.25, lr_factor=0.5, max_reverts=9),
    lambda: RevertToBestOnIncrease(tolerance=0.25, lr_factor=0.5, patience=1),
    lambda: RestoreBest("loss", restore_optimizer=True),
]
each_guard = pytest.mark.parametrize("make", GUARDS, ids=["revert", "revert to best", "restore"])


def fit(model, guard, begin, end):
    callbacks = [helpers.Scripted(loss=SCRIPT), guard]
    model.fit(
        X,
        Y,
        initial_epoch=begin,
        epochs=end,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def copy_of(model):
    copy = helpers.dense_model("adam", seed=9)
    copy.optimizer.build(copy.trainable_variables)
    pairs = zip(
        copy.variables + copy.optimizer.variables,
        model.variables + model.optimizer.variables,
        strict=True,
    )
    for target, source in pairs:
        target.assign(source.numpy())
    return copy


@each_guard
def test_a_run_goes_on_in_another_guard_and_model_as_if_never_interrupted(make):
    through, model = make(), helpers.dense_model("adam")
    fit(model, through, 0, 6)

    first, interrupted = make(), helpers.dense_model("adam")
    if isinstance(first, RestoreBest):
        first.on_train_end = lambda logs=None: None  # a process that died does not restore
    fit(interrupted, first, 0, 3)
    saved = pickle.loads(pickle.dumps(first.state_dict()))
    second, resumed = make(), copy_of(interrupted)
    second.load_state_dict(saved)
    fit(resumed, second, 3, 6)

    assert repr(second.events) == repr(through.events)
    assert (second.best, second.best_epoch) == (through.best, through.best_epoch)
    assert np.array_equal(helpers.training_state(resumed), helpers.training_state(model))
    assert repr(second.state_dict()["rule"]) == repr(through.state_dict()["rule"])


@each_guard
def test_a_loaded_state_can_be_read_before_the_next_fit(make, marked):
    first, second = make(), make()
    helpers.drive(first, marked, [{"loss": v} for v in SCRIPT])
    second.load_state_dict(first.state_dict())
    assert repr(second.events) == repr(first.events)
    assert (second.best, second.best_epoch) == (first.best, first.best_epoch)


def test_a_loaded_state_serves_for_one_fit_only(marked):
    first, second = RevertOnLossIncrease(), RevertOnLossIncrease()
    helpers.drive(first, marked, [{"loss": 0.5}])
    second.load_state_dict(first.state_dict())
    helpers.drive(second, marked, [{"loss": 1.0}])
    assert second.n_reverts == 1
    helpers.drive(second, marked, [{"loss": 1.0}])
    assert second.n_reverts == 0 and second.best == 1.0


def test_a_saved_state_is_a_copy(marked):
    guard = RevertOnLossIncrease()
    helpers.drive(guard, marked, [{"loss": 2.0}])
    saved = guard.state_dict()
    marked.stop_training = False
    helpers.mark(marked, 7)
    guard.on_epoch_end(1, {"loss": 1.0})
    assert saved["rule"]["best"] == 2.0
    assert saved["kept"][0].item() == 0


def test_a_guard_that_was_in_no_fit_has_a_state():
    state = RevertOnLossIncrease().state_dict()
    assert (state["events"], state["kept"]) == ([], None)


def test_the_state_of_another_kind_of_guard_is_refused():
    for donor, receiver in [
        (RestoreBest(), RevertOnLossIncrease()),
        (RevertOnLossIncrease(), RestoreBest()),
    ]:
        with pytest.raises(ValueError, match="`state` must be"):
            receiver.load_state_dict(donor.state_dict())


def test_the_state_of_another_model_is_refused_before_the_first_step(marked):
    guard, other = RevertOnLossIncrease(), RevertOnLossIncrease()
    helpers.drive(guard, marked, [{"loss": 2.0}])
    other.load_state_dict(guard.state_dict())
    model = helpers.dense_model()
    with pytest.raises(SnapshotError, match="belongs to another model or optimizer"):
        model.fit(X, Y, verbose=0, callbacks=[other])
    assert int(model.optimizer.iterations.numpy()) == 0


def test_a_loaded_state_can_be_saved_again_before_it_is_used():
    x, y = helpers.line()
    model, guard = helpers.dense_model(), RestoreBest("loss")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[guard])
    state = guard.state_dict()
    other = RestoreBest("loss")
    other.load_state_dict(state)
    again = other.state_dict()
    assert all(np.array_equal(a, b) for a, b in zip(again["kept"], state["kept"], strict=True))


def test_a_loaded_state_is_not_mixed_with_that_of_an_earlier_fit():
    x, y = helpers.line()
    model, guard = helpers.dense_model(), RestoreBest("loss")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[guard])
    state = guard.state_dict()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[guard])
    guard.load_state_dict(state)
    with pytest.raises(SnapshotError):
        guard.restore()
