# Why the console, the history and evaluate() differ, for three trainings: a regression, a
# classification that is stopped early, and classes of unequal size with class weights.
#   python examples/loss_history.py
import keras
import numpy as np

import pykguard as kg

rng = np.random.default_rng(1)


def new_model(inputs, units, **compiled):
    keras.utils.set_random_seed(1)
    binary = compiled["loss"] == "binary_crossentropy"
    model = keras.Sequential(
        [
            keras.layers.Input((inputs,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid" if binary else None),
        ]
    )
    model.compile(optimizer="adam", **compiled)
    return model


print("---------------- a regression")
x, y = rng.random((100, 10)), rng.random((100, 1))
losses = kg.LossHistory(data=(x, y))
model = new_model(10, 64, loss="mse")
model.fit(x, y, epochs=2, batch_size=10, verbose=1, callbacks=[losses])
print(losses.explain())

print("\n---------------- a classification that is stopped early")
x = rng.random((500, 20))
y = rng.integers(0, 2, (500, 1))
losses = kg.LossHistory(data=(x[:400], y[:400]))  # the rows that validation_split leaves
stops = keras.callbacks.EarlyStopping("val_loss", patience=1)
model = new_model(20, 128, loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=20, validation_split=0.2, verbose=2, callbacks=[stops, losses])
print(losses.explain())

print("\n---------------- classes of unequal size")
x = rng.random((1000, 30))
y = np.repeat([0, 1], [800, 200])[:, np.newaxis]
class_weight = {0: 1000 / (2 * 800), 1: 1000 / (2 * 200)}  # a dictionary, not an array
row_weight = np.where(y[:, 0] == 1, class_weight[1], class_weight[0])
losses = kg.LossHistory(data=(x, y, row_weight))
model = new_model(30, 256, loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=2, batch_size=64, class_weight=class_weight, verbose=2, callbacks=[losses])
print(losses.explain())
