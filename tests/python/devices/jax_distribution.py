"""Keras on JAX with keras.distribution, on four virtual CPUs."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import common
import keras
import numpy as np
import poison

import pykguard

X, Y = common.data()
DEVICES = keras.distribution.list_devices("cpu")


def data_parallel():
    return keras.distribution.DataParallel(devices=DEVICES)


def model_parallel():
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices=DEVICES)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*dense_a.kernel"] = (None, "model")
    layout[".*dense_a.bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def make():
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(8, activation="tanh", name="dense_a"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.2, seed=3),
        keras.layers.Dense(1, name="out"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse")
    return model


def shards(model):
    variables = model.variables + model.optimizer.variables
    found = [
        (str(s.device), np.asarray(s.data)) for v in variables for s in v.value.addressable_shards
    ]
    devices = sorted({device for device, _ in found})
    return [[array for device, array in found if device == each] for each in devices]


def shardings(model):
    return [str(v.value.sharding.spec) for v in model.variables + model.optimizer.variables]


def run(bad):
    model = make()
    guard = pykguard.RevertOnLossIncrease(tolerance=1000)
    poison.fit(
        model,
        X,
        Y,
        spoil=poison.nan_inputs,
        bad=bad,
        epochs=common.EPOCHS_OF_A + bool(bad),
        callbacks=[guard],
    )
    return model, [event.epoch for event in guard.events]


for distribution in (data_parallel(), model_parallel()):
    with distribution.scope():
        plain, no_events = run(set())
        rescued, events = run({common.BAD_EPOCH})
    common.report(
        distribution=type(distribution).__name__,
        plain=[common.digest(each) for each in shards(plain)],
        rescued=[common.digest(each) for each in shards(rescued)],
        shardings=[shardings(plain), shardings(rescued)],
        n_sharded=sum("model" in spec for spec in shardings(plain)),
        events=no_events + events,
    )
