"""Keras 3 under MirroredStrategy: two replicas on two virtual CPUs."""

import common
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402
import poison  # noqa: E402
import tf_data  # noqa: E402

import pykguard  # noqa: E402

X, Y = common.data()


# The collectives that TensorFlow uses by default are mixed up between the models of one process.
REDUCTION = tf.distribute.ReductionToOneDevice()


# Keras 3.7 cannot make a seed generator under a strategy.
HAS_DROPOUT = not keras.__version__.startswith("3.7.")


def make(big):
    keras.utils.set_random_seed(1)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], REDUCTION).scope():
        dropout = [keras.layers.Dropout(0.2, seed=3)] if HAS_DROPOUT else []
        layers = [
            keras.Input((3,)),
            keras.layers.Dense(1200 if big else 8, activation="tanh"),
            keras.layers.Dense(1200 if big else 8, activation="tanh"),
            keras.layers.BatchNormalization(),
            *dropout,
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse")
    return model


def replicas(model):
    variables = model.variables + model.optimizer.variables
    return [[v.value.values[i].numpy() for v in variables] for i in range(2)]


def statistics(model):
    return next(v.value.values for v in model.variables if "moving_mean" in v.path)


class BreaksTheSecondReplica(keras.callbacks.Callback):
    """Makes one number of one replica's BatchNorm statistics NaN, which no loss shows."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == common.BAD_EPOCH:
            mean = statistics(self.model)[1]
            mean.assign(tf.tensor_scatter_nd_update(mean.read_value(), [[3]], [float("nan")]))


def run(big, bad, breaks=False):
    model = make(big)
    guard = pykguard.RevertOnLossIncrease(tolerance=1000)
    batches = poison.Batches(X, Y, poison.nan_inputs, batch_size=16)
    model.fit(
        tf_data.dataset(batches, rows=16),
        epochs=common.EPOCHS_OF_A + bool(bad or breaks),
        verbose=0,
        callbacks=[poison.Poison(batches, bad), *[BreaksTheSecondReplica()] * breaks, guard],
    )
    return model, [(event.epoch, event.reason) for event in guard.events]


for size in (False, True):
    plain, no_events = run(size, set())
    rescued, events = run(size, {common.BAD_EPOCH})
    first, second = statistics(plain)
    common.report(
        big=size,
        plain=[common.digest(each) for each in replicas(plain)],
        rescued=[common.digest(each) for each in replicas(rescued)],
        statistics_differ=bool((first.numpy() != second.numpy()).any()),
        events=no_events + events,
    )

model, events = run(False, set(), breaks=True)
common.report(broken=events)

model = make(False)
for callback in (pykguard.LossHistory(),):
    try:
        model.fit(X, Y, verbose=0, callbacks=[callback])
    except pykguard.UnsupportedError as error:
        common.report(refused=str(error))

with tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
try:
    model.fit(X, Y, verbose=0, callbacks=[pykguard.RevertOnLossIncrease()])
except pykguard.UnsupportedError as error:
    common.report(refused=str(error))
