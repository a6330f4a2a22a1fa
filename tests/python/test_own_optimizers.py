"""Models that hold their optimizers themselves, as GANs do."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import RevertOnLossIncrease

X, Y = helpers.line()

HOLD = {
    "an attribute": lambda model, optimizer: setattr(model, "mine", optimizer),
    "a dictionary": lambda model, optimizer: setattr(model, "mine", {"one": optimizer}),
    "a list": lambda model, optimizer: setattr(model, "mine", [optimizer]),
}


class Own(helpers.StepsInPlace):
    def __init__(self, hold, optimizer):
        super().__init__()
        keras.utils.set_random_seed(1)
        self.network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        self.get = lambda: optimizer
        HOLD[hold](self, optimizer)
        self.compile()

    def step(self, data):
        x, y = data

        def loss():
            return keras.ops.mean((self.network(x) - y) ** 2)

        return self.logs(self.descend(self.get(), self.network, loss))


@pytest.mark.parametrize("hold", HOLD)
@pytest.mark.parametrize("poisoned", [0, 1])
def test_an_epoch_of_nan_is_rolled_back_with_the_optimizer_in(hold, poisoned):
    model = Own(hold, keras.optimizers.Adam(0.01))
    data = helpers.PoisonedData(X, Y, {poisoned})
    guard = RevertOnLossIncrease()
    history = model.fit(data.data, shuffle=False, epochs=4, verbose=0, callbacks=[data, guard])
    finite = np.isfinite(history.history["loss"])
    assert finite.tolist() == [epoch != poisoned for epoch in range(4)]


@pytest.mark.parametrize("hold", HOLD)
def test_the_rate_that_is_cut_and_told_is_that_of_the_optimizer_in(hold):
    optimizer = keras.optimizers.SGD(0.5)
    model = Own(hold, optimizer)
    data = helpers.PoisonedData(X, Y, {1})
    guard = RevertOnLossIncrease(lr_factor=0.25)
    model.fit(data.data, shuffle=False, epochs=2, verbose=0, callbacks=[data, guard])
    assert float(optimizer.learning_rate) == 0.125
    assert [event.learning_rate for event in guard.events] == [0.125]


class BuiltTooSoon(keras.Model):
    """Says that it is built before its layer is."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


@pytest.mark.filterwarnings("ignore:.*does not have a `build")
def test_a_model_that_is_built_before_its_layers_trains_and_is_rolled_back():
    model = BuiltTooSoon()
    model.compile("adam", "mse")
    model.built = True
    data = helpers.PoisonedData(X, Y, {0})
    guard = RevertOnLossIncrease()
    history = model.fit(data.data, shuffle=False, epochs=2, verbose=0, callbacks=[data, guard])
    assert np.isfinite(history.history["loss"]).tolist() == [False, True]
