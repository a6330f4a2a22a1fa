"""What a LossHistory costs for each batch, beside a callback whose batch hook does nothing.

Trains small models, in one process. Before each batch one of two is drawn by lot: the compiled step
with Keras' own loss metric, and an empty batch hook; or the step with LossHistory's metric, and its
hook. So both meet the same machine at the same time. The history is kept in memory, or written to a
CSV file, to SQLite or to TensorBoard too. The batches come from a source that never ends. Given is
by how much a batch takes longer with LossHistory, in microseconds: the median and the range over
the models of the difference of means, and of that of medians, in which what is done for many
batches together does not show. At the end, the memory that a record of so many batches takes.

Usage: python benchmarks/recording.py [--models 7] [--batches 10000] [--rows 10000000]
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


class Draws(keras.callbacks.Callback):
    """Draws, before each batch, whether it is recorded; and notes when it began."""

    def __init__(self, history, steps):
        super().__init__()
        self.history = history
        self.steps = steps
        self.hooks = EmptyHook().on_train_batch_end, history.on_train_batch_end
        self.began, self.recorded = [], []

    def on_train_begin(self, logs=None):
        self.history.set_params(self.params)
        self.history.set_model(self._model)
        self.history.on_train_begin()

    def on_epoch_begin(self, epoch, logs=None):
        self.history.on_epoch_begin(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        recorded = random.random() < 0.5
        self.hook = self.hooks[recorded]
        self._model.train_function = self.steps[recorded]
        self.recorded.append(recorded)
        self.began.append(time.perf_counter())

    def on_train_batch_end(self, batch, logs=None):
        self.hook(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.history.on_epoch_end(epoch, logs)
        self.history.on_train_end()

    def taken(self):
        """Microseconds a batch, of those that were not recorded and of those that were."""
        taken = np.diff(self.began) * 1e6
        recorded = np.array(self.recorded[:-1])
        return taken[~recorded], taken[recorded]


def histories(folder):
    """Makers by name."""
    return {
        "LossHistory()": lambda: kg.LossHistory(),
        "LossHistory(every=100)": lambda: kg.LossHistory(every=100),
        'LossHistory("….csv")': lambda: kg.LossHistory(folder / "losses.csv"),
        'LossHistory("….sqlite")': lambda: kg.LossHistory(folder / "losses.sqlite"),
        "LossHistory(log_dir=…)": lambda: kg.LossHistory(log_dir=folder / "board"),
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


def steps_of(model, history):
    """A model's compiled steps: as Keras makes it, and as a LossHistory has it made."""
    steps = []
    for callbacks in ([], [history]):
        model.fit(source(), steps_per_epoch=5, verbose=0, callbacks=callbacks)
        steps.append(model.train_function)
    return steps


def draw(make_history, batches):
    """The times of batches, half of them recorded."""
    model, history = make_model(), make_history()
    draws = Draws(history, steps_of(model, history))
    model.fit(source(), steps_per_epoch=batches, verbose=0, callbacks=[draws])
    return draws.taken()


def time_batches(models, batches):
    """Print the table of times."""
    print(f"{keras.backend.backend()}, {models} models of {batches} batches")
    print(f"{'':<26}{'µs a batch':>11}{'more, of means':>21}{'more, of medians':>21}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        chosen = histories(Path(folder))
        pairs = {name: [] for name in chosen}
        for _ in range(models):
            for name in random.sample(list(chosen), len(chosen)):
                pairs[name].append(draw(chosen[name], batches))
        for name, each in pairs.items():
            plain = statistics.median(np.mean(a) for a, _ in each)
            ratio = statistics.median(np.mean(b) / np.mean(a) for a, b in each)
            means, medians = ([f(b) - f(a) for a, b in each] for f in (np.mean, np.median))
            columns = "".join(f"{_range(values):>21}" for values in (means, medians))
            print(f"{name:<26}{plain:>11.0f}{columns}{ratio:>8.3f}")


def _range(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def resident():
    """Bytes of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def weigh(rows):
    """Print the memory that a record takes; a run of one metric beside the loss."""
    before, table = resident(), Batches()
    columns = {name: [1.0] * 250 for name in ("logged_loss", "logged_mae", "learning_rate")}
    computed = np.tile(np.float32([1.0, ROWS, 1e-3]), (250, 1))
    for batch in range(0, rows, 250):
        places = table.add(0, range(batch, batch + 250), columns["logged_mae"], columns)
        table.fill(places, computed)
    print(f"{len(table):.0e} batches: {(resident() - before) / 1e6:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=7)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    options = parser.parse_args()
    time_batches(options.models, options.batches)
    weigh(options.rows)


if __name__ == "__main__":
    main()
