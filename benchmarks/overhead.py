"""What the guards cost: hook time, epoch time and peak memory, beside what people use today.

Trains one model a size, in one process and in random order: without a guard, with each guard, with
EarlyStopping(restore_best_weights=True) and with the copied recipe (`get_weights()` each epoch).
Every epoch is made to look like an improvement, so that each of them keeps its state at each epoch.
The batches come from a source that never ends: Keras makes an iterator of arrays anew at each
epoch, which on TensorFlow takes anything from 0 to 130 ms and would hide what is measured. Between
the methods a plain memcpy of as many bytes as the training state has is timed. The numbers are
medians; an epoch's ratio is the median of the ratios to the same round's epoch without a guard.
Peak memory is that of a process of its own for each of them.

Usage: python benchmarks/overhead.py [--sizes 1e5,1e6,2.5e7] [--rounds 15] [--picture FILE]
           [--only RevertOnLossIncrease,EarlyStopping]
The backend is that of KERAS_BACKEND.
"""

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg

EPOCHS = 5  # a run: the first one, in which things are set up, is left out
STEPS = 4
BATCH_SIZE = 32
HOOKS = ("on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end")


class CopiedRecipe(keras.callbacks.Callback):
    """What people copy: the weights of the best epoch, on the host."""

    def on_train_begin(self, logs=None):
        self.best, self.weights = np.inf, None

    def on_epoch_end(self, epoch, logs=None):
        if logs["loss"] < self.best:
            self.best, self.weights = logs["loss"], self.model.get_weights()


METHODS = {
    "no guard": lambda: None,
    "RevertOnLossIncrease": lambda: kg.RevertOnLossIncrease("loss"),
    "RevertToBestOnIncrease": lambda: kg.RevertToBestOnIncrease("loss"),
    "RestoreBest": lambda: kg.RestoreBest("loss"),
    "EarlyStopping": lambda: keras.callbacks.EarlyStopping(
        "loss", patience=EPOCHS, restore_best_weights=True
    ),
    "copied recipe": CopiedRecipe,
}


class Falling(keras.callbacks.Callback):
    """Lets each epoch's loss be lower than the last one's."""

    def on_epoch_end(self, epoch, logs=None):
        logs["loss"] = -float(epoch)


class EpochTimes(keras.callbacks.Callback):
    """Seconds from one epoch's beginning to the next one's, all hooks included."""

    def on_train_begin(self, logs=None):
        self.marks = []

    def on_epoch_begin(self, epoch, logs=None):
        self.marks.append(time.perf_counter())

    def seconds(self):
        return [b - a for a, b in zip(self.marks, self.marks[1:], strict=False)][1:]


class HookTimes:
    """Seconds that a callback's hooks take in each epoch."""

    def __init__(self, callback):
        self.by_epoch = defaultdict(float)
        self.epoch = 0
        for hook in HOOKS:
            method = getattr(callback, hook)
            if not getattr(method, "_is_default", False):
                setattr(callback, hook, self._timed(hook, method))

    def _timed(self, hook, method):
        def timed(index, logs=None):
            if hook == "on_epoch_begin":
                self.epoch = index
            start = time.perf_counter()
            method(index, logs)
            self.by_epoch[self.epoch] += time.perf_counter() - start
            if hook == "on_epoch_end":
                self.epoch = index + 1

        return timed

    def seconds(self):
        return [self.by_epoch[epoch] for epoch in range(1, EPOCHS)]


def make_model(n_parameters):
    """Ten hidden layers of equal width, with about so many parameters."""
    keras.utils.set_random_seed(1)
    width = int(np.sqrt(n_parameters / 10))
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(10)]
    model = keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-4), "mse")
    x = np.random.default_rng(0).normal(size=(BATCH_SIZE, width)).astype("float32")
    return model, repeated(x, x[:, :1].copy())


def repeated(x, y):
    """The same batch for ever, in the backend's own way."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors((x, y)).repeat()
    return forever(x, y)


def forever(x, y):
    while True:
        yield x, y


def peak_bytes():
    """The process' peak memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def train(model, batches, *callbacks):
    model.fit(
        batches,
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[Falling(), *(callback for callback in callbacks if callback is not None)],
    )


def print_peak(n_parameters, name):
    model, batches = make_model(n_parameters)
    train(model, batches, METHODS[name]())
    print(peak_bytes())


