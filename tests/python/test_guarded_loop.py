"""Loops of one's own under guards, against `fit` and against runs without a mishap."""

import contextlib
import io
import math
import re

import helpers
import keras
import numpy as np
import own_loops
import pytest
from own_loops import batches_of, differing, make_model, nan_in, run, variables

import pykguard as kg

X, Y = helpers.line(30)  # the last of the batches of 8 is smaller
DATA = batches_of(X, Y)
SIZES = [8, 8, 8, 6]
ENGINE = own_loops.ENGINES[0]

each_engine = pytest.mark.parametrize("engine", own_loops.ENGINES)


def adam(engine=ENGINE, rate=0.01, **options):
    return own_loops.library_of(engine).optimizers.Adam(rate, **options)


def schedule(engine):
    return own_loops.library_of(engine).optimizers.schedules.ExponentialDecay(0.1, 2, 0.9)


def fit(engine, optimizer, callbacks=(), *, epochs=3, data=None):
    """The same training by `fit`; returns model and History."""
    model = make_model(engine)
    compiled = {"jit_compile": engine.startswith("jax")}
    model.compile(optimizer, "mse", run_eagerly=engine == "tf eager", **compiled)
    if data is None:
        given = {"x": X, "y": Y, "batch_size": 8, "shuffle": False}
    else:
        given = {"x": data, "steps_per_epoch": len(DATA)}
    history = model.fit(**given, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model, history


def idle(loop, losses, size=1):
    """Run a loop in which nothing is trained and these losses are reported in each epoch."""
    state = {"state": None}
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for loss in loop.batches(losses):
                if helpers.BACKEND == "jax":
                    state["state"] = loop.state()
                loop.report(loss, size=size, **state)
    return loop


def make_idle(callbacks=(), **options):
    """A loop with a built model, for tests in which nothing is trained."""
    return kg.guarded_loop(make_model(ENGINE), adam(), callbacks, **{"verbose": 0, **options})


class Calls(keras.callbacks.Callback):
    """Which hooks were called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_train_begin(self, logs=None):
        self.names.append("train begin")

    def on_train_end(self, logs=None):
        self.names.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.names.append(f"epoch {epoch} begin")

    def on_epoch_end(self, epoch, logs=None):
        self.names.append(f"epoch {epoch} end")

    def on_train_batch_begin(self, batch, logs=None):
        self.names.append(f"batch {batch} begin")

    def on_train_batch_end(self, batch, logs=None):
        self.names.append(f"batch {batch} end")


# ---------------------------------------------------------------- as by fit
def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# A compiled step of JAX rounds otherwise than the same operations one by one.
EQUAL = {"jax in place": close}
MEANS = {"jax stateless": close}


@each_engine
@pytest.mark.parametrize("rate", ["number", "schedule"])
def test_history_records_and_weights_are_those_of_fit(engine, rate):
    make = lambda: adam(engine, 0.1 if rate == "number" else schedule(engine))  # noqa: E731
    by_fit, by_loop = kg.LossHistory(), kg.LossHistory()
    one, two = make(), make()
    fitted, history = fit(engine, one, [by_fit])
    model = make_model(engine)
    loop = run(engine, model, two, DATA, [by_loop], epochs=3, steps=4)
    equal = EQUAL.get(engine, np.testing.assert_array_equal)
    equal_means = MEANS.get(engine, equal)
    equal_means(loop.history.history["loss"], history.history["loss"])
    assert list(loop.history.history) == list(history.history)
    assert loop.history.epoch == history.epoch
    assert loop.history.params == history.params
    ours, theirs = by_loop.batches, by_fit.batches
    for name in ("epoch", "batch", "size", "exact"):
        assert ours[name].tolist() == theirs[name].tolist()
    equal(ours["loss"], theirs["loss"])
    equal_means(ours["logged_loss"], theirs["logged_loss"])
    np.testing.assert_array_equal(ours["learning_rate"], theirs["learning_rate"])
    for a, b in zip(variables(model, two), variables(fitted, one), strict=True):
        equal(a, b)


@each_engine
def test_the_hooks_are_called_as_by_fit(engine):
    base = own_loops.library_of(engine).callbacks.Callback
    legacy = type("Calls", (base,), {k: v for k, v in vars(Calls).items() if k[:2] == "on"})
    by_fit, by_loop = legacy(), legacy()
    by_fit.names, by_loop.names = [], []
    fit(engine, adam(engine), [by_fit], epochs=2)
    run(engine, make_model(engine), adam(engine), DATA, [by_loop], epochs=2)
    assert by_loop.names == by_fit.names


@each_engine
@pytest.mark.parametrize("guard", [kg.RevertOnLossIncrease, kg.RevertToBestOnIncrease])
def test_the_events_are_those_of_fit(engine, guard):
    by_fit, by_loop = (guard(tolerance=1000, lr_factor=0.5) for _ in "ab")
    spoil = nan_in((1, 2))
    data = (spoil(epoch, i, *batch) for epoch in range(4) for i, batch in enumerate(DATA))
    fit(engine, adam(engine), [by_fit], epochs=4, data=data)
    run(engine, make_model(engine), adam(engine), DATA, [by_loop], spoil=spoil, epochs=4)
    assert [event.action for event in by_loop.events] == ["revert"]
    assert repr(by_loop.events) == repr(by_fit.events)


# ---------------------------------------------------------------- roll-backs
@each_engine
@pytest.mark.parametrize("bad", [(2, 0), (2, 3)])
def test_a_poisoned_epoch_leaves_no_trace(engine, bad):
    plain, rescued = make_model(engine), make_model(engine)
    one, two = adam(engine), adam(engine)
    run(engine, plain, one, DATA, epochs=3)
    guard = kg.RevertOnLossIncrease(tolerance=1000)
    loop = run(engine, rescued, two, DATA, [guard], spoil=nan_in(bad), epochs=4)
    assert math.isnan(loop.history.history["loss"][2])
    assert [(event.epoch, event.restored_from) for event in guard.events] == [(2, 1)]
    assert differing(variables(plain, one), variables(rescued, two)) == []


def train_two(engine, data, guard=None, spoil=own_loops.as_is, **options):
    """Two models that are trained in turn in each batch; returns what all of it holds."""
    models = [make_model(engine, seed=1), make_model(engine, seed=2, units=3)]
    optimizers = [adam(engine), own_loops.library_of(engine).optimizers.SGD(0.01, momentum=0.9)]
    loop = kg.guarded_loop(models, optimizers, guard, verbose=0, **options)
    steps = [own_loops.make_step(engine, *pair) for pair in zip(models, optimizers, strict=True)]
    for epoch in loop:
        for batch, (x, y) in enumerate(loop.batches(data)):
            reports, state = step_both(loop, steps, *spoil(epoch, batch, x, y))
            losses = [each["loss"] for each in reports]
            loop.report(losses[0], size=len(x), other=losses[1], state=state)
    held = [v for pair in zip(models, optimizers, strict=True) for v in variables(*pair)]
    return loop, held


def step_both(loop, steps, x, y):
    """Each model's report, and all of their states, if steps return them."""
    reports = [step(Part(loop, i), x, y) for i, step in enumerate(steps)]
    return reports, [each["state"] for each in reports if "state" in each] or None


class Part:
    """A loop as the step of one of its models sees it."""

    def __init__(self, loop, place):
        self.loop, self.place = loop, place

    def state(self):
        return self.loop.state()[self.place]


@each_engine
def test_a_poisoned_batch_is_rolled_back_in_both_models(engine):
    _, plain = train_two(engine, DATA, epochs=3)
    guard = kg.RevertOnLossIncrease(tolerance=1000)
    loop, rescued = train_two(engine, DATA, guard, nan_in((2, 1)), epochs=4)
    assert np.isnan(loop.history.history["other"]).tolist() == [False, False, True, False]
    assert guard.n_reverts == 1
    assert len(plain) > 20
    assert differing(plain, rescued) == []


@each_engine
def test_a_poison_in_the_second_model_alone_is_found(engine):
    models = [make_model(engine), make_model(engine, seed=2)]
    guard = kg.RevertOnLossIncrease()
    loop = kg.guarded_loop(models, [adam(engine), adam(engine)], guard, verbose=0)
    before = variables(models[1])
    weight = models[1].trainable_variables[0]
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for _ in loop.batches(range(2)):
                weight.assign(np.full(weight.shape, np.nan, "float32"))
                loop.report(1.0)
    assert "hides non-finite values" in guard.events[0].reason
    assert differing(before, variables(models[1])) == []


@each_engine
def test_the_rate_of_a_schedule_that_a_guard_cuts_is_in_force_in_the_next_step(engine):
    guard, history = kg.RevertOnLossIncrease(lr_factor=0.125, tolerance=1000), kg.LossHistory()
    optimizer = own_loops.library_of(engine).optimizers.SGD(schedule(engine))
    model, moves, spoil = make_model(engine), [], nan_in((1, 3))
    step = own_loops.make_step(engine, model, optimizer)
    loop = kg.guarded_loop(model, optimizer, [guard, history], 3, verbose=0)
    for epoch in loop:
        for batch, (x, y) in enumerate(loop.batches(DATA)):
            x, y = spoil(epoch, batch, x, y)
            gradient = 2 * np.mean(predicted(model, x) - y)  # of the last bias
            before = variables(model)[-1]
            loop.report(**step(loop, x, y), size=len(x))
            moves.append(float((before - variables(model)[-1])[0] / gradient))
    rates = 0.1 * 0.9 ** (np.array([*range(8), *range(4, 8)]) / 2)
    rates[8:] *= 0.125
    np.testing.assert_allclose(history.batches["learning_rate"], rates, rtol=1e-5)
    np.testing.assert_allclose(np.delete(moves, 7), np.delete(rates, 7), rtol=1e-3)


def predicted(model, x):
    return np.array(kg._framework.to_numpy(model(x)))


@each_engine
def test_moving_averages_end_as_the_weights_of_each_model(engine):
    models = [make_model(engine), make_model(engine, seed=2)]
    optimizers = [adam(engine, use_ema=True), adam(engine, use_ema=True)]
    loop = kg.guarded_loop(models, optimizers, epochs=1, verbose=0)
    steps = [own_loops.make_step(engine, *pair) for pair in zip(models, optimizers, strict=True)]
    for _ in loop:
        for x, y in loop.batches(DATA):
            reports, state = step_both(loop, steps, x, y)
            loop.report(reports[0]["loss"], state=state)
        before = [variables(model) for model in models]
    for model, optimizer, old in zip(models, optimizers, before, strict=True):
        averages = optimizer._model_variables_moving_average
        averages = [np.array(kg._framework.to_numpy(v)) for v in averages]
        assert differing(averages, variables(model)[: len(averages)]) == []
        assert differing(old, variables(model)) != []


# ---------------------------------------------------------------- what is logged
@pytest.mark.filterwarnings("ignore:guarded_loop")
def test_the_reported_losses_are_recorded_exactly_and_their_mean_is_weighted():
    losses = [0.1, 7.25, 1e-7, 12345.678]
    history, means = kg.LossHistory(), []

    class Means(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            means.append((logs["loss"], logs["accuracy"]))

    loop = make_idle([history, Means()])
    for _ in loop:
        for i in loop.batches(range(4)):
            state = loop.state() if helpers.BACKEND == "jax" else None
            loop.report(losses[i], size=SIZES[i], accuracy=i / 4, state=state)
    assert history.losses.astype("float32").tolist() == np.float32(losses).tolist()
    assert history.batches["size"].tolist() == SIZES
    wanted = [
        [np.average(v[: n + 1], weights=SIZES[: n + 1]) for v in (losses, np.arange(4) / 4)]
        for n in range(4)
    ]
    np.testing.assert_allclose(means, wanted, rtol=1e-6)
    assert loop.history.history["accuracy"] == [pytest.approx(wanted[-1][1])]


def test_a_metric_is_logged_in_the_epochs_that_report_it():
    loop = make_idle(epochs=2)
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for epoch in loop:
            for _ in loop.batches(range(1)):
                more = {"state": loop.state()} if helpers.BACKEND == "jax" else {}
                loop.report(1.0, **more, **({"first": 3.0} if epoch == 0 else {}))
    assert loop.history.history == {"loss": [1.0, 1.0], "first": [3.0]}


@pytest.mark.filterwarnings("ignore:guarded_loop")
@pytest.mark.parametrize("names", [("val_loss", "val_mae"), ("loss", "mae")])
def test_validation_reaches_the_monitor_of_a_guard(names):
    guard = kg.RevertOnLossIncrease("val_loss")
    loop = make_idle(guard, epochs=3)
    for epoch in loop:
        for _ in loop.batches(range(1)):
            loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
        loop.report_validation(**dict(zip(names, ([3.0, 4.0, 2.0][epoch], 0.5), strict=True)))
    assert [(event.epoch, event.value) for event in guard.events] == [(1, 4.0)]
    assert loop.history.history["val_mae"] == [0.5] * 3


def shown(verbose, **options):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        idle(make_idle(verbose=verbose, epochs=2, **options), [1.0, 2.0, 6.0])
    return re.sub(r"\x1b\[[0-9;]*m|\x08+", "", text.getvalue())


def test_nothing_is_shown_with_verbose_0():
    assert shown(0) == ""


def test_a_progress_bar_is_shown_with_verbose_1():
    text = shown(1, steps=3)
    assert "Epoch 1/2" in text and "Epoch 2/2" in text
    assert "1/3" in text and "3/3" in text
    assert "loss: 1.0000" in text
    if tuple(map(int, keras.__version__.split(".")[:2])) >= (
        3,
        15,
    ):  # before, it showed other means
        assert "loss: 3.0000" in text


def test_a_line_an_epoch_is_shown_with_verbose_2():
    text = shown(2, steps=3)
    assert re.fullmatch(r"(Epoch \d/2\n3/3 - .* - loss: 3\.0000\n){2}", text)


# ---------------------------------------------------------------- Keras' own callbacks
def test_early_stopping_ends_the_loop_and_puts_the_best_weights_back():
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    model, after = make_model(ENGINE), []

    class After(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            after.append(variables(model))

    rise = helpers.Scripted(loss=[2.0, 1.0, 3.0, 4.0, 5.0])
    loop = run(ENGINE, model, adam(), DATA, [rise, After(), stop], epochs=5)
    assert loop.history.epoch == [0, 1, 2]
    assert differing(variables(model), after[1]) == []


@pytest.mark.parametrize("used", ["ReduceLROnPlateau", "LearningRateScheduler", "kguard"])
def test_callbacks_set_the_rate_of_the_next_epoch(used):
    callbacks = {
        "ReduceLROnPlateau": lambda: [
            helpers.Scripted(loss=[1.0, 1.0, 1.0]),
            keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1),
        ],
        "LearningRateScheduler": lambda: [
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.25 / (1 + (epoch == 2)))
        ],
        "kguard": lambda: [kg.ResetLearningRate(0.125, 2)],
    }[used]()
    history = kg.LossHistory()
    optimizer = keras.optimizers.SGD(0.25)
    run(ENGINE, make_model(ENGINE), optimizer, DATA, [*callbacks, history], epochs=3)
    assert history.batches["learning_rate"].tolist() == [0.25] * 8 + [0.125] * 4


def test_training_is_ended_within_the_epoch_by_a_nan():
    loop = run(
        ENGINE,
        make_model(ENGINE),
        adam(),
        DATA,
        [keras.callbacks.TerminateOnNaN(), calls := Calls()],
        spoil=nan_in((1, 1)),
        epochs=3,
    )
    assert calls.names[-4:] == ["batch 1 begin", "batch 1 end", "epoch 1 end", "train end"]
    assert loop.history.epoch == [0, 1]


@each_engine
def test_a_checkpoint_holds_the_only_model(tmp_path, engine):
    library, path = own_loops.library_of(engine), tmp_path / "model.keras"
    model = make_model(engine)
    run(engine, model, adam(engine), DATA, [library.callbacks.ModelCheckpoint(str(path))])
    assert differing(variables(library.models.load_model(path)), variables(model)) == []


def test_a_checkpoint_of_several_models_holds_their_weights(tmp_path):
    path = str(tmp_path / "both.weights.h5")
    keep = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    train_two(ENGINE, DATA, keep)
    held = [v.copy() for v in keep.model.get_weights()]
    keep.model.set_weights([0 * v for v in held])
    keep.model.load_weights(path)
    assert differing(held, keep.model.get_weights()) == []
    whole = keras.callbacks.ModelCheckpoint(str(tmp_path / "both.keras"))
    with pytest.raises(kg.UnsupportedError, match="save_weights_only=True"):
        train_two(ENGINE, DATA, whole)


@each_engine
def test_the_best_weights_are_put_back(engine):
    model, after = make_model(engine), []

    class After(kg._callback.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = [2.0, 1.0, 3.0][epoch]
            after.append(variables(model))

    keep = kg.RestoreBest("loss")
    run(engine, model, adam(engine), DATA, [After(), keep], epochs=3)
    assert keep.best_epoch == 1
    assert differing(after[1], variables(model)) == []


def test_a_probe_is_measured_on_the_only_model():
    model = make_model(ENGINE)
    model.compile(loss="mse")
    guard = kg.RevertOnLossIncrease(probe=(X, Y))
    run(ENGINE, model, adam(), DATA, [guard], epochs=1)
    assert guard.best == pytest.approx(model.evaluate(X, Y, verbose=0))


# ---------------------------------------------------------------- break, errors
def ended(callback, how, *, managed, **options):
    """A model before and after a loop that is left in its second epoch's second batch."""
    model, optimizer = make_model(ENGINE), adam()
    step = own_loops.make_step(ENGINE, model, optimizer)
    loop = kg.guarded_loop(model, optimizer, callback, 3, verbose=0, **options)
    before = None
    with loop if managed else contextlib.nullcontext(), contextlib.suppress(KeyError):
        for epoch in loop:
            for batch, (x, y) in enumerate(loop.batches(DATA)):
                last = (epoch, batch) == (1, 1)
                before = variables(model, optimizer) if last else before
                report = step(loop, x, y)
                if last and how == "error":
                    if ENGINE.startswith("jax"):
                        model.trainable_variables[0].assign(report["state"][0][0])
                    assert differing(before, variables(model, optimizer)) != []
                    raise KeyError("mine")
                loop.report(**report, size=len(x))
                if last:
                    break
            if epoch == 1:
                break
    del x, y
    return before, variables(model, optimizer), loop


each_way = pytest.mark.parametrize("managed", [True, False], ids=["with", "for"])


@each_way
def test_a_break_ends_the_training_of_the_callbacks(managed, tmp_path):
    calls = Calls()
    _, _, loop = ended(calls, "break", managed=managed)
    assert calls.names[-2:] == ["batch 1 end", "train end"]
    assert loop.history.epoch == [0]


@each_way
def test_an_error_undoes_the_batch_and_closes_the_files(managed, tmp_path):
    calls, history = Calls(), kg.LossHistory(tmp_path / "losses.csv")
    before, after, _ = ended([calls, history], "error", managed=managed)
    assert differing(before, after) == []
    assert "train end" not in calls.names
    assert history._recording is None and len(history.losses) == 5
    assert len(kg.read_history(tmp_path / "losses.csv")[0].losses) == 5


def test_without_restoring_an_error_leaves_what_the_batch_did():
    before, after, _ = ended(None, "error", managed=True, restore_on_error=False)
    assert differing(before, after) != []


def test_an_error_says_which_batch_it_ended():
    loop = make_idle()
    with pytest.raises(KeyError) as caught, loop:
        for _ in loop:
            for _ in loop.batches(DATA):
                raise KeyError("mine")
    notes = getattr(caught.value, "__notes__", None)
    if notes is not None:
        wanted = "guarded_loop: ended in epoch 1, batch 0; the weights are as before that batch"
        assert notes == [wanted]


def test_an_error_between_batches_is_known_in_a_with_statement():
    calls = Calls()
    loop = make_idle(calls)
    with pytest.raises(KeyError), loop:
        for _ in loop:
            raise KeyError("mine")
    assert calls.names == ["train begin", "epoch 0 begin"]


def test_an_error_of_a_callback_ends_the_loop(tmp_path):
    history = kg.LossHistory(tmp_path / "losses.csv")
    guard = kg.RevertOnLossIncrease("val_loss")
    loop = make_idle([history, guard])
    with pytest.raises(kg.MonitorError), pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for _ in loop.batches(range(1)):
                loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
            loop.report_validation(mae=1.0)
    assert history._recording is None


# ---------------------------------------------------------------- loops that do not do it right
def body(loop, do):
    for epoch in loop:
        do(loop, epoch)


def one_batch(loop, epoch):
    for _ in loop.batches(range(1)):
        loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))


