"""The same classes in the `fit` of tf_keras, as Keras 2 is called today."""

import re
import subprocess
import sys

import helpers
import keras
import numpy as np
import poison
import pytest

from pykguard import (
    LossHistory,
    RestoreBest,
    RevertOnLossIncrease,
    RevertToBestOnIncrease,
    current_learning_rate,
    reset_learning_rate,
)

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf_keras is TensorFlow's", allow_module_level=True)
tf_keras = pytest.importorskip("tf_keras")

import tensorflow as tf  # noqa: E402

X, Y = helpers.line()
K = tf_keras

OPTIMIZERS = {
    "SGD with momentum": lambda: K.optimizers.SGD(0.01, momentum=0.9),
    "Adam": lambda: K.optimizers.Adam(0.01),
    "Adam with moving averages": lambda: K.optimizers.Adam(0.01, use_ema=True),
    "RMSprop": lambda: K.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "Lion": lambda: K.optimizers.Lion(0.001),
    "Adafactor": lambda: K.optimizers.Adafactor(0.01),
    "Adam of the older kind": lambda: K.optimizers.legacy.Adam(0.01),
    "a loss scale": lambda: K.mixed_precision.LossScaleOptimizer(K.optimizers.Adam(0.01)),
    "a loss scale of the older kind": lambda: K.mixed_precision.LossScaleOptimizer(
        K.optimizers.legacy.Adam(0.01)
    ),
    "a schedule": lambda: K.optimizers.SGD(
        K.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9), momentum=0.9
    ),
}


def layers():
    return [
        K.layers.Dense(8, activation="tanh"),
        K.layers.BatchNormalization(),
        K.layers.Dropout(0.2, seed=3, rng_type="stateful"),
        K.layers.Dense(1),
    ]


def sequential():
    return K.Sequential([K.layers.Input((3,)), *layers()])


class Subclassed(K.Model):
    """Has no variables before it sees data."""

    def __init__(self):
        super().__init__()
        self.parts = layers()

    def call(self, inputs, training=False):
        dense, norm, drop, out = self.parts
        return out(drop(norm(dense(inputs), training=training), training=training))


MODELS = {
    "Sequential": sequential,
    "Sequential without Input": lambda: K.Sequential(layers()),
    "subclassed": Subclassed,
}


def compiled(make_model=sequential, make_optimizer=OPTIMIZERS["Adam"], **options):
    K.utils.set_random_seed(1)
    tf.random.set_global_generator(tf.random.Generator.from_seed(1))
    model = make_model()
    model.compile(make_optimizer(), "mse", metrics=["mae"], **options)
    return model


def dataset(batches):
    rows = tf.TensorSpec((8, 3), "float32"), tf.TensorSpec((8, 1), "float32")

    def generate():
        yield from (batches[i] for i in range(len(batches)))

    made = tf.data.Dataset.from_generator(generate, output_signature=rows)
    return made.apply(tf.data.experimental.assert_cardinality(len(batches)))


def fit(model, *callbacks, bad=(), epochs=3, spoil=poison.nan_inputs, **options):
    batches = poison.Batches(X, Y, spoil)
    callbacks = [poison.Poison(batches, bad), *callbacks]
    history = model.fit(dataset(batches), epochs=epochs, verbose=0, callbacks=callbacks, **options)
    return history.history["loss"]


def state(model):
    optimizer = model.optimizer
    own = optimizer.variables
    variables = list(model.variables) + list(own() if callable(own) else own)
    loss_scale = [optimizer.loss_scale] if hasattr(optimizer, "loss_scale") else []
    return [(v.name, v.numpy()) for v in variables] + [("loss scale", np.array(loss_scale))]


def differing(one, other):
    pairs = list(zip(state(one), state(other), strict=True))
    return [name for (name, a), (_, b) in pairs if a.tobytes() != b.tobytes()]


def assert_no_trace(make, spoil=poison.nan_inputs):
    plain = make()
    fit(plain)
    rescued = make()
    guard = RevertOnLossIncrease(tolerance=1000)
    fit(rescued, guard, bad={2}, epochs=4, spoil=spoil)
    assert [event.epoch for event in guard.events] == [2]
    assert len(state(plain)) > 8
    assert differing(plain, rescued) == []


