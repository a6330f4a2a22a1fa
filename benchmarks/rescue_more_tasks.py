"""Nineteen further tasks for `rescue.py`, on data that packages ship.

They were written after the defaults of SpikeGuard had been chosen on those of `rescue_tasks.py`, to
see whether these hold for other data and models. They did not for all, and were chosen anew on
both.
"""

from functools import lru_cache

import keras
import numpy as np
from keras import layers
from rescue_tasks import Task, cancer, crossentropy, dense, digits, prose, spoilt_rows

MORE_TASKS = {}


def task(function):
    MORE_TASKS[function.__name__] = function
    return function


def sequential(*parts):
    return lambda: keras.Sequential([make() for make in parts])


# ---------------------------------------------------------------- tables
@task
def cancer_features():
    """Features from 0.001 to 4,000, as they are in the file."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    x, y = data.data.astype("float32"), data.target.astype("int32")
    return Task(x, y, dense(30, 32, 16, 2), crossentropy(), 30, 32)


@task
def diabetes_features():
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    x, y = data.data.astype("float32"), data.target[:, None].astype("float32")
    return Task(x, y, dense(10, 32, 32, 1), "mse", 40, 32)


@task
def iris():
    from sklearn.datasets import load_iris

    data = load_iris()
    x, y = data.data.astype("float32"), data.target.astype("int32")
    return Task(x, y, dense(4, 16, 16, 3), crossentropy(), 60, 16)


@task
def affairs():
    """Mostly noise: the best fit explains a twelfth of the variance."""
    from statsmodels.datasets import fair

    data = fair.load_pandas().data.to_numpy("float32")
    x, y = data[:, :-1], np.log1p(data[:, -1:])
    return Task(x, y, dense(x.shape[1], 64, 64, 1), "mse", 8, 64)


@task
def cancer_wide():
    return Task(*cancer(), dense(30, 64, 64, 2), crossentropy(), 20, 16)


# ---------------------------------------------------------------- images
@task
def digits_pooling():
    build = sequential(
        lambda: layers.Input((64,)),
        lambda: layers.Reshape((8, 8, 1)),
        lambda: layers.Conv2D(16, 3, activation="relu"),
        lambda: layers.MaxPooling2D(2),
        lambda: layers.Conv2D(32, 3, activation="relu"),
        layers.Flatten,
        lambda: layers.Dense(32, "relu"),
        lambda: layers.Dense(10),
    )
    return Task(*digits(), build, crossentropy(), 12, 64)


@task
def digits_tanh():
    hidden = [lambda: layers.Dense(48, "tanh")] * 5
    build = sequential(lambda: layers.Input((64,)), *hidden, lambda: layers.Dense(10))
    return Task(*digits(), build, crossentropy(), 12, 32)


@task
def digits_softmax():
    """Pixels from 0 to 16, as they are in the file, and a loss of probabilities."""
    x, y = digits()
    build = sequential(
        lambda: layers.Input((64,)),
        lambda: layers.Dense(64, "relu"),
        lambda: layers.Dense(10, "softmax"),
    )
    return Task(16 * x, y, build, "sparse_categorical_crossentropy", 12, 16)


@task
def digits_residual():
    def build():
        inputs = keras.Input((64,))
        h = layers.Dense(64)(inputs)
        for _ in range(4):
            h = h + layers.Dense(64)(layers.Dense(64, "relu")(h))
        return keras.Model(inputs, layers.Dense(10)(h))

    return Task(*digits(), build, crossentropy(), 10, 32)


@lru_cache
def flower():
    """Squares of 16 x 16 grey pixels from a photograph."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("flower.jpg").mean(axis=2) / 255
    corners = np.random.default_rng(0).integers(0, np.array(grey.shape) - 16, size=(800, 2))
    squares = [grey[i : i + 16, j : j + 16] for i, j in corners]
    return np.stack(squares).astype("float32")[..., None]


