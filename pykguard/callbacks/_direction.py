"""Whether a monitored quantity is to be made small or large."""

from __future__ import annotations

from typing import Any

from pykguard._errors import MonitorError
from pykguard._framework import is_legacy, library_of
from pykguard.rules._comparison import Direction


def infer_direction(monitor: str, model: Any) -> Direction:
    """What Keras infers with `mode="auto"`, asked of Keras itself.

    Raises:
        MonitorError: Keras cannot tell, as for a metric that it does not know.
    """
    if monitor in ("loss", "val_loss"):
        return "min"
    oracle = library_of(model).callbacks.EarlyStopping(monitor=monitor, mode="auto")
    oracle.set_model(model)
    if is_legacy(model):  # which never says that it cannot tell
        return "min" if bool(oracle.monitor_op(0.0, 1.0)) else "max"
    try:
        oracle._set_monitor_op()
    except ValueError:
        raise MonitorError(
            f'`mode` must be "min" or "max" here: Keras cannot tell from `monitor` {monitor!r} '
            "whether it is to be minimized or maximized"
        ) from None
    return "min" if bool(oracle.monitor_op(0.0, 1.0)) else "max"
