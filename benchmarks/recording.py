"""What a LossHistory costs for each batch, beside a callback whose batch hook does nothing.

Trains a new small model with each method, in one process, in random order in each round: without a
callback, with an empty batch hook, and with a LossHistory in memory, to a CSV file, to SQLite and
to TensorBoard. The batches come from a source that never ends. Given are medians over the rounds:
microseconds a batch, what is more than the empty hook's in the same round, and the ratio to it. At
the end, the memory that a record of so many batches takes.

Usage: python benchmarks/recording.py [--rounds 21] [--batches 1000] [--rows 10000000]
The backend is that of KERAS_BACKEND.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg
from pykguard.history._columns import Batches

ROWS = 32


class EmptyHook(keras.callbacks.Callback):
    """A batch hook that does nothing."""

    def on_train_batch_end(self, batch, logs=None):
        pass


class Seconds(keras.callbacks.Callback):
    """How long an epoch's batches took: from its first to its end."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.taken = time.perf_counter() - self.start


def methods(folder):
    """Callbacks by name."""
    return {
        "no callback": None,
        "empty batch hook": EmptyHook(),
        "LossHistory()": kg.LossHistory(),
        "LossHistory(every=100)": kg.LossHistory(every=100),
        'LossHistory("….csv")': kg.LossHistory(folder / "losses.csv"),
        'LossHistory("….sqlite")': kg.LossHistory(folder / "losses.sqlite"),
        "LossHistory(log_dir=…)": kg.LossHistory(log_dir=folder / "board"),
    }


def source():
    """The same batch for ever, in the backend's own way."""
    x = np.random.default_rng(0).normal(size=(ROWS, 16)).astype("float32")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors((x, x[:, :1])).repeat()

    def forever():
        while True:
            yield x, x[:, :1]

    return forever()


def make_model():
    """A model so small that what a callback costs is seen."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((16,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(1e-4), "mse", metrics=["mae"])
    return model


def seconds_of(model, callback, batches):
    """Seconds an epoch of so many batches takes."""
    clock = Seconds()
    callbacks = [clock] if callback is None else [callback, clock]
    model.fit(source(), steps_per_epoch=batches, verbose=0, callbacks=callbacks)
    return clock.taken


def time_batches(rounds, batches):
    """Print the table of times."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = methods(Path(folder))
        taken = {name: [] for name in chosen}
        for _ in range(rounds):
            for name in random.sample(list(chosen), len(chosen)):
                model = make_model()  # one and the same may be slower than another by 10 %
                seconds_of(model, chosen[name], 10)
                taken[name].append(seconds_of(model, chosen[name], batches) / batches * 1e6)
    empty = taken["empty batch hook"]
    print(f"{keras.backend.backend()}, {rounds} rounds of {batches} batches")
    print(f"{'':<26}{'µs a batch':>12}{'more than empty':>18}{'ratio':>8}")
    for name, each in taken.items():
        more = statistics.median(a - b for a, b in zip(each, empty, strict=True))
        ratio = statistics.median(a / b for a, b in zip(each, empty, strict=True))
        print(f"{name:<26}{statistics.median(each):>12.0f}{more:>18.1f}{ratio:>8.2f}")


def resident():
    """Bytes of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def weigh(rows):
    """Print the memory that a record takes; a run of one metric beside the loss."""
    before, table = resident(), Batches()
    others = [("logged_mae", 1.0)]
    computed = np.tile(np.float32([1.0, ROWS, 1e-3]), (250, 1))
    for batch in range(0, rows, 250):
        for i in range(250):
            table.add(0, batch + i, 1.0, 1.0, 1e-3, others)
        table.fill(range(batch, batch + 250), computed)
    print(f"{len(table):.0e} batches: {(resident() - before) / 1e6:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    options = parser.parse_args()
    time_batches(options.rounds, options.batches)
    weigh(options.rows)


if __name__ == "__main__":
    main()
