"""Reading and changing learning rates so that the next step uses what is said here."""

from pykguard.learning_rate._check import check_kind, takes_nothing, takes_one
from pykguard.learning_rate._held import as_given, counter_of, is_of_legacy, value_now
from pykguard.learning_rate._read import current_learning_rate, read_learning_rate
from pykguard.learning_rate._reset import reset_learning_rate
from pykguard.learning_rate._scale import scale_learning_rate
from pykguard.learning_rate._schedule import AdjustedSchedule, is_schedule, is_schedule_like
from pykguard.learning_rate._velocities import scale_velocities

__all__ = [
    "AdjustedSchedule",
    "as_given",
    "check_kind",
    "counter_of",
    "current_learning_rate",
    "is_of_legacy",
    "is_schedule",
    "is_schedule_like",
    "read_learning_rate",
    "reset_learning_rate",
    "scale_learning_rate",
    "scale_velocities",
    "takes_nothing",
    "takes_one",
    "value_now",
]
