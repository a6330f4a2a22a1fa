import warnings

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, RestoreBest, RevertOnLossIncrease, RevertToBestOnIncrease

X, Y = helpers.line()

ALL = {
    "revert": lambda: RevertOnLossIncrease(),
    "revert to best": lambda: RevertToBestOnIncrease(),
    "restore": lambda: RestoreBest("loss"),
    "history": lambda: LossHistory(),
}
each_callback = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
each_guard = pytest.mark.parametrize(
    "make", [ALL[name] for name in ALL if name != "history"], ids=[n for n in ALL if n != "history"]
)


def fit(model, *callbacks, script=None, epochs=None, **options):
    """Fit without shuffling; losses follow the script, which stands in front of the callbacks."""
    scripted = [helpers.Scripted(loss=script)] if script else []
    epochs = epochs or len(script)
    model.fit(
        X,
        Y,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*scripted, *callbacks],
        **options,
    )


# ---------------------------------------------------------------- one contract for all
@each_guard
def test_a_second_fit_starts_afresh(make):
    guard = make()
    model = helpers.dense_model()
    fit(model, guard, script=[1, 2])
    assert guard.best == 1 and guard.events
    fit(model, guard, script=[8, 7])
    assert (guard.best, guard.best_epoch) == (7, 1)
    assert helpers.reverts(guard) == []


@each_guard
def test_a_guard_can_serve_another_model(make):
    guard = make()
    fit(helpers.dense_model(), guard, script=[1, 2])
    model, states = helpers.dense_model(seed=5), helpers.StatesAfterEpochs()
    fit(model, states, guard, script=[3, 4])
    assert np.array_equal(helpers.flat(model.weights), states.weights[0])


@each_callback
def test_every_hook_takes_no_logs(make, marked):
    callback = make()
    callback.set_params({"epochs": 1, "steps": 1, "verbose": 0})
    callback.set_model(marked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_train_batch_begin(0)
        callback.on_train_batch_end(0)
        callback.on_test_begin()
        callback.on_test_batch_begin(0)
        callback.on_test_batch_end(0)
        callback.on_test_end()
        callback.on_epoch_end(0)
        callback.on_predict_begin()
        callback.on_predict_batch_begin(0)
        callback.on_predict_batch_end(0)
        callback.on_predict_end()
        callback.on_train_end()
    assert helpers.marker(marked) == -1
    assert marked.stop_training is False


@each_callback
def test_the_config_makes_an_equal_one(make):
    callback = make()
    again = type(callback)(**callback.get_config())
    assert again.get_config() == callback.get_config()


@pytest.mark.parametrize("make", [ALL["revert"], ALL["revert to best"]])
def test_the_initial_state_is_what_a_backup_restored(make, tmp_path):
    backup, states = keras.callbacks.BackupAndRestore(str(tmp_path)), helpers.StatesAfterEpochs()
    with pytest.raises(RuntimeError, match="on purpose"):
        raising = helpers.RaisesInEpoch(2, RuntimeError("on purpose"))
        fit(helpers.dense_model(), states, backup, raising, epochs=4)
    model, guard = helpers.dense_model(seed=5), make()
    again = keras.callbacks.BackupAndRestore(str(tmp_path))
    fit(model, helpers.Scripted(loss=[np.nan] * 3), guard, again, epochs=3)
    assert [event.epoch for event in guard.events] == [2]
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


OPTIONS = {
    RevertOnLossIncrease: {
        "monitor": "val_loss",
        "mode": "max",
        "tolerance": 0.5,
        "relative_tolerance": 0.25,
        "reference": "previous",
        "patience": 2,
        "restore_optimizer": False,
        "restore_random_state": True,
        "lr_factor": 0.125,
        "min_lr": 0.001,
        "max_reverts": 3,
        "start_from_epoch": 4,
        "verbose": 1,
    },
    RestoreBest: {
        "monitor": "loss",
        "mode": "min",
        "min_delta": 0.5,
        "restore_optimizer": True,
        "restore_random_state": True,
        "start_from_epoch": 4,
        "verbose": 1,
    },
    LossHistory: {"path": "losses.csv", "every": 3, "log_dir": "board"},
}


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_the_config_holds_every_option(cls):
    config = cls(**OPTIONS[cls]).get_config()
    data = config.pop("data" if cls is LossHistory else "probe")
    assert data is None and config == OPTIONS[cls]


@pytest.mark.parametrize(
    ("cls", "option"), [(RevertOnLossIncrease, "probe"), (LossHistory, "data")]
)
def test_the_config_holds_the_data(cls, option):
    one = cls(**{option: (X, Y, np.ones(32))})
    again = cls(**one.get_config())
    for part, other in zip(getattr(one, option), getattr(again, option), strict=True):
        assert np.array_equal(part, other)


@each_callback
@pytest.mark.parametrize("make_model", [helpers.dense_model, helpers.Subclassed])
@pytest.mark.parametrize("epoch", [0, 2])
def test_an_exception_in_training_leaves_all_usable(make, make_model, epoch):
    callback, model = make(), make_model()
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="on purpose"):
        raising = helpers.RaisesInEpoch(epoch, RuntimeError("on purpose"))
        fit(model, callback, raising, epochs=4)
    assert np.isfinite(model.predict(X, verbose=0)).all()
    fit(model, callback, script=[3, 2, 4])
    if isinstance(callback, LossHistory):
        assert callback.epochs["loss"].tolist() == [3, 2, 4]
    else:
        assert (callback.best, callback.best_epoch, len(callback.events)) == (2, 1, 1)


