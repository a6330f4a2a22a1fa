"""What the picture of a loss history shows, in numbers, for whatever draws it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pykguard.events import Event
from pykguard.picture import _scales
from pykguard.picture._scales import Limits
from pykguard.picture._thin import Array, first_of_each, medians, thin

Columns = Mapping[str, Any]

WIDTH = 1000
_CURVES = ("loss", "val_loss")
_FEW = 60  # points that can be told apart on a line
_DENSE = 5000  # from here on the line of the batches is a band
_N_MEDIANS = 200
_N_MARKS = 75  # along an edge: more would be a bar
_MANY_REVERTS = 40
_TAKEN_BACK = {"revert": "reverted", "rollback": "rolled back"}
_NOTHING = np.empty(0)


class Line(NamedTuple):
    """Points to be joined, NaN being a gap."""

    time: Array
    value: Array


class Picture(NamedTuple):
    """All that is drawn, on an axis on which epoch `e`, counted from 0, ends at `e + 1`.

    Everything but scales is in columns of equal length.

    Attributes:
        lines: `name`, `time` and `value` of all lines, one after the other: "each batch", "not
            exact" for losses that stand in for others, "typical batch" for the running median where
            the batches are dense, "loss" and "val_loss". NaN is a gap. `point` tells what is also
            drawn as a point, since its line has few or it stands alone.
        marks: `name` of the line, `time`, `what` ("not finite" or "off the scale") and the `edge`
            at which it is marked, 1 the upper and -1 the lower.
        reverts: `time` and `what` ("reverted" or "rolled back").
        many_reverts: Whether they are too many for lines across the picture.
        rate: `time` and `value` of the line of the learning rate.
        span: The limits of the axis.
        ticks: Where it has ticks.
        tick_labels: The numbers there.
        title: What they count.
        limits: The limits of the losses.
        log: Whether their scale is logarithmic.
        rate_limits: The limits of the learning rate.
        rate_log: Whether its scale is logarithmic.
    """

    lines: Columns
    marks: Columns
    reverts: Columns
    many_reverts: bool
    rate: Columns
    span: Limits
    ticks: list[float]
    tick_labels: list[int]
    title: str
    limits: Limits
    log: bool
    rate_limits: Limits
    rate_log: bool


def to_plot(
    batches: Columns,
    epochs: Columns,
    batches_per_epoch: int,
    events: Sequence[Event],
    n: int = WIDTH,
) -> Picture:
    """Choose what is drawn of a loss history.

    A loss far from those of the epochs is drawn up to the edge and marked there, so that a run
    which exploded can still be read.

    Args:
        batches: Columns epoch, batch, loss, exact and, if it is known, learning_rate.
        epochs: Columns epoch and each metric.
        batches_per_epoch: The number of batches in the longest epoch.
        events: What guards did in that run.
        n: How many points wide the picture is.
    """
    per_epoch = max(batches_per_epoch, 1)
    times = batches["epoch"] + (batches["batch"] + 1) / per_epoch
    of_batches = Line(times, np.asarray(batches["loss"], dtype="float64"))
    curves = {name: _curve(epochs, name) for name in _CURVES if name in epochs}
    span = _span(batches["epoch"], times, epochs["epoch"])
    edges = _scales.edges(np.concatenate([_NOTHING, *(curve.value for curve in curves.values())]))

    typical = Line(*medians(*of_batches, _N_MEDIANS))
    lines = _batch_lines(of_batches, np.asarray(batches["exact"], dtype="bool"), n)
    if len(times) > _DENSE:
        lines["typical batch"] = typical
    lines |= {name: _thinned(curve, n) for name, curve in curves.items()}
    lines = {name: line for name, line in lines.items() if not np.isnan(line.value).all()}
    log, limits = _scale(lines, typical.value, edges)
    logged = _logged(batches)
    marked = {"each batch": Line(times[logged], of_batches.value[logged]), **curves}
    marks = [row for name, line in marked.items() for row in _marks(name, line, edges, span)]
    reverts, many = _reverts(events, per_epoch, span)
    rates = np.asarray(batches.get("learning_rate", _NOTHING), dtype="float64")
    rate_log, rate_limits = _rate_scale(rates)
    ticks, tick_labels, title = _scales.ticks(span, per_epoch)
    return Picture(
        lines=_stacked(lines, limits),
        marks=_table(("name", "time", "what", "edge"), marks),
        reverts=reverts,
        many_reverts=many,
        rate=_steps(times, rates, per_epoch, n)._asdict(),
        span=span,
        ticks=ticks,
        tick_labels=tick_labels,
        title=title,
        limits=limits,
        log=log,
        rate_limits=rate_limits,
        rate_log=rate_log,
    )


# ---------------------------------------------------------------- lines
def _thinned(line: Line, n: int) -> Line:
    kept = thin(*line, n)
    return Line(line.time[kept], _gaps(line.value[kept]))


def _gaps(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def _batch_lines(line: Line, exact: Array, n: int) -> dict[str, Line]:
    kept = thin(*line, n)
    time, value = line.time[kept], _gaps(line.value[kept])
    return {
        "each batch": Line(time, np.where(exact[kept], value, np.nan)),
        "not exact": Line(time, np.where(exact[kept], np.nan, value)),
    }


def _points(line: Line) -> Array:
    """Which of a line are drawn as points."""
    there = ~np.isnan(line.value)
    if there.sum() <= _FEW:
        return there
    beside = np.concatenate([[False], there, [False]])
    alone: Array = there & ~beside[:-2] & ~beside[2:]
    return alone


def _curve(epochs: Columns, name: str) -> Line:
    """A metric of the epochs that measured it."""
    values = np.asarray(epochs[name], dtype="float64")
    measured = _validated(epochs) if name == "val_loss" else np.full(len(values), True)
    return Line(np.asarray(epochs["epoch"], dtype="float64")[measured] + 1, values[measured])


def _validated(epochs: Columns) -> Array:
    """Which epochs validated, as far as can be told: NaN also stands for not measured.

    Those with any result of it. Where these are at least half of every second, or third, ... epoch,
    the rest of those too.
    """
    seen: Array = np.any(
        [~np.isnan(v) for name, v in epochs.items() if name.startswith("val_")], axis=0
    )
    if not seen.any():
        return ~seen
    numbers = np.asarray(epochs["epoch"]) + 1
    due: Array = numbers % np.gcd.reduce(numbers[seen]) == 0
    return due if 2 * seen.sum() >= due.sum() else seen


def _steps(times: Array, rates: Array, per_epoch: int, n: int) -> Line:
    """Steps: a batch's rate holds from the end of the one before to its own."""
    if not np.isfinite(rates).any():
        return Line(_NOTHING, _NOTHING)
    same = (rates[1:] == rates[:-1]) | (np.isnan(rates[1:]) & np.isnan(rates[:-1]))
    ends = np.flatnonzero(~np.append(same, False))
    line = _thinned(Line(times[ends], rates[ends]), n)
    time = np.append(times[0] - 1 / per_epoch, line.time)
    return Line(np.repeat(time, 2)[1:-1], np.repeat(line.value, 2))


