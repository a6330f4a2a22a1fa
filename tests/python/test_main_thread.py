"""External losses whose function may be called on the main thread only, as those of R."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import helpers
import keras
import numpy as np
import pytest

import pykguard as kg
from pykguard.external import _main_thread
from pykguard.external._main_thread import OnMain

ON_THREADS = helpers.BACKEND != "torch"  # torch calls losses on the thread that trains


def mse(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(axis=-1), 2 * error / error.shape[-1]


def as_of_r(fn):
    """The function, refusing any other thread, as R does; and from which threads it was called."""
    threads = []

    def on_main(*arrays):
        threads.append(threading.current_thread())
        return fn(*arrays)

    return OnMain(on_main, fn.__name__), threads


def data(rows=37):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3)).astype("float32")
    y = random.normal(size=(rows, 2)).astype("float32")
    return x, y, random.uniform(0.1, 2.0, rows).astype("float32")


@keras.saving.register_keras_serializable("tests")
class WatchedMean(keras.metrics.Mean):
    """Notes the threads on which it is traced."""

    threads: ClassVar[list] = []

    def update_state(self, values, *args, **kwargs):
        self.threads.append(threading.current_thread())
        return super().update_state(values[:, 0])


class Noise(keras.layers.Layer):
    """Draws from the global generator of Keras, which each thread has for itself."""

    def call(self, inputs):
        return inputs + 0.1 * keras.random.normal((3,))


def make_model(loss, optimizer="adam", **options):
    keras.utils.clear_session()  # for the global generator, which old versions do not seed anew
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(2),
    ]
    if helpers.BACKEND == "tensorflow":  # elsewhere that takes a seed
        layers.insert(1, Noise())
    model = keras.Sequential(layers)
    model.compile(optimizer, loss, **options)
    return model


def train(loss, *, weighted=False, epochs=3, callbacks=(), **options):
    model = make_model(loss, **options)
    x, y, weights = data()
    history = model.fit(
        x,
        y,
        sample_weight=weights if weighted else None,
        validation_data=(x, y),
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )
    return helpers.training_state(model), history.history


# ---------------------------------------------------------------- as without
@pytest.mark.parametrize("options", [{}, {"weighted": True}, {"run_eagerly": True}])
def test_it_trains_to_the_same_bits_as_a_function_of_any_thread(options):
    fn, threads = as_of_r(mse)
    state, history = train(kg.external_loss(fn), metrics=[WatchedMean()], **options)
    assert set(threads) == {threading.main_thread()} and len(threads) == 30
    expected, expected_history = train(kg.external_loss(mse), metrics=[WatchedMean()], **options)
    assert (state == expected).all()
    assert history == expected_history


def test_without_the_main_thread_the_function_would_be_called_on_others():
    threads = set()

    def watched(y_true, y_pred):
        threads.add(threading.current_thread())
        return mse(y_true, y_pred)

    train(kg.external_loss(watched))
    assert (threading.main_thread() not in threads) == ON_THREADS


def test_all_that_is_traced_is_traced_on_the_main_thread():
    WatchedMean.threads.clear()
    fn, _ = as_of_r(mse)
    model = make_model(kg.external_loss(fn), metrics=[WatchedMean()])
    x, y, _ = data()
    model.fit(x, y, validation_data=(x[:5], y[:5]), batch_size=8, verbose=0)
    model.fit(x[:16].astype("float64"), y[:16], batch_size=16, verbose=0)
    model.evaluate(x, y, batch_size=4, verbose=0)
    model.train_on_batch(x[:3], y[:3])
    model.test_on_batch(x[:2], y[:2])
    assert set(WatchedMean.threads) == {threading.main_thread()}


def test_batches_by_hand_train_to_the_same_bits():
    def by_hand(loss):
        model = make_model(loss)
        x, y, weights = data()
        losses = [
            model.train_on_batch(x[at : at + 7], y[at : at + 7], weights[at : at + 7])
            for at in (0, 7, 14)
        ]
        losses.append(model.test_on_batch(x, y))
        return losses, helpers.training_state(model)

    (ours, state), (theirs, expected) = (
        by_hand(kg.external_loss(as_of_r(mse)[0])),
        by_hand(kg.external_loss(mse)),
    )
    assert ours == theirs
    assert (state == expected).all()


@helpers.needs_several_steps
def test_several_steps_an_execution_train_to_the_same_bits():
    options = {"steps_per_execution": 2}
    state, _ = train(kg.external_loss(as_of_r(mse)[0]), **options)
    assert (state == train(kg.external_loss(mse), **options)[0]).all()


def test_data_that_ends_when_it_ends_trains_to_the_same_bits():
    x, y, _ = data(32)

    def batches():
        for at in range(0, 32, 8):
            yield x[at : at + 8], y[at : at + 8]

    def fitted(loss):
        model = make_model(loss)
        with pytest.warns(UserWarning, match="ran out of data"):
            model.fit(batches(), epochs=2, steps_per_epoch=3, verbose=0)
        return helpers.training_state(model)

    assert (fitted(kg.external_loss(as_of_r(mse)[0])) == fitted(kg.external_loss(mse))).all()


def test_a_step_whose_trace_was_forgotten_is_traced_on_the_main_thread_again():
    class Resets(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.5)
                kg.reset_learning_rate(self.model.optimizer, schedule)

    def trained(loss):
        WatchedMean.threads.clear()
        optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5))
        return train(loss, optimizer=optimizer, metrics=[WatchedMean()], callbacks=[Resets()])[0]

    state = trained(kg.external_loss(as_of_r(mse)[0]))
    assert WatchedMean.threads[-1] is threading.main_thread()
    assert (state == trained(kg.external_loss(mse))).all()


def test_several_outputs_and_two_models_in_turn_train_to_the_same_bits():
    def trained(first, second):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        outputs = [keras.layers.Dense(2)(inputs) for _ in range(2)]
        one, other = keras.Model(inputs, outputs), make_model(first)
        one.compile("adam", [first, second])
        x, y, _ = data()
        for _ in range(2):
            one.fit(x, [y, -y], batch_size=8, verbose=0)
            other.fit(x, y, batch_size=8, verbose=0)
        return np.concatenate([helpers.training_state(each) for each in (one, other)])

    fns = [as_of_r(mse)[0] for _ in range(2)]
    ours = trained(*map(kg.external_loss, fns))
    assert (ours == trained(kg.external_loss(mse), kg.external_loss(mse))).all()


def test_a_model_may_be_evaluated_and_trained_within_the_function():
    def linear(loss):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("adam", loss)
        return model

    def fitted(model, epochs):
        x, y, _ = data()
        model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
        return helpers.training_state(model)

    fn, threads = as_of_r(mse)
    inner = linear(kg.external_loss(fn))

    def trains_another(y_true, y_pred):
        fitted(inner, 1)
        return mse(y_true, y_pred)

    outer_fn, outer_threads = as_of_r(trains_another)
    state = fitted(linear(kg.external_loss(outer_fn)), 2)
    assert (state == fitted(linear(kg.external_loss(mse)), 2)).all()
    assert (helpers.training_state(inner) == fitted(linear(kg.external_loss(mse)), 10)).all()
    assert len(outer_threads) == 10 and len(threads) == 50
    assert {*threads, *outer_threads} == {threading.main_thread()}


def test_a_model_with_a_loss_of_its_own_may_use_it():
    external = kg.external_loss(as_of_r(mse)[0])
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    outer = kg.ExternalLossModel(inner, lambda model, x, y, y_pred, w: external(y, y_pred, w))
    outer.compile("adam")
    x, y, _ = data()
    losses = outer.fit(x, y, epochs=2, batch_size=8, verbose=0).history["loss"]
    assert losses[1] < losses[0]


def test_one_thread_is_kept_for_all_steps():
    loss = kg.external_loss(as_of_r(mse)[0])
    train(loss, epochs=1)
    before = {each for each in threading.enumerate() if each.name == "kguard-step"}
    train(loss, epochs=3)
    assert {each for each in threading.enumerate() if each.name == "kguard-step"} == before


# ---------------------------------------------------------------- what must not be
class Keeps(keras.callbacks.Callback):
    """The states before the batches."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_train_batch_begin(self, batch, logs=None):
        self.states.append(helpers.training_state(self.model))


