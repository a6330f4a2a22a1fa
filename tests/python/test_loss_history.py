import csv
import gc
import math
import weakref

import helpers
import keras
import numpy as np
import pytest

from pykguard import (
    GuardWarning,
    LossHistory,
    OptionValueError,
    RevertOnLossIncrease,
    read_history,
)
from pykguard.history import _tracker

PENALTY = 0.01
CLASS_WEIGHT = {0: 0.25, 1: 1.0, 2: 3.0}


def classes(rows):
    random = np.random.default_rng(3)
    x = random.normal(size=(rows, 4)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0.5)


def classifier(**options):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(6, "tanh", kernel_regularizer=keras.regularizers.L2(PENALTY)),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.01), loss, **options)
    return model


def weighted_cross_entropy(model):
    """The classifier's loss, written out."""

    def loss(x, y, weights):
        log_probabilities = keras.ops.log_softmax(model(x, training=True))
        each = -keras.ops.sum(keras.ops.one_hot(y, 3) * log_probabilities, axis=-1)
        penalty = PENALTY * keras.ops.sum(model.layers[0].kernel ** 2)
        return keras.ops.mean(weights * each) + penalty

    return loss


def squared_error(model):
    return lambda x, y: keras.ops.mean((model(x, training=True) - y) ** 2)


def hand_written_step(model, loss):
    """A function of a batch that trains on it, and gives its loss; compiled if the backend can."""
    optimizer = model.optimizer

    def step(*batch):
        weights = model.trainable_variables
        value, gradients = helpers.value_and_gradients(lambda: loss(*batch), weights)
        helpers.apply_gradients(optimizer, gradients, weights)
        return value

    if helpers.BACKEND == "torch":
        return step
    if helpers.BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(step, reduce_retracing=True)
    return jax_step(model, loss)


def jax_step(model, loss):
    import jax

    weights, optimizer = model.trainable_variables, model.optimizer
    optimizer.build(weights)

    @jax.jit
    def compute(values, slots, batch):
        def of(values):
            with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
                return loss(*batch)

        value, gradients = jax.value_and_grad(of)(values)
        return value, optimizer.stateless_apply(slots, gradients, values)

    state = [v.value for v in weights], [v.value for v in optimizer.variables]

    def step(*batch):
        nonlocal state
        value, state = compute(*state, batch)
        return value

    return step


def losses_by_hand(x, y, *, batch_size, epochs=1):
    """The batch losses of a loop that Keras' fit has no part in."""
    model = classifier()
    step = hand_written_step(model, weighted_cross_entropy(model))
    weights = np.array([CLASS_WEIGHT[label] for label in y], "float32")
    batches = [
        [keras.ops.convert_to_tensor(part[i : i + batch_size]) for part in (x, y, weights)]
        for i in range(0, len(x), batch_size)
    ]
    losses = [step(*batch) for _ in range(epochs) for batch in batches]
    return np.array([keras.ops.convert_to_numpy(loss) for loss in losses])


def record(x, y, *, batch_size, epochs=1, history=None, **options):
    history = LossHistory() if history is None else history
    classifier(**options).fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        class_weight=CLASS_WEIGHT,
        shuffle=False,
        verbose=0,
        callbacks=[history],
    )
    return history


def test_the_losses_are_those_of_a_hand_written_loop_for_2000_batches():
    x, y = classes(7_998)
    expected = losses_by_hand(x, y, batch_size=4)
    assert len(expected) == 2_000
    history = record(x, y, batch_size=4)
    np.testing.assert_allclose(history.losses, expected, rtol=2e-6)
    assert history.batches["exact"].all()


def ulps(values, expected):
    """How many representable numbers of float32 the values are off."""
    expected = np.asarray(expected, "float32")
    return np.abs(np.asarray(values) - expected.astype("float64")) / np.spacing(np.abs(expected))


def test_the_losses_are_those_of_a_loop_of_10000_batches_to_4_units_in_the_last_place():
    x, y = helpers.line(10_000)
    history = LossHistory()
    helpers.dense_model("sgd").fit(
        x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[history]
    )
    model = helpers.dense_model("sgd")
    step = hand_written_step(model, squared_error(model))
    rows = [[keras.ops.convert_to_tensor(p[i : i + 1]) for p in (x, y)] for i in range(10_000)]
    expected = [keras.ops.convert_to_numpy(step(*row)) for row in rows]
    assert len(history.losses) == 10_000 and history.batches["exact"].all()
    assert ulps(history.losses, expected).max() <= 4


