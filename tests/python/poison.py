"""Data that go bad in chosen epochs, in any way and on any backend."""

import keras
import numpy as np

from pykguard._callback import Callback


class Batches(keras.utils.PyDataset):
    """The rows of `x` and `y` in a fixed order; `spoil(x, y)` makes a batch of a bad epoch."""

    def __init__(self, x, y, spoil, batch_size=8):
        super().__init__()
        self.x, self.y, self.spoil, self.batch_size = x, y, spoil, batch_size
        self.bad = False

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, index):
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        batch = self.x[rows].copy(), self.y[rows].copy()  # tf.data may compute in place
        return self.spoil(*batch) if self.bad else batch


class Poison(Callback):
    """Lets `batches` go bad in the given epochs."""

    def __init__(self, batches, epochs):
        super().__init__()
        self.batches, self.epochs = batches, epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.bad = epoch in self.epochs

    def on_epoch_end(self, epoch, logs=None):
        self.batches.bad = epoch + 1 in self.epochs  # some read ahead before the epoch begins


def huge_targets(x, y):
    return x, y + np.float32(1e6)


def nan_inputs(x, y):
    return x * np.float32("nan"), y


SPOILS = {"huge targets": huge_targets, "NaN": nan_inputs}


def fit(model, x, y, *, spoil, bad, epochs, callbacks=()):
    """`model.fit` on batches of 8 rows, bad in the epochs `bad`; returns the losses."""
    batches = Batches(x, y, spoil)
    poison = Poison(batches, bad)
    history = model.fit(
        batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[poison, *callbacks]
    )
    return history.history["loss"]