def peak_of(n_parameters, name):
    """The peak memory of a process that trains with this method."""
    command = [sys.executable, __file__, "--sizes", str(n_parameters), "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def measure(n_parameters, rounds):
    """Medians for one size: seconds a hook and an epoch, bytes at the peak, by method."""
    model, batches = make_model(n_parameters)
    train(model, batches)
    n_bytes = sum(v.numpy().nbytes for v in model.variables + model.optimizer.variables)
    source = np.random.default_rng(1).integers(0, 255, n_bytes, dtype="uint8")
    target = source.copy()
    hooks, epochs, copies = defaultdict(list), defaultdict(list), []
    for _ in range(rounds):
        for name in random.sample(list(METHODS), len(METHODS)):
            guard, times, hook_times = METHODS[name](), EpochTimes(), None
            if guard is not None:
                hook_times = HookTimes(guard)
            gc.collect()
            train(model, batches, times, guard)
            epochs[name].append(statistics.median(times.seconds()))
            if hook_times is not None:
                hooks[name].extend(hook_times.seconds())
            for _ in range(3):
                start = time.perf_counter()
                np.copyto(target, source)
                copies.append(time.perf_counter() - start)
    return {
        "parameters": model.count_params(),
        "bytes": n_bytes,
        "memcpy": statistics.median(copies),
        "hook": {name: statistics.median(values) for name, values in hooks.items()},
        "epoch": {name: statistics.median(values) for name, values in epochs.items()},
        "ratio": {
            name: statistics.median(np.divide(values, epochs["no guard"]))
            for name, values in epochs.items()
        },
        "peak": {name: peak_of(n_parameters, name) for name in METHODS},
    }


def rows_of(result):
    """One row a method: name, ms a hook, hook/memcpy, ms an epoch, epoch ratio, extra states."""
    for name in METHODS:
        hook = result["hook"].get(name, 0.0)
        epoch = result["epoch"][name]
        yield (
            name,
            1e3 * hook,
            hook / result["memcpy"],
            1e3 * epoch,
            result["ratio"][name],
            (result["peak"][name] - result["peak"]["no guard"]) / result["bytes"],
        )


def print_table(results):
    backend = keras.backend.backend()
    print(f"Keras {keras.__version__} on {backend}, {os.cpu_count()} cores; medians")
    print("| parameters | with | hook (ms) | hook / memcpy | epoch (ms) | / no guard | memory |")
    print("|---|---|---|---|---|---|---|")
    for result in results:
        size = f"{result['parameters']:.2g}"
        for name, hook, ratio, epoch, relative, states in rows_of(result):
            print(
                f"| {size} | {name} | {hook:.2f} | {ratio:.2f} | {epoch:.1f} | {relative:.3f} "
                f"| {states:+.2f} |"
            )
        copy = f"{1e3 * result['memcpy']:.2f}"
        print(f"| {size} | memcpy of {result['bytes'] / 1e6:.1f} MB | {copy} | 1.00 | | | |")


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in METHODS if name != "no guard"]
    colours = ["#0b6e4f", "#1f9e78", "#7fcdbb", "#d95f0e", "#a6611a"]
    labels = [f"{result['parameters']:.2g}".replace("e+0", "e") for result in results]
    places = np.arange(len(results))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), constrained_layout=True)
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        found = [next(r for r in rows_of(result) if r[0] == name) for result in results]
        at = places + (i - 2) * 0.16
        left.bar(at, [row[2] for row in found], 0.15, color=colour, label=name)
        right.bar(at, [row[5] for row in found], 0.15, color=colour)
    left.set_yscale("log")
    left.axhline(1, color="grey", linewidth=0.8)
    left.set_title("Time of the hooks in an epoch")
    left.set_ylabel("memcpys of the training state")
    right.axhline(0, color="grey", linewidth=0.8)
    right.set_title("Peak memory beyond training without")
    right.set_ylabel("training states")
    for axes in (left, right):
        axes.set_xticks(places, labels)
        axes.set_xlabel("parameters (Adam)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1e5,1e6,2.5e7")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--picture")
    parser.add_argument("--only", help="names of methods; 'no guard' is always among them")
    parser.add_argument("--peak", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [float(size) for size in arguments.sizes.split(",")]
    if arguments.peak:
        print_peak(sizes[0], arguments.peak)
        return
    if arguments.only:
        for name in set(METHODS) - {"no guard", *arguments.only.split(",")}:
            del METHODS[name]
    random.seed(0)
    results = [measure(size, arguments.rounds) for size in sizes]
    print_table(results)
    if arguments.picture:
        draw(results, arguments.picture)


if __name__ == "__main__":
    main()
