"""Nineteen tasks more for `rescue.py`, on data that packages ship or that are made up.

They were written when the defaults of SpikeGuard had been chosen on those of `rescue_tasks.py` and
`rescue_more_tasks.py`, to see how general these are. No default was chosen on them; one fault of
the rule that they showed was mended.
"""

from functools import lru_cache

import keras
import numpy as np
from keras import layers
from rescue_more_tasks import large_rows, sequential
from rescue_tasks import Task, cancer, crossentropy, digits, spoilt_rows

HELD_OUT_TASKS = {}


def task(function):
    HELD_OUT_TASKS[function.__name__] = function
    return function


def inputs(*shape):
    return lambda: layers.Input(shape)


def dense(size, activation=None, **options):
    return lambda: layers.Dense(size, activation, **options)


# ---------------------------------------------------------------- tables
@lru_cache
def friedman_rows():
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(1500, 10, noise=1.0, random_state=0)
    return x.astype("float32"), y[:, None].astype("float32")


@task
def friedman():
    """Friedman's first regression problem, with targets as they are, around 14."""
    build = sequential(inputs(10), dense(64, "relu"), dense(64, "relu"), dense(1))
    return Task(*friedman_rows(), build, "mse", 15, 32)


@task
def friedman_selu():
    hidden = [dense(32, "selu", kernel_initializer="lecun_normal")] * 8
    return Task(*friedman_rows(), sequential(inputs(10), *hidden, dense(1)), "mse", 15, 32)


@lru_cache
def two_moons():
    from sklearn.datasets import make_moons

    x, y = make_moons(1000, noise=0.15, random_state=0)
    return x.astype("float32"), y.astype("int32")


@task
def moons():
    build = sequential(inputs(2), dense(32, "relu"), dense(32, "relu"), dense(2))
    return Task(*two_moons(), build, crossentropy(), 25, 25)


@task
def moons_binary():
    """A squared loss of probabilities."""
    x, y = two_moons()
    build = sequential(inputs(2), dense(16, "tanh"), dense(16, "tanh"), dense(1, "sigmoid"))
    return Task(x, y[:, None].astype("float32"), build, "mse", 30, 32)


@task
def counts():
    """Visits to a doctor: the best fit explains little."""
    from statsmodels.datasets import randhie

    data = randhie.load_pandas().data.to_numpy("float32")[:6000]
    x = (data[:, 1:] - data[:, 1:].mean(axis=0)) / (data[:, 1:].std(axis=0) + 1e-6)
    build = sequential(inputs(x.shape[1]), dense(32, "relu"), dense(32, "relu"), dense(1))
    return Task(x, np.log1p(data[:, :1]), build, "mse", 8, 64)


@task
def logistic():
    """A linear model."""
    x, y = cancer()
    return Task(x, y, sequential(inputs(x.shape[1]), dense(2)), crossentropy(), 15, 16)


# ---------------------------------------------------------------- images
@task
def digits_batchnorm():
    hidden = [dense(64), layers.BatchNormalization, layers.ReLU] * 2
    return Task(*digits(), sequential(inputs(64), *hidden, dense(10)), crossentropy(), 12, 32)


@task
def digits_layernorm():
    hidden = [dense(64, "gelu"), layers.LayerNormalization] * 2
    return Task(*digits(), sequential(inputs(64), *hidden, dense(10)), crossentropy(), 12, 32)


@task
def digits_dropout():
    build = sequential(
        inputs(64),
        lambda: layers.Reshape((8, 8, 1)),
        lambda: layers.Conv2D(16, 3, padding="same", activation="relu"),
        lambda: layers.Conv2D(16, 3, strides=2, activation="relu"),
        layers.Flatten,
        lambda: layers.Dropout(0.3),
        dense(64, "relu"),
        lambda: layers.Dropout(0.3),
        dense(10),
    )
    return Task(*digits(), build, crossentropy(), 12, 32)


@task
def digits_patches():
    """A transformer on sixteen patches of 2 x 2 pixels."""

    def build():
        pixels = keras.Input((64,))
        h = layers.Permute((1, 3, 2, 4))(layers.Reshape((4, 2, 4, 2))(pixels))
        h = layers.Dense(32)(layers.Reshape((16, 4))(h))
        h = h + layers.Embedding(16, 32)(keras.ops.arange(16))
        for _ in range(2):
            normal = layers.LayerNormalization()(h)
            h = h + layers.MultiHeadAttention(4, 8)(normal, normal)
            normal = layers.LayerNormalization()(h)
            h = h + layers.Dense(32)(layers.Dense(64, "gelu")(normal))
        h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
        return keras.Model(pixels, layers.Dense(10)(h))

    return Task(*digits(), build, crossentropy(), 15, 32)