# ---------------------------------------------------------------- scales
def _span(epoch_of_batch: Array, times: Array, epochs: Array) -> Limits:
    starts = np.concatenate([_NOTHING, epoch_of_batch[:1], epochs[:1]])
    ends = np.concatenate([_NOTHING, times[-1:], epochs[-1:] + 1])
    return (float(starts.min()), float(ends.max())) if len(ends) else (0.0, 1.0)


def _scale(lines: Mapping[str, Line], typical: Array, edges: Limits) -> tuple[bool, Limits]:
    """Whether the losses are on a logarithmic scale, and its limits.

    They are where all are positive, and the highest is more than a hundred times the lowest of the
    trend: else one batch with next to no loss would decide.
    """
    shown = _within(np.concatenate([_NOTHING, *(line.value for line in lines.values())]), edges)
    curves = [line.value for name, line in lines.items() if name in _CURVES]
    trend = _within(np.concatenate([typical, *curves]), edges)
    log = shown.min(initial=1) > 0 and _scales.spans(np.append(trend, shown.max(initial=0)), 100)
    return log, _scales.limits(shown, log)


def _rate_scale(rates: Array) -> tuple[bool, Limits]:
    """Whether the learning rate is on a logarithmic scale, and its limits.

    It is where a quarter of the steps had less than about a tenth of the highest rate: one that
    comes down in steps is then seen to the last of them, and a cosine keeps its shape.
    """
    rates = rates[np.isfinite(rates)]
    log = len(rates) > 0 and _scales.spans(np.array([np.quantile(rates, 0.25), rates.max()]), 9)
    log = log and rates.min() > 0
    return bool(log), _scales.limits(rates, bool(log), include_zero=True)


def _within(values: Array, edges: Limits) -> Array:
    return values[(values >= edges[0]) & (values <= edges[1])]


# ---------------------------------------------------------------- marks
def _logged(batches: Columns) -> Array:
    """Which batches have a loss: all, unless nothing stands in for those that were not seen."""
    exact = np.asarray(batches["exact"], dtype="bool")
    logged: Array = exact | ~np.isnan(batches["loss"][~exact]).all()
    return logged


def _marks(name: str, line: Line, edges: Limits, span: Limits) -> Iterator[tuple[Any, ...]]:
    high, low = line.value > edges[1], line.value < edges[0]
    finite = np.isfinite(line.value)
    for which, what, edge in (
        (~finite, "not finite", 1),
        (finite & high, "off the scale", 1),
        (finite & low, "off the scale", -1),
    ):
        time = line.time[which]
        for position in first_of_each(time, _N_MARKS, span):
            yield name, float(time[position]), what, edge


def _reverts(events: Sequence[Event], per_epoch: int, span: Limits) -> tuple[Columns, bool]:
    back = [event for event in events if event.action in _TAKEN_BACK]
    rows = sorted({(_time(event, per_epoch), _TAKEN_BACK[event.action]) for event in back})
    many = len(rows) > _MANY_REVERTS
    if many:
        time = np.array([time for time, _ in rows])
        rows = [rows[i] for i in first_of_each(time, _N_MEDIANS, span)]
    return _table(("time", "what"), rows), many


def _time(event: Event, per_epoch: int) -> float:
    return event.epoch + (1 if event.batch is None else (event.batch + 1) / per_epoch)


# ---------------------------------------------------------------- columns
def _table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


def _stacked(lines: Mapping[str, Line], limits: Limits) -> Columns:
    def joined(parts: Iterable[Array], like: str) -> Array:
        return np.concatenate([np.empty(0, dtype=like), *parts])

    return {
        "name": joined((np.full(len(line.time), name) for name, line in lines.items()), "U1"),
        "time": joined((line.time for line in lines.values()), "float64"),
        "value": joined((np.clip(line.value, *limits) for line in lines.values()), "float64"),
        "point": joined((_points(line) for line in lines.values()), "bool"),
    }
