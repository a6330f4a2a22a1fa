"""The other callbacks of a fit: its guards, its progress bar, its History."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from pykguard._framework import library_of
from pykguard.events import Event


class Companions:
    """The callbacks of one fit, this one among them, in the order of their list.

    To be made when each of them has begun the fit, and so has forgotten the one before.

    Attributes:
        bar_comes_later: Whether there is a progress bar, and it is told of things after this one.
    """

    def __init__(self, callbacks: list[Any], own: Any) -> None:
        self._callbacks = callbacks
        bars = [i for i, each in enumerate(callbacks) if hasattr(each, "progbar")]
        # What stands for a callback of R in the list has it as its `core`.
        own_places = [i for i, each in enumerate(callbacks) if own in (each, _core(each))]
        place = own_places[0] if own_places else -1
        self.bar_comes_later = any(i > place for i in bars)
        self._guards = [each for each in callbacks if hasattr(each, "n_reverts")]
        # What a guard has by now it did before this fit, and was given back to it.
        self._seen = [
            len(guard.events) if hasattr(guard, "load_state_dict") else 0 for guard in self._guards
        ]

    def new_events(self) -> list[Event]:
        """What guards did since this was asked last, in the order of the list."""
        new: list[Event] = []
        for i, guard in enumerate(self._guards):
            events = guard.events
            new += events[self._seen[i] :]
            self._seen[i] = len(events)
        return new

    def in_history(self, epoch: int, name: str) -> float:
        """What History holds for its newest epoch; NaN if that is another or there is none."""
        for callback in self._callbacks:
            held = getattr(callback, "history", None)
            if isinstance(held, dict) and getattr(callback, "epoch", None) and name in held:
                return float(held[name][-1]) if callback.epoch[-1] == epoch else math.nan
        return math.nan

    def on_bar(self, name: str) -> float:
        """What the progress bar holds, before it is rounded for the console; NaN without one."""
        for callback in self._callbacks:
            held = getattr(getattr(callback, "progbar", None), "_values", {}).get(name)
            if held is not None:
                total, count = held
                return float(np.mean(total) / max(1, count))
        return math.nan


def companions_of(callback: Any) -> Companions:
    """The callbacks in the list from which a hook of `callback` is being called.

    Keras tells a callback nothing of the others. The list is looked for among the callers.
    """
    kind = library_of(callback._model).callbacks.CallbackList
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, kind):
            return Companions(list(caller.callbacks), callback)
        frame = frame.f_back  # type: ignore[assignment]
    return Companions([callback], callback)


def _core(callback: Any) -> Any:
    return getattr(callback, "core", None)
