"""Reading a monitored quantity from an epoch's logs, without ever missing it in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pykguard._errors import MonitorError


def read_monitor(logs: Mapping[str, Any] | None, monitor: str) -> float | None:
    """The value of `monitor` in an epoch's logs.

    Returns:
        The value, or None where a `val_…` quantity is monitored and the epoch did not validate
        (no key of `logs` begins with `val_`), as happens with `validation_freq`.

    Raises:
        MonitorError: The epoch measured what it was asked to and `monitor` is not among it, or
            what is there is not a number.
    """
    logs = logs or {}
    if monitor in logs:
        try:
            return float(logs[monitor])
        except (TypeError, ValueError):
            raise MonitorError(
                f"`monitor` must name a number in the logs; {monitor!r} is {logs[monitor]!r}"
            ) from None
    validated = any(name.startswith("val_") for name in logs)
    if monitor.startswith("val_") and not validated:
        return None
    raise MonitorError(f"`monitor` is {monitor!r}, but the epoch's metrics are {known(logs)}")


def known(logs: Mapping[str, Any]) -> str:
    """The names in `logs` as a readable list."""
    return ", ".join(repr(name) for name in logs) or "none at all"
