"""What SpikeGuard costs: epochs with and without it, in turn, in one process.

Two equal models train on the same batch again and again, ten hidden layers with Adam, from the same
weights in each round. There are several pairs of them, since one of two equal models can be quicker
by some percent for as long as both exist. Either their loss falls; or the rate is so low that it
stands still, so that the guard also looks whether the network is dead. In the first epoch states
are kept before the batches 0, 1, 4 and 16; the later ones are calm, with one every 32
batches. Given are medians of the ratios of epochs that followed each other.

Usage: python benchmarks/spike_cost.py [--sizes 1e5,1e6,2.5e7] [--steps 100] [--pairs 4]
           [--rounds 2]
The backend is that of KERAS_BACKEND.
"""

import argparse
import gc
import os
import time
from itertools import product

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from overhead import make_model

import pykguard as kg

EPOCHS = 3
RATES = {"falls": 3e-6, "stands still": 1e-7}


class EpochTimes(keras.callbacks.Callback):
    """Seconds of each epoch, from its beginning to its end."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def epochs_of(model, batches, steps, *callbacks):
    times = EpochTimes()
    model.fit(
        batches,
        steps_per_epoch=steps,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[times, *callbacks],
    )
    return times.seconds


def variables(model):
    return model.variables + model.optimizer.variables


def measure_pair(n_parameters, rate, steps, rounds):
    """Parameters, and each round's seconds of epochs without and with the guard."""
    (plain, batches), (guarded, same) = make_model(n_parameters), make_model(n_parameters)
    for model in (plain, guarded):
        model.optimizer.learning_rate = rate
    epochs_of(plain, batches, 3)
    epochs_of(guarded, same, 3, kg.SpikeGuard())
    states = [(each, each.numpy()) for model in (plain, guarded) for each in variables(model)]
    seconds = []
    for _ in range(rounds):
        for variable, value in states:
            variable.assign(value)
        without = epochs_of(plain, batches, steps)
        seconds.append((without, epochs_of(guarded, same, steps, kg.SpikeGuard())))
    return plain.count_params(), seconds


def measure(n_parameters, rate, steps, pairs, rounds):
    """Parameters, ms a batch without, and the ratios in the first and in later epochs."""
    seconds = []
    for _ in range(pairs):
        n, more = measure_pair(n_parameters, rate, steps, rounds)
        seconds += more
        keras.backend.clear_session()
        gc.collect()
    without, guarded = np.array(seconds).transpose(1, 0, 2)
    ratios = guarded / without
    ms = 1e3 * np.median(without) / steps
    return n, ms, np.median(ratios[:, 0]), np.median(ratios[:, 1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1e5,1e6,2.5e7")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, {os.cpu_count()} cores")
    print(f"epochs of {arguments.steps} batches")
    print("| parameters | the loss | a batch without (ms) | first epoch | later epochs |")
    print("|---|---|---|---|---|")
    for size, (loss, rate) in product(map(float, arguments.sizes.split(",")), RATES.items()):
        n, ms, first, later = measure(
            size, rate, arguments.steps, arguments.pairs, arguments.rounds
        )
        print(f"| {n:.2g} | {loss} | {ms:.1f} | {first:.3f} | {later:.3f} |", flush=True)


if __name__ == "__main__":
    main()