@pytest.mark.parametrize("spoil", poison.SPOILS.values(), ids=poison.SPOILS.keys())
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_rolled_back_epoch_leaves_no_trace(optimizer, spoil):
    assert_no_trace(lambda: compiled(make_optimizer=optimizer), spoil)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_nor_does_it_in_other_models(make):
    assert_no_trace(lambda: compiled(make))


@pytest.mark.parametrize("options", [{"steps_per_execution": 4}, {"jit_compile": True}], ids=str)
def test_nor_does_it_where_steps_run_otherwise(options):
    assert_no_trace(lambda: compiled(**options))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_poisoned_first_epoch_goes_back_to_the_initial_state(make):
    untrained = compiled(make)
    untrained(X)
    model = compiled(make)
    guard = RevertOnLossIncrease()
    fit(model, guard, bad={0}, epochs=1)
    assert [event.restored_from for event in guard.events] == [-1]
    for ours, initial in zip(model.weights, untrained.weights, strict=True):
        assert np.array_equal(ours.numpy(), initial.numpy())
    fit(model, RevertOnLossIncrease(), epochs=2)
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


def constant_gradient_model(learning_rate, optimizers=K.optimizers):
    """One weight that each step of plain SGD lowers by exactly the learning rate."""
    dense = K.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = K.Sequential([K.layers.Input((1,)), dense])
    model.compile(optimizers.SGD(learning_rate), lambda y, p: tf.reduce_mean(p))
    return model


class Scripted(K.callbacks.Callback):
    """Gives each epoch's logs the values of a script; stands in front of a guard."""

    def __init__(self, **columns):
        super().__init__()
        self.columns = columns

    def on_epoch_end(self, epoch, logs=None):
        logs.update({name: values[epoch] for name, values in self.columns.items()})


def flat(weights):
    return np.concatenate([weight.numpy().ravel() for weight in weights])


RATES = {
    "a number": lambda: 0.5,
    "a schedule": lambda: K.optimizers.schedules.PiecewiseConstantDecay([1000], [0.5, 0.1]),
}


