import helpers
import numpy as np
import pytest

from pykguard import LossHistory, RestoreBest, RevertOnLossIncrease, UnsupportedError, _framework

X, Y = helpers.line()

CALLBACKS = [RevertOnLossIncrease, RestoreBest, LossHistory]
each_callback = pytest.mark.parametrize("make", CALLBACKS, ids=lambda cls: cls.__name__)
of_tensorflow = helpers.only_on("tensorflow", "no other backend has a tf.distribute strategy")


def begin(callback, model):
    callback.set_model(model)
    callback.on_train_begin()


@each_callback
@pytest.mark.parametrize("backend", ["numpy", "openvino"])
def test_another_backend_is_refused_when_training_begins(make, backend, marked, monkeypatch):
    monkeypatch.setattr(_framework.keras.backend, "backend", lambda: backend)
    with pytest.raises(UnsupportedError, match="needs Keras on tensorflow, jax or torch, got") as e:
        begin(make(), marked)
    assert str(e.value).endswith(repr(backend))


def central_storage():
    import tensorflow as tf

    return tf.distribute.experimental.CentralStorageStrategy(["CPU:0"])


def parameter_server():
    """Its name only: a real one needs a cluster."""
    return type("ParameterServerStrategyV2", (), {})()


@of_tensorflow
@each_callback
@pytest.mark.parametrize("strategy", [central_storage, parameter_server])
def test_another_strategy_is_refused_when_training_begins(make, strategy, monkeypatch):
    model, strategy = helpers.dense_model(), strategy()
    monkeypatch.setattr(model, "_distribute_strategy", strategy)
    with pytest.raises(UnsupportedError, match="needs a model on one device or one under") as e:
        begin(make(), model)
    assert str(e.value).endswith(f"got {type(strategy).__name__}")


def mirrored():
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0"])


def one_device():
    import tensorflow as tf

    return tf.distribute.OneDeviceStrategy("CPU:0")


@of_tensorflow
@pytest.mark.parametrize("strategy", [mirrored, one_device])
def test_a_model_under_a_strategy_is_guarded(strategy):
    with strategy().scope():
        model = helpers.dense_model("adam")
    data, states = helpers.PoisonedData(X, Y, {1, 2}), helpers.StatesAfterEpochs()
    guard = RevertOnLossIncrease(lr_factor=0.5)
    model.fit(data.data, shuffle=False, epochs=3, verbose=0, callbacks=[data, states, guard])
    assert [event.epoch for event in guard.events] == [1, 2]
    assert np.isnan(states.weights[1]).all()
    assert np.array_equal(helpers.flat(model.weights), states.weights[0])
