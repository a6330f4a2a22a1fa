"""The rule of SpikeGuard: what to do after each batch, by the losses that batches had.

A batch's loss is measured before its update, so a good loss proves the weights that stood before
the batch. A bad one is undone first. If the next batches are good at the same weights, it was the
data. If several different ones are bad there, older weights are put back: if a batch is good at
those, the updates in between had broken the weights, and the rate is at fault.
"""

from pykguard.rules.spike._annealing import warmed
from pykguard.rules.spike._dead import Kernels, Moves
from pykguard.rules.spike._keeping import is_due, together
from pykguard.rules.spike._saving import from_dict, to_dict
from pykguard.rules.spike._step import at_end, compared, moved, step
from pykguard.rules.spike._types import Decision, Options, Rejected, Seen, Slot, State

__all__ = [
    "Decision",
    "Kernels",
    "Moves",
    "Options",
    "Rejected",
    "Seen",
    "Slot",
    "State",
    "at_end",
    "compared",
    "from_dict",
    "is_due",
    "moved",
    "step",
    "to_dict",
    "together",
    "warmed",
]
