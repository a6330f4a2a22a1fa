import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf

from pykguard import GuardWarning, RevertOnLossIncrease

X, Y = helpers.line()


class Adversaries(keras.Model):
    """Two networks with an optimizer each, trained by a step of their own, without `call`."""

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        self.forger = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        self.critic_optimizer = keras.optimizers.Adam(0.01)
        self.forger_optimizer = keras.optimizers.Adam(0.01)
        self.critic_optimizer.build(self.critic.trainable_variables)
        self.forger_optimizer.build(self.forger.trainable_variables)

    def train_step(self, data):
        x = data[0]
        with tf.GradientTape(persistent=True) as tape:
            forged = self.forger(x[:, :2])
            loss = keras.ops.mean(keras.ops.tanh(self.critic(forged) - self.critic(x)))
            hidden = -loss
        for optimizer, network, goal in (
            (self.critic_optimizer, self.critic, loss),
            (self.forger_optimizer, self.forger, hidden),
        ):
            weights = network.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(goal, weights), weights, strict=True))
        self._loss_tracker.update_state(loss)
        return {"loss": self._loss_tracker.result()}


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
    """The same, whose networks and optimizers have no variables before the first step."""

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
    assert "did not exist when the state was kept" in str(caught[-1].message)


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


def test_a_model_that_fails_on_shapes_alone_is_warned_of_and_trained():
    model = LooksAtItsData()
    model.compile("sgd", "mse", run_eagerly=True)
    guard = RevertOnLossIncrease(tolerance=100)
    with pytest.warns(GuardWarning, match="no going back to its initial state; build it before"):
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
