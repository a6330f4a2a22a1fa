"""Learning rates that are reset under MirroredStrategy, by how far two replicas moved a weight."""

import common
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402
import numpy as np  # noqa: E402

import pykguard  # noqa: E402

REDUCTION = tf.distribute.ReductionToOneDevice()
SCHEDULES = keras.optimizers.schedules
OLD = {
    "float": lambda: 0.25,
    "schedule": lambda: SCHEDULES.ExponentialDecay(0.25, 4, 0.5),
    "callable": lambda: lambda: 0.375,
}
NEW = {
    "float": lambda: 0.05,
    "schedule": lambda: SCHEDULES.ExponentialDecay(0.5, 1, 0.5),
    "callable": lambda: lambda: 0.03,
}


class Weights(keras.callbacks.Callback):
    """The weight after each batch, on each replica; and a reset after one of them."""

    def __init__(self, rate):
        super().__init__()
        self.rate, self.seen = rate, []

    def on_train_batch_end(self, batch, logs=None):
        replicas = self.model.weights[0].value.values
        self.seen.append([float(np.ravel(each.numpy())[0]) for each in replicas])
        if len(self.seen) == 3:
            pykguard.reset_learning_rate(self.model, self.rate)


for old, new in [(old, new) for old in OLD for new in NEW]:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], REDUCTION).scope():
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((1,)), dense])
        # The gradients of the two replicas are added up.
        loss = lambda y, p: 0.5 * keras.ops.mean(p)  # noqa: E731
        model.compile(keras.optimizers.SGD(OLD[old]()), loss)
    weights, x = Weights(NEW[new]()), np.ones((12, 1), "float32")
    model.fit(x, x, batch_size=2, verbose=0, callbacks=[weights])
    moved = -np.diff(np.array(weights.seen), axis=0)[2:5]
    common.report(old=old, new=new, rates=moved.T.tolist())