@helpers.steps_per_execution(1, 7)
def test_losses_are_told_apart_when_their_numbers_begin_anew(steps, monkeypatch):
    x, y = classes(4 * 900)
    expected = record(x, y, batch_size=4).losses
    monkeypatch.setattr(_tracker, "NUMBERS", 300)  # an ordinary run does not get that far
    history = record(x, y, batch_size=4, steps_per_execution=steps)
    assert history.batches["exact"].all()
    np.testing.assert_allclose(history.losses, expected, rtol=2e-6)


@helpers.steps_per_execution(1, 3, 50)
def test_the_losses_do_not_depend_on_the_steps_of_an_execution(steps):
    x, y = classes(39)
    history = record(x, y, batch_size=4, epochs=2, steps_per_execution=steps)
    expected = losses_by_hand(x, y, batch_size=4, epochs=2)
    np.testing.assert_allclose(history.losses, expected, rtol=2e-6)
    assert history.batches["epoch"].tolist() == [0] * 10 + [1] * 10
    assert history.batches["batch"].tolist() == [*range(10), *range(10)]


def test_what_was_logged_is_the_running_mean_by_batch_size():
    x, y = classes(39)
    history = record(x, y, batch_size=4, epochs=2)
    sizes = np.array([4] * 9 + [3])
    for epoch in (0, 1):
        rows = history.batches["epoch"] == epoch
        losses = history.losses[rows]
        expected = np.cumsum(sizes * losses) / np.cumsum(sizes)
        np.testing.assert_allclose(history.batches["logged_loss"][rows], expected, rtol=1e-5)
        assert history.epochs["loss"][epoch] == pytest.approx(expected[-1], rel=1e-5)


def test_every_so_many_batches_are_recorded():
    x, y = classes(39)
    some = record(x, y, batch_size=4, epochs=2, history=LossHistory(every=4))
    assert some.batches["batch"].tolist() == [0, 4, 8, 0, 4, 8]
    assert some.batches_per_epoch == 10
    everything = losses_by_hand(x, y, batch_size=4, epochs=2)
    np.testing.assert_allclose(some.losses, everything[[0, 4, 8, 10, 14, 18]], rtol=2e-6)


def test_the_other_metrics_the_sizes_and_the_times_are_recorded():
    x, y = helpers.line(28)
    history = LossHistory()
    helpers.dense_model(metrics=["mae"]).fit(
        x, y, batch_size=8, epochs=2, verbose=0, callbacks=[history]
    )
    batches = history.batches
    assert batches["size"].tolist() == [8, 8, 8, 4] * 2
    assert batches["logged_mae"][[3, 7]] == pytest.approx(history.epochs["mae"], rel=1e-6)
    assert (np.diff(batches["seconds"]) > 0).all() and 0 < batches["seconds"][0] < 60


def test_ten_million_batches_take_less_than_500_megabytes():
    from pykguard.history._columns import Batches

    table = Batches()
    columns = {f"logged_{name}": [1.0] * 1000 for name in ("loss", "mae", "acc")}
    table.add(0, range(1000), [1.0] * 1000, columns)
    columns = [*table._numbers.values(), table._epoch, table._batch, table._size, table._seconds]
    size = sum(len(c) * c.itemsize for c in columns) + len(table._exact)
    assert size / 1000 * 1e7 < 500e6


def test_a_table_is_a_data_frame_of_pandas():
    history = fit_with(None)
    batches, epochs = history.to_pandas(), history.to_pandas("epochs")
    assert batches["loss"].tolist() == history.losses.tolist()
    assert list(epochs) == list(history.epochs) and len(epochs) == 2
    with pytest.raises(OptionValueError, match=r'`what` must be .*"batches".*got .events.'):
        history.to_pandas("events")


