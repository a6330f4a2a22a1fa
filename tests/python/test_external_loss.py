import math

import helpers
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pykguard as kg
from pykguard.external import _spsa


def mse(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(axis=-1), 2 * error / error.shape[-1]


def batch_mse(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(), 2 * error / error.size


def mse_only(y_true, y_pred):
    return mse(y_true, y_pred)[0]


def batch_mse_only(y_true, y_pred):
    return batch_mse(y_true, y_pred)[0]


def data(rows=37):
    """Rows, two outputs, and weights; batches of 8 leave a last one of 5."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3)).astype("float32")
    y = random.normal(size=(rows, 2)).astype("float32")
    return x, y, random.uniform(0.1, 2.0, rows).astype("float32")


def make_model(loss, optimizer="adam", **compile_options):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.1, seed=3),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, loss, **compile_options)
    return model


def train(loss, *, weights=None, epochs=4, **compile_options):
    model = make_model(loss, **compile_options)
    x, y, _ = data()
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        validation_data=(x, y),
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    )
    return model, history.history


def same_training(ours, theirs):
    for name in theirs[1]:
        assert ours[1][name] == pytest.approx(theirs[1][name], abs=1e-6)
    for a, b in zip(ours[0].get_weights(), theirs[0].get_weights(), strict=True):
        assert np.abs(a - b).max() <= 1e-6


def gradient_of(loss, y_true, y_pred, **options):
    """The gradient of a Keras loss with respect to the predictions, by the backend."""
    variable = keras.Variable(y_pred)

    def value():
        return loss(y_true, keras.ops.convert_to_tensor(variable), **options)

    return helpers.array(helpers.value_and_gradients(value, [variable])[1][0])


# ---------------------------------------------------------------- as Keras' own
@pytest.mark.parametrize("fn", [mse, batch_mse])
@pytest.mark.parametrize("eagerly", [False, True])
def test_it_trains_as_the_loss_of_keras_does(fn, eagerly):
    theirs = train("mse", run_eagerly=eagerly)
    same_training(train(kg.external_loss(fn), run_eagerly=eagerly), theirs)


def test_sample_weights_count_as_with_the_loss_of_keras():
    weights = data()[2]
    theirs = train("mse", weights=weights)
    same_training(train(kg.external_loss(mse), weights=weights), theirs)
    assert theirs[1]["loss"] != train("mse")[1]["loss"]


@helpers.needs_several_steps
def test_several_steps_an_execution_train_alike():
    theirs = train("mse", steps_per_execution=2)
    same_training(train(kg.external_loss(mse), steps_per_execution=2), theirs)


def test_each_of_several_outputs_may_have_its_own():
    def two_outputs(losses):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        outputs = [keras.layers.Dense(2, name=name)(inputs) for name in ("a", "b")]
        model = keras.Model(inputs, outputs)
        model.compile("sgd", losses, loss_weights=[1.0, 0.5])
        x, y, _ = data()
        return model, model.fit(x, [y, -y], epochs=3, shuffle=False, verbose=0).history

    ours = two_outputs([kg.external_loss(mse), kg.external_loss(batch_mse)])
    same_training(ours, two_outputs(["mse", "mse"]))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_reaches_the_function_as_float32(policy):
    seen = set()

    def watched(y_true, y_pred):
        seen.add((str(y_true.dtype), str(y_pred.dtype), y_true.shape, y_pred.shape))
        return mse(y_true, y_pred)

    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(2, dtype=policy)
    model = keras.Sequential([keras.Input((3,)), dense])
    model.compile("sgd", kg.external_loss(watched))
    x, y, _ = data(8)
    model.fit(x, y, epochs=2, verbose=0)
    assert seen == {("float32", "float32", (8, 2), (8, 2))}


@pytest.mark.parametrize(("floatx", "given"), [("float16", "float32"), ("float64", "float64")])
def test_losses_of_another_precision_reach_the_function_so(floatx, given):
    seen = set()

    def watched(y_true, y_pred):
        seen.add((str(y_true.dtype), str(y_pred.dtype)))
        return mse(y_true, y_pred)

    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        if helpers.BACKEND == "jax" and floatx == "float64":
            pytest.skip("not on jax: it has no float64 unless that is switched on")
        kg.external_loss(watched)(np.ones((4, 2)), np.zeros((4, 2)))
    finally:
        keras.config.set_floatx(before)
    assert seen == {(given, given)}


def test_a_mask_of_samples_counts_as_with_the_loss_of_keras():
    _, y_true, _ = data(4)
    mask = keras.ops.convert_to_tensor(np.array([True, False, True, True]))

    def masked(loss):
        y_pred = keras.ops.convert_to_tensor(y_true * 2)
        y_pred._keras_mask = mask
        return float(loss(y_true, y_pred))

    if helpers.BACKEND == "jax":
        pytest.skip("not on jax: its arrays take no attributes outside of layers")
    assert masked(kg.external_loss(mse)) == pytest.approx(masked(keras.losses.MeanSquaredError()))
    mask = keras.ops.convert_to_tensor(np.ones((4, 2), bool))
    with pytest.raises(kg.UnsupportedError, match=r"one value a sample, got one of shape \(4, 2\)"):
        masked(kg.external_loss(mse))


# ---------------------------------------------------------------- gradients
def curved(y_true, y_pred):
    """A loss a sample that is not quadratic, with its gradient."""
    axes = tuple(range(1, y_pred.ndim))
    error = y_pred - y_true
    return np.log(np.cosh(error)).sum(axis=axes), np.tanh(error)


def curved_batch(y_true, y_pred):
    losses, gradient = curved(y_true, y_pred)
    return losses.sum(), gradient


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@given(shapes, st.sampled_from([curved, curved_batch]), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_gradient_is_that_of_the_logged_loss(shape, fn, seed):
    random = np.random.default_rng(seed)
    y_true, y_pred = random.normal(size=(2, *shape)).astype("float32")
    weights = random.uniform(0.5, 2.0, shape[0]).astype("float32") if fn is curved else None
    loss = kg.external_loss(fn)
    found = gradient_of(loss, y_true, y_pred, sample_weight=weights)
    place = tuple(random.integers(0, n) for n in shape)
    shift = np.zeros(shape, "float32")
    shift[place] = 0.05

    def at(predictions):
        return float(loss(y_true, predictions, sample_weight=weights))

    slope = (at(y_pred + shift) - at(y_pred - shift)) / 0.1
    assert found.shape == shape
    assert found[place] == pytest.approx(slope, abs=2e-3)


def test_a_returned_gradient_costs_one_call_a_batch_in_training_and_in_evaluation():
    calls = []

    def counted(y_true, y_pred):
        calls.append(len(y_pred))
        return mse(y_true, y_pred)

    model = make_model(kg.external_loss(counted))
    x, y, _ = data()
    model.fit(x, y, batch_size=8, verbose=0)
    assert sorted(calls) == [5, 8, 8, 8, 8]
    calls.clear()
    model.evaluate(x, y, batch_size=8, verbose=0)
    assert sorted(calls) == [5, 8, 8, 8, 8]


def test_an_estimated_gradient_costs_two_calls_a_draw_more_and_only_in_training():
    calls = []

    def counted(y_true, y_pred):
        calls.append(len(y_pred))
        return mse_only(y_true, y_pred)

    model = make_model(kg.external_loss(counted, gradient="spsa", n_draws=3))
    x, y, _ = data(8)
    model.fit(x, y, verbose=0)
    assert len(calls) == 7
    calls.clear()
    model.evaluate(x, y, verbose=0)
    assert len(calls) == 1


@pytest.mark.parametrize("fn", [mse_only, batch_mse_only])
def test_the_mean_of_estimates_is_within_its_standard_error_of_the_gradient(fn):
    _, y_true, _ = data(4)
    y_pred = y_true + np.random.default_rng(1).normal(size=y_true.shape).astype("float32")
    draws = 1000
    loss = kg.external_loss(fn, gradient="spsa", n_draws=draws, seed=2)
    found = gradient_of(loss, y_true, y_pred).astype("float64")
    true = (2 * (y_pred - y_true) / y_true.size).astype("float64")
    together = (true**2).sum() if fn is batch_mse_only else (true**2).sum(-1, keepdims=True)
    standard_error = np.sqrt((together - true**2) / draws)
    assert (np.abs(found - true) < 4 * standard_error).all()


def test_the_spread_of_single_draws_is_the_stated_one():
    y_pred = np.array([[3.0, 1.0, -2.0]])
    gradient = np.array([[1.0, -2.0, 0.5]])
    random = np.random.default_rng(3)
    options = {"perturbation": 0.5, "n_draws": 1, "random": random}
    estimates = np.concatenate(
        [_spsa.estimate(lambda p: (p * gradient).sum(-1), y_pred, **options) for _ in range(4000)]
    )
    stated = np.sqrt((gradient**2).sum() - gradient**2)[0]
    assert estimates.std(axis=0) == pytest.approx(stated, rel=0.05)


def test_losses_of_samples_with_one_output_are_estimated_exactly():
    y_true, y_pred = np.random.default_rng(0).normal(size=(2, 6, 1)).astype("float32")
    loss = kg.external_loss(mse_only, gradient="spsa", perturbation=0.1)
    assert gradient_of(loss, y_true, y_pred) == pytest.approx((y_pred - y_true) / 3, abs=1e-5)


def test_the_same_seed_gives_the_same_training():
    def weights(seed):
        loss = kg.external_loss(batch_mse_only, gradient="spsa", seed=seed)
        return helpers.flat(train(loss, epochs=2)[0].weights)

    assert (weights(5) == weights(5)).all()
    assert (weights(5) != weights(6)).any()


def test_without_a_seed_the_seed_of_keras_decides():
    _, y_true, _ = data(8)

    def gradient(seed):
        keras.utils.set_random_seed(seed)
        loss = kg.external_loss(batch_mse_only, gradient="spsa")
        return gradient_of(loss, y_true, y_true * 2)

    assert (gradient(1) == gradient(1)).all()
    assert (gradient(1) != gradient(2)).any()


def test_estimated_gradients_train():
    loss = kg.external_loss(mse_only, gradient="spsa", n_draws=4, seed=0)
    model = make_model(loss, optimizer=keras.optimizers.Adam(0.05))
    x = data(64)[0]
    history = model.fit(x, x[:, :2], batch_size=8, epochs=10, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


# ---------------------------------------------------------------- what must not be
def raises(y_true, y_pred):
    raise StopIteration("no more")


TRUE_LOSS = np.ones(8, "float32")
GRADIENT = np.ones((8, 2), "float32")
BAD = {
    "gradient of another shape": (
        (TRUE_LOSS, GRADIENT[:, :1]),
        "a finite gradient of the predictions' shape (8, 2), got an array of shape (8, 1)",
    ),
    "NaN in the gradient": (
        (TRUE_LOSS, GRADIENT * math.nan),
        "a finite gradient of the predictions' shape (8, 2), got nan in an array of shape (8, 2)",
    ),
    "gradient None": (
        (TRUE_LOSS, None),
        "a finite gradient of the predictions' shape (8, 2), got N",
    ),
    "NaN loss": (
        (math.nan, GRADIENT),
        "a finite loss, a scalar or an array of shape (8,), got nan",
    ),
    "infinite for float32": ((1e300, GRADIENT), "a finite loss, a scalar or an array of shape"),
    "string loss": (("1.5", GRADIENT), "a scalar or an array of shape (8,), got '1.5'"),
    "losses of another shape": (
        (TRUE_LOSS[:, None], GRADIENT),
        "a scalar or an array of shape (8,), got an array of shape (8, 1)",
    ),
    "ragged losses": (([[1], [1, 2]], GRADIENT), "got [[1], [1, 2]]"),
    "None": (None, "a tuple (loss, gradient), got None"),
    "a tuple of three": ((1.0, GRADIENT, 3), "a tuple (loss, gradient), got a tuple of 3"),
}


def failing_from(call, returned):
    """A loss that is good until this call, counted from 1."""
    calls = []

    def fails_late(y_true, y_pred):
        calls.append(None)
        if len(calls) != call:
            return mse(y_true, y_pred)
        return returned(y_true, y_pred) if callable(returned) else returned

    return fails_late


class StatesBeforeBatches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.states = []

    def on_train_batch_begin(self, batch, logs=None):
        self.states.append(helpers.training_state(self.model))


def fails_in_third_batch(loss, *, eagerly=False):
    """What the error says; the state is that before the batch, and training goes on from it."""
    model = make_model(loss, run_eagerly=eagerly)
    x, y, _ = data(40)
    model.fit(x[:8], y[:8], verbose=0)
    states = StatesBeforeBatches()
    with pytest.raises(kg.ExternalLossError) as caught:
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[states])
    assert (helpers.training_state(model) == states.states[-1]).all()
    assert len(states.states) == 3
    model.fit(x, y, batch_size=8, verbose=0)
    assert np.isfinite(helpers.training_state(model)).all()
    said = str(caught.value)
    if not eagerly:
        assert said in str(caught.value.__cause__ or caught.value)
    return said


@pytest.mark.parametrize(("returned", "message"), BAD.values(), ids=BAD)
def test_a_bad_return_is_an_error_that_leaves_the_state_as_before_the_batch(returned, message):
    said = fails_in_third_batch(kg.external_loss(failing_from(4, returned)))
    assert said.startswith("the function of the external loss 'fails_late' must return ")
    assert message in said


@pytest.mark.parametrize("eagerly", [False, True])
def test_an_error_in_the_function_leaves_the_state_as_before_the_batch(eagerly):
    loss = kg.external_loss(failing_from(4, raises), name="mine")
    said = fails_in_third_batch(loss, eagerly=eagerly)
    assert said == (
        "the function of the external loss 'mine' must return a loss, "
        "but raised StopIteration: no more"
    )


def test_an_error_in_the_first_batch_of_all_leaves_the_initial_weights():
    model = make_model(kg.external_loss(failing_from(1, None)))
    before = helpers.flat(model.variables)
    x, y, _ = data(8)
    with pytest.raises(kg.ExternalLossError):
        model.fit(x, y, verbose=0)
    assert (helpers.flat(model.variables) == before).all()
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()


def test_an_error_in_an_estimate_leaves_the_state_as_before_the_batch():
    calls = []

    def fails_in_a_draw(y_true, y_pred):
        calls.append(None)
        return "bad" if len(calls) == 11 else mse_only(y_true, y_pred)

    said = fails_in_third_batch(kg.external_loss(fails_in_a_draw, gradient="spsa"))
    assert "got 'bad'" in said


def test_an_error_in_one_of_several_losses_leaves_all_as_before():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])
    model.compile("adam", [kg.external_loss(mse), kg.external_loss(failing_from(3, None))])
    x, y, _ = data(8)
    model.fit(x, [y, y], verbose=0, epochs=2)
    before = helpers.training_state(model)
    with pytest.raises(kg.ExternalLossError):
        model.fit(x, [y, y], verbose=0)
    assert (helpers.training_state(model) == before).all()


@pytest.mark.parametrize("on_batch", [False, True])
def test_an_error_in_evaluation_leaves_the_weights(on_batch):
    model = make_model(kg.external_loss(failing_from(2, None)))
    x, y, _ = data(8)
    model.fit(x, y, verbose=0)
    before = helpers.training_state(model)
    with pytest.raises(kg.ExternalLossError, match="got None"):
        if on_batch:
            model.test_on_batch(x, y)
        else:
            model.evaluate(x, y, verbose=0)
    assert (helpers.training_state(model) == before).all()


def test_an_error_in_train_on_batch_leaves_the_state():
    model = make_model(kg.external_loss(failing_from(2, None)))
    x, y, _ = data(8)
    model.train_on_batch(x, y)
    before = helpers.training_state(model)
    with pytest.raises(kg.ExternalLossError, match="got None"):
        model.train_on_batch(x, y)
    assert (helpers.training_state(model) == before).all()


@helpers.needs_several_steps
def test_an_error_among_several_steps_leaves_a_state_from_before_the_batch():
    model = make_model(kg.external_loss(failing_from(5, None)), steps_per_execution=2)
    x, y, _ = data(32)
    states = StatesBeforeBatches()
    model.fit(x[:8], y[:8], verbose=0)
    with pytest.raises(kg.ExternalLossError):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[states])
    first, second = states.states
    state = helpers.training_state(model)
    if helpers.BACKEND == "tensorflow":
        assert (state == second).all()
    else:  # the first of the two steps is kept
        assert (state != second).any() and (state != first).any()
        one = make_model("mse")
        one.fit(x[:8], y[:8], verbose=0)
        one.fit(x[:24], y[:24], batch_size=8, shuffle=False, verbose=0)
        assert state == pytest.approx(helpers.training_state(one), abs=1e-6)


def test_a_loss_of_the_batch_cannot_be_weighted():
    model = make_model(kg.external_loss(batch_mse))
    x, y, weights = data(8)
    with pytest.raises(
        kg.ExternalLossError, match=r"one loss a sample, 8 of them, .* got one number"
    ):
        model.fit(x, y, sample_weight=weights, verbose=0)


@helpers.only_on("tensorflow", "the others compile it")
def test_xla_is_refused():
    model = make_model(kg.external_loss(mse), jit_compile=True)
    x, y, _ = data(8)
    with pytest.raises(kg.UnsupportedError, match="jit_compile=False"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("fn", "mse", kg.OptionTypeError),
        ("gradient", "numeric", kg.OptionValueError),
        ("perturbation", 0, kg.OptionValueError),
        ("perturbation", "small", kg.OptionTypeError),
        ("n_draws", 0, kg.OptionValueError),
        ("n_draws", 1.5, kg.OptionTypeError),
        ("seed", -1, kg.OptionValueError),
        ("name", "", kg.OptionValueError),
        ("name", "my loss", kg.OptionValueError),
    ],
)
def test_a_bad_option_is_refused(option, value, error):
    with pytest.raises(error, match=f"`{option}` must be"):
        kg.external_loss(**{"fn": mse, option: value})


def test_a_function_without_a_name_of_letters_is_taken():
    model = make_model(kg.external_loss(lambda y_true, y_pred: (1.0, y_pred)))
    x, y, _ = data(8)
    assert model.fit(x, y, verbose=0).history["loss"][0] > 1.0
    assert model.loss.name == "lambda"


def test_an_optimizer_that_was_built_for_other_variables_is_refused_and_the_weights_stay():
    optimizer = keras.optimizers.Adam()
    optimizer.build(make_model("mse").trainable_variables)
    model = make_model(kg.external_loss(mse), optimizer=optimizer)
    before = helpers.flat(model.weights)
    x, y, _ = data(8)
    with pytest.raises(ValueError, match="`optimizer` must be built for"):
        model.fit(x, y, verbose=0)
    assert (helpers.flat(model.weights) == before).all()


def test_the_function_may_write_into_what_it_gets():
    def writes(y_true, y_pred):
        y_pred -= y_true
        y_true[:] = 0
        return (y_pred**2).mean(axis=-1), 2 * y_pred / y_pred.shape[-1]

    tensors = [keras.ops.convert_to_tensor(each) for each in np.ones((2, 4, 2), "float32")]
    assert float(kg.external_loss(writes)(*tensors)) == 0
    assert all((helpers.array(each) == 1).all() for each in tensors)


# ---------------------------------------------------------------- with the rest
def test_guards_and_history_see_what_they_see_with_the_loss_of_keras():
    def watched(loss):
        x, y, _ = data()
        model = make_model(loss, optimizer=keras.optimizers.SGD(0.05))
        history, best = kg.LossHistory(), kg.RestoreBest("loss")
        guard = kg.RevertOnLossIncrease("loss", lr_factor=0.5)
        kick = helpers.KickAfterLastBatch(1, value=50.0)
        callbacks = [kick, guard, history, best]
        model.fit(x, y, batch_size=8, epochs=5, shuffle=False, verbose=0, callbacks=callbacks)
        return (
            helpers.flat(model.weights),
            history.record.losses,
            [e.action for e in guard.events],
            best.best,
        )

    ours, theirs = watched(kg.external_loss(mse)), watched("mse")
    assert ours[0] == pytest.approx(theirs[0], abs=1e-6)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-6)
    assert ours[2] == theirs[2] and "revert" in ours[2]
    assert ours[3] == pytest.approx(theirs[3])


@pytest.mark.parametrize("gradient", ["returned", "spsa"])
def test_a_saved_model_is_loaded_with_its_function(tmp_path, gradient):
    fn = mse if gradient == "returned" else mse_only
    model = make_model(kg.external_loss(fn, gradient=gradient, n_draws=2, seed=1))
    x, y, _ = data(8)
    model.fit(x, y, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, custom_objects={fn.__name__: fn})
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))
    keras.saving.load_model(path, compile=False)
    with pytest.raises(kg.OptionValueError, match=f"`custom_objects` must be .*'{fn.__name__}'"):
        keras.saving.load_model(path)


def test_other_models_keep_the_functions_of_keras():
    kg.external_loss(mse)
    make = keras.Model.make_train_function
    assert make.without_protection is not make
    model = make_model("mse")
    model.make_train_function()
    assert "protected" not in model.train_function.__qualname__
