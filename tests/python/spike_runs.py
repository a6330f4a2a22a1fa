"""Runs of SpikeGuard's rule on losses that are made up, without Keras."""

import math

import numpy as np

from pykguard.rules import spike


def kernels(n_learning):
    """One kernel of eight units, so many of which learn."""
    moves = [spike.Moves(1.0, 1.0 if unit < n_learning else 0.0, 0.0) for unit in range(8)]
    return [moves]


class Run:
    """What became of a run.

    A state of training is the tuple of the batches whose updates are in it, so that two states are
    equal iff they were trained on the same batches.

    Args:
        loss: `loss(t, state, scale)` of batch `t` at a state, with the rate scaled so.
        n: How many batches there are.
        finite: Whether a state's weights are finite.
        units: How many of eight units learn at a state.
        steps: Batches an execution.
        n_known: Whether the rule is told how many batches are to come.
    """

    def __init__(self, loss, n, *, finite=None, units=None, steps=1, n_known=False, **options):
        self.options = spike.Options(**options)
        self.rule = spike.State()
        self.state, self.scale = (), 1.0
        self.slots = dict.fromkeys(("initial", "proven", "best"), ())
        self.rejected, self.causes, self.scales, self.when = [], [], [], []
        self.stopped, self.kept_at = False, []
        self.used = []  # what the rate was scaled by in each execution
        for first in range(0, n, steps):
            batches = range(first, first + steps)
            self.t = first
            self.used.append(self.scale)
            n_left = n - first - steps if n_known else None
            self.before(first, n_left)
            is_finite = finite is None or not self.kept or finite(self.state)
            losses = []
            for t in batches:
                losses.append(loss(t, self.state, self.scale))
                self.state = (*self.state, t)
            n_all = n if n_known else 0
            seen = spike.Seen(tuple(losses), self.kept, is_finite, first, n_left, n_all)
            self.rule, decision = spike.step(self.options, self.rule, seen)
            self.follow(decision)
            if decision.mark == 2:
                seen = kernels(8 if units is None else units(self.state))
                self.rule, decision = spike.compared(self.options, self.rule, seen)
                self.follow(decision)
            if self.stopped:
                break
        finite_now = finite is None or finite(self.state)
        slot = spike.at_end(self.rule, finite_now) if not self.stopped else None
        if slot is not None:
            self.state = self.slots[slot]

    def before(self, t, n_left):
        self.kept = spike.is_due(self.options, self.rule, n_left)
        self.slots.pop("before", None)
        if self.kept:
            self.slots["before"] = self.state
            self.kept_at.append(t)

    def follow(self, decision):
        for slot in decision.keep:
            self.slots[slot] = self.slots["before"]
        if decision.set_aside:
            self.slots["aside"] = self.slots["best"]
        if decision.put_back is not None:
            self.state = self.slots[decision.put_back]
            if decision.put_back != "before":
                self.slots["proven"] = self.state
        self.rejected += decision.rejected
        self.causes.append(decision.cause)
        self.when.append(self.t)
        self.stopped = decision.stop
        self.scale = decision.scale
        self.scales.append(decision.scale)

    def said(self, cause):
        return [each for each in self.rejected if each.cause == cause]


# ---------------------------------------------------------------- losses of healthy training
def falling(n, seed=0, noise=0.1, shape="normal", end=0.3, start=2.0):
    """Losses that fall from `start` to `end`, with noise of some shape around them."""
    random = np.random.default_rng(seed)
    draws = {
        "normal": lambda: np.maximum(1 + noise * random.normal(size=n), 0.01),
        "lognormal": lambda: np.exp(2 * noise * random.normal(size=n)),
        "gamma": lambda: random.gamma(1 / noise, noise, size=n),
        "uniform": lambda: 1 + noise * random.uniform(-1, 1, size=n),
    }
    level = end + (start - end) * np.exp(-np.arange(n) / (n / 4))
    return level * draws[shape]()


SHAPES = ("normal", "lognormal", "gamma", "uniform")


def on_data(losses):
    """The loss of a batch whatever the weights."""
    return lambda t, state, scale: float(losses[t])


# ---------------------------------------------------------------- a valley
def valley(rate, *, curvature=1.0, start=1.0, bad=None):
    """Gradient descent on `curvature * w**2 / 2 + 0.01`, which diverges iff rate * curvature > 2.

    The rates at which the updates of a state were taken are part of it: states are not the tuples
    of batches of a `Run` alone but looked up by them.
    """
    weights = {(): start}

    def loss(t, state, scale):
        w = weights[state]
        if bad is not None and t in bad:
            weights[(*state, t)] = math.nan
            return bad[t]
        step = rate * scale * curvature * w
        weights[(*state, t)] = w - step if abs(w - step) < 1e150 else math.nan
        value = 0.5 * curvature * w * w + 0.01 if math.isfinite(w) else math.nan
        return value if value < 1e300 else math.inf

    loss.weights = weights
    return loss