class TwoHeads(keras.Model):
    """Two outputs, of which the second has sample weights of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = keras.layers.Dense(1), keras.layers.Dense(2)

    def call(self, inputs):
        return self.first(inputs), self.second(inputs)


JIT = [False, pytest.param(True, marks=helpers.not_on("torch", "needs a compiler for C++"))]


@pytest.mark.parametrize("jit_compile", JIT)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float64"])
def test_compiled_steps_and_other_precisions_are_recorded(policy, jit_compile):
    x, y = helpers.line(28)
    before = keras.config.floatx()
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    try:
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(1)
        model = TwoHeads()
        model.compile(
            keras.optimizers.SGD(0.0), ["mse", "mae"], loss_weights=[1, 3], jit_compile=jit_compile
        )
        history = LossHistory()
        targets = (y, np.repeat(y, 2, axis=1))
        weights = (np.ones(28, "float32"), np.linspace(0, 2, 28).astype("float32"))
        model.fit(
            x, targets, sample_weight=weights, batch_size=8, shuffle=False, callbacks=[history]
        )
        first, second = model.predict(x, verbose=0)
        square = (first.astype("float64") - y)[:, 0] ** 2
        distance = np.abs(second.astype("float64") - targets[1]).mean(axis=1) * weights[1]
        parts = [slice(i, i + 8) for i in range(0, 28, 8)]
        expected = [square[p].mean() + 3 * distance[p].mean() for p in parts]
        double = 1e-12 if helpers.BACKEND == "tensorflow" else 1e-6  # the others compute in float32
        tolerance = {"float32": 1e-5, "mixed_bfloat16": 2e-2, "float64": double}[policy]
        np.testing.assert_allclose(history.losses, expected, rtol=tolerance)
        assert history.batches["exact"].all()
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("data", [False, True])
def test_two_histories_in_one_fit_record_the_same(data):
    x, y = classes(15)
    model, histories = classifier(), [LossHistory(data=(x, y) if data else None), LossHistory()]
    model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), verbose=0, callbacks=histories)
    assert len(histories[0].losses) == 8 and histories[0].batches["exact"].all()
    assert np.array_equal(histories[0].losses, histories[1].losses)


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
@pytest.mark.parametrize("first", [True, False])
def test_a_record_can_be_read_while_it_is_made(hook, first):
    x, y = helpers.line()
    read, alone = LossHistory(), LossHistory()
    reader = keras.callbacks.Callback()
    setattr(reader, hook, lambda batch, logs=None: str(read.losses) + str(read.explain()))
    for chosen in ([reader, read] if first else [read, reader], [alone]):
        helpers.dense_model().fit(
            x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=chosen
        )
    assert read.batches["exact"].all() and len(read.losses) == 16
    assert np.array_equal(read.losses, alone.losses)


@helpers.needs_several_steps
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(("rows", "expected"), [(400, 16), (28, 7)])
def test_the_steps_that_were_taken_are_recorded_and_not_those_that_were_planned(rows, expected):
    x, y = helpers.line(rows)

    def batches():
        for i in range(0, rows, 4):
            yield x[i : i + 4], y[i : i + 4]

    model, history = helpers.dense_model(steps_per_execution=4), LossHistory()
    # Keras takes whole executions: 8 steps an epoch where there is data for them.
    epochs, steps = (2, 7) if rows == 400 else (1, 10)
    model.fit(batches(), steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=[history])
    assert int(helpers.array(model.optimizer.iterations)) == expected
    assert len(history.losses) == expected and history.batches["exact"].all()
    assert np.isfinite(history.losses).all()


@helpers.not_on("jax", "a step there changes no variable in place")
@pytest.mark.parametrize("weighted", [True, False])
def test_a_loss_with_a_value_for_each_row_is_recorded_as_its_mean(weighted):
    class PerRow(keras.Sequential):
        train_step = helpers.idle_step(lambda model, data: model.follow(data))

        def follow(self, data):
            each = keras.ops.mean(data[0] ** 2, axis=1)
            self._loss_tracker.update_state(each, **({"sample_weight": 8} if weighted else {}))
            return {"loss": self._loss_tracker.result()}

    x, y = helpers.line()
    model = PerRow([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = LossHistory()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[history])
    expected = (x**2).mean(axis=1).reshape(4, 8).mean(axis=1)
    np.testing.assert_allclose(history.losses, expected, rtol=1e-5)


def test_a_second_fit_begins_a_new_record():
    x, y = classes(15)
    model, history = classifier(), LossHistory()
    expected = losses_by_hand(x, y, batch_size=4, epochs=3)
    for epochs in ([0, 1], [2]):
        model.fit(
            x,
            y,
            batch_size=4,
            initial_epoch=epochs[0],
            epochs=epochs[-1] + 1,
            class_weight=CLASS_WEIGHT,
            shuffle=False,
            verbose=0,
            callbacks=[history],
        )
        np.testing.assert_allclose(
            history.losses, expected[4 * epochs[0] : 4 * epochs[-1] + 4], rtol=2e-6
        )
        assert history.epochs["epoch"].tolist() == epochs


@helpers.needs_several_steps
def test_a_model_is_recorded_again_after_it_was_compiled_with_other_steps():
    x, y = classes(15)
    model, history = classifier(), LossHistory()
    for steps in (1, 3):
        model.compile("sgd", model.loss, steps_per_execution=steps)
        model.fit(x, y, batch_size=4, verbose=0, callbacks=[history])
        assert history.batches["exact"].tolist() == [True] * 4


def test_a_model_that_was_trained_and_evaluated_before_is_recorded():
    x, y = helpers.line()
    model, history = helpers.dense_model(), LossHistory()
    model.fit(x, y, validation_data=(x, y), verbose=0)
    model.fit(x, y, batch_size=32, validation_data=(x, y), verbose=0, callbacks=[history])
    assert history.batches["exact"].all()
    np.testing.assert_allclose(history.losses, history.epochs["loss"], rtol=1e-6)
    error = np.mean((model.predict(x, verbose=0) - y) ** 2)
    np.testing.assert_allclose(history.epochs["val_loss"], error, rtol=1e-5)


def test_a_model_that_is_built_late_is_recorded():
    x, y = helpers.line()
    model, history = helpers.Subclassed(), LossHistory()
    model.compile("adam", "mse")
    model.fit(x, y, batch_size=32, epochs=3, verbose=0, callbacks=[history])
    np.testing.assert_allclose(history.losses, history.epochs["loss"], rtol=1e-6)
    assert history.batches["exact"].all() and len(history.losses) == 3


@helpers.steps_per_execution(1, 3)
def test_a_probe_on_a_model_that_is_built_late_hides_no_loss(steps):
    x, y = helpers.line()
    model, history = helpers.Subclassed(), LossHistory()
    model.compile("sgd", "mse", steps_per_execution=steps)
    guard = RevertOnLossIncrease(probe=(x, y))
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[history, guard])
    assert history.batches["exact"].tolist() == [True] * 4


class OwnStep(keras.Sequential):
    """A train step that returns a loss without Keras' tracker."""

    train_step = helpers.idle_step(lambda model, data: {"loss": keras.ops.mean(data[0]) * 0 + 7})


