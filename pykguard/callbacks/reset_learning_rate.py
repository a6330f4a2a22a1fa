"""The callback that replaces a learning rate at given epochs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from pykguard import _checks
from pykguard._callback import Callback
from pykguard._errors import OptionTypeError, OptionValueError
from pykguard._warnings import warn
from pykguard.events import Event, describe
from pykguard.learning_rate import (
    check_kind,
    is_schedule_like,
    read_learning_rate,
    reset_learning_rate,
    takes_nothing,
    takes_one,
)


class ResetLearningRate(Callback):
    """Replaces the learning rate or the schedule at the beginning of given epochs.

    What `reset_learning_rate()` does, in force from the first step of the epoch: with `s` a
    schedule and `t0` the optimizer's step when the epoch begins,

        rate(t) = s(t - t0) with restart, and s(t) without

    so that one cosine and several epochs are warm restarts (SGDR: Loshchilov and Hutter, 2017).

    Together with others: a guard's `lr_factor` scales what was set here from then on, and what is
    set here later replaces it unscaled. ReduceLROnPlateau and LearningRateScheduler of Keras can
    follow a number, but raise an error where the optimizer holds a schedule.

    Args:
        learning_rate: A number above 0, a `LearningRateSchedule` or a function without arguments,
            as for `reset_learning_rate()`; or a function of the epoch, counted from 0, that gives
            one of them. A list has one for each of the epochs.
        epoch: The epoch, counted from 0; several of them; or a function of the epoch that says
            whether the rate is to be replaced.
        restart: Whether a schedule begins with its step 0, or goes on from the optimizer's step.
            Defaults to True.
        verbose: 0 is silent, 1 prints a line for each event. Defaults to 0.

    Raises:
        OptionTypeError, OptionValueError: An option cannot be used; at the start of `fit`, if an
            epoch is before its first; and within it, if a schedule gives something else than
            rates. The old rate stays.

    Example:
        >>> cosine = keras.optimizers.schedules.CosineDecay(0.1, 10 * steps_per_epoch)
        >>> restarts = ResetLearningRate(cosine, epoch=[0, 10, 20])
        >>> model.fit(x, y, epochs=30, callbacks=[restarts])
    """

    _first_epoch = 0  # what users call the first epoch; R's call it 1

    def __init__(
        self, learning_rate: Any, epoch: Any, *, restart: bool = True, verbose: int = 0
    ) -> None:
        super().__init__()
        self.epoch = _check_epochs(epoch, self._first_epoch)
        self.learning_rate = _check_rates(learning_rate, self.epoch)
        self.restart = _checks.flag("restart", restart)
        self.verbose = _checks.integer("verbose", verbose, minimum=0)
        self._events: list[Event] = []
        self._first: int | None = None

    @property
    def events(self) -> list[Event]:
        """What was replaced, oldest first: the rates in force after each."""
        return list(self._events)

    @property
    def n_reverts(self) -> int:
        """How often a state was put back: never, since this judges nothing."""
        return 0

    def get_config(self) -> dict[str, Any]:
        """The options, such that `ResetLearningRate(**callback.get_config())` is an equal one."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin anew."""
        self._begin()
        self._events = []
        self._first = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Replace the rate, if this is one of the epochs."""
        named = epoch + self._first_epoch
        if self._first is None:
            self._first = epoch
            self._check_reach(named)
        if self._is_due(named):
            self._reset(epoch, self._rate_at(named))

    def _is_due(self, epoch: int) -> bool:
        if not callable(self.epoch):
            return epoch in self.epoch if isinstance(self.epoch, list) else epoch == self.epoch
        return _checks.flag("epoch", self.epoch(epoch))

    def _check_reach(self, first: int) -> None:
        """Refuse epochs that have gone by, and warn of those that will not come."""
        if callable(self.epoch):
            return
        epochs = self.epoch if isinstance(self.epoch, list) else [self.epoch]
        if min(epochs) < first:
            raise OptionValueError(
                "epoch", f"at least {first}, where this `fit` begins", self.epoch
            )
        n_epochs = (self.params or {}).get("epochs")
        end = None if n_epochs is None else n_epochs + self._first_epoch
        beyond = [] if end is None else [each for each in epochs if each >= end]
        if beyond:
            warn(
                f"ResetLearningRate: epoch {beyond[0]}, counted from {self._first_epoch}, is "
                f"beyond the {n_epochs} epochs of this `fit`, so the rate will not be replaced "
                "there"
            )

    def _rate_at(self, epoch: int) -> Any:
        rate = self.learning_rate
        if isinstance(rate, list):
            return rate[self.epoch.index(epoch)]
        if callable(rate) and not is_schedule_like(rate) and not takes_nothing(rate):
            return rate(epoch)
        return rate

    def _reset(self, epoch: int, rate: Any) -> None:
        old = read_learning_rate(self.model)
        reset_learning_rate(self.model, rate, restart=self.restart)
        event = Event(
            epoch=epoch,
            batch=None,
            action="reset_learning_rate",
            monitor="learning_rate",
            value=old,
            reference=None,
            restored_from=None,
            learning_rate=read_learning_rate(self.model),
            reason="was to be replaced at this epoch",
        )
        self._events.append(event)
        if self.verbose:
            print("\n" + describe(event), flush=True)


def _check_epochs(epoch: Any, first: int) -> Any:
    """An epoch, a list of them, or a function; `first` is what the first epoch is called."""
    if callable(epoch):
        if not takes_one(epoch):
            raise OptionTypeError("epoch", "an epoch, several, or a function of the epoch", epoch)
        return epoch
    if isinstance(epoch, (str, bytes)) or not isinstance(epoch, Iterable):
        return _checks.integer("epoch", epoch, minimum=first)
    epochs = [_checks.integer("epoch", each, minimum=first) for each in epoch]
    if not epochs or len(set(epochs)) < len(epochs):
        raise OptionValueError("epoch", "an epoch, or several different ones", epoch)
    return epochs


def _check_rates(rate: Any, epoch: Any) -> Any:
    """A rate, a list of them with one for each epoch, or a function of the epoch."""
    if not isinstance(rate, (list, tuple)):
        check_kind(rate, of_epoch=True)
        return rate
    if not isinstance(epoch, list) or len(epoch) != len(rate):
        raise OptionValueError("learning_rate", "one rate, or a list of one for each epoch", rate)
    for each in rate:
        check_kind(each)
    return list(rate)