def never(loop, epoch):
    for _ in loop.batches(range(2)):
        pass


def forgotten_by_break(loop, epoch):
    for _ in loop.batches(range(2)):
        break


def twice(loop, epoch):
    one_batch(loop, epoch)
    loop.report(1.0)


def no_batch(loop, epoch):
    loop.report(1.0)


def nothing(loop, epoch):
    pass


def validation_too_soon(loop, epoch):
    for _ in loop.batches(range(2)):
        loop.report_validation(loss=1.0)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (never, r"batch 0 of epoch 1 was not reported: call `loop.report\(loss=…\)`"),
        (forgotten_by_break, "batch 0 of epoch 1 was not reported"),
        (validation_too_soon, "batch 0 of epoch 1 was not reported"),
        (twice, "this batch was reported before"),
        (no_batch, "no batch is open"),
        (nothing, "epoch 1 had no batch"),
    ],
)
def test_a_loop_is_told_what_it_lacks(do, message):
    with pytest.raises(kg.LoopError, match=message):
        body(make_idle(), do)


@pytest.mark.filterwarnings("ignore:guarded_loop")
def test_a_loop_runs_once():
    loop = make_idle()
    body(loop, one_batch)
    with pytest.raises(kg.LoopError, match="runs once"):
        body(loop, one_batch)


