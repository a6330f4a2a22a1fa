import random

import helpers
import keras
import numpy as np
import pytest

from pykguard import GuardWarning, SnapshotError
from pykguard.snapshots import Snapshot, snapshots_for

X, Y = helpers.line()


def trained(optimizer="adam"):
    model = helpers.noisy_model(optimizer)
    model.fit(X, Y, verbose=0)
    return model


def test_a_snapshot_holds_all_but_the_learning_rate():
    model = trained()
    paths = {v.path for v in snapshots_for(model, optimizer=True).variables()}
    state = {v.path for v in model.variables + model.optimizer.variables}
    assert state - paths == {model.optimizer._learning_rate.path}
    assert {path for path in paths if "seed_generator" in path}
    assert {path for path in paths if "moving_mean" in path}


def test_a_snapshot_without_the_optimizer_holds_the_model(snapshots_of):
    model = trained()
    held = snapshots_of(model, optimizer=False).variables()
    assert [v.path for v in held] == [v.path for v in model.variables]


def test_training_on_does_not_move_a_snapshot(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    before = helpers.flat(snapshots.to_arrays(snapshot))
    model.fit(X, Y, verbose=0)
    assert np.array_equal(helpers.flat(snapshots.to_arrays(snapshot)), before)


def test_training_on_after_a_restore_does_not_move_the_snapshot(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    before = helpers.flat(snapshots.to_arrays(snapshot))
    for _ in range(2):
        model.fit(X, Y, verbose=0)
        snapshots.restore(snapshot)
        assert np.array_equal(helpers.training_state(model), before)


def test_a_snapshot_is_filled_again_with_the_new_state(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    model.fit(X, Y, verbose=0)
    again = snapshots.take(into=snapshot)
    assert np.array_equal(helpers.flat(snapshots.to_arrays(again)), helpers.training_state(model))


def test_the_learning_rate_survives_a_restore(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    model.optimizer.learning_rate = 0.125
    snapshots.restore(snapshot)
    assert float(model.optimizer.learning_rate) == 0.125


def test_weights_that_came_later_are_named_in_a_warning(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    whole = snapshots.take()
    snapshot = Snapshot(whole.parts[1:], whole.copies[1:])
    with pytest.warns(GuardWarning, match="did not exist when .*kernel"):
        snapshots.restore(snapshot)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.1),
        lambda: keras.optimizers.Adagrad(0.1),
        lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.1, 9, 0.9), momentum=0.9
        ),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
    ],
    ids=["adam", "adagrad", "sgd", "loss scale"],
)
def test_slots_that_came_later_get_the_values_of_a_new_optimizer(optimizer, snapshots_of):
    optimizer = optimizer()
    model = helpers.dense_model(optimizer)
    snapshots = snapshots_of(model, optimizer=True)
    snapshot = snapshots.take()
    model.fit(X, Y * np.nan, verbose=0)
    snapshots.restore(snapshot)
    state = helpers.flat(optimizer.variables)
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(model.trainable_variables)
    assert np.array_equal(state, helpers.flat(new.variables))


def test_a_second_optimizer_of_the_model_belongs_to_the_state(snapshots_of):
    model = trained()
    model.critic_optimizer = keras.optimizers.Adam()
    model.critic_optimizer.build(model.trainable_variables)
    held = {id(v) for v in snapshots_of(model, optimizer=True).variables()}
    missing = [v.path for v in model.critic_optimizer.variables if id(v) not in held]
    assert missing == [model.critic_optimizer._learning_rate.path]


def test_non_finite_variables_are_named(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    assert snapshots.non_finite() == []
    kernel = model.weights[0]
    kernel.assign(np.where(np.arange(8) == 3, np.inf, kernel.numpy()))
    assert snapshots.non_finite() == [kernel.path]


def drawn():
    """Numbers from each of the global random states."""
    numbers = [random.random(), np.random.random()]
    if helpers.BACKEND == "torch":
        import torch

        numbers.append(float(torch.rand(())))
    return numbers


@pytest.mark.parametrize("wanted", [True, False])
def test_the_global_random_states_are_put_back_only_if_asked_for(wanted, snapshots_of):
    snapshots = snapshots_of(helpers.dense_model(), optimizer=True, random=wanted)
    snapshot = snapshots.take()
    first = drawn()
    snapshots.restore(snapshot)
    assert [a == b for a, b in zip(drawn(), first, strict=True)] == [wanted] * len(first)


def test_arrays_make_the_snapshot_that_they_came_from(snapshots_of):
    model = trained()
    snapshots = snapshots_of(model, optimizer=True)
    arrays = snapshots.to_arrays(snapshots.take())
    before = helpers.training_state(model)
    model.fit(X, Y, verbose=0)
    snapshots.restore(snapshots.from_arrays(arrays))
    assert np.array_equal(helpers.training_state(model), before)


@pytest.mark.parametrize("spoil", [lambda a: a[:-1], lambda a: [a[0].T, *a[1:]]])
def test_arrays_of_another_model_are_refused(spoil, snapshots_of):
    snapshots = snapshots_of(trained(), optimizer=True)
    arrays = snapshots.to_arrays(snapshots.take())
    with pytest.raises(SnapshotError, match="belongs to another model"):
        snapshots.from_arrays(spoil(arrays))
