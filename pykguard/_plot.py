"""The picture of a loss history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pykguard.events import Event


def plot_history(
    batches: Mapping[str, Any], epochs: Mapping[str, Any], events: Sequence[Event], ax: Any
) -> Any:
    """Draw batch losses, epoch losses and reverts over the epochs; returns the axes."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    if len(batches["loss"]):
        ax.plot(_times(batches), batches["loss"], color="0.7", lw=0.7, label="each batch")
    colors = {"loss": "C0", "val_loss": "C1"}
    for name, color in colors.items():
        if name in epochs:
            ax.plot(epochs["epoch"] + 1, epochs[name], "o-", color=color, ms=3, label=name)
    for i, event in enumerate(e for e in events if e.action == "revert"):
        label = None if i else "reverted"
        ax.axvline(event.epoch + 1, color="C3", ls="--", lw=1, label=label)
    _choose_scale(ax, batches["loss"])
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.legend(frameon=False)
    return ax


def _times(batches: Mapping[str, Any]) -> Any:
    """Where each batch stands on an axis on which epoch `e` ends at `e + 1`."""
    epoch, batch = batches["epoch"], batches["batch"]
    length = max(int(batch.max()) + 1, 1)
    return epoch + (batch + 1) / length


def _choose_scale(ax: Any, losses: Any) -> None:
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > 100:
        ax.set_yscale("log")
