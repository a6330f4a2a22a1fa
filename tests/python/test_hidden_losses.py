"""Batch losses that a `train_step` keeps to itself: known to within a bound, or not at all."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, read_history

pytestmark = pytest.mark.filterwarnings("ignore::pykguard.GuardWarning")


class OwnMean(keras.Sequential):
    """Keeps its loss in a mean of its own, as the guide to custom training has it."""

    def __init__(self, layers):
        super().__init__(layers)
        self.own = keras.metrics.Mean(name="loss")
        self.truth = []

    @property
    def metrics(self):
        return [self.own]

    def added(self, x):
        """The losses are the inputs' means: known from outside."""
        return keras.ops.mean(x)

    if helpers.BACKEND == "jax":

        def train_step(self, state, data):
            trainable, other, optimizer, metrics = state
            loss = self.added(data[0])
            metrics = self.own.stateless_update_state(metrics, loss)
            logs = {"loss": self.own.stateless_result(metrics)}
            return logs, (trainable, other, optimizer, metrics)
    else:

        def train_step(self, data):
            self.own.update_state(self.added(data[0]))
            return {"loss": self.own.result()}


def fit_own_mean(rows, **options):
    x = np.random.default_rng(0).lognormal(size=(rows, 3)).astype("float32")
    model = OwnMean([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = LossHistory(**options)
    model.fit(x, x[:, :1], batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[history])
    return history, np.tile(x.astype("float64").reshape(-1, 6).mean(1), 2)


def test_a_mean_of_the_models_own_tells_the_losses_to_within_the_bound():
    history, truth = fit_own_mean(2000)
    batches = history.batches
    error = np.abs(history.losses - truth)
    rounding = 1e-6 * truth  # the mean of six float32 numbers
    assert (error <= batches["error_bound"] + rounding).all()
    assert not batches["exact"].any()
    assert error.max() > rounding.max()  # the bound is needed
    assert batches["error_bound"].max() < 1e-3
    assert (batches["error_bound"] > 0).all()


def test_the_bound_comes_back_from_a_file(tmp_path):
    path = tmp_path / "losses.csv"
    history, _ = fit_own_mean(20, path=path)
    [read] = read_history(path)
    assert np.array_equal(read.batches["error_bound"], history.batches["error_bound"])
    assert not read.batches["exact"].any()


def test_a_loss_of_which_nothing_is_known_has_no_bound():
    class Silent(keras.Sequential):
        train_step = helpers.idle_step(
            lambda model, data: {"loss": keras.ops.mean(data[0]) * 0 + 7}
        )

    x, y = helpers.line()
    model = Silent([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = LossHistory()
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[history])
    assert history.losses.tolist() == [7] * 4
    assert np.isinf(history.batches["error_bound"]).all()
    assert "not known exactly" in str(history.explain())
    assert np.isnan(history.explain().quantities["last_batch"]).all()


def test_a_batch_that_is_tested_within_an_epoch_is_not_taken_for_another():
    class TestsOnABatch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                x, y = helpers.line(4)
                self.model.test_on_batch(x, y + 1000)

    x, y = helpers.line()
    history, alone = LossHistory(), LossHistory()
    for chosen in ([history, TestsOnABatch()], [alone]):
        helpers.dense_model().fit(
            x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=chosen
        )
    exact = history.batches["exact"]
    resets = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)
    assert exact.all() == resets  # before that the two cannot be told apart
    assert np.array_equal(history.losses[exact], alone.losses[exact])
    assert np.isinf(history.batches["error_bound"][~exact]).all()