def fails_in_third_batch(fn, error, match, **options):
    """The error; the state is that before the batch, and training goes on from it."""
    model = make_model(kg.external_loss(fn), **options)
    x, y, _ = data(40)
    keeps = Keeps()
    model.fit(x[:8], y[:8], verbose=0)
    with pytest.raises(error, match=match) as caught:
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[keeps])
    assert len(keeps.states) == 3
    assert (helpers.training_state(model) == keeps.states[-1]).all()
    model.fit(x, y, batch_size=8, verbose=0)
    return caught.value


def failing_in(call, fail):
    calls = []

    def fails_late(y_true, y_pred):
        calls.append(None)
        return fail(y_true) if len(calls) == call else mse(y_true, y_pred)

    return as_of_r(fails_late)[0]


@pytest.mark.parametrize("eagerly", [False, True])
def test_an_error_leaves_the_state_as_before_the_batch(eagerly):
    def fail(y_true):
        raise ValueError("not today")

    fn = failing_in(4, fail)
    fails_in_third_batch(fn, kg.ExternalLossError, "'fails_late' .* not today", run_eagerly=eagerly)


def test_a_bad_return_is_named_as_without():
    fn = failing_in(4, lambda y_true: None)
    fails_in_third_batch(
        fn, kg.ExternalLossError, r"must return a tuple \(loss, gradient\), got None"
    )


