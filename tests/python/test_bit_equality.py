"""A poisoned epoch that is rolled back leaves no trace: each variable is the same to the last bit.

Run A trains three epochs. Run B trains two, then a poisoned one that the guard takes back, then the
third on the same data.
"""

import helpers
import keras
import numpy as np
import poison
import pytest

from pykguard import RestoreBest, RevertOnLossIncrease, RevertToBestOnIncrease

X, Y = helpers.line()

OPTIMIZERS = {
    "SGD with momentum": lambda **o: keras.optimizers.SGD(0.01, momentum=0.9, **o),
    "Adam": lambda **o: keras.optimizers.Adam(0.01, **o),
    "AMSGrad": lambda **o: keras.optimizers.Adam(0.01, amsgrad=True, **o),
    "AdamW": lambda **o: keras.optimizers.AdamW(0.01, **o),
    "RMSprop": lambda **o: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True, **o),
    "Lion": lambda **o: keras.optimizers.Lion(0.001, **o),
    "Adafactor": lambda **o: keras.optimizers.Adafactor(0.01, **o),
    "Muon": lambda **o: keras.optimizers.Muon(0.01, **o),
}
if not hasattr(keras.optimizers, "Muon"):  # before Keras 3.10
    del OPTIMIZERS["Muon"]


def layers():
    return [
        keras.layers.Dense(8, activation="tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3, seed=5),
        keras.layers.Dense(1, dtype="float32"),
    ]


def sequential():
    return keras.Sequential([keras.Input((3,)), *layers()])


def functional():
    inputs = keras.Input((3,))
    left, right = layers(), layers()
    a = b = inputs
    for one, other in zip(left, right, strict=True):
        a, b = one(a), other(b)
    return keras.Model(inputs, keras.layers.add([a, b]))


class Subclassed(keras.Model):
    """Has no variables before it sees data."""

    def __init__(self):
        super().__init__()
        self.parts = layers()

    def call(self, inputs, training=False):
        dense, norm, drop, out = self.parts
        return out(drop(norm(dense(inputs), training=training), training=training))


MODELS = {
    "Sequential": sequential,
    "Sequential without Input": lambda: keras.Sequential(layers()),
    "Functional": functional,
    "subclassed": Subclassed,
}


def compiled(make_model, make_optimizer, **options):
    keras.utils.set_random_seed(1)
    model = make_model()
    model.compile(make_optimizer(), "mse", metrics=["mae"], **options)
    return model


def state(model):
    """Name and bytes of each variable."""
    variables = model.variables + model.optimizer.variables
    assert len({id(v) for v in variables}) == len(variables)
    return [(v.path, np.asarray(keras.ops.convert_to_numpy(v))) for v in variables]


def differing(one, other):
    pairs = list(zip(one, other, strict=True))
    return [name for (name, a), (_, b) in pairs if a.tobytes() != b.tobytes()]


def assert_no_trace(make, spoil, guard=RevertOnLossIncrease):
    plain, rescued = make(), make()
    poison.fit(plain, X, Y, spoil=spoil, bad=set(), epochs=3)
    guard = guard(tolerance=1000)
    losses = poison.fit(rescued, X, Y, spoil=spoil, bad={2}, epochs=4, callbacks=[guard])
    assert not losses[2] < 1000, "the poison did not work"
    assert [event.epoch for event in guard.events] == [2]
    assert len(state(plain)) > 10
    assert differing(state(plain), state(rescued)) == []
    assert all(np.isfinite(values).all() for _, values in state(rescued))


each_spoil = pytest.mark.parametrize("spoil", poison.SPOILS.values(), ids=poison.SPOILS.keys())
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


@pytest.fixture(params=["float32", "mixed_float16"])
def precision(request):
    keras.mixed_precision.set_dtype_policy(request.param)
    yield request.param
    keras.mixed_precision.set_dtype_policy("float32")


@each_spoil
@each_optimizer
def test_each_optimizer(optimizer, precision, spoil):
    assert_no_trace(lambda: compiled(sequential, optimizer), spoil)


@each_spoil
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_each_kind_of_model(model, precision, spoil):
    assert_no_trace(lambda: compiled(model, OPTIMIZERS["Adam"]), spoil)


EXTRAS = {
    "accumulated gradients": {"gradient_accumulation_steps": 3},
    "moving averages": {"use_ema": True, "ema_momentum": 0.9},
    "moving averages that overwrite": {
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 3,
    },
    "all at once": {
        "gradient_accumulation_steps": 3,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "clipnorm": 1.0,
        "weight_decay": 0.01,
    },
}


@each_spoil
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS.keys())
def test_each_extra_of_the_optimizers(extras, precision, spoil):
    assert_no_trace(lambda: compiled(sequential, lambda: OPTIMIZERS["Adam"](**extras)), spoil)


