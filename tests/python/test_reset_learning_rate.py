"""Replacing a rate: what is left alone, what can be saved, and what is refused."""

import shutil
import weakref

import helpers
import keras
import numpy as np
import pytest

import pykguard
from pykguard import (
    OptionTypeError,
    OptionValueError,
    current_learning_rate,
    reset_learning_rate,
)

SCHEDULES = keras.optimizers.schedules
RATES = {
    "float": lambda: 0.25,
    "schedule": lambda: SCHEDULES.ExponentialDecay(0.5, 2, 0.5),
    "callable": lambda: lambda: 0.125,
}


def constant(rate, **options):
    model = helpers.constant_gradient_model(0.5)
    model.compile(keras.optimizers.SGD(rate), model.loss, **options)
    return model


def fit(model, *callbacks, rows=8, **options):
    x, y = helpers.ones(rows)
    sizes = helpers.StepSizes()
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[*callbacks, sizes], **options)
    return sizes.sizes


@pytest.mark.parametrize("old", RATES)
@pytest.mark.parametrize("new", RATES)
def test_moments_and_counter_are_left_alone(old, new):
    x, y = helpers.line()
    model = helpers.dense_model(keras.optimizers.Adam(RATES[old]()))
    model.fit(x, y, verbose=0)
    before = helpers.training_state(model)
    reset_learning_rate(model, RATES[new]())
    assert np.array_equal(helpers.training_state(model), before)
    model.fit(x, y, verbose=0)
    assert not np.array_equal(helpers.training_state(model), before)


@pytest.mark.parametrize("old", RATES)
@pytest.mark.parametrize("new", ["float", "schedule"])
def test_a_model_that_was_saved_trains_on_at_the_rate(old, new, tmp_path):
    path = tmp_path / "model.keras"
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(keras.optimizers.SGD(RATES[old](), momentum=0.5), "mse")
    x, y = helpers.ones(8)
    model.fit(x, y, batch_size=2, verbose=0)
    reset_learning_rate(model, RATES[new]())
    model.fit(x, y, batch_size=4, verbose=0)
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert current_learning_rate(loaded) == pytest.approx(current_learning_rate(model), rel=1e-6)
    for each in (model, loaded):
        each.fit(x, y, batch_size=2, verbose=0, shuffle=False)
    assert helpers.training_state(loaded) == pytest.approx(helpers.training_state(model), rel=1e-6)


@pytest.mark.parametrize("new", RATES)
def test_weights_of_the_optimizer_can_be_read_and_set(new):
    model = constant(SCHEDULES.ExponentialDecay(0.5, 2, 0.5))
    fit(model)
    reset_learning_rate(model, RATES[new]())
    names = [variable.path.split("/")[-1] for variable in model.optimizer.variables]
    expected = keras.optimizers.SGD(RATES[new]())
    expected.build(model.trainable_variables)
    assert names == [variable.path.split("/")[-1] for variable in expected.variables]
    model.optimizer.set_weights([helpers.array(v) for v in model.optimizer.variables])


def test_config_of_an_optimizer_makes_an_equal_one():
    model = constant(0.5)
    fit(model)
    reset_learning_rate(model, RATES["schedule"]())
    twin = keras.optimizers.SGD.from_config(model.optimizer.get_config())
    schedule = twin._learning_rate
    assert [float(schedule(step)) for step in (4, 5, 6)] == pytest.approx(
        [0.5, 0.5 * 0.5**0.5, 0.25], rel=1e-6
    )


def test_a_restarted_schedule_stands_still_before_its_start():
    """A guard may put back an earlier step."""
    schedule = pykguard.learning_rate.AdjustedSchedule(RATES["schedule"](), start=10)
    assert [float(schedule(step)) for step in (0, 9, 10, 12)] == [0.5, 0.5, 0.5, 0.25]


# ---------------------------------------------------------------- ways to train
@pytest.mark.parametrize("kind", ["schedule", "float"])
def test_through_a_loss_scale(kind):
    model = constant(0.5)
    inner = keras.optimizers.SGD(SCHEDULES.ExponentialDecay(0.5, 3, 0.5))
    model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0), model.loss)
    fit(model)
    reset_learning_rate(model, RATES[kind]())
    wanted = [0.25] * 2 if kind == "float" else [0.5, 0.5 * 0.5**0.5]
    assert fit(model)[:2] == pytest.approx(wanted, abs=1e-6)