@pytest.mark.parametrize("call", ["batches", "report_validation"])
def test_outside_of_its_epochs_a_loop_has(call):
    given = ([1],) if call == "batches" else ()
    with pytest.raises(kg.LoopError, match=rf"`{call}\(\)` was called outside of the epochs"):
        getattr(make_idle(), call)(*given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"loss": None}, kg.OptionTypeError, "`loss` must be a number .* got None"),
        ({"loss": "1.0"}, kg.OptionTypeError, "`loss` must be a number"),
        ({"loss": True}, kg.OptionTypeError, "`loss` must be a number"),
        ({"loss": np.ones(3)}, kg.OptionValueError, r"`loss` .* an array of shape \(3,\)"),
        ({"loss": np.ones(1)}, kg.OptionValueError, r"`loss` .* an array of shape \(1,\)"),
        ({"loss": np.array(1j)}, kg.OptionTypeError, "`loss` must be a number"),
        ({"loss": keras.KerasTensor(())}, kg.OptionTypeError, "outside the compiled step"),
        ({"loss": 1.0, "size": 0}, kg.OptionValueError, "`size` must be a whole number"),
        ({"loss": 1.0, "size": 2.5}, kg.OptionTypeError, "`size` must be a whole number"),
        ({"loss": 1.0, "mae": "x"}, kg.OptionTypeError, "`mae` must be a number"),
        ({"loss": 1.0, "val_mae": 1.0}, kg.OptionValueError, r"report_validation\(\)"),
    ],
)
def test_what_is_reported_must_be_a_number(given, error, message):
    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            loop.report(**given)

    with pytest.raises(error, match=message):
        body(make_idle(), do)


