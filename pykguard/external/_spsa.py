"""Gradients estimated from losses alone, by simultaneous perturbation (Spall 1992)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def estimate(
    losses_at: Callable[[Array], Array],
    y_pred: Array,
    *,
    perturbation: float,
    n_draws: int,
    random: np.random.Generator,
) -> Array:
    """The mean over draws of `D * (l(y_pred + c D) - l(y_pred - c D)) / 2c`.

    `c` is the perturbation, and `D` has the shape of `y_pred` and is 1 or -1 with equal odds at
    each place. A loss of one value a sample meets that sample's part of `D` only.

    Args:
        losses_at: Gives the losses at some predictions, of shape `(rows,)`.
        y_pred: Predictions, of shape `(rows, …)`.
        perturbation: `c`, in the unit of the predictions.
        n_draws: How many `D` are drawn; each takes two evaluations.
        random: Draws them.
    """
    total = np.zeros(y_pred.shape, "float64")
    step = y_pred.dtype.type(perturbation)
    for _ in range(n_draws):
        signs = random.integers(0, 2, y_pred.shape, "int8") * 2 - 1
        shift = step * signs.astype(y_pred.dtype)
        difference = losses_at(y_pred + shift).astype("float64") - losses_at(y_pred - shift)
        total += difference.reshape((-1,) + (1,) * (y_pred.ndim - 1)) * signs
    return (total / (2 * perturbation * n_draws)).astype(y_pred.dtype)
