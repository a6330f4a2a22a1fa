"""What is known of an epoch: the numbers from which its loss is explained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np


@dataclasses.dataclass
class Facts:
    """The numbers of one epoch. NaN stands for what there was not, or could not be known.

    Attributes:
        epoch: Its number, from 0.
        batches: How many batches it had.
        weighted_mean: Mean of the batches' own losses, weighted by the batches' sizes.
        plain_mean: Mean of the batches' own losses.
        last_loss: The own loss of its last batch.
        tracked: Keras' running mean as the epoch ended.
        last_logged: What was logged after its last batch.
        logged: What was logged at its end, when every callback had seen it.
        resets: How often the running mean was started anew within the epoch.
        taken_back: How often a guard took batches of it back, as SpikeGuard does.
        exact: Whether all its batches' own losses are known: 1 or 0.
        history: What History holds.
        verbose: 0, 1 or 2, as `fit` was told.
        bar: What the progress bar held at the end, before it was rounded.
        bar_average: What a bar holds at the end that averages what it is given, if this one does.
        running: What the bar held after the last batch, before the epoch's end.
        running_average: What a bar holds then that averages what it is given, if this one does.
        evaluated: Loss on the data, as `evaluate()` gives it, with the epoch's last weights.
        evaluated_training: The same as in training: dropout and the like at work, BatchNorm with
            the statistics of each batch.
        evaluated_frozen: The same as in training, but BatchNorm with its moving statistics.
        inferred: Loss on the data with no layer as in training, in double precision over batches.
        regularisation: The part of `evaluated` that is the sum of the model's own losses.
    """

    epoch: int
    batches: int = 0
    weighted_mean: float = math.nan
    plain_mean: float = math.nan
    last_loss: float = math.nan
    tracked: float = math.nan
    last_logged: float = math.nan
    logged: float = math.nan
    resets: int = 0
    taken_back: int = 0
    exact: int = 1
    history: float = math.nan
    verbose: int = 0
    bar: float = math.nan
    bar_average: float = math.nan
    running: float = math.nan
    running_average: float = math.nan
    evaluated: float = math.nan
    evaluated_training: float = math.nan
    evaluated_frozen: float = math.nan
    inferred: float = math.nan
    regularisation: float = math.nan

    def items(self) -> Iterable[tuple[str, float]]:
        """The numbers that are known, by name, without the epoch's."""
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value == value:
                yield field.name, value

    @classmethod
    def from_items(cls, epoch: int, items: dict[str, float]) -> Facts:
        """The facts that gave these items."""
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        known: dict[str, Any] = {k: int(v) if types[k] == "int" else v for k, v in items.items()}
        return cls(epoch, **known)


class Sums:
    """Adds up an epoch's batch losses, in double precision."""

    def __init__(self) -> None:
        self.n = 0
        self.is_exact = True
        self._loss = self._weighted = self._size = 0.0
        self._last = math.nan
        self.batch_size: int | None = None

    def add(self, rows: np.ndarray[Any, Any]) -> None:
        """Add the next batches: rows of loss, size and more."""
        if len(rows) == 1:
            loss, size = rows[0, :2].tolist()
            self._loss += loss
            self._weighted += loss * size
            self._size += size
        else:
            losses, sizes = rows[:, :2].astype("float64").T
            self._loss += losses.sum()
            self._weighted += losses @ sizes
            self._size += sizes.sum()
        self.n += len(rows)
        self._last = float(rows[-1, 0])
        self.batch_size = self.batch_size or int(rows[0, 1])

    def add_unknown(self, n: int) -> None:
        """Add batches whose losses are not known."""
        self.n += n
        self.is_exact = False

    def write(self, facts: Facts) -> None:
        """Say what they add up to."""
        facts.batches, facts.exact = self.n, int(self.is_exact)
        if self.is_exact and self.n:
            facts.plain_mean = float(self._loss / self.n)
            facts.weighted_mean = float(self._weighted / self._size) if self._size else math.nan
            facts.last_loss = self._last
