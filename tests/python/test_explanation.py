import contextlib
import io
import re
import time

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, RevertOnLossIncrease, SpikeGuard
from pykguard.history import _explanation as causes


def differences(history, of, minus):
    """The parts of one difference, an epoch a dictionary."""
    found = [d for d in history.explain().differences if (d.of, d.minus) == (of, minus)]
    assert found
    return [d.parts for d in found]


def assert_it_adds_up(history):
    explained = history.explain()
    assert explained.differences
    for difference in explained.differences:
        assert sum(difference.parts.values()) == pytest.approx(
            difference.total, rel=1e-6, abs=1e-15
        )
        values = explained.quantities
        row = values["epoch"].tolist().index(difference.epoch)
        total = values[difference.of][row] - values[difference.minus][row]
        assert difference.total == total


def record(model, x, y, *callbacks, data=None, **options):
    history = LossHistory(data=data)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    model.fit(x, y, callbacks=[*callbacks, history], **options)
    return history


def console_of(model, x, y, *callbacks, **options):
    """What a fit prints, and its record."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        history = record(model, x, y, *callbacks, **options)
    return text.getvalue(), history


def losses_in(text):
    return re.findall(r"loss: (-?[\d.e+-]+)", text)


class Slow(keras.callbacks.Callback):
    """Leaves the progress bar the time after which it draws itself anew."""

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.06)


class Changes(keras.callbacks.Callback):
    """Writes another loss into the logs of an epoch."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def on_epoch_end(self, epoch, logs=None):
        logs["loss"] += self.by


class Evaluates(keras.callbacks.Callback):
    """Evaluates after one batch of each epoch, which resets the metrics."""

    def __init__(self, after=1):
        super().__init__()
        self.after = after

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.after:
            x, y = helpers.line()
            self.model.evaluate(x, y + 9, batch_size=16, verbose=0)


# ---------------------------------------------------------------- the console
@pytest.mark.parametrize("rate", [0.1, 1e-5])
def test_the_console_of_every_batch_is_known_to_the_last_digit(rate):
    x, y = helpers.line()
    y = y * rate  # small losses are shown in another way
    text, history = console_of(helpers.dense_model("sgd"), x, y, Slow(), epochs=2, verbose=1)
    shown = losses_in(text)
    assert len(shown) == 2 * 5  # four batches, and the end of the epoch
    bar = history.batches["console_loss"]
    ends = history.explain().quantities
    for epoch in (0, 1):
        of_epoch = shown[5 * epoch : 5 * epoch + 5]
        expected = bar[4 * epoch : 4 * epoch + 4]
        assert of_epoch[:4] == [causes.shown(value, 1) for value in expected]
        assert float(of_epoch[3]) == ends["console_running"][epoch]
        assert float(of_epoch[4]) == ends["console"][epoch]
    assert_it_adds_up(history)


def test_the_console_shows_means_of_means_up_to_keras_3_14_1():
    x, y = helpers.line()
    _, history = console_of(helpers.dense_model("sgd"), x, y, epochs=1, verbose=1)
    logged = history.batches["logged_loss"]
    averaged = np.cumsum(logged) / np.arange(1, 5)
    old = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15)
    expected = averaged if old else logged
    np.testing.assert_allclose(history.batches["console_loss"], expected, rtol=1e-6)
    [parts] = differences(history, "console_running", "history")
    double = parts[causes.DOUBLE]
    assert double == pytest.approx(averaged[-1] - logged[-1] if old else 0, rel=1e-5)
    assert (causes.DOUBLE in str(history.explain())) == old


def test_with_verbose_2_the_console_shows_the_end_only():
    x, y = helpers.line()
    text, history = console_of(helpers.dense_model("sgd"), x, y, epochs=2, verbose=2)
    quantities = history.explain().quantities
    assert [float(number) for number in losses_in(text)] == quantities["console"].tolist()
    assert np.isnan(quantities["console_running"]).all()
    assert np.isnan(history.batches["console_loss"]).all()
    assert_it_adds_up(history)


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_negative_loss_is_rounded_as_the_console_does(verbose):
    x, y = helpers.ones(8)
    model = helpers.constant_gradient_model(0.5)
    text, history = console_of(model, x, y, epochs=2, verbose=verbose)
    quantities = history.explain().quantities
    assert quantities["history"][1] < 0
    ends = [line for line in text.splitlines() if "loss: " in line]
    assert float(losses_in(ends[-1])[-1]) == quantities["console"][1]
    assert_it_adds_up(history)