WAYS = {
    "compiled": {"jit_compile": True},
    "not compiled": {"jit_compile": False},
    "eager": {"run_eagerly": True},
    "four steps an execution": {"steps_per_execution": 4},
    "four compiled steps an execution": {"steps_per_execution": 4, "jit_compile": True},
}
if (
    helpers.BACKEND == "torch"
):  # Keras allows one step an execution there, and compiling takes a C compiler
    WAYS = {way: options for way, options in WAYS.items() if set(options.values()) == {False}}


@each_spoil
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_each_way_to_run_a_step(way, precision, spoil):
    assert_no_trace(lambda: compiled(sequential, OPTIMIZERS["Adam"], **way), spoil)


@each_spoil
def test_the_guard_that_goes_back_to_the_best(spoil):
    make = lambda: compiled(sequential, OPTIMIZERS["Adam"])  # noqa: E731
    assert_no_trace(make, spoil, guard=RevertToBestOnIncrease)


@each_spoil
def test_a_schedule(spoil):
    def make():
        schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.9)
        return compiled(sequential, lambda: keras.optimizers.SGD(schedule, momentum=0.9))

    assert_no_trace(make, spoil)


def test_a_second_fit_with_moving_averages():
    """Keras on JAX lets weights and averages share their memory after the first."""
    plain, guarded = (compiled(sequential, lambda: OPTIMIZERS["Adam"](use_ema=True)) for _ in "ab")
    for model in (plain, guarded):
        for epochs in (1, 2):
            guard = RevertOnLossIncrease(tolerance=1000)
            bad = {1} if model is guarded and epochs == 2 else set()
            poison.fit(
                model,
                X,
                Y,
                spoil=poison.nan_inputs,
                bad=bad,
                epochs=epochs + len(bad),
                callbacks=[guard],
            )
    assert guard.n_reverts == 1
    assert differing(state(plain), state(guarded)) == []


def test_moving_averages_end_as_the_weights_when_the_last_epoch_is_taken_back():
    make = lambda: compiled(sequential, lambda: OPTIMIZERS["Adam"](use_ema=True))  # noqa: E731
    plain, rescued = make(), make()
    poison.fit(plain, X, Y, spoil=poison.nan_inputs, bad=set(), epochs=2)
    guard = RevertOnLossIncrease(tolerance=1000)
    poison.fit(rescued, X, Y, spoil=poison.nan_inputs, bad={2}, epochs=3, callbacks=[guard])
    assert guard.n_reverts == 1
    assert differing(state(plain), state(rescued)) == []


def test_the_best_weights_are_those_that_were_measured_and_not_their_averages():
    model = compiled(sequential, lambda: OPTIMIZERS["Adam"](use_ema=True))
    seen = helpers.StatesAfterEpochs()
    keep = RestoreBest("loss")
    poison.fit(model, X, Y, spoil=poison.huge_targets, bad={2}, epochs=3, callbacks=[seen, keep])
    assert keep.best_epoch == 1
    assert np.array_equal(helpers.flat(model.weights), seen.weights[1])


def without_a_seed():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(8), keras.layers.Dropout(0.3)])


@helpers.only_on("torch", "elsewhere Dropout without a seed draws from a variable of the model")
@pytest.mark.parametrize("restored", [True, False])
def test_dropout_without_a_seed_needs_the_random_state(restored):
    plain = compiled(without_a_seed, OPTIMIZERS["Adam"])
    poison.fit(plain, X, Y, spoil=poison.nan_inputs, bad=set(), epochs=3)
    rescued = compiled(without_a_seed, OPTIMIZERS["Adam"])
    guard = RevertOnLossIncrease(tolerance=1000, restore_random_state=restored)
    poison.fit(rescued, X, Y, spoil=poison.nan_inputs, bad={2}, epochs=4, callbacks=[guard])
    assert guard.n_reverts == 1
    assert (differing(state(plain), state(rescued)) == []) is restored
