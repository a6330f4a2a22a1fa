"""Keras' own callbacks in loops of one's own."""

import helpers
import keras
import numpy as np
import own_loops
import pytest
from loop_cases import DATA, ENGINE, Calls, X, Y, adam, each_engine, train_two
from own_loops import differing, make_model, nan_in, run, variables

import pykguard as kg


def test_early_stopping_ends_the_loop_and_puts_the_best_weights_back():
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    model, after = make_model(ENGINE), []

    class After(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            after.append(variables(model))

    rise = helpers.Scripted(loss=[2.0, 1.0, 3.0, 4.0, 5.0])
    loop = run(ENGINE, model, adam(), DATA, [rise, After(), stop], epochs=5)
    assert loop.history.epoch == [0, 1, 2]
    assert differing(variables(model), after[1]) == []


def test_early_stopping_puts_the_best_weights_of_all_models_back():
    library = own_loops.library_of(ENGINE)
    stop = library.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    bests = []

    class Rises(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = [2.0, 1.0, 3.0][epoch]
            bests.append([v.copy() for v in self.model.get_weights()])

    train_two(ENGINE, DATA, [Rises(), stop], epochs=3)
    assert len(bests[1]) == 8
    assert differing(bests[1], bests[2]) != []
    assert differing(bests[1], stop.model.get_weights()) == []


@pytest.mark.parametrize("used", ["ReduceLROnPlateau", "LearningRateScheduler", "kguard"])
def test_callbacks_set_the_rate_of_the_next_epoch(used):
    callbacks = {
        "ReduceLROnPlateau": lambda: [
            helpers.Scripted(loss=[1.0, 1.0, 1.0]),
            keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1),
        ],
        "LearningRateScheduler": lambda: [
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.25 / (1 + (epoch == 2)))
        ],
        "kguard": lambda: [kg.ResetLearningRate(0.125, 2)],
    }[used]()
    history = kg.LossHistory()
    optimizer = keras.optimizers.SGD(0.25)
    run(ENGINE, make_model(ENGINE), optimizer, DATA, [*callbacks, history], epochs=3)
    assert history.batches["learning_rate"].tolist() == [0.25] * 8 + [0.125] * 4


def test_training_is_ended_within_the_epoch_by_a_nan():
    loop = run(
        ENGINE,
        make_model(ENGINE),
        adam(),
        DATA,
        [keras.callbacks.TerminateOnNaN(), calls := Calls()],
        spoil=nan_in((1, 1)),
        epochs=3,
    )
    assert calls.names[-4:] == ["batch 1 begin", "batch 1 end", "epoch 1 end", "train end"]
    assert loop.history.epoch == [0, 1]


@each_engine
def test_a_checkpoint_holds_the_only_model(tmp_path, engine):
    library, path = own_loops.library_of(engine), tmp_path / "model.keras"
    model = make_model(engine)
    run(engine, model, adam(engine), DATA, [library.callbacks.ModelCheckpoint(str(path))])
    assert differing(variables(library.models.load_model(path)), variables(model)) == []


def test_a_checkpoint_of_several_models_holds_their_weights(tmp_path):
    path = str(tmp_path / "both.weights.h5")
    keep = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    train_two(ENGINE, DATA, keep)
    held = [v.copy() for v in keep.model.get_weights()]
    keep.model.set_weights([0 * v for v in held])
    keep.model.load_weights(path)
    assert differing(held, keep.model.get_weights()) == []
    whole = keras.callbacks.ModelCheckpoint(str(tmp_path / "both.keras"))
    with pytest.raises(kg.UnsupportedError, match="save_weights_only=True"):
        train_two(ENGINE, DATA, whole)


@each_engine
def test_the_best_weights_are_put_back(engine):
    model, after = make_model(engine), []

    class After(kg._callback.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = [2.0, 1.0, 3.0][epoch]
            after.append(variables(model))

    keep = kg.RestoreBest("loss")
    run(engine, model, adam(engine), DATA, [After(), keep], epochs=3)
    assert keep.best_epoch == 1
    assert differing(after[1], variables(model)) == []


def test_a_probe_is_measured_on_the_only_model():
    model = make_model(ENGINE)
    model.compile(loss="mse")
    guard = kg.RevertOnLossIncrease(probe=(X, Y))
    run(ENGINE, model, adam(), DATA, [guard], epochs=1)
    assert guard.best == pytest.approx(model.evaluate(X, Y, verbose=0))


@each_engine
def test_what_resumes_fit_is_refused(tmp_path, engine):
    backup = own_loops.library_of(engine).callbacks.BackupAndRestore(str(tmp_path))
    with pytest.raises(kg.UnsupportedError, match=r"BackupAndRestore .*give `initial_epoch`"):
        kg.guarded_loop(make_model(engine), adam(engine), backup)


@helpers.only_on("tensorflow", "Keras' TensorBoard needs it")
@each_engine
def test_tensorboard_shows_the_epochs_of_the_loop(tmp_path, engine):
    from test_tensorboard import scalars

    board = own_loops.library_of(engine).callbacks.TensorBoard(str(tmp_path), histogram_freq=1)
    loop = run(engine, make_model(engine), adam(engine), DATA, [board], epochs=2)
    shown = scalars(tmp_path / "train", "epoch_loss")
    assert [step for step, _ in shown] == [0, 1]
    np.testing.assert_allclose([loss for _, loss in shown], loop.history.history["loss"], rtol=1e-6)
