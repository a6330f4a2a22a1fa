"""Training guards for Keras: revert, restore and record when training goes bad."""

from pykguard._errors import (
    ExternalLossError,
    GuardError,
    GuardWarning,
    LoopError,
    MonitorError,
    OptionTypeError,
    OptionValueError,
    SnapshotError,
    UnsupportedError,
)
from pykguard.callbacks.reset_learning_rate import ResetLearningRate
from pykguard.callbacks.restore_best import RestoreBest
from pykguard.callbacks.revert import RevertOnLossIncrease, RevertToBestOnIncrease
from pykguard.callbacks.spike_guard import BadBatch, SpikeGuard
from pykguard.events import Event
from pykguard.external import ExternalLossModel, external_loss
from pykguard.history import Difference, Explanation, LossHistory, Record, read_history
from pykguard.learning_rate import current_learning_rate, reset_learning_rate
from pykguard.loop import GuardedLoop, guarded_loop

__version__ = "0.1.0"

__all__ = [
    "BadBatch",
    "Difference",
    "Event",
    "Explanation",
    "ExternalLossError",
    "ExternalLossModel",
    "GuardError",
    "GuardWarning",
    "GuardedLoop",
    "LoopError",
    "LossHistory",
    "MonitorError",
    "OptionTypeError",
    "OptionValueError",
    "Record",
    "ResetLearningRate",
    "RestoreBest",
    "RevertOnLossIncrease",
    "RevertToBestOnIncrease",
    "SnapshotError",
    "SpikeGuard",
    "UnsupportedError",
    "__version__",
    "current_learning_rate",
    "external_loss",
    "guarded_loop",
    "read_history",
    "reset_learning_rate",
]