def test_without_a_console_nothing_is_said_of_it():
    x, y = helpers.line()
    history = record(helpers.dense_model(), x, y)
    assert np.isnan(history.explain().quantities["console"]).all()
    assert "console" not in str(history.explain())


@pytest.mark.parametrize("place", ["before", "after"])
def test_logs_that_a_callback_changed_are_told_from_what_the_model_logged(place):
    x, y = helpers.line()
    history, changes = LossHistory(), Changes(0.25)
    callbacks = [changes, history] if place == "before" else [history, changes]
    model = helpers.dense_model()
    truth = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks).history
    assert history.explain().quantities["history"].tolist() == truth["loss"]
    for parts in differences(history, "history", "last_batch"):
        assert parts[causes.CHANGED] == pytest.approx(0.25, abs=1e-6)
    assert_it_adds_up(history)


def test_a_change_between_console_and_history_is_seen():
    x, y = helpers.line()
    bar = keras.callbacks.ProgbarLogger()
    text, history = console_of(helpers.dense_model(), x, y, bar, Changes(0.25), verbose=2)
    quantities = history.explain().quantities
    assert float(losses_in(text)[-1]) == quantities["console"][0]
    [parts] = differences(history, "console", "history")
    assert parts[causes.CHANGED] == pytest.approx(-0.25, abs=1e-6)
    assert_it_adds_up(history)


# ---------------------------------------------------------------- means
def test_batches_of_unequal_size_and_the_mean_are_told_apart():
    x, y = helpers.line(28)
    history = record(helpers.dense_model("sgd"), x, y)
    losses, sizes = history.losses, np.array([8, 8, 8, 4])
    assert history.batches["size"].tolist() == sizes.tolist()
    weighted = (losses * sizes).sum() / 28
    [parts] = differences(history, "history", "last_batch")
    assert parts[causes.PARTIAL] == pytest.approx(weighted - losses.mean())
    assert parts[causes.AVERAGE] == pytest.approx(losses.mean() - losses[-1])
    assert abs(parts[causes.FLOAT]) < 1e-6
    assert parts[causes.CHANGED] == 0
    assert_it_adds_up(history)


def test_every_batch_is_explained_where_few_are_recorded():
    x, y = helpers.line(28)
    full, some = LossHistory(), LossHistory(every=3)
    helpers.dense_model().fit(x, y, batch_size=8, verbose=0, callbacks=[full, some])
    assert len(some.losses) == 2
    assert str(some.explain()) == str(full.explain())


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("first", ["the history", "the evaluation"])
@pytest.mark.parametrize("after", [1, 3])
def test_metrics_that_were_reset_within_the_epoch_are_found(after, first, validated):
    x, y = helpers.line()
    history = LossHistory()
    callbacks = [history, Evaluates(after)]
    if first == "the evaluation":
        callbacks.reverse()
    options = {"validation_data": (x, y - 9)} if validated else {}
    helpers.dense_model().fit(x, y, batch_size=8, verbose=0, callbacks=callbacks, **options)
    [parts] = differences(history, "history", "last_batch")
    quantities = history.explain().quantities
    assert parts[causes.RESET] == pytest.approx(
        quantities["history"][0] - quantities["weighted_mean"][0]
    )
    assert parts[causes.RESET] > 1  # the far-off targets are in the mean
    assert parts[causes.CHANGED] == pytest.approx(0, abs=1e-5)
    assert_it_adds_up(history)


def test_a_validation_does_not_count_as_a_reset_within_the_epoch():
    x, y = helpers.line()
    history = record(helpers.dense_model(), x, y, validation_data=(x, y + 9), epochs=2)
    for parts in differences(history, "history", "last_batch"):
        assert abs(parts[causes.FLOAT]) < 1e-6
    assert_it_adds_up(history)


