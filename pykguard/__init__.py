"""Training guards for Keras: revert, restore and record when training goes bad."""

from pykguard._errors import (
    GuardError,
    GuardWarning,
    MonitorError,
    OptionTypeError,
    OptionValueError,
    SnapshotError,
    UnsupportedError,
)
from pykguard.callbacks.restore_best import RestoreBest
from pykguard.callbacks.revert import RevertOnLossIncrease, RevertToBestOnIncrease
from pykguard.events import Event
from pykguard.history import Difference, Explanation, LossHistory, Record, read_history

__version__ = "0.1.0"

__all__ = [
    "Difference",
    "Event",
    "Explanation",
    "GuardError",
    "GuardWarning",
    "LossHistory",
    "MonitorError",
    "OptionTypeError",
    "OptionValueError",
    "Record",
    "RestoreBest",
    "RevertOnLossIncrease",
    "RevertToBestOnIncrease",
    "SnapshotError",
    "UnsupportedError",
    "__version__",
    "read_history",
]
