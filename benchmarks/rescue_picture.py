"""The picture of what `rescue.py` found: each run's score, without a guard and with one."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def draw(path, panels, tasks, rates):
    """Draw a panel for each method.

    Args:
        path: The file, without which nothing is drawn.
        panels: For each title the scores by task, optimizer and rate; None is left white.
        tasks: Pairs of task and optimizer, from top to bottom.
        rates: The learning rates, from left to right.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.3 + 2.2 * len(panels), 0.24 * len(tasks) + 1.3),
        sharey=True,
        layout="constrained",
    )
    for axis, (title, scores) in zip(axes, panels.items(), strict=True):
        grid = np.array(
            [[scores.get((*pair, rate), np.nan) for rate in rates] for pair in tasks], float
        )
        image = axis.imshow(grid, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for row, column in np.argwhere(grid >= 0.9):
            axis.text(column, row, "✓", ha="center", va="center", fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], fontsize=8)
        axis.set_xlabel("learning rate")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    names = [
        f"{task.replace('_', ' ').replace('nan', 'NaN')}, {optimizer}" for task, optimizer in tasks
    ]
    axes[0].set_yticks(range(len(tasks)), names, fontsize=8)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("score of the weights that are left (✓: 0.9 and more)", fontsize=8)
    figure.savefig(Path(path), dpi=110)
