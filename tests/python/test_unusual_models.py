from contextlib import nullcontext

import helpers
import keras
import numpy as np
import pytest

from pykguard import GuardWarning, LossHistory, RevertOnLossIncrease

X, Y = helpers.line()


class Adversaries(helpers.StepsInPlace):
    """Two networks with an optimizer each, trained by a step of their own, without `call`."""

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        self.forger = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        self.critic_optimizer = keras.optimizers.Adam(0.01)
        self.forger_optimizer = keras.optimizers.Adam(0.01)
        self.critic_optimizer.build(self.critic.trainable_variables)
        self.forger_optimizer.build(self.forger.trainable_variables)

    def step(self, data):
        x = data[0]

        def loss():
            forged = self.forger(x[:, :2])
            return keras.ops.mean(keras.ops.tanh(self.critic(forged) - self.critic(x)))

        seen = self.descend(self.critic_optimizer, self.critic, loss)
        self.descend(self.forger_optimizer, self.forger, lambda: -loss())
        return self.logs(seen)


def fit_poisoned(model, callbacks, *, poisoned, epochs):
    data = helpers.PoisonedData(X, Y, poisoned)
    model.fit(data.data, shuffle=False, epochs=epochs, verbose=0, callbacks=[data, *callbacks])
    optimizers = [model.critic_optimizer, model.forger_optimizer]
    return helpers.flat(model.variables + [v for o in optimizers for v in o.variables])


def test_both_networks_and_both_optimizers_of_a_pair_are_rolled_back():
    keras.utils.set_random_seed(1)
    plain = Adversaries()
    plain.compile()
    expected = fit_poisoned(plain, [], poisoned=set(), epochs=2)
    keras.utils.set_random_seed(1)
    rescued = Adversaries()
    rescued.compile()
    guard = RevertOnLossIncrease(tolerance=100)
    state = fit_poisoned(rescued, [guard], poisoned={1}, epochs=3)
    assert guard.n_reverts == 1
    assert np.array_equal(state, expected)


class LateAdversaries(Adversaries):
    """The same, where a network and its optimizer have no variables before the first step.

    On JAX and torch Keras trains no model whose networks are unbuilt, except one with a `call()`
    that does not reach all of them.
    """

    if helpers.BACKEND != "tensorflow":

        def call(self, inputs):
            return self.critic(inputs)

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential([keras.layers.Dense(1)])
        self.forger = keras.Sequential([keras.layers.Dense(3)])
        self.critic_optimizer = keras.optimizers.Adam(0.01)
        self.forger_optimizer = keras.optimizers.Adam(0.01)


def test_a_model_that_cannot_be_built_early_is_warned_of_and_rolled_back_later():
    model = LateAdversaries()
    model.compile()
    guard = RevertOnLossIncrease(tolerance=100)
    with pytest.warns(GuardWarning, match="no going back to its initial state; build it before"):
        state = fit_poisoned(model, [guard], poisoned={1}, epochs=3)
    assert [event.restored_from for event in guard.events] == [0]
    assert np.isfinite(state).all()


def test_a_model_that_could_not_be_built_early_says_so_when_its_first_epoch_fails():
    model = LateAdversaries()
    model.compile()
    guard = RevertOnLossIncrease(max_reverts=1)
    with pytest.warns(GuardWarning) as caught:
        fit_poisoned(model, [guard], poisoned={0}, epochs=1)
    assert "did not exist when the state was kept" in helpers.guard_warnings(caught)[-1]


class StepOfTheGuide(keras.Model):
    """Trains as Keras' guides to custom train steps have it, one guide a backend."""

    def log(self, loss, y, y_pred):
        for metric in self.metrics:
            metric.update_state(*([loss] if metric.name == "loss" else [y, y_pred]))
        return {metric.name: metric.result() for metric in self.metrics}

    if helpers.BACKEND == "tensorflow":

        def train_step(self, data):
            import tensorflow as tf

            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            weights = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return self.log(loss, y, y_pred)

    elif helpers.BACKEND == "torch":

        def train_step(self, data):
            import torch

            x, y = data
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            loss.backward()
            weights = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([v.value.grad for v in weights], weights)
            return self.log(loss, y, y_pred)

    else:

        def loss_and_updates(self, trainable, non_trainable, x, y):
            y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x, training=True)
            return self.compute_loss(x, y, y_pred), (y_pred, non_trainable)

        def train_step(self, state, data):
            import jax

            trainable, non_trainable, slots, of_metrics = state
            x, y = data
            compute = jax.value_and_grad(self.loss_and_updates, has_aux=True)
            (loss, (y_pred, non_trainable)), gradients = compute(trainable, non_trainable, x, y)
            trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
            logs, updated = {}, []
            for metric in self.metrics:
                values = of_metrics[len(updated) : len(updated) + len(metric.variables)]
                seen = [loss] if metric.name == "loss" else [y, y_pred]
                values = metric.stateless_update_state(values, *seen)
                logs[metric.name] = metric.stateless_result(values)
                updated += values
            return logs, (trainable, non_trainable, slots, updated)