@helpers.only_on("tensorflow", "placeholders of TensorFlow")
def test_a_loss_that_is_not_known_yet_is_refused():
    import tensorflow as tf

    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            tf.function(lambda: loop.report(tf.constant(1.0)), autograph=False)()

    with pytest.raises(kg.OptionTypeError, match="outside the compiled step"):
        body(make_idle(), do)


def built_for(model):
    optimizer = adam()
    optimizer.build(model.trainable_variables)
    return optimizer


def unbuilt():
    return keras.Sequential([keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: ([m], []), kg.OptionValueError, "one for each of the 1 models"),
        (lambda m: ([m, make_model(ENGINE)], adam()), kg.OptionValueError, "of the 2 models"),
        (lambda m: (m, "adam"), kg.OptionTypeError, "`optimizers` must be a Keras optimizer"),
        (lambda m: ("model", adam()), kg.OptionTypeError, "`models` must be a Keras model"),
        (lambda m: ([], []), kg.OptionValueError, "`models` must be a Keras model"),
        (lambda m: ([m, m], [adam(), adam()]), kg.OptionValueError, "a list of different ones"),
        (lambda m: (unbuilt(), adam()), kg.OptionValueError, "call it on a batch first"),
        (
            lambda m: (m, built_for(make_model(ENGINE))),
            kg.OptionValueError,
            "position 0 was built for others than the trainable variables",
        ),
    ],
)
def test_models_and_optimizers_have_to_fit(make, error, message):
    with pytest.raises(error, match=message):
        kg.guarded_loop(*make(make_model(ENGINE)))


