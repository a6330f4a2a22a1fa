"""What SpikeGuard costs: epochs with and without it, in turn, in one process.

Two equal models train on the same batch again and again, ten hidden layers with Adam, from the same
weights in each round. One of two equal models can be quicker by some percent for as long as both
exist; so each of them is the guarded one in half of the rounds, and there are several pairs. Either
their loss falls; or the rate is so low that it stands still, so that the guard also looks whether
the network is dead. In the first epoch states are kept before the batches 0, 1, 4 and 16; the later
ones are calm, with one every 32 batches. Given are medians of the ratios of epochs that followed
each other, each the geometric mean of two rounds with the models exchanged.

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
    """Parameters, ms a batch without the guard, and each round's ratios of epochs."""
    pair = [make_model(n_parameters), make_model(n_parameters)]
    for model, batches in pair:
        model.optimizer.learning_rate = rate
        epochs_of(model, batches, 3)
    states = [(each, each.numpy()) for model, _ in pair for each in variables(model)]
    without, ratios = [], []
    for (plain, batches), (guarded, same) in (pair, pair[::-1]):
        epochs_of(plain, batches, 3)
        epochs_of(guarded, same, 3, kg.SpikeGuard())
        for _ in range(rounds):
            for variable, value in states:
                variable.assign(value)
            without.append(epochs_of(plain, batches, steps))
            with_guard = epochs_of(guarded, same, steps, kg.SpikeGuard())
            ratios.append(np.array(with_guard) / without[-1])
    exchanged = np.sqrt(np.array(ratios[:rounds]) * ratios[rounds:])
    return plain.count_params(), 1e3 * np.median(without) / steps, exchanged


def measure(n_parameters, rate, steps, pairs, rounds):
    """Parameters, ms a batch without, and the ratios in the first and in later epochs."""
    found = []
    for _ in range(pairs):
        found.append(measure_pair(n_parameters, rate, steps, rounds))
        keras.backend.clear_session()
        gc.collect()
    ns, ms, ratios = zip(*found, strict=True)
    ratios = np.concatenate(ratios)
    return ns[0], np.median(ms), np.median(ratios[:, 0]), np.median(ratios[:, 1:])


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
