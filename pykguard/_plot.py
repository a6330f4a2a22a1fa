"""The picture of a loss history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pykguard.events import Event

_COLORS = {"loss": "#1b6ca8", "val_loss": "#d1701f"}
_RED = "#b3261e"


def plot_history(
    batches: Mapping[str, Any],
    epochs: Mapping[str, Any],
    batches_per_epoch: int,
    events: Sequence[Event],
    ax: Any,
) -> Any:
    """Draw batch losses, epoch losses and reverts over the epochs; returns the axes.

    Batches whose loss is not finite, or more than ten times that of the worst finite epoch, are
    marked along the top, so that a run which exploded can still be read.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    curves = {name: epochs[name] for name in _COLORS if name in epochs}
    # Epochs count from 0 here, and epoch `e` ends at `e + 1` on the axis.
    times = batches["epoch"] + (batches["batch"] + 1) / max(batches_per_epoch, 1)
    losses = np.array(batches["loss"])
    bad = ~np.isfinite(losses) & batches["exact"]
    above = ~bad & (losses > _highest_shown(curves))
    losses[bad | above] = np.nan
    ax.plot(times, losses, color="0.7", lw=0.7, label="each batch")
    for name, values in curves.items():
        ax.plot(epochs["epoch"] + 1, values, "o-", color=_COLORS[name], ms=3, label=name)
    for which, marker, label in ((bad, "x", "not finite"), (above, "^", "off the scale")):
        if which.any():
            along_top = ax.get_xaxis_transform()
            ax.plot(
                times[which],
                np.ones(which.sum()),
                marker,
                ms=4,
                color=_RED,
                transform=along_top,
                clip_on=False,
                label=label,
            )
    for i, event in enumerate(e for e in events if e.action == "revert"):
        title = None if i else "reverted"
        ax.axvline(event.epoch + 1, color=_RED, ls="--", lw=1, label=title)
    _choose_scale(ax, np.concatenate([losses, *curves.values()]))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.legend(frameon=False)
    return ax


def _highest_shown(curves: Mapping[str, Any]) -> float:
    values = np.concatenate([np.empty(0), *curves.values()])
    worst = values[np.isfinite(values)].max(initial=0.0)
    return float(10 * worst) if worst > 0 else np.inf


def _choose_scale(ax: Any, losses: Any) -> None:
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > 100:
        ax.set_yscale("log")
