"""What SpikeGuard's events say: words that follow on the loss and its value."""

from __future__ import annotations

import math

from pykguard.rules.spike import Rejected, Slot


def reason(rejected: Rejected) -> str:
    """Why batches were taken back, and what was found to be at fault."""
    words = {
        "data": f"{_height(rejected)}: bad data, skipped",
        "weights": f"{_height(rejected)}{_running(rejected)}, and not at older weights: "
        "an update had broken the weights",
        "some": f"is good at the initial weights, as all are, and {rejected.n} batches were bad at "
        "later ones: an update had broken the weights",
        "unclear": f"{_height(rejected)}: training goes on from the last good state",
        "drift": f"is the smoothed loss and had been {rejected.reference:.4g}"
        if rejected.reference is not None
        else "is too high",
        "level": f"{_height(rejected)}, as 16 batches at good weights are: "
        "taken for the new level of the data",
        "first": f"is that of the first batch, and the next ones' is {rejected.reference:.4g}: "
        "it was bad data; begun anew"
        if rejected.reference is not None
        else "is too high",
        "dead": "was reached while most kernels got no gradients, or lost most of their units: the "
        "network is dead",
        "harmed": "was reached while most units of a kernel ceased to learn: begun anew",
        "trial": "is where the trial of this learning rate ended: a lower one is tried",
        "again": "is where the trial of this learning rate ended: one is tried again at which "
        "it may have been bad data",
        "found": "is where the last trial ended, and the best one at "
        f"{rejected.reference:.4g}: training goes on from there"
        if rejected.reference is not None
        else "is too high",
        "exhausted": f"{_height(rejected)}: no learning rate trains",
        "all bad": f"{_height(rejected)}, as all of the last batches are",
    }
    return words[rejected.cause]


def compared(
    cause: str, value: float | None, reference: float | None, rate: float | None = None
) -> str:
    """What a comparison of two rates has shown."""
    if cause != "compared":
        return f"is {cause}: some batches at it end at {value:.4g}, and at {reference:.4g} before"
    if reference is None:
        return f"is that of weights that a learning rate of {rate:.3g} broke: the present one stays"
    return (
        f"is where some batches at a learning rate of {rate:.3g} end, and at {reference:.4g} at "
        "the present one, which stays"
    )


def left(slot: Slot, is_finite: bool) -> str:
    """Why another state than the last one is left when training ends."""
    if slot == "aside":
        return "was better before training began anew"
    if not is_finite:
        return "is proven; the last weights are not finite"
    if slot == "proven":
        return "is proven; no batch has proven the last weights"
    return "is lower there than it was at the end"


def stopped(cause: str, max_rollbacks: int | None) -> str:
    """Why training was stopped."""
    if cause == "max_rollbacks":
        times = "1 roll-back" if max_rollbacks == 1 else f"{max_rollbacks} roll-backs"
        return f"used up the {times} that `max_rollbacks` allows"
    if cause == "exhausted":
        return "was high at every learning rate that was tried"
    return "was bad in every batch for long"


def _height(rejected: Rejected) -> str:
    if not rejected.weights_finite:
        return "was followed by weights that are not finite"
    if not math.isfinite(rejected.value):
        return "is not finite"
    m = rejected.reference
    if m is None:
        return "is too high"
    if m > 0:
        return f"is {rejected.value / m:.3g} times the median {m:.4g}"
    return f"is far above the median {m:.4g}"


def _running(rejected: Rejected) -> str:
    return f" in {rejected.n} batches running" if rejected.n > 1 else ""
