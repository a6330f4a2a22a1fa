"""Recording what the loss really was, and explaining why people see others."""

from pykguard.history._explanation import Difference, Explanation
from pykguard.history._record import Record
from pykguard.history._rows import read_history
from pykguard.history.callback import LossHistory

__all__ = ["Difference", "Explanation", "LossHistory", "Record", "read_history"]