def test_a_train_step_that_hides_its_loss_is_recorded_as_not_exact():
    x, y = helpers.line()
    model = OwnStep([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    history = LossHistory()
    with pytest.warns(GuardWarning, match="could not be seen") as warned:
        model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[history])
    assert len(helpers.guard_warnings(warned)) == 1
    assert history.losses.tolist() == [7] * 4
    assert not history.batches["exact"].any()


class Evaluates(keras.callbacks.Callback):
    """Evaluates on far-off targets after, or before, the second execution of an epoch."""

    def __init__(self, when, twice=False):
        super().__init__()
        self.when = when
        self.times = 1 + twice

    def on_epoch_begin(self, epoch, logs=None):
        self.executions = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.executions += 1
        if self.executions == 2 and self.when == "before":
            self.evaluate()

    def on_train_batch_end(self, batch, logs=None):
        if self.executions == 2 and self.when == "after":
            self.evaluate()

    def evaluate(self):
        x, y = helpers.line()
        for _ in range(self.times):
            self.model.evaluate(x, y + 1000, batch_size=4, verbose=0)


@helpers.steps_per_execution(1, 3)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("first", ["the history", "the evaluation"])
def test_an_evaluation_between_batches_is_not_taken_for_a_batch(when, first, steps):
    x, y = helpers.line()
    alone, disturbed = LossHistory(), LossHistory()
    callbacks = [disturbed, Evaluates(when, twice=steps == 3)]
    if first == "the evaluation":
        callbacks.reverse()
    for chosen in ([alone], callbacks):
        helpers.dense_model(steps_per_execution=steps).fit(
            x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=chosen
        )
    assert disturbed.batches["exact"].all() and len(alone.losses) == 16
    assert np.array_equal(disturbed.losses, alone.losses)


def test_the_epochs_are_those_of_keras_own_history():
    x, y = helpers.line()
    model, history = helpers.dense_model(metrics=["mae"]), LossHistory()
    truth = model.fit(
        x,
        y,
        epochs=4,
        validation_split=0.25,
        validation_freq=2,
        verbose=0,
        callbacks=[history],
    ).history
    columns = history.epochs
    assert columns["epoch"].tolist() == [0, 1, 2, 3]
    assert columns["loss"].tolist() == truth["loss"] and columns["mae"].tolist() == truth["mae"]
    assert columns["val_loss"][[1, 3]].tolist() == truth["val_loss"]
    assert np.isnan(columns["val_loss"][[0, 2]]).all()


def test_a_metric_with_a_value_for_each_class_does_not_stop_training():
    x, y = classes(32)
    model, history = classifier(), LossHistory()
    model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
    model.fit(x, np.eye(3)[y], epochs=2, verbose=0, callbacks=[history])
    assert len(history.epochs["loss"]) == 2
    assert {name for name in history.epochs if name.startswith("f1_score")} == {
        "f1_score[0]",
        "f1_score[1]",
        "f1_score[2]",
    }


def test_the_model_lists_its_loss_once():
    x, y = helpers.line()
    model = helpers.dense_model(metrics=["mae"])
    before = model.metrics_names
    model.fit(x, y, verbose=0, callbacks=[LossHistory(), LossHistory()])
    assert model.metrics_names == before
    assert list(model.evaluate(x, y, verbose=0, return_dict=True)) == ["loss", "mae"]


def test_a_recorded_model_can_be_saved_and_loaded(tmp_path):
    x, y = helpers.line()
    model = helpers.dense_model()
    model.fit(x, y, verbose=0, callbacks=[LossHistory()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


# ---------------------------------------------------------------- the file
def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name, run=0):
    return [float(r["value"]) for r in rows if r["name"] == name and int(r["run"]) == run]


def fit_with(path, **options):
    x, y = helpers.line()
    history = LossHistory(path)
    model = helpers.dense_model(**options)
    model.fit(x, y, batch_size=16, epochs=2, validation_split=0.25, verbose=0, callbacks=[history])
    return history


def test_the_file_holds_exactly_what_the_history_holds(tmp_path):
    path = tmp_path / "losses.csv"
    history = fit_with(path)
    rows = read(path)
    of_batches = [r for r in rows if r["name"] == "loss" and r["batch"]]
    assert [float(r["value"]) for r in of_batches] == history.losses.tolist()
    assert [int(r["batch"]) for r in of_batches] == history.batches["batch"].tolist()
    assert [int(r["epoch"]) for r in of_batches] == history.batches["epoch"].tolist()
    assert column(rows, "logged_loss") == history.batches["logged_loss"].tolist()
    of_epochs = [r for r in rows if not r["batch"]]
    assert column(of_epochs, "loss") == history.epochs["loss"].tolist()
    assert column(of_epochs, "val_loss") == history.epochs["val_loss"].tolist()
    assert {r["exact"] for r in rows} == {"1"}


def test_a_second_run_is_appended(tmp_path):
    path = tmp_path / "losses.csv"
    runs = [fit_with(path), fit_with(path)]
    of_batches = [row for row in read(path) if row["batch"]]
    for number, history in enumerate(runs):
        assert column(of_batches, "loss", run=number) == history.losses.tolist()


def test_a_torn_last_row_is_cut_off(tmp_path):
    path = tmp_path / "losses.csv"
    fit_with(path)
    whole = path.read_text()
    path.write_text(whole + "0,1,2,loss,0.12")
    fit_with(path)
    text = path.read_text()
    assert text.startswith(whole) and text[len(whole) :].startswith("1,0,0,loss,")
    assert all(len(row) == 6 and None not in row for row in read(path))


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        "my notes",
        "run,epoch,batch,name,value,exact\nnot a row of ours\n",
        "run,epoch,batch,name,value,exact\n0,1\n",
    ],
)
def test_a_file_of_someone_else_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "losses.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match="`path` must be a new file or one "):
        fit_with(path)
    assert path.read_text() == content


