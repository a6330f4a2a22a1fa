"""Three changes of a learning rate, each with the rate that every epoch really used.

A number that is replaced between two fits; a schedule that decays; and a schedule that is replaced
by another one, which starts over. Of the last, Keras alone is shown beside it.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg

ROWS, BATCH = 512, 64
STEPS = ROWS // BATCH  # in an epoch
ExponentialDecay = keras.optimizers.schedules.ExponentialDecay

angles = np.linspace(-np.pi, np.pi, ROWS, dtype="float32")[:, np.newaxis]
targets = np.sin(2 * angles)


def new_model(learning_rate):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((1,)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(learning_rate), "mse")
    return model


def train(model, epochs, *callbacks):
    """Train, and print each epoch's loss and the rate of its first step."""
    history = kg.LossHistory()
    callbacks = [*callbacks, history]
    model.fit(
        angles,
        targets,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    rates = history.batches["learning_rate"][::STEPS]
    for epoch, (loss, rate) in enumerate(zip(history.epochs["loss"], rates, strict=True)):
        print(f"  epoch {epoch + 1}: loss {loss:.4f}, learning rate {rate:.6f}")


print("A number, replaced by a larger one between two fits")
model = new_model(0.001)
train(model, 3)
kg.reset_learning_rate(model, 0.01)
train(model, 3)

print("A schedule, which falls by 4 % every 10 steps")
train(new_model(ExponentialDecay(0.001, 10, 0.96, staircase=True)), 5)

for how in ("Keras alone", "kguard"):
    print(f"A schedule, replaced by another one between two fits, with {how}")
    model = new_model(ExponentialDecay(0.001, 10, 0.96, staircase=True))
    train(model, 2)
    replacement = ExponentialDecay(0.005, 5, 0.8, staircase=True)
    if how == "kguard":
        kg.reset_learning_rate(model, replacement)
    else:
        model.optimizer.learning_rate = replacement
    train(model, 3)

print("The same at given epochs of one fit")
model = new_model(0.001)
train(model, 6, kg.ResetLearningRate(ExponentialDecay(0.005, 5, 0.8, staircase=True), epoch=[2, 4]))