def with_step_of_the_guide():
    usual = helpers.noisy_model("adam")
    model = StepOfTheGuide(usual.inputs, usual.outputs)
    model.compile("adam", "mse", metrics=["mae"])
    return model


def test_a_train_step_of_ones_own_is_rolled_back_without_a_trace_and_recorded():
    plain, rescued = with_step_of_the_guide(), with_step_of_the_guide()
    without, data = helpers.PoisonedData(X, Y, set()), helpers.PoisonedData(X, Y, {1})
    plain.fit(without.data, shuffle=False, epochs=3, verbose=0, callbacks=[without])
    guard, history = RevertOnLossIncrease(tolerance=100), LossHistory()
    callbacks = [data, guard, history]
    rescued.fit(data.data, shuffle=False, epochs=4, verbose=0, callbacks=callbacks)
    assert [event.epoch for event in guard.events] == [1]
    assert np.array_equal(helpers.training_state(rescued), helpers.training_state(plain))
    assert history.batches["exact"].all()
    assert np.isnan(history.losses).tolist() == [False] * 4 + [True] * 4 + [False] * 8


class Scaled(keras.Model):
    """A network that is built, and a weight of its own that is not."""

    def __init__(self):
        super().__init__()
        self.network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return self.scale * self.network(inputs)


def test_a_weight_that_comes_late_to_a_built_network_is_trained_and_rolled_back():
    model = Scaled()
    model.compile("adam", "mse")
    poison = helpers.PoisonedData(X, Y, {0})
    guard = RevertOnLossIncrease()
    history = model.fit(poison.data, shuffle=False, epochs=2, verbose=0, callbacks=[poison, guard])
    assert np.isfinite(history.history["loss"][1])
    assert np.isfinite(helpers.flat(model.weights)).all()


class LooksAtItsData(helpers.Subclassed):
    """Needs numbers where a model is usually built from shapes."""

    def call(self, inputs, training=False):
        return super().call(inputs * float(inputs[0, 0] == inputs[0, 0]), training=training)


@helpers.not_on("jax", "Keras itself refuses to train such a model, unless it is built")
def test_a_model_that_fails_on_shapes_alone_is_warned_of_and_trained():
    model = LooksAtItsData()
    model.compile("sgd", "mse", run_eagerly=True)
    guard = RevertOnLossIncrease(tolerance=100)
    warned = pytest.warns(GuardWarning, match="no going back to its initial state; build it before")
    if helpers.BACKEND == "torch":  # which has numbers where the others have only shapes
        warned = nullcontext()
    with warned:
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[guard])
    assert guard.best == min(history.history["loss"])


@pytest.mark.parametrize("data", ["arrays with weights", "a generator", "a dictionary"])
def test_a_model_that_is_built_late_takes_its_data_as(data):
    inputs = {
        "arrays with weights": {"x": X, "y": Y, "sample_weight": np.ones(32)},
        "a generator": {"x": ((X, Y) for _ in range(2)), "steps_per_epoch": 1},
        "a dictionary": {"x": {"a": X, "b": X}, "y": Y},
    }[data]

    class TakesAny(helpers.Subclassed):
        def call(self, inputs, training=False):
            if isinstance(inputs, dict):
                inputs = inputs["a"] + inputs["b"]
            return super().call(inputs, training=training)

    model = TakesAny()
    model.compile("adam", "mse")
    kick = helpers.KickAfterLastBatch(epoch=0, value=np.nan)
    kick.params = {"steps": 1}
    guard = RevertOnLossIncrease()
    model.fit(
        **inputs,
        batch_size=None if data == "a generator" else 32,
        verbose=0,
        callbacks=[kick, guard],
    )
    assert guard.n_reverts == 1
    assert np.isfinite(helpers.flat(model.weights)).all()


def test_a_model_that_runs_eagerly_is_guarded():
    model = helpers.dense_model(run_eagerly=True)
    poison = helpers.PoisonedData(X, Y, {1})
    guard = RevertOnLossIncrease()
    history = model.fit(poison.data, shuffle=False, epochs=3, verbose=0, callbacks=[poison, guard])
    assert guard.n_reverts == 1 and np.isfinite(history.history["loss"][2])