def test_a_file_that_is_no_text_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "losses.csv"
    path.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(ValueError, match="`path` must be a new file or one "):
        fit_with(path)
    assert path.read_bytes() == b"\x1f\x8b\xff\xfe"


def test_an_empty_file_is_taken(tmp_path):
    path = tmp_path / "losses.csv"
    path.touch()
    fit_with(path)
    assert {row["run"] for row in read(path)} == {"0"}


def test_values_that_are_not_finite_come_back_from_the_file(tmp_path):
    path = tmp_path / "losses.csv"
    x, y = helpers.line()
    script = helpers.Scripted(a=[math.nan], b=[math.inf], c=[-math.inf])
    helpers.dense_model().fit(x, y, verbose=0, callbacks=[script, LossHistory(path)])
    rows = read(path)
    assert math.isnan(column(rows, "a")[0])
    assert column(rows, "b") + column(rows, "c") == [math.inf, -math.inf]


@pytest.mark.parametrize("name", ["a,b", 'say "so"', "two\nlines"])
def test_a_strange_name_comes_back_from_the_file(tmp_path, name):
    path = tmp_path / "losses.csv"
    x, y = helpers.line()
    for _ in range(2):
        script = helpers.Scripted(**{name: [0.5]})
        helpers.dense_model().fit(x, y, verbose=0, callbacks=[script, LossHistory(path)])
    assert column(read(path), name, run=1) == [0.5]