def test_an_optimizer_may_be_built_for_a_part_of_its_model():
    model, optimizer = make_model(ENGINE), adam()
    optimizer.build(model.trainable_variables[:2])
    assert kg.guarded_loop(model, optimizer)


def test_one_optimizer_for_two_models_is_refused():
    optimizer = adam()
    with pytest.raises(kg.OptionValueError, match="one for each of the 2 models"):
        kg.guarded_loop([make_model(ENGINE), make_model(ENGINE)], [optimizer, optimizer])


@pytest.mark.skipif("tf_keras" not in own_loops.ENGINES, reason="tf_keras is not installed")
def test_the_two_libraries_are_not_mixed():
    with pytest.raises(kg.OptionValueError, match="of tf_keras, as the models are"):
        kg.guarded_loop(make_model("tf_keras"), adam("tf eager"))
    with pytest.raises(kg.OptionTypeError, match="of tf_keras, as the models are"):
        early = keras.callbacks.EarlyStopping("loss")
        kg.guarded_loop(make_model("tf_keras"), adam("tf_keras"), early)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("initial_epoch", 1),
        ("initial_epoch", -1),
        ("steps", 0),
        ("verbose", 3),
        ("verbose", True),
        ("restore_on_error", 1),
        ("callbacks", ["early"]),
    ],
)
def test_a_bad_option_is_refused_by_name(option, value):
    with pytest.raises((kg.OptionValueError, kg.OptionTypeError), match=f"`{option}` must be"):
        kg.guarded_loop(make_model(ENGINE), adam(), **{option: value})