@pytest.mark.parametrize("kind", [K.optimizers, K.optimizers.legacy], ids=["newer", "older"])
@pytest.mark.parametrize("rate", RATES.values(), ids=RATES.keys())
def test_the_learning_rate_is_cut_for_the_next_step(rate, kind):
    model = constant_gradient_model(rate(), kind)
    x, y = helpers.ones(4)
    losses = Scripted(loss=[1.0, 5.0, 0.5])
    seen = []

    class Sees(K.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.before = float(self.model.weights[0])

        def on_epoch_end(self, epoch, logs=None):
            seen.append(round(self.before - float(self.model.weights[0]), 6))

    guard = RevertOnLossIncrease(lr_factor=0.5)
    model.fit(x, y, epochs=3, batch_size=4, verbose=0, callbacks=[Sees(), losses, guard])
    assert seen == [0.5, 0.5, 0.25]
    assert [event.learning_rate for event in guard.events] == [0.25]


def test_the_best_weights_are_left():
    model = compiled()
    weights = []

    class Sees(K.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.append(flat(self.model.weights))

    keep = RestoreBest("loss")
    fit(model, Sees(), keep, bad={2}, epochs=3, spoil=poison.huge_targets)
    assert keep.best_epoch == 1
    assert np.array_equal(flat(model.weights), weights[1])


def test_a_metric_s_direction_is_inferred():
    guard = RevertToBestOnIncrease("accuracy")
    model = compiled()
    scripted = Scripted(accuracy=[0.5, 0.4, 0.6])
    fit(model, scripted, guard)
    assert [event.epoch for event in guard.events] == [1]


def test_a_probe_is_evaluated():
    model = compiled()
    guard = RevertOnLossIncrease(probe=(X, Y))
    fit(model, guard, epochs=2)
    assert guard.best == pytest.approx(min(guard.best, model.evaluate(X, Y, verbose=0)[0]))
    assert guard._monitor_name() == "probe_loss"


@pytest.mark.parametrize("steps", [1, 2])
def test_the_batches_own_losses_are_recorded(steps):
    model = constant_gradient_model(0.5)
    model.compile(K.optimizers.SGD(0.5), lambda y, p: tf.reduce_mean(p), steps_per_execution=steps)
    x, y = helpers.ones(24)
    history = LossHistory()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[history])
    assert history.losses == pytest.approx([-0.5 * i for i in range(12)])
    assert history.batches["exact"].all()
    epoch_losses = history.epochs["loss"]
    assert epoch_losses == pytest.approx([-0.5 * 2.5, -0.5 * 8.5])
    assert model.evaluate(x, y, verbose=0) == pytest.approx(-6.0)


@pytest.mark.parametrize("rate", [0.5, K.optimizers.schedules.ExponentialDecay(0.5, 3, 0.5)])
def test_the_learning_rate_of_each_batch_is_the_one_its_step_used(rate):
    model = constant_gradient_model(0.5)
    model.compile(K.optimizers.SGD(rate), lambda y, p: tf.reduce_mean(p))
    x, y = helpers.ones(24)
    history = LossHistory()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[history])
    moves = -np.diff(history.losses)
    np.testing.assert_allclose(history.batches["learning_rate"][:-1], moves, rtol=1e-5)


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_loss_is_explained(verbose, capsys):
    layers = [K.layers.Dense(8, "relu"), K.layers.BatchNormalization(), K.layers.Dropout(0.3)]
    penalised = K.layers.Dense(1, kernel_regularizer="l2")
    model = K.Sequential([K.Input((3,)), *layers, penalised])
    model.compile(K.optimizers.SGD(0.05), "mse")
    x, y = helpers.line(28)
    history = LossHistory(data=(x, y))
    model.fit(x, y, batch_size=8, epochs=2, verbose=verbose, callbacks=[history])
    quantities = history.explain().quantities
    shown = [float(n) for n in re.findall(r"loss: ([\d.e+-]+)", capsys.readouterr().out)]
    assert shown[-1] == quantities["console"][1]
    assert quantities["evaluate"][1] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    assert len(history.explain().differences) == 2 * (5 if verbose == 1 else 4)
    for difference in history.explain().differences:
        total = sum(difference.parts.values())
        assert total == pytest.approx(difference.total, rel=1e-6, abs=1e-15)


def test_batch_hooks_are_only_claimed_where_there_are_any():
    assert LossHistory()._implements_train_batch_hooks()
    assert not LossHistory()._implements_test_batch_hooks()
    assert not RestoreBest()._implements_predict_batch_hooks()


def test_a_recorded_model_can_be_loaded_without_pykguard(tmp_path):
    model = sequential()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, callbacks=[LossHistory()])
    model.save(tmp_path / "model")
    script = f"""
import sys, tf_keras, numpy
model = tf_keras.models.load_model({str(tmp_path / "model")!r})
assert "pykguard" not in sys.modules
print(model.evaluate(numpy.ones((4, 3)), numpy.ones((4, 1)), verbose=0))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not run.returncode, run.stderr
    wanted = model.evaluate(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    assert float(run.stdout.split()[-1]) == pytest.approx(wanted)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("old", ["number", "schedule"])
@pytest.mark.parametrize("new", ["number", "schedule"])
def test_a_model_that_was_saved_after_a_reset_trains_on_at_the_rate(old, new, suffix, tmp_path):
    rates = {"number": 0.05, "schedule": K.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)}
    model, path = sequential(), tmp_path / f"model{suffix}"
    model.compile(K.optimizers.SGD(rates[old], momentum=0.5), "mse")
    model.fit(X, Y, verbose=0)
    reset_learning_rate(model, rates[new])
    model.fit(X, Y, verbose=0)
    model.save(path)
    loaded = K.models.load_model(path)
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    assert current_learning_rate(loaded) == pytest.approx(current_learning_rate(model), rel=1e-6)