def test_an_error_of_pykguard_s_own_is_not_wrapped_into_another():
    own = kg.ExternalLossError("in other words")

    def fail(y_true):
        raise own

    assert (
        fails_in_third_batch(failing_in(4, fail), kg.ExternalLossError, "^in other words$") is own
    )


@pytest.mark.parametrize("eagerly", [False, True])
def test_an_interruption_in_the_function_leaves_the_state_as_before_the_batch(eagerly):
    def fail(y_true):
        raise KeyboardInterrupt

    fails_in_third_batch(failing_in(4, fail), KeyboardInterrupt, "^$", run_eagerly=eagerly)


@pytest.mark.skipif(not ON_THREADS, reason="not on torch: no thread waits there")
def test_an_interruption_while_the_main_thread_waits_leaves_the_state(monkeypatch):
    interrupts = []

    class Bell:
        """Interrupts the third wait, as Ctrl-C does."""

        def __init__(self, bell):
            self.bell = bell

        def release(self):
            self.bell.release()

        def acquire(self, timeout):
            interrupts.append(None)
            if len(interrupts) in (3, 4):
                raise KeyboardInterrupt
            return self.bell.acquire(timeout=timeout)

    model = make_model(kg.external_loss(as_of_r(mse)[0]))
    x, y, _ = data(8)
    model.fit(x, y, verbose=0)
    keeps = Keeps()
    with monkeypatch.context() as patch:
        patch.setattr(_main_thread, "_bell", Bell(_main_thread._bell))
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, epochs=100, verbose=0, callbacks=[keeps])
    state = helpers.training_state(model)
    assert (state == keeps.states[-1]).all()
    model.fit(x, y, verbose=0)
    assert (helpers.training_state(model) != state).any()


def test_a_call_for_which_nobody_waits_is_refused_at_once():
    fn, threads = as_of_r(mse)
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(
            kg.UnsupportedError,
            match=r"'mse' .* on the main thread only",
        ),
    ):
        pool.submit(fn, *np.ones((2, 4, 2))).result(timeout=20)
    assert threads == []


@helpers.only_on("tensorflow", "JAX may call it on the main thread all the same")
def test_in_a_compiled_step_of_ones_own_it_is_refused_and_never_hangs():
    import tensorflow as tf

    step = tf.function(kg.external_loss(as_of_r(mse)[0]))
    arrays = [tf.constant(data(8)[1]) for _ in range(2)]
    with pytest.raises(Exception, match="on the main thread only"):
        step(*arrays)


def test_calls_that_come_after_an_interruption_are_refused_while_the_step_ends():
    answers = []
    fn = OnMain(lambda: answers.append("answered"), "fn")

    def interrupts():
        raise KeyboardInterrupt

    def step():
        for call in (OnMain(interrupts, "interrupts"), fn, fn):
            try:
                call()
            except kg.UnsupportedError:
                answers.append("refused")
        answers.append("ended")

    with pytest.raises(KeyboardInterrupt):
        _main_thread.run_apart(step)
    assert answers == ["refused", "refused", "refused", "ended"]


def test_what_python_leaves_to_the_main_thread_is_done_while_it_waits():
    import ctypes

    done = threading.Event()
    call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _: done.set() or 0)

    def step():
        ctypes.pythonapi.Py_AddPendingCall(call, None)
        return done.wait(20)

    assert _main_thread.run_apart(step)


def test_calls_of_many_threads_at_once_are_all_answered():
    fn = OnMain(lambda number: (number, threading.current_thread()), "fn")

    def step():
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(fn, range(200)))

    assert _main_thread.run_apart(step) == [(n, threading.main_thread()) for n in range(200)]


def test_a_step_that_fails_raises_its_own_error_and_the_next_runs():
    def step():
        raise StopIteration("over")

    with pytest.raises(StopIteration, match="over"):
        _main_thread.run_apart(step)
    assert _main_thread.run_apart(time.sleep, 0.05) is None


@helpers.only_on("tensorflow", "several devices are TensorFlow's")
def test_several_devices_are_refused(monkeypatch):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", kg.external_loss(as_of_r(mse)[0]))
    monkeypatch.setattr(type(strategy), "num_replicas_in_sync", 2)
    with pytest.raises(kg.UnsupportedError, match="a model with one replica, got 2"):
        model.make_train_function()