@each_callback
def test_a_fit_that_never_began_leaves_a_late_built_model_usable(make):
    class RaisesAtOnce(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise RuntimeError("on purpose")

    model = helpers.Subclassed()
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(model, make(), RaisesAtOnce(), epochs=1)
    callback = make()
    fit(model, callback, script=[3, 2])
    state = callback.epochs["loss"].tolist() if isinstance(callback, LossHistory) else callback.best
    assert state in ([3, 2], 2)


# ---------------------------------------------------------------- several guards
def test_the_first_guard_that_goes_back_settles_the_epoch():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    first, second = RevertOnLossIncrease(lr_factor=0.5), RevertOnLossIncrease(lr_factor=0.5)
    rate = float(model.optimizer.learning_rate)
    fit(model, states, first, second, script=[2, 1, 5])
    assert (first.n_reverts, second.n_reverts) == (1, 0)
    assert float(model.optimizer.learning_rate) == pytest.approx(rate / 2)
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


def test_a_guard_does_not_keep_a_state_under_the_value_of_another():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    revert = RevertOnLossIncrease("loss")
    keep = RestoreBest("score", mode="min")
    scores = helpers.Scripted(score=[3, 2, 1, 4])
    fit(model, states, scores, revert, keep, script=[2, 1, 5, 0.5])
    assert [e.epoch for e in revert.events] == [2]
    assert (keep.best, keep.best_epoch) == (2, 1)
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


def test_two_guards_watch_two_quantities():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    loss, score = RevertOnLossIncrease("loss"), RevertOnLossIncrease("score", mode="max")
    scores = helpers.Scripted(score=[0.5, 0.6, 0.2, 0.7])
    fit(model, states, scores, loss, score, script=[4, 3, 2, 9])
    assert [e.epoch for e in loss.events] == [3]
    assert [e.epoch for e in score.events] == [2]
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])
    assert [e.restored_from for e in loss.events] == [1]


@pytest.mark.parametrize("script", [[4, 3, 2, 9], [4, 3, 2]], ids=["inside", "in the last epoch"])
def test_what_a_later_guard_took_back_does_not_count_as_accepted(script):
    loss, score = RevertOnLossIncrease("loss"), RevertOnLossIncrease("score", mode="max")
    scores = helpers.Scripted(score=[0.5, 0.6, 0.2, 0.7])
    fit(helpers.dense_model(), scores, loss, score, script=script)
    assert (loss.best, loss.best_epoch) == (3, 1)


def test_all_four_work_in_one_list():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    callbacks = [make() for make in ALL.values()]
    fit(model, states, *callbacks, script=[2, 1, 5, 0.5, 3])
    revert, _, restore, history = callbacks
    assert [e.epoch for e in revert.events] == [2, 4]
    assert restore.best_epoch == 3
    assert history.epochs["loss"].tolist() == [2, 1, 5, 0.5, 3]
    assert np.array_equal(helpers.flat(model.weights), states.weights[3])


