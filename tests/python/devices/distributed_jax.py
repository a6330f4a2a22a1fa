"""A model on JAX with keras.distribution, on four virtual CPUs."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import keras
import numpy as np

DEVICES = keras.distribution.list_devices("cpu")


def data_parallel():
    return keras.distribution.DataParallel(devices=DEVICES)


def model_parallel():
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices=DEVICES)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*dense_a.kernel"] = (None, "model")
    layout[".*dense_a.bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def make(rate=0.01):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(8, activation="tanh", name="dense_a"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.2, seed=3),
        keras.layers.Dense(1, name="out"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(rate, use_ema=True), "mse")
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
