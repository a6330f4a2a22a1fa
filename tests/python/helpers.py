"""Small models and data, and callbacks that make training go bad in a known way."""

import json
import math
import warnings
from pathlib import Path

import keras
import numpy as np
import poison
import pytest

import pykguard

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pykguard.__file__).parent
NAN = math.nan
BACKEND = keras.backend.backend()

# Begins a script in which `pykguard.rules` and `pykguard.history_files` do not bring in Keras.
WITHOUT_KERAS = f"""
import sys, types
package = types.ModuleType("pykguard")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["pykguard"] = package
"""


# ---------------------------------------------------------------- backends
def only_on(backend, why):
    """Marks a test, or a case of one, of something that only this backend has."""
    return pytest.mark.skipif(backend != BACKEND, reason=f"only on {backend}: {why}")


def not_on(backend, why):
    """Marks a test, or a case of one, of something that this backend does not have."""
    return pytest.mark.skipif(backend == BACKEND, reason=f"not on {backend}: {why}")


needs_several_steps = not_on("torch", "Keras refuses steps_per_execution above 1 there")


def steps_per_execution(*numbers):
    """Cases of a test, one for each number of steps, as far as the backend takes it."""
    cases = [pytest.param(n, marks=needs_several_steps if n > 1 else ()) for n in numbers]
    return pytest.mark.parametrize("steps", cases)


