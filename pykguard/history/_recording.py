"""Making the record of one fit, from what its hooks are told."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np

from pykguard._framework import is_legacy, to_numpy
from pykguard._probe import Probe
from pykguard._warnings import warn
from pykguard.events import Event
from pykguard.history._columns import Batches, Epochs
from pykguard.history._companions import Companions
from pykguard.history._console import BarAverage
from pykguard.history._facts import Facts, Sums
from pykguard.history._fallback import Guess, OwnMean
from pykguard.history._logs import Logs, logged_columns, numbers_in
from pykguard.history._modes import measure
from pykguard.history._outlets import Outlets
from pykguard.history._rate import HostRate, needs_host
from pykguard.history._record import Tables
from pykguard.history._steps import Rows, Steps
from pykguard.history._tracker import install

# Batches are read and written together, but none waits for more seconds than this, if the next one
# takes as long as it did itself.
OFTEN = 0.05


# Of a step: seconds since the start, learning rate, what the bar averaged, what was logged.
Noted = tuple[float, float, float, Logs]


class Recording:
    """Makes a record.

    Args:
        model: The model that is trained.
        every: Which batches of an epoch are recorded.
        outlets: Where the record goes besides.
    """

    def __init__(self, model: Any, every: int, outlets: Outlets) -> None:
        reader = install(model)
        rate = reader.tracker.rate
        self._model = model
        self._every = every
        self._outlets = outlets
        self._steps = Steps(reader, self._take)
        self._own_mean = OwnMean(model, reader.tracker)
        self._rate = HostRate(model, rate) if needs_host(rate, model) else None
        self._per_execution = _steps_per_execution(model)
        self._batches = Batches(wide=keras.config.floatx() == "float64")
        self._epochs = Epochs()
        self._facts: list[Facts] = []
        self._events: list[Event] = []
        self._guess: Guess | None = None
        self._open: tuple[Facts, Logs] | None = None
        self._companions: Companions | None = None
        self._warned = False
        self._start = time.perf_counter()
        self._newest = self._written = 0.0
        self._n_before = self._handed = 0
        self.begin_epoch(0, None, 0, None)

    @property
    def tables(self) -> Tables:
        """What is recorded so far, which goes on growing."""
        self._steps.flush(within=True)
        self._settle()
        return Tables(self._batches, self._epochs, self._facts, self._events)

    def begin_epoch(
        self, epoch: int, companions: Companions | None, verbose: int, n_batches: int | None
    ) -> None:
        """Finish the epoch before, of whose end everybody was told by now, and begin another.

        Args:
            epoch: Its number.
            companions: The callbacks of the fit.
            verbose: As `fit` was told.
            n_batches: How many batches it will have, if that is known.
        """
        self._finish()
        self._n_before += self._handed
        self._companions = companions
        self._epoch = epoch
        self._handed = 0
        self._sums = Sums()
        self._bar = BarAverage(self._model, verbose)
        self._verbose = verbose
        self._per_epoch = n_batches
        self._last_logged = math.nan
        self._resets_before = self._resets = self._steps.n_resets
        self._batches.on_bar = verbose == 1 and not self._bar.averages
        more = self._rate or self._outlets or self._own_mean.exists or self._bar.averages
        self._is_plain = self._per_execution == 1 and not more

    def end_execution(self, logs: dict[str, Any]) -> None:
        """Note the batches of an execution, and what was logged after it."""
        seconds = time.perf_counter() - self._start
        steps = self._steps
        if self._is_plain and len(steps.noted) + 1 < steps.room:
            steps.noted.append((seconds, math.nan, math.nan, logs.copy()))
            return
        n = 1 if self._per_execution == 1 else self._count()
        rate = math.nan if self._rate is None else self._rate.after_steps(n)
        console = math.nan
        if self._bar.averages:
            self._bar.add(logs.get("loss", math.nan), n)
            console = self._bar.value
        if n > 1:  # nothing is logged within an execution
            steps.noted += [(seconds, rate, math.nan, {})] * (n - 1)
        steps.noted.append((seconds, rate, console, logs.copy()))
        if self._own_mean.exists:
            self._guess = self._own_mean.after_steps(n)
        steps.took(n)
        if self._outlets and 2 * seconds - self._newest - self._written > OFTEN:
            steps.flush()
            self._written = seconds
        self._newest = seconds
        self._resets = steps.n_resets

    def end_epoch(self, epoch: int, logs: Logs, data: Probe | None, model: Any) -> None:
        """Note an epoch's metrics, and measure the model on `data`."""
        self._steps.flush()
        facts = Facts(epoch, verbose=self._verbose)
        self._sums.write(facts)
        facts.resets = self._resets - self._resets_before
        facts.last_logged = float(self._last_logged)
        if self._sums.is_exact:
            facts.tracked, mixed = self._steps.mean(float(logs.get("loss", math.nan)))
            facts.resets += mixed
        if self._companions is not None and self._companions.bar_comes_later:
            facts.running = self._companions.on_bar("loss")
        if self._bar.averages:
            facts.running_average = self._bar.value
        numbers = dict(numbers_in(logs))
        self._epochs.add(epoch, numbers)
        self._outlets.epoch(epoch, numbers)
        self._facts.append(facts)
        self._open = facts, logs
        if data is not None:
            measured = measure(model, data, self._sums.batch_size)
            facts.evaluated, facts.inferred = measured.evaluated, measured.inference
            facts.evaluated_training, facts.evaluated_frozen = measured.training, measured.frozen
            facts.regularisation = measured.regularisation

    def close(self) -> None:
        """Finish the last epoch, and let go of the model and the files."""
        self._steps.flush()
        self._finish()
        self._steps.close()
        self._outlets.close()

    # ---------------------------------------------------------------- inside
    def _add(self, noted: list[Noted]) -> list[int]:
        """Add rows for steps, all together, since that is faster; -1 for those not recorded."""
        seconds, rates, console, logs = zip(*noted, strict=True)
        self._last_logged = logs[-1].get("loss", math.nan)
        numbers = range(self._handed, self._handed + len(noted))
        self._handed = numbers.stop
        chosen = slice(-numbers.start % self._every, None, self._every)
        columns = logged_columns(logs[chosen])
        columns["learning_rate"] = rates[chosen]
        if self._bar.averages:
            columns["console_loss"] = console[chosen]
        places = [-1] * len(noted)
        places[chosen] = self._batches.add(self._epoch, numbers[chosen], seconds[chosen], columns)
        self._batches.per_epoch = max(self._batches.per_epoch, numbers.stop)
        return places

    def _count(self) -> int:
        """How many steps an execution took: all that were planned, or what data there was."""
        taken = self._handed + len(self._steps.noted)
        left = None if self._per_epoch is None else self._per_epoch - taken
        planned = self._per_execution
        return self._steps.count(planned, left, self._steps.n_resets != self._resets)

    def _take(self, rows: Rows | None, noted: list[Noted]) -> None:
        """Record steps: what was noted of them, and what they computed."""
        places = self._add(noted)
        rates = None if self._rate is None else self._rate.of_last(len(noted))
        if rows is None:
            self._fill_unknown(places)
        else:
            if rates is not None:
                rows = self._with_rates(places, rows, rates)
            self._sums.add(rows)
            self._batches.fill(places, rows)
        if self._outlets:
            recorded = [place for place in places if place >= 0]
            self._outlets.batches(self._batches, recorded, self._n_before)

    def _with_rates(self, places: list[int], rows: Rows, rates: Rows) -> Rows:
        """The rows with the rates of a schedule, where no other rate was noted after the step."""
        noted = np.array([self._batches.number("learning_rate", max(p, 0)) for p in places])
        return np.column_stack([rows[:, :2], np.where(np.isnan(noted), rates, noted)])

    def _fill_unknown(self, places: list[int]) -> None:
        self._sums.add_unknown(len(places))
        if not self._warned:
            self._warned = True
            warn(
                "LossHistory: a batch's own loss could not be seen, since a `train_step` does not "
                "update the model's loss tracker, or a callback ran `test_on_batch()` or "
                "`train_on_batch()` within an epoch; what is known of it stands in its place, with "
                "`exact` False and the bound on the error in `error_bound`"
            )
        for place in places:
            if place >= 0:
                logged = self._batches.number("logged_loss", place)
                self._batches.guess(place, *(self._guess or Guess(logged, 0, math.inf)))

    def _settle(self) -> None:
        """What is to be known once everybody was told of an epoch's end."""
        if self._open is None or self._companions is None:
            return
        facts, logs = self._open
        facts.history = self._companions.in_history(facts.epoch, "loss")
        facts.bar = self._companions.on_bar("loss")
        facts.logged = dict(numbers_in(logs)).get("loss", math.nan)
        if self._bar.averages_at_end:
            facts.bar_average = self._bar.at_end(facts.logged)
        for event in self._companions.new_events():
            facts.taken_back += _takes_batches_back(event) and event.epoch == facts.epoch
            self._events.append(event)
            self._outlets.event(event)

    def _finish(self) -> None:
        self._settle()
        if self._open is not None:
            self._outlets.facts(self._open[0])
            self._open = None


def _takes_batches_back(event: Event) -> bool:
    return event.batch is not None and event.action in ("rollback", "restore")


def _steps_per_execution(model: Any) -> int:
    steps = model._steps_per_execution if is_legacy(model) else model.steps_per_execution
    return int(to_numpy(steps))