@helpers.needs_several_steps
@pytest.mark.parametrize("old", RATES)
def test_with_several_steps_per_execution(old):
    model = constant(RATES[old](), steps_per_execution=2)
    fit(model)
    reset_learning_rate(model, RATES["schedule"]())
    wanted = [0.5 * 0.5 ** (step / 2) for step in range(4)]
    assert fit(model) == pytest.approx([sum(wanted[:2]), sum(wanted[2:])], abs=1e-6)


@pytest.mark.skipif(
    helpers.BACKEND == "torch" and shutil.which("g++") is None, reason="torch.compile needs g++"
)
@pytest.mark.parametrize("old", RATES)
@pytest.mark.parametrize("new", RATES)
def test_with_a_step_that_was_compiled_as_a_whole(old, new):
    model = constant(RATES[old](), jit_compile=True)
    fit(model)
    reset_learning_rate(model, RATES[new]())
    wanted = {"float": [0.25] * 2, "callable": [0.125] * 2, "schedule": [0.5, 0.5 * 0.5**0.5]}
    assert fit(model)[:2] == pytest.approx(wanted[new], abs=1e-6)


def test_with_gradients_that_accumulate():
    """Keras asks a schedule by batches then, and takes a step every other one."""
    model = constant(0.5)
    old = SCHEDULES.ExponentialDecay(0.5, 3, 0.5)
    model.compile(keras.optimizers.SGD(old, gradient_accumulation_steps=2), model.loss)
    fit(model)
    reset_learning_rate(model, RATES["schedule"]())
    wanted = [0, 0.5 * 0.5**0.5, 0, 0.5 * 0.5**1.5]
    assert fit(model) == pytest.approx(wanted, abs=1e-6)


@helpers.only_on("tensorflow", "a function that was compiled by hand")
def test_functions_that_were_compiled_within_one_another_are_traced_anew():
    import tensorflow as tf

    optimizer, weight = keras.optimizers.SGD(RATES["schedule"]()), keras.Variable(1.0)
    other = tf.function(lambda x: x + 1)
    other(tf.constant(1.0))
    inner = tf.function(lambda: optimizer.apply([tf.constant(1.0)], [weight]))

    @tf.function
    def outer():
        inner()

    outer()
    before = float(weight.numpy())
    reset_learning_rate(optimizer, SCHEDULES.ExponentialDecay(0.03, 5, 0.5))
    outer()
    assert before - float(weight.numpy()) == pytest.approx(0.03, abs=1e-6)
    assert other.experimental_get_tracing_count() == 1


@helpers.only_on("tensorflow", "where compiled functions are looked for in memory")
def test_proxies_of_what_is_gone_do_no_harm():
    thing = Gives(0.1)
    proxy = weakref.proxy(thing)
    del thing
    model = constant(RATES["schedule"]())
    fit(model)
    reset_learning_rate(model, 0.0625)
    assert fit(model)[0] == 0.0625
    with pytest.raises(ReferenceError):
        proxy.value  # noqa: B018


# ---------------------------------------------------------------- the rate of the next step
@pytest.mark.parametrize("old", RATES)
@pytest.mark.parametrize("new", RATES)
def test_current_rate_is_that_of_the_next_step(old, new):
    model = constant(RATES[old]())
    assert current_learning_rate(model) == pytest.approx(
        {"float": 0.25, "schedule": 0.5}.get(old, 0.125)
    )
    fit(model)
    reset_learning_rate(model, RATES[new]())
    told = current_learning_rate(model)
    assert told == current_learning_rate(model.optimizer)
    assert fit(model)[0] == pytest.approx(told, abs=1e-6)


def test_current_rate_is_true_of_a_schedule_that_keras_would_ignore():
    model = constant(RATES["schedule"]())
    fit(model)
    model.optimizer.learning_rate = SCHEDULES.ExponentialDecay(0.03, 5, 0.5)
    told = current_learning_rate(model)
    assert fit(model)[0] == pytest.approx(told, abs=1e-6)