# ---------------------------------------------------------------- evaluate()
def layered(*layers, rate=0.0, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse", **options)
    return model


def test_nothing_differs_where_no_weight_moves_and_no_layer_differs():
    x, y = helpers.line()
    history = record(layered(keras.layers.Dense(4)), x, y, data=(x, y))
    [parts] = differences(history, "history", "evaluate")
    assert max(map(abs, parts.values())) < 3e-6
    assert_it_adds_up(history)


def test_weights_that_move_are_the_difference_to_evaluate():
    x, y = helpers.line()
    model = layered(keras.layers.Dense(4), rate=0.05)
    history = record(model, x, y, data=(x, y), epochs=3)
    epochs = differences(history, "history", "evaluate")
    quantities = history.explain().quantities
    for epoch, parts in enumerate(epochs):
        moved = quantities["weighted_mean"][epoch] - quantities["evaluate"][epoch]
        assert parts[causes.MOVING] == pytest.approx(moved, abs=1e-6)
        assert abs(parts[causes.BATCH_NORM]) + abs(parts[causes.DROPOUT]) < 1e-6
    assert epochs[0][causes.MOVING] > 0.1
    assert quantities["evaluate"][-1] == pytest.approx(model.evaluate(x, y, verbose=0))
    assert_it_adds_up(history)


def test_dropout_is_told_from_batch_norm():
    x, y = helpers.line()
    history = record(layered(keras.layers.Dropout(0.5, seed=3)), x, y, data=(x, y))
    [parts] = differences(history, "history", "evaluate")
    assert abs(parts[causes.DROPOUT]) > 0.01
    assert parts[causes.BATCH_NORM] == 0
    assert_it_adds_up(history)


def test_batch_norm_is_told_from_dropout_and_its_batches_are_those_of_the_fit():
    x, y = helpers.line(28)
    history = record(layered(keras.layers.BatchNormalization()), x * 5 + 3, y, data=(x * 5 + 3, y))
    [parts] = differences(history, "history", "evaluate")
    assert abs(parts[causes.BATCH_NORM]) > 0.1
    assert abs(parts[causes.DROPOUT]) < 1e-5
    assert abs(parts[causes.MOVING]) < 1e-5
    assert_it_adds_up(history)


def test_regularisation_is_the_difference_to_the_loss_on_the_data():
    x, y = helpers.line()
    layer = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.3))
    model = layered(layer, keras.layers.ActivityRegularization(l1=0.01))
    history = record(model, x, y, data=(x, y))
    [parts] = differences(history, "evaluate", "evaluate_data")
    error = np.mean((model.predict(x, verbose=0) - y) ** 2)
    penalty = model.evaluate(x, y, batch_size=8, verbose=0) - error
    assert parts[causes.PENALTY] == pytest.approx(penalty, rel=1e-4)
    assert penalty > 0.3 * np.square(helpers.array(layer.kernel)).sum()
    assert history.explain().quantities["evaluate_data"][0] == pytest.approx(error, rel=1e-4)


def test_sample_weights_of_the_data_count():
    x, y = helpers.line()
    weights = np.linspace(0, 3, 32).astype("float32")
    history = LossHistory(data=(x, y, weights))
    layered(keras.layers.Dense(4)).fit(
        x, y, sample_weight=weights, batch_size=8, shuffle=False, verbose=0, callbacks=[history]
    )
    [parts] = differences(history, "history", "evaluate")
    assert max(map(abs, parts.values())) < 3e-6


def test_being_explained_changes_no_training():
    x, y = helpers.line()
    states = []
    for data in (None, (x, y)):
        model = helpers.noisy_model(keras.optimizers.Adam(0.01))
        record(model, x, y, data=data, epochs=3)
        states.append(helpers.training_state(model))
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


