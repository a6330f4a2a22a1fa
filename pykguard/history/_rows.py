"""A record as the rows of a file, one value a row, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pykguard.events import Event
from pykguard.history._columns import Batches, Epochs
from pykguard.history._facts import Facts
from pykguard.history._record import Record, Tables
from pykguard.history_files import Row, read_rows

FACT = "kguard."
EVENT = "kguard.event "


def rows_of_batches(batches: Batches, places: Sequence[int]) -> list[Row]:
    """Batches that follow each other: the loss of each, and what else is known of it."""
    rows: list[Row] = []
    for epoch, batch, exact, numbers in batches.rows(places):
        rows += [(epoch, batch, name, value, exact or name != "loss") for name, value in numbers]
    return rows


def rows_of_epoch(epoch: int, logs: Mapping[str, float]) -> list[Row]:
    """The metrics of an epoch."""
    return [(epoch, None, name, value, True) for name, value in logs.items()]


def rows_of_facts(facts: Facts) -> list[Row]:
    """What else is known of an epoch."""
    return [(facts.epoch, None, FACT + name, value, True) for name, value in facts.items()]


def row_of_event(event: Event) -> Row:
    """What a guard did; the row's value is the one that it judged."""
    told = {k: v for k, v in event.to_dict().items() if k not in ("epoch", "batch")}
    value = math.nan if event.value is None else event.value
    return event.epoch, event.batch, EVENT + json.dumps(told), value, True


def read_history(path: Any) -> list[Record]:
    """Read a file that a `LossHistory` wrote, also while it is still being written.

    Args:
        path: Name of the .csv or .sqlite file.

    Returns:
        A record for each run in the file, oldest first, with `batches`, `epochs`, `events`,
        `explain()` and `plot()` as the LossHistory had them.

    Raises:
        OptionTypeError, OptionValueError: There is no such file, or it holds something else.

    Example:
        >>> [first, second] = read_history("losses.csv")
        >>> print(second.explain())
    """
    return [_record(columns) for _, columns in sorted(read_rows(path).items())]


def _record(columns: Mapping[str, Any]) -> Record:
    epochs, batches, names, values = (columns[c] for c in ("epoch", "batch", "name", "value"))
    is_event = np.array([name.startswith(EVENT) for name in names], dtype="bool")
    is_fact = np.array([name.startswith(FACT) for name in names], dtype="bool") & ~is_event
    of_batch = (batches >= 0) & ~is_event
    rows = list(zip(epochs.tolist(), batches.tolist(), names, values.tolist(), strict=True))

    by_epoch: dict[int, dict[str, float]] = {}
    facts: dict[int, dict[str, float]] = {}
    for i in np.flatnonzero(~of_batch & ~is_event):
        epoch, _, name, value = rows[i]
        if is_fact[i]:
            facts.setdefault(epoch, {})[name[len(FACT) :]] = value
        else:
            by_epoch.setdefault(epoch, {})[name] = value
    table = Epochs()
    for epoch, logs in by_epoch.items():
        table.add(epoch, logs)
    told = [Facts.from_items(epoch, items) for epoch, items in facts.items()]
    of_batches = Batches.from_rows(
        *(columns[c][of_batch] for c in ("epoch", "batch", "name", "value", "exact"))
    )
    of_batches.on_bar = any(each.verbose == 1 for each in told)
    events = [_event(*rows[i][:3]) for i in np.flatnonzero(is_event)]
    return Record(Tables(of_batches, table, told, events))


def _event(epoch: int, batch: int, name: str) -> Event:
    told = json.loads(name[len(EVENT) :])
    return Event(epoch=epoch, batch=None if batch < 0 else batch, **told)