def test_current_rate_within_fit_is_that_of_the_next_step():
    told = []

    class Asks(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            told.append(current_learning_rate(self.model))

    sizes = fit(constant(RATES["schedule"]()), Asks(), epochs=2)
    assert sizes == pytest.approx(told, abs=1e-6)


@helpers.only_on("tensorflow", "where tracing can be counted")
def test_current_rate_compiles_nothing_where_it_is_known():
    model = constant(RATES["schedule"]())
    fit(model)
    reset_learning_rate(model, RATES["schedule"]())
    fit(model)
    before = model.train_function
    current_learning_rate(model)
    assert model.train_function is before


# ---------------------------------------------------------------- bad input
SCHEDULE = SCHEDULES.LearningRateSchedule


class Gives(SCHEDULE):
    def __init__(self, value):
        self.value = value

    def __call__(self, step):
        return self.value

    def get_config(self):
        return {"value": self.value}


BAD = {
    "zero": (0, OptionValueError, "above 0, got 0"),
    "negative": (-0.1, OptionValueError, "above 0, got -0.1"),
    "nan": (helpers.NAN, OptionValueError, "got nan"),
    "infinite": (np.inf, OptionValueError, "got inf"),
    "text": ("fast", OptionTypeError, "a number above 0.*got 'fast'"),
    "nothing": (None, OptionTypeError, "got None"),
    "true": (True, OptionTypeError, "got True"),
    "vector": (np.array([0.1, 0.2]), OptionTypeError, r"got an array of shape \(2,\)"),
    "class": (SCHEDULES.CosineDecay, OptionTypeError, "got <class"),
    "function of two": (lambda a, b: 0.1, OptionTypeError, "without arguments"),
    "nan schedule": (Gives(helpers.NAN), OptionValueError, "finite number.*at step 0, got nan"),
    "vector schedule": (
        Gives(np.ones(3)),
        OptionValueError,
        r"at step 0, got an array of shape \(3,\)",
    ),
    "negative schedule": (Gives(-1.0), OptionValueError, "at least 0 at step 0, got -1.0"),
    "text schedule": (Gives("a"), OptionValueError, "got 'a'"),
    "nan function": (lambda: helpers.NAN, OptionValueError, "finite number.*got nan"),
    "true function": (lambda: True, OptionValueError, "got True"),
    "text function": (lambda: "a", OptionValueError, "got 'a'"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("old", RATES)
def test_a_bad_rate_is_refused_and_the_old_one_stays(case, old):
    rate, error, message = BAD[case]
    model = constant(RATES[old]())
    held = model.optimizer._learning_rate
    with pytest.raises(error, match=f"`learning_rate` must be .*{message}"):
        reset_learning_rate(model, rate)
    assert model.optimizer._learning_rate is held
    assert fit(model)[0] == pytest.approx({"float": 0.25, "schedule": 0.5}.get(old, 0.125))


def test_a_bad_rate_is_shown_as_a_number():
    below = SCHEDULES.PiecewiseConstantDecay([1], [-0.5, -0.5])
    with pytest.raises(OptionValueError, match=r"at step 0, got -0\.5$"):
        reset_learning_rate(constant(0.25), below)


def test_an_error_of_the_schedule_itself_is_passed_on():
    class Fails(SCHEDULE):
        def __call__(self, step):
            raise RuntimeError("no rate today")

    model = constant(0.25)
    with pytest.raises(RuntimeError, match="no rate today"):
        reset_learning_rate(model, Fails())
    assert current_learning_rate(model) == 0.25


@pytest.mark.parametrize("function", [lambda m: reset_learning_rate(m, 0.1), current_learning_rate])
def test_what_has_no_optimizer_is_refused(function):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(OptionValueError, match="compiled with an optimizer"):
        function(model)
    for wrong in ("model", None, keras.layers.Dense(1), 0.1):
        with pytest.raises(OptionTypeError, match="`model_or_optimizer` must be a Keras model or"):
            function(wrong)


def test_of_several_optimizers_one_has_to_be_named():
    model = constant(0.25)
    model.second = keras.optimizers.Adam(0.5)
    with pytest.raises(OptionValueError, match="one of the model's 2 optimizers"):
        reset_learning_rate(model, 0.1)
    reset_learning_rate(model.second, 0.125)
    assert current_learning_rate(model.second) == 0.125
    assert current_learning_rate(model.optimizer) == 0.25


def test_restart_is_true_or_false():
    with pytest.raises(OptionTypeError, match="`restart` must be True or False, got 1"):
        reset_learning_rate(constant(0.25), 0.1, restart=1)


@helpers.only_on("jax", "where a running fit keeps the optimizer's values to itself")
def test_an_optimizer_within_fit_is_refused_on_jax():
    model, seen = constant(0.25), []

    class Resets(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not model._jax_state_synced:
                with pytest.raises(OptionValueError, match="the model, or the optimizer when no"):
                    reset_learning_rate(optimizer, 0.1)
                seen.append(batch)

    optimizer = model.optimizer
    x, y = helpers.ones(8)
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[Resets()])
    assert seen


def test_a_model_named_within_fit_is_reached_on_every_backend():
    model = constant(RATES["schedule"]())
    batch_to_change = 1

    class Resets(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == batch_to_change:
                reset_learning_rate(model, 0.0625)  # not `self.model`

    assert fit(model, Resets())[2:] == pytest.approx([0.0625] * 2, abs=1e-6)
