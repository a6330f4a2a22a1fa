"""Why the losses that people see for one epoch differ, in numbers that add up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from pykguard.history._console import shown
from pykguard.history._facts import Facts

QUANTITIES = {
    "console": "the console showed last",
    "console_running": "the console, before the last update",
    "history": "History holds",
    "weighted_mean": "mean of the batch losses by batch size",
    "plain_mean": "mean of the batch losses",
    "last_batch": "the last batch's own loss",
    "evaluate": "evaluate() at the epoch's end",
    "evaluate_data": "  of it without regularisation",
}

ROUNDING = "rounding to the digits shown"
DOUBLE = "double averaging by the progress bar (Keras up to 3.14.1)"
CHANGED = "logs changed by a callback"
HIDDEN = "a train_step that does not update the loss tracker"
RESET = "metrics reset within the epoch"
FLOAT = "rounding to float32"
PARTIAL = "batches of unequal size"
AVERAGE = "running mean against own loss"
MOVING = "weights moving during the epoch"
BATCH_NORM = "BatchNorm: batch against moving statistics"
DROPOUT = "dropout and other training-only layers"
PENALTY = "regularisation"
TAKEN_BACK = "batches that a guard took back"
UNKNOWN = "not attributed"


class Difference(NamedTuple):
    """Two quantities of an epoch, and what they differ by.

    Attributes:
        epoch: The epoch, from 0.
        of: Name of the first quantity.
        minus: Name of the second.
        total: The first minus the second.
        parts: Amounts by cause, which add up to `total`.
    """

    epoch: int
    of: str
    minus: str
    total: float
    parts: dict[str, float]


class Explanation:
    """The losses of each epoch side by side, and each difference between them attributed.

    Print it to read it; use `quantities`, `differences` and `parts` to compute with it.
    """

    def __init__(self, facts: Iterable[Facts]) -> None:
        self._facts = list(facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __getitem__(self, which: int | slice) -> Explanation:
        """The explanation of one epoch, by its place in the record, or of some."""
        chosen = self._facts[which]
        return Explanation(chosen if isinstance(chosen, list) else [chosen])

    @property
    def quantities(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of equal length, a row an epoch; NaN where there is none.

        `epoch` (from 0), `console` (as it was shown, rounded), `console_running` (as it was shown
        after the last batch), `history`, `weighted_mean`, `plain_mean`, `last_batch`, `evaluate`,
        `evaluate_data`, and `exact`.
        """
        rows = [_quantities(facts) for facts in self._facts]
        columns = {name: np.array([row[name] for row in rows], "float64") for name in QUANTITIES}
        epochs = np.array([facts.epoch for facts in self._facts], "int32")
        exact = np.array([facts.exact for facts in self._facts], "bool")
        return {"epoch": epochs, **columns, "exact": exact}

    @property
    def differences(self) -> list[Difference]:
        """Every difference that can be explained, epoch by epoch."""
        return [difference for facts in self._facts for difference in _differences(facts)]

    @property
    def parts(self) -> dict[str, list[Any]]:
        """The same as columns, a row a cause: epoch (from 0), of, minus, cause, amount."""
        rows = [
            (d.epoch, d.of, d.minus, cause, amount)
            for d in self.differences
            for cause, amount in d.parts.items()
        ]
        names = ("epoch", "of", "minus", "cause", "amount")
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}

    def __str__(self) -> str:
        return "\n\n".join("\n".join(_lines(facts)) for facts in self._facts) or "no epoch yet"

    __repr__ = __str__


def _quantities(facts: Facts) -> dict[str, float]:
    return {
        "console": _rounded(facts.bar, facts.verbose),
        "console_running": _rounded(facts.running, facts.verbose),
        "history": facts.history,
        "weighted_mean": facts.weighted_mean,
        "plain_mean": facts.plain_mean,
        "last_batch": facts.last_loss,
        "evaluate": facts.evaluated,
        "evaluate_data": facts.evaluated - facts.regularisation,
    }


def _differences(facts: Facts) -> Iterator[Difference]:
    quantities = _quantities(facts)
    to_batches = _to_batches(facts)
    chains = {
        ("console", "history"): _bar_parts(
            facts.bar, facts.verbose, facts.bar_average, facts.logged, facts.history
        ),
        ("console_running", "history"): _bar_parts(
            facts.running, facts.verbose, facts.running_average, facts.last_logged, facts.history
        ),
        ("history", "last_batch"): {
            **to_batches,
            PARTIAL: facts.weighted_mean - facts.plain_mean,
            AVERAGE: facts.plain_mean - facts.last_loss,
        },
        ("history", "evaluate"): {
            **to_batches,
            FLOAT: to_batches.get(FLOAT, 0.0) + facts.inferred - facts.evaluated,
            MOVING: facts.weighted_mean - facts.evaluated_training,
            BATCH_NORM: facts.evaluated_training - facts.evaluated_frozen,
            DROPOUT: facts.evaluated_frozen - facts.inferred,
        },
        ("evaluate", "evaluate_data"): {PENALTY: facts.regularisation},
    }
    for (of, minus), parts in chains.items():
        total = quantities[of] - quantities[minus]
        if total == total and (total or minus != "evaluate_data"):
            known = {cause: amount for cause, amount in parts.items() if amount == amount}
            if len(known) < len(parts):
                rest = TAKEN_BACK if facts.taken_back else UNKNOWN
                known[rest] = total - sum(known.values())
            yield Difference(facts.epoch, of, minus, total, known)


def _bar_parts(
    bar: float, verbose: int, average: float, logged: float, history: float
) -> dict[str, float]:
    """What lies between a number on the console and History's."""
    double = average - logged if average == average else 0.0
    return {
        ROUNDING: _rounded(bar, verbose) - bar,
        DOUBLE: double,
        CHANGED: bar - double - history,
    }


def _to_batches(facts: Facts) -> dict[str, float]:
    """What lies between History's number and the mean of the batches' own losses."""
    return {
        CHANGED: facts.history - facts.tracked,
        _between(facts): facts.tracked - facts.weighted_mean,
    }


def _between(facts: Facts) -> str:
    """What makes Keras' running mean differ from the mean of all batches."""
    if facts.taken_back:
        return TAKEN_BACK
    return RESET if facts.resets else FLOAT


def _rounded(value: float, verbose: int) -> float:
    return float(shown(value, verbose)) if value == value else math.nan


def _lines(facts: Facts) -> Iterator[str]:
    yield f"Epoch {facts.epoch + 1}"
    quantities = _quantities(facts)
    width = max(len(words) for words in QUANTITIES.values())
    for name, words in QUANTITIES.items():
        value = quantities[name]
        is_unsaid = name == "evaluate_data" and not facts.regularisation
        if is_unsaid or (value != value and not (name == "history" and facts.batches)):
            continue
        bar = {"console": facts.bar, "console_running": facts.running}.get(name)
        text = f"{value:.7g}" if bar is None else shown(bar, facts.verbose)
        yield f"  {words:<{width}}  {text}"
    if facts.history != facts.history:
        yield "  a loss that is not finite has no parts"
    if not facts.exact:
        yield "  the batches' own losses are not known exactly: " + HIDDEN
    for difference in _differences(facts):
        scale = max(abs(quantities[difference.of]), abs(quantities[difference.minus]))
        seen = {c: a for c, a in difference.parts.items() if abs(a) > 1e-12 * scale}
        yield f"  {difference.of} - {difference.minus} = {difference.total:+.4g}"
        width = max((len(cause) for cause in seen), default=0)
        for cause, amount in seen.items():
            yield f"    {cause:<{width}}  {amount:+.4g}"