@task
def flower_autoencoder():
    x = flower()
    options = {"strides": 2, "padding": "same"}
    build = sequential(
        lambda: layers.Input((16, 16, 1)),
        lambda: layers.Conv2D(16, 3, activation="relu", **options),
        lambda: layers.Conv2D(8, 3, activation="relu", **options),
        lambda: layers.Conv2DTranspose(16, 3, activation="relu", **options),
        lambda: layers.Conv2DTranspose(1, 3, activation="sigmoid", **options),
    )
    return Task(x, x, build, "mse", 12, 32)


# ---------------------------------------------------------------- sequences
@task
def sums_recurrent():
    """The sum of forty numbers."""
    x = np.random.default_rng(1).uniform(0, 1, (1200, 40, 1)).astype("float32")
    build = sequential(
        lambda: layers.Input((40, 1)),
        lambda: layers.SimpleRNN(24, "relu"),
        lambda: layers.Dense(1),
    )
    return Task(x, x.sum(axis=1), build, "mse", 12, 32)


@task
def sunspots_lstm():
    from statsmodels.datasets import sunspots

    values = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy("float32") / 50
    x = np.stack([values[i : i + 20] for i in range(len(values) - 20)])[:, :, None]
    build = sequential(
        lambda: layers.Input((20, 1)), lambda: layers.LSTM(24), lambda: layers.Dense(1)
    )
    return Task(x, values[20:, None], build, "mse", 40, 16)


@task
def prose_gru():
    x, y, n_kinds = prose(16, 3000)
    build = sequential(
        lambda: layers.Input((x.shape[1],), dtype="int32"),
        lambda: layers.Embedding(n_kinds, 24),
        lambda: layers.GRU(48),
        lambda: layers.Dense(n_kinds),
    )
    return Task(x, y, build, crossentropy(), 6, 64)


@lru_cache
def topics():
    """Pieces of eight chapters of Python's own manual, and which chapter they are from."""
    from pydoc_data.topics import topics as texts

    x, y = [], []
    for kind, name in enumerate(sorted(texts, key=lambda name: -len(texts[name]))[:8]):
        codes = np.frombuffer(texts[name].encode("ascii", "ignore"), "uint8")
        starts = np.random.default_rng(kind).integers(0, len(codes) - 64, 250)
        x += [codes[start : start + 64] for start in starts]
        y += [kind] * 250
    return np.array(x, "int32"), np.array(y, "int32")


@task
def topics_convolutions():
    build = sequential(
        lambda: layers.Input((64,), dtype="int32"),
        lambda: layers.Embedding(128, 16),
        lambda: layers.Conv1D(32, 5, activation="relu"),
        layers.GlobalAveragePooling1D,
        lambda: layers.Dense(8),
    )
    return Task(*topics(), build, crossentropy(), 12, 32)


# ---------------------------------------------------------------- poison
def spoilt(clean, spoil, share):
    """A further task with that share of its rows spoilt."""
    made = MORE_TASKS[clean]()
    return spoilt_rows(made, clean, spoil, np.random.default_rng(5).random(len(made.x)) < share)


@task
def sums_with_nan():
    def spoil(x, y, rows):
        x[rows, 3] = np.nan
        return x, y

    return spoilt("sums_recurrent", spoil, 0.0126)


def large_rows(x, y, rows):
    x[rows] *= 1e4
    return x, y


@task
def pooling_with_large_rows():
    return spoilt("digits_pooling", large_rows, 0.006)


@task
def cancer_with_large_rows():
    return spoilt("cancer_wide", large_rows, 0.025)


@task
def sunspots_with_large_targets():
    def spoil(x, y, rows):
        y[rows] *= 1e4
        return x, y

    return spoilt("sunspots_lstm", spoil, 0.025)


@task
def diabetes_with_infinite_targets():
    def spoil(x, y, rows):
        y[rows] = np.inf
        return x, y

    return spoilt("diabetes_features", spoil, 0.0126)