def test_data_that_cannot_be_gone_through_are_refused():
    with pytest.raises(kg.OptionTypeError, match="`data` must be something that gives batches"):
        body(make_idle(), lambda loop, epoch: loop.batches(3))


# ---------------------------------------------------------------- steps
def test_longer_data_are_cut_and_a_generator_goes_on():
    taken = []
    loop = make_idle(epochs=2, steps=3)
    numbers = iter(range(100))
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for number in loop.batches(numbers):
                taken.append(number)
                loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
    assert taken == list(range(6))


def test_data_that_end_too_soon_are_told():
    with pytest.warns(kg.GuardWarning, match="the data ended after 2 of 3 `steps`"):
        run(ENGINE, make_model(ENGINE), adam(), DATA[:2], steps=3)


def test_an_optimizer_that_is_not_used_is_told():
    with pytest.warns(kg.GuardWarning, match="took no step in the first epoch"):
        body(make_idle(), one_batch)


def test_training_goes_on_at_the_initial_epoch():
    loop = run(ENGINE, make_model(ENGINE), adam(), DATA, initial_epoch=2, epochs=4)
    assert loop.history.epoch == [2, 3]


# ---------------------------------------------------------------- the state on JAX
on_jax = helpers.only_on("jax", "elsewhere variables change in place")


