"""What an external loss costs for each batch, beside the same loss in the backend's operations.

Trains models that are alike but for the loss, in one process, in short fits that take turns in a
drawn order, so that all meet the same machine at the same time. Given is the time of a batch in
microseconds, the median over the rounds, and by how much longer a batch takes than with the loss of
Keras: the median and the range over the rounds of the ratios and of the differences.

Usage: python benchmarks/external_loss.py [--rounds 15] [--batches 300]
The backend is that of KERAS_BACKEND.
"""

import argparse
import os
import random
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg

ROWS, WIDTH = 32, 16


def mse(y_true, y_pred):
    error = y_pred - y_true
    return (error**2).mean(axis=-1), 2 * error / error.shape[-1]


def mse_only(y_true, y_pred):
    return ((y_pred - y_true) ** 2).mean(axis=-1)


def whole_mse(model, x, y, y_pred, sample_weight):
    return keras.ops.mean(keras.ops.square(y_pred - y))


def make_models(units):
    """Compiled models by name; the first has the loss that others are compared with."""
    losses = {
        '"mse"': "mse",
        "external_loss(mse)": kg.external_loss(mse),
        'external_loss(…, "spsa")': kg.external_loss(mse_only, gradient="spsa", seed=0),
    }
    models = {name: make_model(units) for name in losses}
    for name, loss in losses.items():
        models[name].compile(keras.optimizers.Adam(1e-4), loss)
    outer = kg.ExternalLossModel(make_model(units), whole_mse)
    outer.compile(keras.optimizers.Adam(1e-4))
    return {**models, "ExternalLossModel": outer}


def make_model(units):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((WIDTH,)), keras.layers.Dense(units, "relu")]
    return keras.Sequential([*layers, keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])


def time_fits(models, rounds, batches):
    """Microseconds a batch, by name, one number a round."""
    x = np.random.default_rng(0).normal(size=(ROWS * batches, WIDTH)).astype("float32")
    y = x[:, :1]
    for model in models.values():
        model.fit(x[: 4 * ROWS], y[: 4 * ROWS], batch_size=ROWS, verbose=0)
    taken = {name: [] for name in models}
    for _ in range(rounds):
        for name in random.sample(list(models), len(models)):
            began = time.perf_counter()
            models[name].fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
            taken[name].append((time.perf_counter() - began) / batches * 1e6)
    return taken


def tell(taken):
    """Print a table."""
    print(f"{'':<26}{'µs a batch':>11}{'ratio':>22}{'more, in µs':>22}")
    plain, *_ = taken.values()
    for name, times in taken.items():
        pairs = list(zip(times, plain, strict=True))
        ratios = _range([a / b for a, b in pairs], ".2f")
        more = _range([a - b for a, b in pairs], ".0f")
        print(f"{name:<26}{statistics.median(times):>11.0f}{ratios:>22}{more:>22}")


def _range(values, form):
    median, low, high = (f(values) for f in (statistics.median, min, max))
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=300)
    options = parser.parse_args()
    for units in (16, 512):
        models = make_models(units)
        weights = next(iter(models.values())).count_params()
        print(f"{keras.backend.backend()}, {weights} weights, {options.rounds} rounds")
        tell(time_fits(models, options.rounds, options.batches))


if __name__ == "__main__":
    main()