def test_rows_are_in_the_file_while_training_runs(tmp_path):
    path = tmp_path / "losses.csv"
    x, y = helpers.line()
    raising = helpers.RaisesInEpoch(1, RuntimeError())
    with pytest.raises(RuntimeError):
        helpers.dense_model().fit(
            x, y, batch_size=8, epochs=2, verbose=0, callbacks=[LossHistory(path), raising]
        )
    assert [row["batch"] for row in read(path) if row["name"] == "loss"] == ["0", "1", "2", "3", ""]


# ---------------------------------------------------------------- training that is broken off
class Raises(keras.callbacks.Callback):
    """Raises after, or before, the third batch of the second epoch."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.when == "before" and (self.epoch, batch) == (1, 2):
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.when == "after" and (self.epoch, batch) == (1, 2):
            raise KeyboardInterrupt


@pytest.mark.parametrize("suffix", ["csv", "sqlite"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_recorded_until_an_interruption_is_there(when, suffix, tmp_path):
    x, y = helpers.line()
    full, broken = LossHistory(), LossHistory(tmp_path / f"losses.{suffix}")
    helpers.dense_model().fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=[full])
    model = helpers.dense_model()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=[broken, Raises(when)])
        n = 4 + 2 + (when == "after")
        assert len(broken.losses) == n and broken.batches["exact"].all()
        assert len(broken.explain()) == 1
        if len(read_history(broken.path)) == 1:
            assert np.array_equal(broken.losses, full.losses[:n])
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[broken])
    first, second, third = read_history(broken.path)
    assert np.array_equal(first.losses, full.losses[: len(first.losses)])
    assert len(second.losses) == len(first.losses) and len(third.losses) == 4


def test_an_error_in_the_data_leaves_what_was_recorded():
    x, y = helpers.line()
    model = helpers.dense_model()

    def data():
        for i in range(3):
            yield x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]
        raise RuntimeError("out of data")

    history = LossHistory()
    with pytest.raises(Exception, match="out of data"):
        model.fit(data(), steps_per_epoch=4, verbose=0, callbacks=[history])
    assert len(history.losses) >= 2 and np.isfinite(history.losses).all()
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[history])
    assert len(history.losses) == 4 and history.batches["exact"].all()


def test_a_fit_that_was_broken_off_keeps_no_recorder_alive():
    x, y = helpers.line()
    model = helpers.dense_model()
    history = LossHistory()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[history, Raises("after")])
    alive = weakref.ref(history._recording)
    del history
    model.history = None
    gc.collect()
    assert alive() is None
    model.fit(x, y, batch_size=8, verbose=0)


def test_numbers_of_half_precision_are_recorded():
    keras.config.set_floatx("bfloat16")
    try:
        history = LossHistory()
        helpers.dense_model().fit(*helpers.line(), verbose=0, batch_size=16, callbacks=[history])
    finally:
        keras.config.set_floatx("float32")
    first, second = history.losses
    assert history.batches["exact"].all() and first > 0 and second > 0
    logged = history.batches["logged_loss"]
    assert logged == pytest.approx([first, (first + second) / 2], rel=2**-6)
    assert history.epochs["loss"][0] == logged[1]