class Counts(keras.layers.Layer):
    """Changes a weight of its own, that is trainable, in training; and one at all times."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.scale.assign(self.scale * 0.99)
        self.seen.assign(self.seen + 1)
        return inputs * self.scale


@pytest.mark.parametrize("layer", [Counts, keras.layers.BatchNormalization])
def test_weights_that_a_pass_changes_and_those_that_are_frozen_stay_so(layer):
    x, y = helpers.line()
    states = []
    for data in (None, (x, y)):
        keras.utils.set_random_seed(1)
        model = layered(layer(), keras.layers.Dense(3), rate=0.1)
        changing = model.layers[0]
        if layer is keras.layers.BatchNormalization:
            changing.gamma.trainable = False
            model.compile(keras.optimizers.SGD(0.1), "mse")
        trainable = [weight.trainable for weight in model.weights]
        record(model, x, y, data=data, epochs=3)
        assert [weight.trainable for weight in model.weights] == trainable
        states.append(helpers.training_state(model))
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


def test_a_compute_loss_without_the_argument_training_is_explained():
    class Own(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return keras.ops.mean((y - y_pred) ** 2)

    x, y = helpers.line()
    model = Own([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = record(model, x, y, data=(x, y))
    assert differences(history, "history", "evaluate")[0][causes.MOVING] > 0
    assert_it_adds_up(history)


def test_of_an_epoch_that_is_not_finite_this_is_said():
    x, y = helpers.line()
    history = record(helpers.dense_model(), x * np.nan, y)
    assert "History holds" in str(history.explain()) and "nan" in str(history.explain())
    assert "not finite" in str(history.explain())


def test_everything_at_once_adds_up():
    x, y = helpers.line(28)
    model = layered(
        keras.layers.Dense(8, "relu", kernel_regularizer="l2"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        rate=0.2,
    )
    guard = RevertOnLossIncrease(reference="previous", lr_factor=0.5)
    _, history = console_of(
        model, x, y, Evaluates(), guard, Changes(0.01), data=(x, y), epochs=5, verbose=1
    )
    assert len(history.explain().differences) == 5 * 5
    assert_it_adds_up(history)


def test_a_model_that_cannot_be_run_as_in_training_is_still_evaluated():
    class Odd(keras.Sequential):
        is_over = False

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            if self.is_over and training:
                raise TypeError("training is over")
            return super().compute_loss(x, y, y_pred, sample_weight)

    class Ends(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.is_over = True

    x, y = helpers.line()
    model = Odd([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.warns(Warning, match="training is over"):
        history = record(model, x, y, Ends(), data=(x, y))
    assert history.explain().quantities["evaluate"][0] > 0
    [parts] = differences(history, "history", "evaluate")
    assert causes.UNKNOWN in parts
    assert_it_adds_up(history)


# ---------------------------------------------------------------- text and tables
def test_the_text_names_each_cause_with_its_amount():
    x, y = helpers.line(28)
    _, history = console_of(helpers.dense_model(), x, y, verbose=1, data=(x, y))
    text = str(history.explain())
    assert text.startswith("Epoch 1\n")
    for difference in history.explain().differences:
        assert f"{difference.of} - {difference.minus} = {difference.total:+.4g}" in text
    assert f"{differences(history, 'history', 'last_batch')[0][causes.PARTIAL]:+.4g}" in text


def test_the_parts_are_columns_too():
    x, y = helpers.line(28)
    history = record(helpers.dense_model(), x, y, epochs=2)
    parts = history.explain().parts
    assert {len(column) for column in parts.values()} == {8}
    assert parts["epoch"] == [0] * 4 + [1] * 4
    sums = sum(a for a, e in zip(parts["amount"], parts["epoch"], strict=True) if e == 1)
    assert sums == pytest.approx(history.explain().differences[1].total)


def test_before_a_fit_there_is_nothing_to_explain():
    explained = LossHistory().explain()
    assert len(explained) == 0 and explained.differences == []
    assert str(explained) == "no epoch yet"


# ---------------------------------------------------------------- guards
@pytest.mark.parametrize("bad", [1e4, float("nan")])
def test_batches_that_a_guard_took_back_are_named(bad):
    x, y = helpers.line(64 * 16)
    y += 8
    y[20 * 16 + 3] *= np.float32(bad)
    history, guard = LossHistory(), SpikeGuard(interval=1)
    model = helpers.dense_model("sgd")
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[guard, history])
    assert [event.batch for event in guard.events] == [20]
    own = history.batches["loss"]
    [total] = history.epochs["loss"]
    accepted = np.delete(own, 20).mean()
    assert total == pytest.approx(accepted, rel=1e-6)  # so that it is the guard's doing
    parts = {
        (of, minus, cause): amount
        for _, of, minus, cause, amount in zip(*history.explain().parts.values(), strict=True)
    }
    taken_back = parts["history", "last_batch", causes.TAKEN_BACK]
    if np.isnan(bad):
        assert taken_back == pytest.approx(total - own[-1], rel=1e-9)
    else:
        assert taken_back == pytest.approx(accepted - own.mean(), rel=1e-4)
        assert parts["history", "last_batch", causes.AVERAGE] == pytest.approx(own.mean() - own[-1])
    assert causes.UNKNOWN not in {cause for _, _, cause in parts}
    assert causes.FLOAT not in {cause for _, _, cause in parts}