def test_two_guards_start_a_late_built_model_from_its_initial_state():
    keras.utils.set_random_seed(1)
    untrained = helpers.Subclassed()
    untrained(X)
    keras.utils.set_random_seed(1)
    model = helpers.Subclassed()
    model.compile("sgd", "mse")
    guards = [RevertOnLossIncrease("other", mode="min"), RevertOnLossIncrease()]
    fit(model, helpers.Scripted(other=[1]), *guards, script=[np.nan])
    assert [guard.n_reverts for guard in guards] == [0, 1]
    assert np.array_equal(helpers.flat(model.weights), helpers.flat(untrained.weights))


# ---------------------------------------------------------------- beside Keras' own callbacks
def test_beside_early_stopping():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    guard = RevertOnLossIncrease(lr_factor=0.5)
    stopping = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    fit(model, states, guard, stopping, script=[3, 1, 2, 5, 0])
    assert stopping.stopped_epoch == 3
    assert [e.epoch for e in guard.events] == [2, 3]
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


def test_a_checkpoint_behind_the_guard_saves_the_state_that_the_guard_left(tmp_path):
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    path = str(tmp_path / "{epoch}.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    fit(model, states, RevertOnLossIncrease(), checkpoint, script=[3, 1, 2])
    saved = helpers.dense_model(seed=9)
    for number, epoch in ((1, 0), (2, 1), (3, 1)):
        saved.load_weights(path.format(epoch=number))
        assert np.array_equal(helpers.flat(saved.weights), states.weights[epoch])


@pytest.mark.parametrize(("checkpoint_first", "saved"), [(True, 2), (False, 1)])
def test_a_checkpoint_of_another_quantity_goes_in_front(tmp_path, checkpoint_first, saved):
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    path = str(tmp_path / "best.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="score", mode="min", save_best_only=True, save_weights_only=True
    )
    callbacks = [checkpoint, RevertOnLossIncrease()]
    if not checkpoint_first:
        callbacks.reverse()
    fit(model, states, helpers.Scripted(score=[3, 2, 1]), *callbacks, script=[3, 1, 2])
    model.load_weights(path)
    assert np.array_equal(helpers.flat(model.weights), states.weights[saved])


def test_a_scheduler_sets_the_rate_whatever_the_guard_cut():
    model, steps = helpers.constant_gradient_model(0.5), helpers.StepSizes()
    model.fit(
        *helpers.ones(),
        epochs=3,
        verbose=0,
        callbacks=[
            steps,
            helpers.Scripted(loss=[1, 2, 3]),
            RevertOnLossIncrease(max_reverts=2, lr_factor=0.5),
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.25),
        ],
    )
    assert steps.sizes == [0.25, 0.25, 0.25]


def test_a_rate_that_keras_lowered_on_a_plateau_is_not_put_back():
    model = helpers.dense_model(keras.optimizers.SGD(1.0))
    guard = RevertOnLossIncrease(lr_factor=0.5)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.125, patience=1)
    fit(model, guard, plateau, script=[3, 4, 2])
    assert float(model.optimizer.learning_rate) == 0.5 * 0.125


def test_the_logs_of_a_reverted_epoch_keep_their_true_values():
    model, seen = helpers.dense_model(), []
    watching = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append(logs["loss"])
    )
    fit(model, RevertOnLossIncrease(), watching, script=[3, 4, 2])
    assert seen == [3, 4, 2]


def test_beside_terminate_on_nan_the_good_state_is_left():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    poison = helpers.PoisonedData(X, Y, {2})
    guard, terminate = RevertOnLossIncrease(), keras.callbacks.TerminateOnNaN()
    history = model.fit(
        poison.data,
        shuffle=False,
        epochs=5,
        verbose=0,
        callbacks=[poison, states, guard, terminate],
    )
    assert history.epoch == [0, 1, 2]
    assert guard.n_reverts == 1
    assert np.array_equal(helpers.flat(model.weights), states.weights[1])


def test_a_guard_before_the_one_that_goes_back_in_the_last_epoch_forgets_that_epoch():
    model, states = helpers.dense_model(), helpers.StatesAfterEpochs()
    loss, score = RevertOnLossIncrease("loss"), RevertOnLossIncrease("score", mode="max")
    scores = helpers.Scripted(score=[0.5, 0.6, 0.2])
    fit(model, states, scores, loss, score, script=[4, 3, 2])
    assert (loss.best, loss.best_epoch) == (3, 1)
    kept = np.concatenate([a.ravel() for a in loss.state_dict()["kept"]])
    assert np.isin(states.weights[1], kept).all()
