import helpers
import keras
import numpy as np
import pytest
from keras import ops

import pykguard as kg


def squares(model, x, y, y_pred, sample_weight):
    losses = ops.mean(ops.square(y_pred - y), axis=-1)
    return ops.mean(losses if sample_weight is None else losses * sample_weight)


def data(rows=37):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3)).astype("float32")
    return x, x[:, :2] + 0.1, random.uniform(0.1, 2.0, rows).astype("float32")


def make_model(regularizer=None):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh", kernel_regularizer=regularizer),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.1, seed=3),
        keras.layers.Dense(2),
    ]
    return keras.Sequential(layers)


def train(model, *, epochs=3, callbacks=(), weighted=False, **compile_options):
    x, y, weights = data()
    loss = {} if isinstance(model, kg.ExternalLossModel) else {"loss": "mse"}
    model.compile("adam", metrics=["mae"], **loss, **compile_options)
    fitted = model.fit(
        x,
        y,
        sample_weight=weights if weighted else None,
        validation_data=(x, y),
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return fitted.history


def same_weights(ours, theirs):
    assert helpers.flat(ours.weights) == pytest.approx(helpers.flat(theirs.weights), abs=1e-6)


@pytest.mark.parametrize("regularizer", [None, "l2"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("eagerly", [False, True])
def test_it_trains_as_a_model_compiled_with_mse(regularizer, weighted, eagerly):
    ours, theirs = make_model(regularizer), make_model(regularizer)
    options = {"weighted": weighted, "run_eagerly": eagerly}
    history = train(kg.ExternalLossModel(ours, squares), **options)
    expected = train(theirs, **options)
    assert list(history) == list(expected)
    for name in expected:
        assert history[name] == pytest.approx(expected[name], abs=1e-6)
    same_weights(ours, theirs)


@helpers.needs_several_steps
def test_several_steps_an_execution_train_alike():
    ours, theirs = make_model(), make_model()
    train(kg.ExternalLossModel(ours, squares), steps_per_execution=2)
    train(theirs, steps_per_execution=2)
    same_weights(ours, theirs)


def test_evaluate_and_predict_are_those_of_the_inner_model():
    inner = make_model("l2")
    outer = kg.ExternalLossModel(inner, squares)
    train(outer)
    x, y, _ = data()
    inner.compile("adam", "mse", metrics=["mae"])
    assert outer.evaluate(x, y, verbose=0) == pytest.approx(inner.evaluate(x, y, verbose=0))
    assert (outer.predict(x, verbose=0) == inner.predict(x, verbose=0)).all()


def test_a_loss_may_use_the_weights():
    def only_the_weights(model, x, y, y_pred, sample_weight):
        return ops.sum(ops.square(model.layers[-1].kernel)) + 0.0 * ops.sum(y_pred)

    inner = make_model()
    kernel = inner.layers[-1].kernel
    before = helpers.array(kernel)
    outer = kg.ExternalLossModel(inner, only_the_weights)
    outer.compile(keras.optimizers.SGD(0.1))
    x, y, _ = data(8)
    outer.fit(x, y, verbose=0)
    assert helpers.array(kernel) == pytest.approx(0.8 * before, abs=1e-6)


def test_a_loss_may_use_the_inputs_and_needs_no_targets():
    def inputs_again(model, x, y, y_pred, sample_weight):
        assert y is None and sample_weight is None
        return ops.mean(ops.square(y_pred - x[:, :2]))

    ours, theirs = make_model(), make_model()
    x, _, _ = data()
    outer = kg.ExternalLossModel(ours, inputs_again)
    outer.compile("adam")
    outer.fit(x, batch_size=8, epochs=2, shuffle=False, verbose=0)
    theirs.compile("adam", "mse")
    theirs.fit(x, x[:, :2], batch_size=8, epochs=2, shuffle=False, verbose=0)
    same_weights(ours, theirs)


def test_the_inner_model_is_saved_and_trained_on(tmp_path):
    inner = make_model()
    outer = kg.ExternalLossModel(inner, squares)
    train(outer)
    inner.save(tmp_path / "inner.keras")
    loaded = keras.saving.load_model(tmp_path / "inner.keras")
    assert (helpers.flat(loaded.weights) == helpers.flat(inner.weights)).all()
    before = helpers.flat(loaded.weights)
    again = train(kg.ExternalLossModel(loaded, squares), epochs=1)
    assert np.isfinite(again["loss"]).all()
    assert (helpers.flat(loaded.weights) != before).any()


def test_its_weights_are_saved_and_loaded(tmp_path):
    outer = kg.ExternalLossModel(make_model(), squares)
    train(outer)
    outer.save_weights(tmp_path / "outer.weights.h5")
    other = kg.ExternalLossModel(make_model(), squares)
    other.load_weights(tmp_path / "outer.weights.h5")
    assert (helpers.flat(other.weights) == helpers.flat(outer.weights)).all()


def test_saving_itself_is_refused(tmp_path):
    outer = kg.ExternalLossModel(make_model(), squares)
    with pytest.raises(NotImplementedError, match="save its attribute `model`"):
        outer.save(tmp_path / "outer.keras")


def test_a_model_that_is_not_built_is_built_by_the_first_batch():
    keras.utils.set_random_seed(1)
    inner = helpers.Subclassed()
    outer = kg.ExternalLossModel(inner, squares)
    outer.compile(keras.optimizers.Adam(0.05))
    x, y, _ = data()
    history = outer.fit(x, y[:, :1], epochs=10, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert len(inner.weights) == 4


def test_guards_and_history_see_what_they_see_with_the_loss_of_keras():
    def watched(model):
        history, best = kg.LossHistory(), kg.RestoreBest("loss")
        guard = kg.RevertOnLossIncrease("loss", lr_factor=0.5)
        kick = helpers.KickAfterLastBatch(1, value=50.0)
        train(model, epochs=5, callbacks=[kick, guard, history, best])
        return history.record.losses, [event.action for event in guard.events], best.best

    ours, theirs = watched(kg.ExternalLossModel(make_model(), squares)), watched(make_model())
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours[1] == theirs[1] and "revert" in ours[1]
    assert ours[2] == pytest.approx(theirs[2])


def test_an_external_loss_may_be_used_within():
    def mse(y_true, y_pred):
        error = y_pred - y_true
        return (error**2).mean(axis=-1), 2 * error / error.shape[-1]

    external = kg.external_loss(mse)
    ours, theirs = make_model(), make_model()
    train(kg.ExternalLossModel(ours, lambda model, x, y, y_pred, w: external(y, y_pred, w)))
    train(theirs)
    same_weights(ours, theirs)


def test_an_error_of_an_external_loss_within_leaves_the_state_as_before_the_batch():
    calls = []

    def fails_late(y_true, y_pred):
        calls.append(None)
        return None if len(calls) == 3 else (((y_pred - y_true) ** 2).sum(), 2 * (y_pred - y_true))

    external = kg.external_loss(fails_late)
    outer = kg.ExternalLossModel(make_model(), lambda model, x, y, y_pred, w: external(y, y_pred))
    outer.compile("adam")
    x, y, _ = data(8)
    outer.fit(x, y, epochs=2, verbose=0)
    before = helpers.training_state(outer)
    with pytest.raises(kg.ExternalLossError, match="'fails_late' must return a tuple"):
        outer.fit(x, y, verbose=0)
    assert (helpers.training_state(outer) == before).all()
    outer.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda y_pred: None, "got None"),
        (lambda y_pred: "low", "got 'low'"),
        (lambda y_pred: ops.mean(y_pred, axis=-1), "got a tensor of shape"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused_and_the_weights_stay(returned, got):
    def wrong(model, x, y, y_pred, sample_weight):
        return returned(y_pred)

    outer = kg.ExternalLossModel(make_model(), wrong)
    outer.compile("adam")
    before = helpers.flat(outer.weights)
    x, y, _ = data(8)
    with pytest.raises(kg.ExternalLossError, match=f"'wrong' .* must return a scalar .*, {got}"):
        outer.fit(x, y, verbose=0)
    assert (helpers.flat(outer.weights) == before).all()


def test_what_it_cannot_use_is_refused():
    with pytest.raises(kg.OptionTypeError, match="`model` must be a Keras model"):
        kg.ExternalLossModel(keras.layers.Dense(1), squares)
    with pytest.raises(kg.OptionTypeError, match="`loss_fn` must be a function"):
        kg.ExternalLossModel(make_model(), "mse")
    with pytest.raises(kg.OptionValueError, match="`loss` must be None"):
        kg.ExternalLossModel(make_model(), squares).compile("adam", loss="mse")
