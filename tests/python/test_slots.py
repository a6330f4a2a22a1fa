"""The states that SpikeGuard holds under names, and the memory that they share and give back."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import SpikeGuard
from pykguard.callbacks._slots import SPARE, Slots
from pykguard.snapshots import snapshots_for

NAMES = ["proven", "best", "initial", "suspect", "start", "held"]


@pytest.fixture
def model():
    model = helpers.dense_model(keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(*helpers.line(), verbose=0)
    return model


def slots_of(model):
    return Slots(snapshots_for(model, optimizer=True, metrics=True, within_epochs=True))


def mark(model, number):
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, number, "float32"))


def marked(model):
    numbers = {float(v) for w in model.get_weights() for v in np.ravel(w)}
    assert len(numbers) == 1, numbers
    return numbers.pop()


@pytest.mark.parametrize("seed", range(4))
def test_each_name_stands_for_the_state_that_was_kept_under_it(model, seed):
    random, slots, wanted = np.random.default_rng(seed), slots_of(model), {}
    slots.prepare()
    for number in range(150):
        mark(model, number)
        slots.take(0, 1.0)
        wanted["before"] = number
        for name in random.choice(NAMES, random.integers(0, 3), replace=False):
            slots.keep(name)
            wanted[name] = number
        if random.random() < 0.3:
            name = random.choice(list(wanted))
            slots.put_back(name, model, 0, 1.0)
            assert marked(model) == wanted[name]
            if name != "before":
                wanted["proven"] = wanted[name]
        if random.random() < 0.2 and {"best", "start"} <= set(wanted):
            slots["start"] = slots["best"]
            wanted["start"] = wanted["best"]
        if random.random() < 0.2:
            slots.drop_before()
            wanted.pop("before")
    for name in sorted(wanted, key="proven".__ne__):  # that is what the others become next
        slots.put_back(name, model, 0, 1.0)
        assert marked(model) == wanted[name]


def places(slots, name):
    """Where a state lies in memory."""
    copies = slots[name].snapshot.copies
    if helpers.BACKEND == "torch":
        return [copy.data_ptr() for copy in copies]
    if helpers.BACKEND == "jax":
        return [copy.unsafe_buffer_pointer() for copy in copies]
    return [copy.ctypes.data for copy in copies if isinstance(copy, np.ndarray)]


def test_states_lie_in_the_memory_of_those_that_were_forgotten(model):
    slots, seen, alive = slots_of(model), [], []
    slots.prepare()
    for _ in range(10):
        slots.take(0, 1.0)
        slots.keep("proven")
        seen.append(tuple(places(slots, "proven")))
        alive.append(slots["proven"].snapshot)  # so that nobody else gives its memory away
    assert all(seen) and len(set(seen)) <= SPARE


def test_a_guard_gives_spare_memory_back_when_training_ends(model):
    guard = SpikeGuard()
    model.fit(*helpers.line(), epochs=3, batch_size=4, verbose=0, callbacks=[guard])
    assert guard._slots._spare == [] and "best" in guard._slots


def test_variables_that_came_later_belong_to_the_next_state():
    model = helpers.dense_model(keras.optimizers.Adam(0.1))
    slots = slots_of(model)
    slots.take(0, 1.0)
    before = len(slots["before"].snapshot.parts)
    model.fit(*helpers.line(), verbose=0)
    slots.take(0, 1.0)
    assert len(slots["before"].snapshot.parts) >= before + 2 * len(model.trainable_variables)


@helpers.only_on("tensorflow", "elsewhere all is copied that is not the same as before")
def test_what_training_moves_is_copied_into_one_array_and_the_rest_is_shared():
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(5),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3, dtype="float64"),
        keras.layers.Dense(2, dtype="float16"),
    ]
    model = keras.Sequential(layers)
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    snapshots = snapshots_for(model, optimizer=True, metrics=True, within_epochs=True)
    snapshot = snapshots.take()
    pairs = list(zip(snapshot.parts, snapshot.copies, strict=True))
    copied = [(p.variable, c) for p, c in pairs if isinstance(c, np.ndarray)]
    moving = {id(v) for v in model.trainable_variables if v.dtype != "float16"}
    held = {id(variable) for variable, _ in copied}
    assert moving <= held
    assert not held & {id(v) for v in [*model.layers[0].variables, *model.layers[3].variables]}
    assert not held & {id(v) for v in model.non_trainable_variables}
    wholes = {id(copy.base): copy.base for _, copy in copied}.values()
    assert sorted(str(whole.dtype) for whole in wholes) == ["float32", "float64"]
    assert sum(whole.size for whole in wholes) == sum(copy.size for _, copy in copied)
    for variable, copy in copied:
        assert np.array_equal(copy, helpers.array(variable))
