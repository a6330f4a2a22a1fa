# Two generative adversarial networks, each with its two optimizers in one guarded loop: a ring of
# eight Gaussians, and scikit-learn's digits of 8 x 8 pixels. Then a batch with NaN rows, which the
# guard takes back in both networks. Needs scikit-learn and matplotlib.
#   python examples/gan.py [--seeds 3] [--epochs 20] [--picture file.png]
import argparse
import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"  # whose tape takes the gradients
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import pykguard as kg

tf.get_logger().setLevel("ERROR")  # it would warn of steps that are compiled anew

STEPS = 250  # in an epoch
ROWS = 256  # in a batch
BLUE, RED = "#1b6ca8", "#b3261e"


# ---------------------------------------------------------------- losses
# The generator G makes a sample of noise z, the discriminator D gives the logit of its being real.
# With softplus(u) = log(1 + exp(u)), which is -log(sigmoid(-u)), the losses are
#   D   mean(softplus(-D(x))) + mean(softplus(D(G(z)))) + r1 / 2 mean(|dD(x)/dx|^2)
#   G   mean(softplus(-D(G(z))))
# They take logits: log(sigmoid(u)) is -inf, and its gradient NaN, as soon as D is sure of itself.
# G's loss is the one that does not saturate there. The last term of D's, R1, keeps D flat where the
# data are; without it the two may circle around the solution for ever.
#   I. Goodfellow et al. (2014), Generative adversarial nets, NIPS
#   L. Mescheder, A. Geiger and S. Nowozin (2018), Which training methods for GANs do actually
#   converge?, ICML
def losses_of(generator, discriminator, real, noise, r1):
    """Give the losses of the generator and of the discriminator."""
    of_fake = discriminator(generator(noise))
    with tf.GradientTape() as slope:
        slope.watch(real)
        of_real = discriminator(real)
    steepness = tf.reduce_sum(tf.square(slope.gradient(of_real, real)), axis=1)
    d_loss = tf.reduce_mean(tf.nn.softplus(-of_real)) + tf.reduce_mean(tf.nn.softplus(of_fake))
    g_loss = tf.reduce_mean(tf.nn.softplus(-of_fake))
    return g_loss, d_loss + r1 / 2 * tf.reduce_mean(steepness)


class Gan:
    """A generator and a discriminator, their optimizers, and the step that trains both."""

    def __init__(self, size, noise, width, rate, r1, steps, output=None):
        self.noise, self.r1 = noise, r1
        generator = network(noise, width, "relu", size, output)
        self.models = [generator, network(size, width, "leaky_relu", 1)]
        decay = keras.optimizers.schedules.CosineDecay
        self.optimizers = [
            # Its generator ends as a moving average of what it was on the way.
            keras.optimizers.Adam(decay(rate, steps), 0.5, 0.99, use_ema=True, ema_momentum=0.999),
            keras.optimizers.Adam(decay(rate, steps), 0.5, 0.99),
        ]
        kinds = [tf.TensorSpec((None, size)), tf.TensorSpec((None, noise))]
        self.step = tf.function(self._step, input_signature=kinds)

    def _step(self, real, noise):
        with tf.GradientTape(persistent=True) as tape:
            losses = losses_of(*self.models, real, noise, self.r1)
        for model, optimizer, loss in zip(self.models, self.optimizers, losses, strict=True):
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return losses

    def sample(self, noise):
        return self.models[0](noise).numpy()

    def train(self, draw, random, epochs, callbacks, at_epoch=lambda epoch: None):
        """Train on what `draw(rows)` gives; `at_epoch` is called before each epoch."""
        batches = ((draw(ROWS), normal(random, ROWS, self.noise)) for _ in range(epochs * STEPS))
        with kg.guarded_loop(
            self.models, self.optimizers, callbacks, epochs, steps=STEPS, verbose=0
        ) as loop:
            for epoch in loop:
                at_epoch(epoch)
                for real, noise in loop.batches(batches):
                    g_loss, d_loss = self.step(real, noise)
                    loop.report(g_loss, size=ROWS, d_loss=d_loss)
        return loop.history


def network(inputs, width, activation, outputs, output=None):
    layers = [keras.Input((inputs,))]
    layers += [keras.layers.Dense(width, activation) for _ in range(2)]
    return keras.Sequential([*layers, keras.layers.Dense(outputs, output)])


def normal(random, rows, columns):
    return random.normal(size=(rows, columns)).astype("float32")


def new_guard():
    """Give a guard that goes back only from what is not finite.

    The losses of two networks that work against each other rise and fall: neither is a measure.
    """
    return kg.RevertOnLossIncrease("loss", tolerance=1e6)


# ---------------------------------------------------------------- a ring of eight Gaussians
# Radius 2 and standard deviation 0.02, as in L. Metz et al. (2017), Unrolled generative adversarial
# networks, ICLR. A sample is good within 3 standard deviations of a centre, as in A. Srivastava et
# al. (2017), VEEGAN, NIPS; a centre is covered with at least 1 % of the samples, all of them good.
SD = 0.02
ANGLES = 2 * np.pi * np.arange(8) / 8
CENTRES = 2 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype("float32")


def ring(random):
    return lambda rows: (
        CENTRES[random.integers(0, 8, rows)] + np.float32(SD) * normal(random, rows, 2)
    )


def score(samples):
    """Give how many centres are covered, and the share of good samples."""
    distances = np.linalg.norm(samples[:, np.newaxis] - CENTRES, axis=2)
    good = distances.min(axis=1) <= 3 * SD
    counts = np.bincount(distances.argmin(axis=1)[good], minlength=8)
    return int(np.sum(counts >= 0.01 * len(samples))), float(good.mean())


