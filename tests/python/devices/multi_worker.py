"""tf_keras under MultiWorkerMirroredStrategy; usage: multi_worker.py MODE RANK PORT PORT.

One model a process: TensorFlow mixes up the collectives of several.
"""

import json
import os
import sys

mode, rank, ports = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
workers = [f"127.0.0.1:{port}" for port in ports]
task = {"type": "worker", "index": rank}
os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})

import common  # noqa: E402
import numpy as np  # noqa: E402
import poison  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_data  # noqa: E402
import tf_keras  # noqa: E402

import pykguard  # noqa: E402

X, Y = common.data()
STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()


def make():
    tf_keras.utils.set_random_seed(1)
    with STRATEGY.scope():
        layers = [
            tf_keras.layers.Input((3,)),
            tf_keras.layers.Dense(8, activation="tanh"),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.Dense(1),
        ]
        model = tf_keras.Sequential(layers)
        model.compile(tf_keras.optimizers.Adam(0.01), "mse")
    return model


def local(model):
    variables = list(model.variables) + list(model.optimizer.variables)
    return [v.values[0].numpy() for v in variables]


def statistics(model):
    return next(v for v in model.variables if "moving_mean" in v.name).values[0]


class BreaksTheSecondWorker(tf_keras.callbacks.Callback):
    """Makes one number of one worker's BatchNorm statistics NaN, which no loss shows."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == common.BAD_EPOCH and rank == 1:
            mean = statistics(self.model)
            mean.assign(tf.tensor_scatter_nd_update(mean.read_value(), [[3]], [np.nan]))


def run(bad, breaks=False):
    model = make()
    guard = pykguard.RevertOnLossIncrease(tolerance=1000)
    batches = poison.Batches(X, Y, poison.nan_inputs, batch_size=16)
    model.fit(
        tf_data.dataset(batches, rows=16),
        epochs=common.EPOCHS_OF_A + bool(bad or breaks),
        verbose=0,
        callbacks=[poison.Poison(batches, bad), *[BreaksTheSecondWorker()] * breaks, guard],
    )
    return model, [event.epoch for event in guard.events]


model, events = run({common.BAD_EPOCH} if mode == "rescued" else set(), breaks=mode == "broken")
common.report(
    rank=rank,
    state=common.digest(local(model)),
    statistics=statistics(model).numpy().tolist(),
    events=events,
)
