"""What everything that records events shares."""

from __future__ import annotations

import inspect
from typing import Any

from pykguard._callback import Callback
from pykguard._warnings import warn
from pykguard.events import Event, describe


class Recorder(Callback):
    """A callback that acts, and says what it did."""

    verbose: int
    _events: list[Event]
    _supports_tf_logs = True  # tf_keras need not fetch each batch's logs for it

    @property
    def events(self) -> list[Event]:
        """What the guard did, oldest first."""
        return list(self._events)

    @property
    def n_reverts(self) -> int:
        """How often a state was put back because training had gone bad."""
        return sum(event.action in ("revert", "rollback") for event in self._events)

    def get_config(self) -> dict[str, Any]:
        """The options, such that `type(guard)(**guard.get_config())` is an equal guard."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names}

    def _record(self, event: Event, old_rate: float | None = None) -> None:
        self._events.append(event)
        if self.verbose:
            print("\n" + describe(event, old_rate), flush=True)

    def _warn(self, message: str) -> None:
        warn(f"{type(self).__name__}: {message}")
