# Regression with a range: a network learns the joint angles by which a robot's arm reaches a point,
# and the joints have limits. Why clipping the angles in the loss does not train, and a penalty that
# does. The loss is the arm's own geometry, in NumPy, as it would be a simulator's.
#   python examples/range_regression.py [picture.png [epochs]]
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg

# The planar arm of the textbooks: two links of 1 m, and targets that it can reach, drawn by angles
# within the limits. The network is not told those angles; it is taught by where the tip goes, as in
#   M. I. Jordan, D. E. Rumelhart (1992), Forward models: supervised learning with a distal teacher,
#   Cognitive Science 16, 307-354
LOW, HIGH = np.radians([0, 30]), np.radians([120, 150])  # of the shoulder and of the elbow
WEIGHT = 10.0  # of the penalty, in square metres a square radian
START = np.radians([160, -80])  # all networks begin near it, with the elbow bent the other way
COLOURS = {"no range": "#d1701f", "clipped": "#7a7a7a", "penalty": "#1b6ca8"}


def tips(angles):
    """Where the arm's tip is, in metres: `(rows, 2)`."""
    upper, lower = angles[:, 0], angles.sum(axis=1)
    return np.column_stack([np.cos(upper) + np.cos(lower), np.sin(upper) + np.sin(lower)])


# ---------------------------------------------------------------- three losses
# With the tip at f(p) for the angles p, the target at y and J the derivative of f:
#   no range   |f(p) - y|^2,                              gradient 2 J'(f(p) - y)
#   clipped    |f(clip(p)) - y|^2,                        the same at clip(p), but 0 outside
#   penalty    |f(p) - y|^2 + w (max(low - p, 0)^2 + max(p - high, 0)^2), summed over the joints
# Each returns one loss a row, and its gradient by the row's angles.
def no_range(target, angles):
    error = tips(angles) - target
    upper, lower = angles[:, 0], angles.sum(axis=1)
    by_elbow = error[:, 1] * np.cos(lower) - error[:, 0] * np.sin(lower)
    by_shoulder = by_elbow + error[:, 1] * np.cos(upper) - error[:, 0] * np.sin(upper)
    return (error**2).sum(axis=1), 2 * np.column_stack([by_shoulder, by_elbow])


# Outside of the range the clipped angle stays where it is, whatever the network says. So the
# gradient is 0: the row moves no weight, and a network that is outside for all rows stays there.
def clipped(target, angles):
    loss, gradient = no_range(target, np.clip(angles, LOW, HIGH))
    return loss, gradient * ((angles > LOW) & (angles < HIGH))


# The squared hinge grows with the distance from the range, and so does its gradient, which leads
# back. Within the range it is 0 and leaves the fit alone.
def penalty(target, angles):
    loss, gradient = no_range(target, angles)
    outside = beyond(angles)
    return loss + WEIGHT * (outside**2).sum(axis=1), gradient + 2 * WEIGHT * outside


def beyond(angles):
    """How far angles are outside the range: above 0, below less than 0, within 0."""
    return np.maximum(angles - HIGH, 0) - np.maximum(LOW - angles, 0)


# ---------------------------------------------------------------- training
def new_targets(random, rows):
    return tips(random.uniform(LOW, HIGH, (rows, 2)))


def train(loss, targets, held_back, epochs):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(64, "tanh"), keras.layers.Dense(64, "tanh")]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(2)])
    model.layers[-1].bias.assign(START)
    model.compile(keras.optimizers.Adam(0.01), loss=kg.external_loss(loss))
    guard = kg.RevertToBestOnIncrease("val_loss", tolerance=1e-3, lr_factor=0.5)
    history = kg.LossHistory()
    model.fit(
        targets,
        targets,
        batch_size=50,
        epochs=epochs,
        verbose=0,
        validation_data=(held_back, held_back),
        callbacks=[guard, history],
    )
    return model, guard, history


def main(picture="examples/range_regression.png", epochs=40):
    random = np.random.default_rng(1)
    targets, held_back, new = (new_targets(random, rows) for rows in (2000, 500, 1000))
    print(f"{'':10}{'outside the':>13}{'worst':>11}{'tip misses by':>16}{'':>10}")
    print(f"{'loss':10}{'range (%)':>13}{'(degrees)':>11}{'(cm, median)':>16}{'reverts':>10}")
    found, curves = {}, {}
    for loss in (no_range, clipped, penalty):
        model, guard, history = train(loss, targets, held_back, int(epochs))
        name = loss.__name__.replace("_", " ")
        found[name] = angles = model.predict(new, batch_size=500, verbose=0)
        curves[name] = np.array(history.epochs["loss"])
        outside = np.degrees(np.abs(beyond(angles)).max(axis=1))
        # The stops hold the arm within the range, whatever it is told.
        miss = 100 * np.linalg.norm(tips(np.clip(angles, LOW, HIGH)) - new, axis=1)
        shares = f"{100 * (outside > 0).mean():13.1f}{outside.max():11.1f}"
        print(f"{name:10}{shares}{np.median(miss):16.1f}{guard.n_reverts:10}", flush=True)
    draw(picture, found, curves)


# ---------------------------------------------------------------- picture
def draw(picture, found, curves):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for name, losses in curves.items():
        left.plot(np.arange(1, len(losses) + 1), losses, color=COLOURS[name], lw=2, label=name)
    left.set(yscale="log", xlabel="epoch", ylabel="loss")
    left.set_title("Clipping gives no gradient outside the range", loc="left")
    left.legend(frameon=False)

    low, high = np.degrees(LOW), np.degrees(HIGH)
    right.add_patch(plt.Rectangle(low, *(high - low), color="0.92", zorder=0))
    right.annotate("within the limits", (low[0], high[1] + 8), color="0.35")
    for name, angles in found.items():
        right.plot(*np.degrees(angles).T, ".", color=COLOURS[name], ms=3, label=name)
    right.set(xlabel="shoulder (degrees)", ylabel="elbow (degrees)")
    right.set_title("Angles for 1,000 targets that were not trained on", loc="left")
    right.legend(frameon=False, markerscale=4, loc="lower left")
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)
    print(f"\nwrote {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
