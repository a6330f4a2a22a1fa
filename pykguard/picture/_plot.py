"""The picture of a loss history, by Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pykguard.events import Event
from pykguard.picture._parts import Columns, Picture, to_plot

# Told apart by eyes that see no red or no green, and in print by their lightness.
_STYLES: dict[str, dict[str, Any]] = {
    "each batch": {"color": "0.65", "lw": 0.8, "marker": "o", "ms": 2.5},
    "not exact": {"color": "0.65", "lw": 0.8, "marker": "o", "ms": 2.5, "mfc": "w", "ls": ":"},
    "typical batch": {"color": "0.2", "lw": 1.2},
    "loss": {"color": "#0072b2", "lw": 1.6, "marker": "o", "ms": 4},
    "val_loss": {"color": "#e69f00", "lw": 1.6, "marker": "s", "ms": 4},
}
_MARK_SIZES = {"each batch": 4.5, "loss": 9, "val_loss": 6.5}
_MARKS = {"not finite": {1: "x"}, "off the scale": {1: "^", -1: "v"}}
_REVERTS = {"reverted": "--", "rolled back": ":"}
_WINE = "#882255"
_LONG = 500  # points, from which on a line is thin


def plot_history(
    batches: Columns,
    epochs: Columns,
    batches_per_epoch: int,
    events: Sequence[Event],
    ax: Any,
) -> Any:
    """Draw the losses of batches and epochs, reverts, and below them the learning rate.

    Args:
        batches: Columns epoch, batch, loss, exact and, if it is known, learning_rate.
        epochs: Columns epoch and each metric.
        batches_per_epoch: The number of batches in the longest epoch.
        events: What guards did in that run.
        ax: Matplotlib axes for the losses alone; None for a new figure, with the learning rate.

    Returns:
        The axes of the losses.
    """
    picture = to_plot(batches, epochs, batches_per_epoch, events)
    if ax is not None:
        _draw_losses(picture, ax)
        _label_time(picture, ax)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(frameon=False, fontsize="small")
        return ax
    import matplotlib.pyplot as plt

    has_rate = len(picture.rate["time"]) > 0
    figure, panels = plt.subplots(
        1 + has_rate,
        sharex=True,
        squeeze=False,
        figsize=(8, 4.5 + 0.7 * has_rate),
        layout="constrained",
        height_ratios=[4, 1][: 1 + has_rate],
    )
    ax, lowest = panels[0, 0], panels[-1, 0]
    _draw_losses(picture, ax)
    if has_rate:
        _draw_rate(picture, lowest)
        if not picture.many_reverts:
            _draw_reverts(picture, lowest)
    _label_time(picture, lowest)
    for panel in panels[:, 0]:
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        columns = len(labels) if len(labels) <= 6 else (len(labels) + 1) // 2
        where = {"loc": "outside upper center", "ncols": columns}
        figure.legend(handles, labels, **where, frameon=False, fontsize="small")
    return ax


def _draw_losses(picture: Picture, ax: Any) -> None:
    lines = picture.lines
    if not ax.has_data():
        if picture.log:
            ax.set_yscale("log")
        if len(lines["name"]) == 0:
            ax.set_yticks([])
    for name, style in _STYLES.items():
        which = lines["name"] == name
        if which.any():
            points = np.flatnonzero(lines["point"][which]).tolist()
            plain = {} if points else {"marker": ""}
            thin = {"lw": 0.8} if which.sum() > _LONG else {}
            time, value = lines["time"][which], lines["value"][which]
            ax.plot(time, value, **(style | plain | thin), markevery=points, label=name)
    _draw_marks(picture, ax)
    _draw_reverts(picture, ax)
    _show_all(ax, picture.span, picture.limits)
    ax.set_ylabel("loss")


def _draw_reverts(picture: Picture, ax: Any) -> None:
    reverts = picture.reverts
    for what, dashes in _REVERTS.items():
        times = reverts["time"][reverts["what"] == what]
        if picture.many_reverts and len(times):
            along = ax.get_xaxis_transform()
            ax.vlines(times, 0, 0.04, color=_WINE, lw=1, transform=along, label=what)
            continue
        for i, time in enumerate(times):
            ax.axvline(time, color=_WINE, ls=dashes, lw=1, zorder=1.5, label=None if i else what)


def _draw_marks(picture: Picture, ax: Any) -> None:
    """Along the edges, where a legend's entry stands for marks at both."""
    marks = picture.marks
    for what, shapes in _MARKS.items():
        label: str | None = what
        for edge, shape in shapes.items():
            for name, size in _MARK_SIZES.items():
                which = (marks["what"] == what) & (marks["edge"] == edge) & (marks["name"] == name)
                if not which.any():
                    continue
                color = _WINE if name == "each batch" else _STYLES[name]["color"]
                ax.plot(
                    marks["time"][which],
                    np.full(which.sum(), (1 + edge) / 2),
                    shape,
                    color=color,
                    ms=size,
                    transform=ax.get_xaxis_transform(),
                    clip_on=False,
                    zorder=3,
                    label=label,
                )
                label = None


def _draw_rate(picture: Picture, ax: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if picture.rate_log:
        ax.set_yscale("log")
    ax.plot(picture.rate["time"], picture.rate["value"], color="0.2", lw=1.2)
    _show_all(ax, picture.span, picture.rate_limits)
    ax.yaxis.set_major_locator(
        LogLocator(numticks=4) if picture.rate_log else MaxNLocator(3, steps=[1, 2, 5, 10])
    )
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    ax.set_ylabel("learning\nrate")


def _show_all(ax: Any, span: Any, limits: Any) -> None:
    """Let the axes show these limits, and what else is drawn on them."""
    ax.margins(x=0.01, y=0)
    ax.update_datalim(np.column_stack([span, limits]))
    ax.autoscale_view()


def _label_time(picture: Picture, ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    if picture.title == "epoch":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    else:
        ax.set_xticks(picture.ticks, [str(label) for label in picture.tick_labels])
    ax.set_xlabel(picture.title)
