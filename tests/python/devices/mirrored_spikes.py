"""SpikeGuard under MirroredStrategy: two replicas on two virtual CPUs, in Keras 3 or tf_keras."""

import sys

import common
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

if sys.argv[1] == "tf_keras":
    import tf_keras as keras
else:
    import keras

import numpy as np  # noqa: E402
import tf_data  # noqa: E402
from spiked import BAD, ROWS, Batches, X, Y  # noqa: E402

import pykguard  # noqa: E402
from pykguard._framework import replicas_of  # noqa: E402


def make(rate=0.01):
    keras.utils.set_random_seed(1)
    # The collectives that TensorFlow uses by default are mixed up between the models of a process.
    one_device = tf.distribute.ReductionToOneDevice()
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], one_device).scope():
        layers = [
            keras.layers.Dense(8, activation="tanh", input_shape=(3,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def trained(model, epochs=1, **which):
    guard = pykguard.SpikeGuard(interval=1)
    data = tf_data.dataset(Batches(**which), ROWS)
    history = model.fit(data, epochs=epochs, verbose=0, callbacks=[guard])
    return guard, history.history["loss"]


def state(model):
    optimizer = model.optimizer.variables
    variables = [*model.variables, *(optimizer() if callable(optimizer) else optimizer)]
    parts = [replicas_of(variable) for variable in variables]
    return [common.digest(part[-1].numpy() for part in parts), common.digest(p[0] for p in parts)]


spared, rescued = make(), make()
try:
    _, loss = trained(spared, left_out={BAD})
except pykguard.UnsupportedError as error:
    common.report(refused=str(error))
    sys.exit()
guard, rescued_loss = trained(rescued, bad={BAD})
common.report(
    spared=state(spared),
    rescued=state(rescued),
    losses=[loss[-1], rescued_loss[-1]],
    events=[[e.batch, e.action, e.reason] for e in guard.events],
)

model = make(rate=100.0)
guard, losses = trained(model, epochs=6)
common.report(losses=losses, actions=sorted({e.action for e in guard.events}), scale=guard._scale)

# Of the last batch, which has one row, the second replica gets none.
model = make()
guard = pykguard.SpikeGuard()
[loss] = model.fit(X[:161], Y[:161], batch_size=16, verbose=0, callbacks=[guard]).history["loss"]
parts = [part.numpy() for v in model.variables for part in replicas_of(v)]
common.report(
    reasons=[event.reason for event in guard.events],
    is_finite=all(bool(np.isfinite(part).all()) for part in parts),
)
