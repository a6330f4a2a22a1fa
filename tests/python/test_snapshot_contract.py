"""What a snapshot promises, on every backend."""

import gc
from pathlib import Path

import helpers
import keras
import numpy as np
import poison
import pytest

from pykguard import RestoreBest, RevertOnLossIncrease, SnapshotError
from pykguard.callbacks import revert
from pykguard.snapshots import Snapshot, snapshots_for

X, Y = helpers.line()


def trained():
    model = helpers.noisy_model(keras.optimizers.Adam(0.01, use_ema=True))
    model.fit(X, Y, verbose=0)
    return model


def contents(snapshots, snapshot):
    return [array.tobytes() for array in snapshots.to_arrays(snapshot)]


def state(snapshots):
    return contents(snapshots, snapshots.take())


class AtEachStep(keras.callbacks.Callback):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.results = []

    def on_train_batch_end(self, batch, logs=None):
        self.results.append(self.function())


def test_a_snapshot_does_not_move_at_any_step_of_the_training_that_goes_on(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    before = contents(snapshots, snapshot)
    watch = AtEachStep(lambda: contents(snapshots, snapshot) == before)
    for restored in (False, True, True):
        if restored:
            snapshots.restore(snapshot)
            assert state(snapshots) == before
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[watch])
        assert state(snapshots) != before
    assert watch.results == [True] * 24


def test_a_state_is_restored_within_an_epoch_with_its_metrics(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True, metrics=True)
    seen = []

    class GoesBack(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.kept = snapshots.take()
            if batch == 3:
                moved = state(snapshots)
                snapshots.restore(self.kept)
                seen.append(moved == contents(snapshots, self.kept))
                seen.append(state(snapshots) == contents(snapshots, self.kept))
                seen.append([float(v.numpy()) for v in self.model.metrics_variables[:2]])

    logged = []
    logs = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: logged.append(logs["loss"])
    )
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[logs, GoesBack()])
    moved, is_restored, (total, count) = seen
    assert (moved, is_restored, count) == (False, True, 16)
    assert total / count == pytest.approx(logged[1], rel=1e-6)


def unwritable(shape):
    """A copy that no backend can write back."""
    return type("Unwritable", (), {"shape": shape})()


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_restore_that_fails_changes_nothing(place, snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    kept = snapshots.take()
    model.fit(X, Y, verbose=0)
    before = state(snapshots)
    copies = list(kept.copies)
    copies[place] = unwritable(tuple(copies[place].shape))
    with pytest.raises(Exception):  # noqa: B017
        snapshots.restore(Snapshot(kept.parts, copies))
    assert state(snapshots) == before
    copies[place] = unwritable((7, 7, 7))
    with pytest.raises(SnapshotError, match="have another shape than when the state was kept"):
        snapshots.restore(Snapshot(kept.parts, copies))
    assert state(snapshots) == before
    snapshots.restore(kept)
    assert state(snapshots) == contents(snapshots, kept)


@helpers.only_on("jax", "elsewhere one call of the backend writes all variables")
@pytest.mark.parametrize("after", [0, 3, 9])
def test_ctrl_c_in_the_middle_of_a_restore_leaves_the_whole_state(after, monkeypatch):
    model = trained()
    snapshots = snapshots_for(model, optimizer=True)
    kept = snapshots.take()
    model.fit(X, Y, verbose=0)
    assign, calls = keras.Variable.assign, []

    def interrupted(variable, value):
        calls.append(variable)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        assign(variable, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.Variable, "assign", interrupted)
        snapshots.restore(kept)
    assert state(snapshots) == contents(snapshots, kept)


def test_a_guard_that_fails_after_it_went_back_leaves_the_restored_state(monkeypatch):
    model = helpers.noisy_model(keras.optimizers.Adam(0.01))
    snapshots, states = snapshots_for(model, optimizer=True), []

    def fails(*arguments):
        raise RuntimeError("no learning rate today")

    class Notes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(state(snapshots))

    monkeypatch.setattr(revert, "scale_learning_rate", fails)
    guard = RevertOnLossIncrease(tolerance=100)
    with pytest.raises(RuntimeError, match="no learning rate today"):
        poison.fit(
            model, X, Y, spoil=poison.nan_inputs, bad={1}, epochs=3, callbacks=[Notes(), guard]
        )
    assert len(states) == 2 and states[0] != states[1]
    assert state(snapshots) == states[0]


def test_an_optimizer_whose_variable_list_changes_is_put_back_all_the_same(snapshots_of):
    model = helpers.noisy_model(keras.optimizers.Adam(0.01))
    model.fit(X, Y, verbose=0)
    snapshots = snapshots_of(model, optimizer=True)
    kept = snapshots.take()
    before = len(model.optimizer.variables)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    model.optimizer.learning_rate = schedule  # drops the variable that held the number
    model.make_train_function(force=True)
    assert len(model.optimizer.variables) == before - 1
    model.fit(X, Y, verbose=0)
    snapshots.restore(kept)
    assert state(snapshots) == contents(snapshots, kept)


def with_a_frozen_layer():
    model = helpers.noisy_model(keras.optimizers.Adam(0.01))
    model.layers[0].trainable = False
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(X, Y, verbose=0)
    return model


@helpers.not_on("tensorflow", "a snapshot there shares what is frozen with the model")
def test_a_frozen_layer_is_not_copied_again(monkeypatch):
    model = with_a_frozen_layer()
    snapshots = snapshots_for(model, optimizer=True)
    first = snapshots.take()
    model.fit(X, Y, verbose=0)
    refill, filled = type(snapshots)._refill, []

    def counting(self, parts, copies):
        filled.extend(id(part.variable) for part in parts)
        return refill(self, parts, copies)

    monkeypatch.setattr(type(snapshots), "_refill", counting)
    snapshots.take(into=first)
    frozen = {id(v) for v in model.layers[0].variables}
    assert len(frozen) == 2 and not frozen & set(filled)
    assert {id(v) for v in model.trainable_variables} <= set(filled)


def test_a_frozen_layer_that_changes_is_put_back(snapshots_of):
    model = with_a_frozen_layer()
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    kernel = model.layers[0].kernel
    for value in (1.0, 2.0):  # as a target network that follows another
        kernel.assign(np.full(kernel.shape, value, "float32"))
        snapshot = snapshots.take(into=snapshot)
        kernel.assign(np.zeros(kernel.shape, "float32"))
        snapshots.restore(snapshot)
        assert np.all(helpers.array(kernel) == value)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only on Linux: memory is read from /proc"
)
def test_memory_does_not_grow_over_a_thousand_epochs():
    layers = [keras.Input((500,)), keras.layers.Dense(1000), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(1e-5), "mse")
    x, y = np.ones((8, 500), "float32"), np.ones((8, 1), "float32")
    sizes = []

    class Measures(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = float("nan") if epoch % 10 == 9 else -float(epoch)
            if epoch in (300, 999):
                gc.collect()
                sizes.append(resident_bytes())

    guards = [RevertOnLossIncrease(), RestoreBest("loss")]
    model.fit(x, y, epochs=1000, verbose=0, callbacks=[Measures(), *guards])
    assert guards[0].n_reverts == 100
    state_bytes = sum(
        array.nbytes
        for array in snapshots_for(model, optimizer=True).to_arrays(
            snapshots_for(model, optimizer=True).take()
        )
    )
    assert state_bytes > 5e6
    assert sizes[1] - sizes[0] < 4 * state_bytes  # 700 epochs that leaked would hold 700 states