def train_ring(seed, epochs=20):
    """Train; returns the samples before some of the epochs and at the end, by epoch."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    gan = Gan(size=2, noise=2, width=128, rate=2e-3, r1=0.1, steps=epochs * STEPS)
    noise = normal(random, 2500, gan.noise)
    shown = {0, 1, 2, epochs // 4, epochs // 2}
    samples = {}

    def keep(epoch):
        if epoch in shown:
            samples[epoch] = gan.sample(noise)

    gan.train(ring(random), random, epochs, [new_guard()], keep)
    samples[epochs] = gan.sample(noise)
    return samples


# ---------------------------------------------------------------- digits
def train_digits(seed, epochs=20):
    """Train on the 1,797 digits; returns a thousand samples, with pixels from -1 to 1."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    images = digits()[0]
    gan = Gan(size=64, noise=32, width=256, rate=1e-3, r1=1.0, steps=epochs * STEPS, output="tanh")
    gan.train(
        lambda rows: images[random.integers(0, len(images), rows)], random, epochs, [new_guard()]
    )
    return gan.sample(normal(random, 1000, gan.noise))


def digits():
    """Give the images, a row each with pixels from -1 to 1, and which digits they are."""
    images, labels = load_digits(return_X_y=True)
    return (images / 8 - 1).astype("float32"), labels


def counts_of(samples):
    """Give how many of the samples are nearest to an image of each digit."""
    images, labels = digits()
    nearest = KNeighborsClassifier(1).fit(images, labels).predict(samples)
    return np.bincount(nearest, minlength=10)


# ---------------------------------------------------------------- a poisoned batch
def train_poisoned(callbacks, poisoned=1, epochs=3):
    """Train on the ring, with a batch of which three rows are NaN in one of the epochs.

    Returns the variables of each network and of its optimizer, before each epoch.
    """
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    gan = Gan(size=2, noise=2, width=128, rate=2e-3, r1=0.1, steps=epochs * STEPS)
    clean, drawn, states = ring(random), iter(range(epochs * STEPS)), []

    def draw(rows):
        real = clean(rows)
        if next(drawn) == poisoned * STEPS + STEPS // 2:
            real[:3] = np.nan
        return real

    def keep(epoch):
        pairs = zip(gan.models, gan.optimizers, strict=True)
        states.append([[v.numpy() for v in [*m.variables, *o.variables]] for m, o in pairs])

    history = gan.train(draw, random, epochs, callbacks, keep)
    return states, history


def is_finite(state):
    return all(np.isfinite(value).all() for value in state)


def same_bits(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def show_poisoned():
    print("\nA batch with three NaN rows, in epoch 2 of 3\n")
    for callbacks in ([], [guard := new_guard()]):
        (_, before, after), history = train_poisoned(callbacks)
        print("guarded" if callbacks else "without a guard")
        for event in guard.events if callbacks else []:
            print(f"  epoch {event.epoch + 1}: {event.monitor} {event.reason}: {event.action}")
        for network, old, new in zip(("generator", "discriminator"), before, after, strict=True):
            finite = "finite" if is_finite(new) else "not finite"
            same = ", bit for bit as before it" if same_bits(old, new) else ""
            print(f"  after epoch 2, {network} and optimizer: {finite}{same}")
        print(f"  loss of epoch 3: {history.history['loss'][2]:.3f}")


# ---------------------------------------------------------------- picture
def draw_picture(picture, samples, images):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(4, 5))
    panels = above.subplots(1, len(samples))
    for panel, (epoch, points) in zip(panels, samples.items(), strict=True):
        panel.scatter(*CENTRES.T, s=110, facecolors="none", edgecolors=RED, lw=0.8)
        panel.scatter(*points[:1000].T, s=2, color=BLUE, alpha=0.5, lw=0)
        covered, good = score(points)
        panel.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
        panel.set_title(f"epoch {epoch}" if epoch else "at first", fontsize=11)
        panel.set_xlabel(f"{covered} of 8, {good:.0%} good", fontsize=11)
        panel.spines[:].set_color("0.85")
    title = "Learning a ring of eight Gaussians (good: within 3 sd of a centre)"
    above.suptitle(title, x=0.01, ha="left")
    panels = below.subplots(1, 2)
    for panel, name, rows in zip(panels, ("real", "generated"), (digits()[0], images), strict=True):
        tiles = np.pad(rows[:72].reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        grid = tiles.reshape(6, 12, 10, 10).transpose(0, 2, 1, 3).reshape(60, 120)
        panel.imshow(grid, cmap="gray_r", vmin=-1, vmax=1)
        panel.set_title(name, fontsize=11)
        panel.axis("off")
    below.suptitle("Digits of 8 x 8 pixels", x=0.01, ha="left")
    figure.savefig(picture, dpi=110)
    print(f"\nwrote {picture}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--picture", default="examples/gan.png")
    given = parser.parse_args()
    print("The ring of eight Gaussians: 2,500 samples\n")
    print("seed  centres covered  within 3 sd  seconds")
    rings = []
    for seed in range(1, given.seeds + 1):
        start = time.perf_counter()
        rings.append(train_ring(seed, given.epochs))
        covered, good = score(rings[-1][given.epochs])
        seconds = time.perf_counter() - start
        print(f"{seed:4}{covered:12} of 8{good:13.1%}{seconds:9.0f}", flush=True)
    start = time.perf_counter()
    images = train_digits(1, given.epochs)
    seconds = time.perf_counter() - start
    print(f"\nDigits: 1,000 samples, by the digit of the nearest image ({seconds:.0f} seconds)\n")
    print("".join(f"{digit:6}" for digit in range(10)))
    print("".join(f"{count:6}" for count in counts_of(images)))
    show_poisoned()
    draw_picture(given.picture, rings[0], images)


if __name__ == "__main__":
    main()
