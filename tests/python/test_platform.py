import subprocess
import sys
import textwrap

import helpers
import keras
import pytest

from pykguard import LossHistory, RestoreBest, RevertOnLossIncrease, UnsupportedError


@pytest.mark.parametrize("callback", [RevertOnLossIncrease(), RestoreBest(), LossHistory()])
def test_another_backend_is_refused_when_training_begins(callback, marked, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    callback.set_model(marked)
    with pytest.raises(UnsupportedError, match="needs Keras' TensorFlow backend, got 'jax'"):
        callback.on_train_begin()


TWO_DEVICES = """
    import numpy as np
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    import pykguard

    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
    x = np.ones((8, 3), "float32")
    for callback in (pykguard.RevertOnLossIncrease(), pykguard.LossHistory()):
        try:
            model.fit(x, x[:, :1], verbose=0, callbacks=[callback])
        except pykguard.UnsupportedError as error:
            print(error)
"""


def test_a_model_on_several_devices_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_DEVICES)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=helpers.PACKAGE.parent,
    )
    assert done.stdout.splitlines() == [
        "a snapshot needs a model on one device, got 2 replicas",
        "LossHistory needs a model on one device, got 2 replicas",
    ], done.stderr