# ---------------------------------------------------------------- data
def line(rows=32):
    """Rows on a plane with little noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 0.3 + 0.01 * random.normal(size=(rows, 1))
    return x.astype("float32"), y.astype("float32")


def ones(rows=4):
    return np.ones((rows, 1), "float32"), np.ones((rows, 1), "float32")


class PoisonedData(poison.Poison):
    """`data`, in a fixed order, whose inputs are NaN in the given epochs."""

    def __init__(self, x, y, epochs, batch_size=8):
        self.data = poison.Batches(x, y, poison.nan_inputs, batch_size)
        super().__init__(self.data, epochs)


# ---------------------------------------------------------------- models
def dense_model(optimizer="sgd", *, seed=1, **compile_options):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", **compile_options)
    return model


def noisy_model(optimizer, **compile_options):
    """A model with every kind of state: BatchNorm statistics and a seed generator."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(8, activation="tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3, seed=5),
        keras.layers.Dense(1, dtype="float32"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", **compile_options)
    return model


class Subclassed(keras.Model):
    """A model that has no variables before it sees data."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4, activation="tanh")
        self.drop = keras.layers.Dropout(0.2)
        self.out = keras.layers.Dense(1)

    def call(self, inputs, training=False):
        return self.out(self.drop(self.hidden(inputs), training=training))


def marker_model():
    """One weight, whose value a test uses to tell states apart."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["accuracy"])
    return model


def mark(model, value):
    model.weights[0].assign(np.full(model.weights[0].shape, value, "float32"))


def marker(model):
    return float(np.ravel(array(model.weights[0]))[0])


def constant_gradient_model(learning_rate):
    """One weight that each step of plain SGD lowers by exactly the learning rate."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(keras.optimizers.SGD(learning_rate), lambda y, p: keras.ops.mean(p))
    return model


# ---------------------------------------------------------------- train steps of one's own
def value_and_gradients(function, variables):
    """What `function()` gives, and its gradients with respect to Keras variables."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function()
        return value, tape.gradient(value, [v.value for v in variables])
    if BACKEND == "torch":
        import torch

        value = function()
        return value, torch.autograd.grad(value, [v.value for v in variables])
    import jax

    def of(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function()

    return jax.value_and_grad(of)([v.value for v in variables])


class StepsInPlace(keras.Model):
    """A model whose `step(data)` changes variables in place, with whatever optimizers it holds.

    JAX compiles no such step, so it is run eagerly there. On JAX and torch Keras builds a model by
    calling it, and one that has no `call()` must say that it is built.
    """

    def compile(self, **options):
        super().compile(run_eagerly=BACKEND == "jax", **options)
        if BACKEND != "tensorflow" and type(self).call is keras.Model.call:
            self.built = True

    def descend(self, optimizer, network, loss):
        """One step of an optimizer on a network; returns the loss before it."""
        if not network.built:
            loss()
        weights = network.trainable_variables
        value, gradients = value_and_gradients(loss, weights)
        apply_gradients(optimizer, gradients, weights)
        return value

    def logs(self, loss):
        self._loss_tracker.update_state(loss)
        return {"loss": self._loss_tracker.result()}

    if BACKEND == "jax":

        def train_step(self, state, data):
            for variables, values in zip(jax_state(self), state, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
            logs = self.step(data)
            return logs, tuple([v.value for v in variables] for variables in jax_state(self))
    else:

        def train_step(self, data):
            return self.step(data)


def apply_gradients(optimizer, gradients, weights):
    if BACKEND != "torch":
        optimizer.apply(gradients, weights)
        return
    import torch

    with torch.no_grad():
        optimizer.apply(gradients, weights)


def jax_state(model, *, optimizer=True):
    """The variables that Keras gives to a step on JAX and takes back from it."""
    slots = [model.optimizer.variables] if optimizer else []
    return [
        model.trainable_variables,
        model.non_trainable_variables,
        *slots,
        model.metrics_variables,
    ]


def idle_step(function):
    """A `train_step` or `test_step` that returns `function(model, data)` and changes nothing."""

    def step(self, data):
        return function(self, data)

    def stateless_step(self, state, data):
        held = jax_state(self, optimizer=len(state) == 4)
        pairs = [
            pair
            for variables, values in zip(held, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=pairs):
            return function(self, data), state

    return stateless_step if BACKEND == "jax" else step


# ---------------------------------------------------------------- reading a model
def array(value):
    """A variable or a tensor as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(getattr(value, "value", value)))


def flat(variables):
    return np.concatenate([np.ravel(array(v).astype("float64")) for v in variables])


def training_state(model):
    """All that a later step depends on, except the learning rate."""
    optimizer = model.optimizer
    rate = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
    return flat(model.variables + [v for v in optimizer.variables if v is not rate])


# ---------------------------------------------------------------- callbacks
class Scripted(keras.callbacks.Callback):
    """Gives each epoch's logs the values of a script; stands in front of a guard."""

    def __init__(self, **columns):
        super().__init__()
        self.columns = columns

    def on_epoch_end(self, epoch, logs=None):
        logs.update({name: values[epoch] for name, values in self.columns.items()})


class Marks(keras.callbacks.Callback):
    """Sets the marker to the epoch's number; stands in front of a guard."""

    def on_epoch_end(self, epoch, logs=None):
        mark(self.model, epoch)


class StepSizes(keras.callbacks.Callback):
    """By how much each step lowered the only weight of the model."""

    def on_train_begin(self, logs=None):
        self.sizes = []

    def on_train_batch_begin(self, batch, logs=None):
        self.before = marker(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self.sizes.append(self.before - marker(self.model))


class KickAfterLastBatch(keras.callbacks.Callback):
    """Sets the last weight, an output's bias, to a huge value after the last batch of one epoch."""

    def __init__(self, epoch, value=1e6):
        super().__init__()
        self.kicked = epoch
        self.value = value

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.kicked and batch == self.params["steps"] - 1:
            bias = self.model.weights[-1]
            bias.assign(np.full(bias.shape, self.value, "float32"))


class RaisesInEpoch(keras.callbacks.Callback):
    def __init__(self, epoch, error):
        super().__init__()
        self.bad_epoch = epoch
        self.error = error

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.bad_epoch:
            raise self.error


class StatesAfterEpochs(keras.callbacks.Callback):
    """The weights that each epoch ended with; stands in front of a guard."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(flat(self.model.weights))


# ---------------------------------------------------------------- traces
SPECIAL = {"NaN": NAN, "Infinity": math.inf, "-Infinity": -math.inf}


def traces(name):
    cases = json.loads((ROOT / "tests" / "fixtures" / name).read_text(encoding="utf-8"))
    for case in cases:
        case["logs"] = [
            {key: SPECIAL.get(value, value) for key, value in entry.items()}
            for entry in case["logs"]
        ]
    return cases


def drive(guard, model, logs):
    """Let a guard judge epochs that never ran; returns the marker after each of them.

    The marker is set to the epoch's number before the guard sees the epoch.
    """
    markers = []
    guard.set_model(model)
    guard.on_train_begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pykguard.GuardWarning)
        for epoch, entry in enumerate(logs):
            guard.on_epoch_begin(epoch)
            mark(model, epoch)
            guard.on_epoch_end(epoch, dict(entry))
            markers.append(marker(model))
    return markers


def guard_warnings(caught):
    """The messages of kguard's own among the caught warnings."""
    return [str(w.message) for w in caught if issubclass(w.category, pykguard.GuardWarning)]


def reverts(guard):
    return [event for event in guard.events if event.action == "revert"]
