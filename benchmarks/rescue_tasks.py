"""Small tasks for `rescue.py`, on data that packages ship.

Each task is a function that returns a `Task`. A poisoned one trains on spoilt data and is measured
on the clean ones.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers


class Task(NamedTuple):
    """What is trained, on what, and for how long."""

    x: Any
    y: Any
    build: Callable[[], Any]  # a model without its optimizer
    loss: Any
    epochs: int
    batch_size: int
    clean: str | None = None  # the task without poison
    clean_data: Any = None  # what a poisoned task is measured on
    shuffle: bool = True


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense(width, *sizes):
    def build():
        hidden = [layers.Dense(size, "relu") for size in sizes[:-1]]
        return keras.Sequential([layers.Input((width,)), *hidden, layers.Dense(sizes[-1])])

    return build


def standardised(x):
    return ((x - x.mean(0)) / x.std(0)).astype("float32")


# ---------------------------------------------------------------- data
@lru_cache
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.data / 16).astype("float32"), data.target.astype("int32")


@lru_cache
def diabetes():
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return standardised(data.data), data.target[:, None].astype("float32")


@lru_cache
def wine():
    from sklearn.datasets import load_wine

    data = load_wine()
    return data.data.astype("float32"), data.target.astype("int32")


@lru_cache
def cancer():
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return standardised(data.data), data.target.astype("int32")


@lru_cache
def photograph():
    """Squares of 8 x 8 grey pixels from a photograph."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg").mean(axis=2) / 255
    random = np.random.default_rng(0)
    corners = random.integers(0, np.array(grey.shape) - 8, size=(2000, 2))
    return np.stack([grey[i : i + 8, j : j + 8].ravel() for i, j in corners]).astype("float32")


@lru_cache
def prose(length=24, n=4000):
    """Pieces of Python's own manual as codes of characters, and the character that follows."""
    from pydoc_data.topics import topics

    text = "".join(topics[name] for name in sorted(topics))[:60000]
    kinds = sorted(set(text))
    codes = np.array([kinds.index(each) for each in text], "int32")
    starts = np.random.default_rng(0).integers(0, len(codes) - length - 1, n)
    x = np.stack([codes[i : i + length] for i in starts])
    return x, codes[starts + length], len(kinds)


@lru_cache
def waves():
    """Noisy sines of several frequencies, and how each goes on."""
    random = np.random.default_rng(0)
    frequency, phase = random.uniform(0.1, 0.5, (1000, 1)), random.uniform(0, 6.28, (1000, 1))
    values = np.sin(frequency * np.arange(31) + phase) + 0.05 * random.normal(size=(1000, 31))
    return values[:, :-1, None].astype("float32"), values[:, -1:].astype("float32")


# ---------------------------------------------------------------- tasks
TASKS = {}


def task(function):
    TASKS[function.__name__] = function
    return function


@task
def digits_dense():
    return Task(*digits(), dense(64, 128, 128, 10), crossentropy(), 15, 32)


@task
def diabetes_targets():
    """Targets around 150, as they are in the file."""
    return Task(*diabetes(), dense(10, 32, 1), "mse", 30, 32)


@task
def wine_features():
    """Features from 0.1 to 1,000, as they are in the file."""
    return Task(*wine(), dense(13, 32, 3), crossentropy(), 60, 16)


@task
def cancer_deep():
    return Task(*cancer(), dense(30, 32, 32, 32, 32, 2), crossentropy(), 20, 32)


@task
def digits_convolutions():
    def build():
        return keras.Sequential(
            [
                layers.Input((64,)),
                layers.Reshape((8, 8, 1)),
                layers.Conv2D(16, 3, 2, "same", activation="relu"),
                layers.BatchNormalization(),
                layers.Conv2D(32, 3, 2, "same", activation="relu"),
                layers.Flatten(),
                layers.Dense(10),
            ]
        )

    return Task(*digits(), build, crossentropy(), 10, 32)


@task
def photograph_autoencoder():
    x = photograph()
    return Task(x, x, dense(64, 64, 16, 64, 64), "mse", 12, 32)


@task
def waves_recurrent():
    def build():
        return keras.Sequential(
            [layers.Input((30, 1)), layers.SimpleRNN(32, "relu"), layers.Dense(1)]
        )

    return Task(*waves(), build, "mse", 12, 32)


@task
def prose_transformer():
    x, y, n_kinds = prose()

    def build():
        inputs = keras.Input((x.shape[1],), dtype="int32")
        h = layers.Embedding(n_kinds, 32)(inputs)
        h = h + layers.Embedding(x.shape[1], 32)(keras.ops.arange(x.shape[1]))
        h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 16)(h, h))
        h = layers.LayerNormalization()(h + layers.Dense(32)(layers.Dense(64, "gelu")(h)))
        return keras.Model(inputs, layers.Dense(n_kinds)(h[:, -1]))

    return Task(x, y, build, crossentropy(), 6, 64)


def spoilt(clean, spoil, *, seed=3, shuffle=True):
    """A task with 1.26 % of its rows spoilt, so that of batches of 32 a third hold one."""
    made = TASKS[clean]()
    rows = np.random.default_rng(seed).random(len(made.x)) < 0.0126
    return spoilt_rows(made, clean, spoil, rows)._replace(shuffle=shuffle)


def spoilt_rows(made, clean, spoil, rows):
    """A task with these rows spoilt, which is measured on what it was before."""
    x, y = spoil(made.x.copy(), made.y.copy(), rows)
    return made._replace(x=x, y=y, clean=clean, clean_data=(made.x, made.y))


@task
def digits_with_nan():
    def spoil(x, y, rows):
        x[rows, 20] = np.nan
        return x, y

    return spoilt("digits_dense", spoil)


@task
def digits_with_large_rows():
    def spoil(x, y, rows):
        x[rows] *= 1e4
        return x, y

    return spoilt("digits_dense", spoil)


@task
def diabetes_with_large_targets():
    def spoil(x, y, rows):
        y[rows] *= 1e4
        return x, y

    return spoilt("diabetes_targets", spoil)


@task
def digits_with_a_burst():
    """Wrong labels in two runs of rows, which keep their order."""

    def spoil(x, y, rows):
        for start in (640, 1100):
            y[start : start + 96] = (y[start : start + 96] + 3) % 10
        return x, y

    return spoilt("digits_dense", spoil, shuffle=False)
