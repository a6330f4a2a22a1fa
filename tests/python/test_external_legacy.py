"""External losses in the `fit` of tf_keras, as Keras 2 is called today."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import pykguard as kg
from pykguard.external._main_thread import OnMain

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf_keras is TensorFlow's", allow_module_level=True)
tf_keras = pytest.importorskip("tf_keras")


def mse(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(axis=-1), 2 * error / error.shape[-1]


def flat(variables):
    return np.concatenate([np.ravel(each.numpy()).astype("float64") for each in variables])


def data(rows=37):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3)).astype("float32")
    y = random.normal(size=(rows, 2)).astype("float32")
    return x, y, random.uniform(0.1, 2.0, rows).astype("float32")


def make_model(loss, *, built=True, **options):
    tf_keras.utils.set_random_seed(1)
    layers = [tf_keras.layers.Dense(4, activation="tanh"), tf_keras.layers.Dense(2)]
    if built:
        layers.insert(0, tf_keras.layers.Input((3,)))
    model = tf_keras.Sequential(layers)
    model.compile("adam", loss, **options)
    return model


def train(loss, *, weighted=False, **options):
    model = make_model(loss, **options)
    x, y, weights = data()
    history = model.fit(
        x,
        y,
        sample_weight=weights if weighted else None,
        validation_data=(x, y),
        batch_size=8,
        epochs=3,
        shuffle=False,
        verbose=0,
    )
    return flat(model.weights), history.history


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weighted": True},
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"built": False},
    ],
)
@pytest.mark.parametrize("of_r", [False, True])
def test_it_trains_as_the_loss_of_tf_keras_does(options, of_r):
    loss = kg.external_loss(OnMain(mse, "mse") if of_r else mse)
    weights, history = train(loss, **options)
    expected, expected_history = train("mse", **options)
    assert weights == pytest.approx(expected, abs=1e-6)
    for name in expected_history:
        assert history[name] == pytest.approx(expected_history[name], abs=1e-6)


@pytest.mark.parametrize("of_r", [False, True])
@pytest.mark.parametrize("call", [1, 3])
def test_an_error_leaves_the_state_as_before_the_batch(of_r, call):
    calls = []

    def fails(y_true, y_pred):
        calls.append(None)
        return None if len(calls) == call else mse(y_true, y_pred)

    model = make_model(kg.external_loss(OnMain(fails, "fails") if of_r else fails))
    x, y, _ = data(8)
    if call > 1:
        model.fit(x, y, epochs=call - 1, verbose=0)
    before = flat([*model.variables, *model.optimizer.variables])
    with pytest.raises(kg.ExternalLossError, match="'fails' must return a tuple"):
        model.fit(x, y, verbose=0)
    after = flat([*model.variables, *model.optimizer.variables])
    assert (after[: len(before)] == before).all()
    model.fit(x, y, verbose=0)


def test_losses_by_output_and_of_the_batch_are_taken():
    def of_batch(y_true, y_pred):
        losses, gradient = mse(y_true, y_pred)
        return losses.mean(), gradient / len(losses)

    def trained(losses):
        tf_keras.utils.set_random_seed(1)
        inputs = tf_keras.Input((3,))
        outputs = [tf_keras.layers.Dense(2, name=name)(inputs) for name in ("a", "b")]
        model = tf_keras.Model(inputs, outputs)
        model.compile("sgd", losses)
        x, y, _ = data()
        model.fit(x, {"a": y, "b": -y}, epochs=2, shuffle=False, verbose=0)
        return flat(model.weights)

    ours = trained({"a": kg.external_loss(mse), "b": kg.external_loss(of_batch)})
    assert ours == pytest.approx(trained({"a": "mse", "b": "mse"}), abs=1e-6)
    model = make_model(kg.external_loss(of_batch))
    x, y, weights = data(8)
    with pytest.raises(kg.ExternalLossError, match="one loss a sample"):
        model.fit(x, y, sample_weight=weights, verbose=0)


def test_a_saved_model_is_loaded_with_its_function(tmp_path):
    model = make_model(kg.external_loss(mse))
    x, y, _ = data(8)
    model.fit(x, y, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = tf_keras.models.load_model(path, custom_objects={"mse": mse})
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))


def test_a_loss_that_was_made_before_tf_keras_is_refused_and_not_weighted_wrongly():
    code = (
        "import keras, numpy as np, pykguard as kg\n"
        "loss = kg.external_loss(lambda y_true, y_pred: (0.0, y_pred))\n"
        "import tf_keras\n"
        "model = tf_keras.Sequential([tf_keras.layers.Dense(2)])\n"
        "model.compile('sgd', loss)\n"
        "try:\n"
        "    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "must be made after tf_keras was imported" in found.stdout


@pytest.mark.parametrize("of_r", [False, True])
def test_an_error_in_the_first_batch_of_an_unbuilt_model_leaves_its_initial_state(of_r):
    def fails(y_true, y_pred):
        return None

    model = tf_keras.Sequential([tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(2)])
    model.compile("adam", kg.external_loss(OnMain(fails, "fails") if of_r else fails))
    x, y, _ = data(8)
    with pytest.raises(kg.ExternalLossError):
        model.fit(x + 5, y, verbose=0)
    assert (model.layers[0].moving_mean.numpy() == 0).all()
    assert model.optimizer.iterations.numpy() == 0