@task
def china_denoising():
    """Squares of 16 x 16 grey pixels from a photograph, without the noise that was added."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg").mean(axis=2) / 255
    random = np.random.default_rng(1)
    corners = random.integers(0, np.array(grey.shape) - 16, (800, 2))
    y = np.stack([grey[i : i + 16, j : j + 16] for i, j in corners]).astype("float32")[..., None]
    x = (y + 0.2 * random.normal(size=y.shape)).astype("float32")
    hidden = [lambda: layers.Conv2D(16, 3, padding="same", activation="relu")] * 2
    last = lambda: layers.Conv2D(1, 3, padding="same")  # noqa: E731
    return Task(x, y, sequential(inputs(16, 16, 1), *hidden, last), "mse", 10, 32)


# ---------------------------------------------------------------- sequences
@lru_cache
def marked_numbers():
    """Twenty numbers, two of them marked, and the sum of these (Hochreiter's adding problem)."""
    random = np.random.default_rng(5)
    numbers, marks = random.uniform(0, 1, (2000, 20)), np.zeros((2000, 20))
    for row in marks:
        row[random.choice(20, 2, replace=False)] = 1
    x = np.stack([numbers, marks], axis=2).astype("float32")
    return x, (numbers * marks).sum(axis=1, keepdims=True).astype("float32")


@task
def adding_gru():
    build = sequential(inputs(20, 2), lambda: layers.GRU(32), dense(1))
    return Task(*marked_numbers(), build, "mse", 15, 32)


@lru_cache
def shapes():
    """Noisy sine, square and triangle waves."""
    random = np.random.default_rng(6)
    kinds = random.integers(0, 3, 1500)
    frequencies, phases = random.uniform(0.2, 0.6, (1500, 1)), random.uniform(0, 6.3, (1500, 1))
    sine = np.sin(2 * np.pi * frequencies * np.arange(32)[None] / 2 + phases)
    waves = np.choose(kinds[:, None], [sine, np.sign(sine), 2 / np.pi * np.arcsin(sine)])
    noisy = (waves + 0.1 * random.normal(size=waves.shape)).astype("float32")
    return noisy[..., None], kinds.astype("int32")


@task
def shapes_lstm():
    build = sequential(inputs(32, 1), lambda: layers.Bidirectional(layers.LSTM(16)), dense(3))
    return Task(*shapes(), build, crossentropy(), 12, 32)


@task
def shapes_conv():
    build = sequential(
        inputs(32, 1),
        lambda: layers.Conv1D(16, 5, activation="relu"),
        lambda: layers.Conv1D(16, 5, strides=2, activation="relu"),
        layers.Flatten,
        dense(3),
    )
    return Task(*shapes(), build, crossentropy(), 10, 32)


@task
def elnino():
    """Temperatures of the sea, in degrees, two years of months and the next one."""
    from statsmodels.datasets import elnino

    values = elnino.load_pandas().data.iloc[:, 1:].to_numpy("float32").ravel()
    x = np.stack([values[i : i + 24] for i in range(len(values) - 24)])
    build = sequential(inputs(24), dense(32, "relu"), dense(32, "relu"), dense(1))
    return Task(x, values[24:, None], build, "mse", 25, 16)


# ---------------------------------------------------------------- poison
def spoilt(clean, spoil, share):
    """One of these tasks with that share of its rows spoilt."""
    made = HELD_OUT_TASKS[clean]()
    n = max(1, int(share * len(made.x)))
    rows = np.random.default_rng(9).choice(len(made.x), n, replace=False)
    return spoilt_rows(made, clean, spoil, rows)


@task
def patches_with_nan():
    def spoil(x, y, rows):
        x[rows] = np.nan
        return x, y

    return spoilt("digits_patches", spoil, 0.004)


def larger_targets(factor):
    def spoil(x, y, rows):
        y[rows] *= factor
        return x, y

    return spoil


@task
def friedman_with_outliers():
    return spoilt("friedman", larger_targets(1000), 0.01)


@task
def moons_with_large_rows():
    return spoilt("moons", large_rows, 0.003)


@task
def adding_with_large_rows():
    return spoilt("adding_gru", larger_targets(1e4), 0.002)