@on_jax
def test_a_batch_in_which_nothing_was_assigned_is_refused():
    with pytest.raises(kg.LoopError, match="no variable was assigned"):
        body(make_idle(), lambda loop, e: [loop.report(1.0) for _ in loop.batches(range(1))])


@on_jax
def test_a_state_that_was_read_before_the_batch_is_refused():
    def do(loop, epoch):
        state = loop.state()
        for _ in loop.batches(range(1)):
            loop.report(1.0, state=state)

    with pytest.raises(kg.LoopError, match="what the callbacks changed since then would be lost"):
        body(make_idle(), do)


@on_jax
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda state: None.__class__, kg.OptionTypeError),
        (lambda state: state[:2], kg.OptionTypeError),
        (lambda state: (state[0][:-1], *state[1:]), kg.OptionValueError),
        (lambda state: (state[0][::-1], *state[1:]), kg.OptionValueError),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(spoil, error):
    model = make_model(ENGINE)
    optimizer = built_for(model)
    before = variables(model, optimizer)

    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            loop.report(1.0, state=spoil(loop.state()))

    with pytest.raises(error, match="`state` must be what `state"):
        body(kg.guarded_loop(model, optimizer, verbose=0, restore_on_error=False), do)
    assert differing(before, variables(model, optimizer)) == []


@on_jax
def test_a_state_that_was_given_away_is_there_again_after_an_error():
    import jax

    model = make_model(ENGINE)
    optimizer = built_for(model)
    before = variables(model, optimizer)
    give_away = jax.jit(lambda state: jax.tree.map(lambda a: a + 1, state), donate_argnums=0)

    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            give_away(loop.state()[:2])
            raise KeyError("mine")

    with pytest.raises(KeyError):
        body(kg.guarded_loop(model, optimizer, verbose=0), do)
    assert differing(before, variables(model, optimizer)) == []


@helpers.not_on("jax", "there it is the way")
def test_the_state_as_arrays_is_for_jax():
    def read(loop, epoch):
        loop.state()

    def give(loop, epoch):
        for _ in loop.batches(range(1)):
            loop.report(1.0, state=())

    for do in (read, give):
        with pytest.raises(kg.UnsupportedError, match="is for JAX"):
            body(make_idle(), do)
