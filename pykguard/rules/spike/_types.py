"""What goes into the rule of SpikeGuard and what comes out of it."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from pykguard.rules.spike._comparison import Comparison
from pykguard.rules.spike._levels import Levels
from pykguard.rules.spike._progress import Progress
from pykguard.rules.spike._search import Search

# The states of training that the rule speaks of. "before" is the one before the batch that is
# judged, whose loss was measured at it; the others are what the rule has asked to keep.
Slot = Literal[
    "before", "proven", "best", "initial", "suspect", "drifted", "aside", "start", "held"
]

Cause = Literal[
    "good",
    "unclear",  # undone; the next batches will tell whether data or weights are at fault
    "data",
    "weights",  # an update broke the weights: the rate is too high
    "some",  # the same, on a part of the batches
    "drift",
    "drift is data",
    "level",  # the data have moved to a higher level
    "first",  # the first batch's loss is far above the next ones': perhaps it was bad
    "dead",
    "harmed",
    "trial",
    "again",  # a rate is tried again whose trial may have met bad data
    "found",
    "raised",  # a comparison was won by a higher rate
    "lowered",
    "compared",  # a comparison was lost
    "end",
    "exhausted",
    "all bad",
    "max_rollbacks",
    "checking",
    "comparing",
]


class Options(NamedTuple):
    """What the user asked for; never changes while training runs."""

    window: int = 128
    threshold: float = 6.0
    warmup: int = 32
    interval: int = 1  # in calm, a state is kept every so many batches
    lr_factor: float = 0.5
    max_rollbacks: int | None = None


class Rejected(NamedTuple):
    """A batch that was undone, and the evidence against it."""

    where: Any
    value: float
    reference: float | None  # the median of the accepted losses
    cause: Cause = "unclear"
    n: int = 1  # batches in a row that it stands for
    weights_finite: bool = True


class Check(NamedTuple):
    """A drift that is being verified: losses at the best and at the drifted state, by turns."""

    drifted: float  # the smoothed loss
    where: Any
    most: int  # batches for it
    at_best: tuple[float, ...] = ()
    at_drifted: tuple[float, ...] = ()
    n: int = 0


class FirstCheck(NamedTuple):
    """A first loss that is being verified, as later ones are far lower."""

    level: float  # the first one
    n_high: int = 0  # of the losses measured at the initial state since, that are as high


class DataCheck(NamedTuple):
    """Whether batches that were found bad would be so at the initial weights too."""

    n: int  # how many to measure there at most
    n_good: int = 0


class Watch(NamedTuple):
    """Looking for a network that no longer learns: at its kernels, thrice, some batches apart."""

    n_marks: int = 0
    since: int = 0  # batches since the last mark, or since the last comparison
    wait: int = 0  # batches to let pass before the next comparison


class State(NamedTuple):
    """What has been seen so far."""

    levels: Levels = Levels()
    progress: Progress = Progress()
    search: Search | None = None
    check: Check | None = None
    first_check: FirstCheck | None = None
    data_check: DataCheck | None = None
    n_data_checks: int = 0
    comparison: Comparison | None = None
    units: tuple[int, ...] | None = (
        None  # of each kernel, that learnt at first; None before a search
    )
    watch: Watch = Watch()
    standing: Literal["initial", "proven", "unproven"] = "initial"
    is_back: bool = False  # whether older weights were put back, to see if a batch is good there
    is_retry: bool = False  # whether the suspected ones were put back after that
    pending: tuple[Rejected, ...] = ()  # undone, and not yet known why
    bad_at_proven: tuple[float, ...] = ()  # losses in a row of batches found bad
    n_running: int = 0  # bad batches in a row
    n_within: int = 0  # executions in a row that went bad after their first batch
    n_broken: int = 0  # batches in a row that left weights not finite
    first_where: Any = None  # the batch whose loss said first what normal is
    last_where: Any = None  # the last accepted batch
    n_anew: int = 0  # times that the first loss was suspect
    aside: float = math.inf  # the best smoothed loss before training was begun anew
    scale: float = 1.0  # of the rate that training began at
    had_trouble: bool = False
    is_under_way: bool = False  # whether training had got anywhere, so that it is not begun anew
    n_annealed: int = 0  # times that the rate was lowered for the end
    n_batches: int = 0
    n_seen: int = 0  # executions, mostly of one batch
    n_bad: int = 0  # those of them whose data were found bad
    n_far: int = 0  # those of these that would be bad even at the initial weights
    since_trouble: int | None = None  # batches; None before there was any
    since_kept: int = 0
    since_compared: int = 0  # batches since rates were compared last, or the rate was at fault
    wait: int = 1  # trials' lengths to let pass before rates are compared
    ceiling: float = 1.0  # up to which the rate may be raised again, as a share of its first value
    lost_factor: float = 1.0  # the other rate of the last comparison, in present ones, if it lost
    seems_off: bool = False  # and there was no state of the batch to verify it by
    n_rollbacks: int = 0


class Seen(NamedTuple):
    """One execution: the losses of its batches, of which the first was measured at "before"."""

    losses: tuple[float, ...]
    kept: bool = True  # whether the state "before" is there
    weights_finite: bool = True
    where: Any = None
    n_left: int | None = None  # batches of the training that are still to come, where it is known
    n_all: int = 0  # and all of its batches
    following: float | None = None  # the next batch's loss, where it is known already


class Decision(NamedTuple):
    """What to do after a batch, and the evidence for it.

    First the slots in `keep` become the state "before", and "aside" the state "best" if that is
    to be `set_aside`. Then `put_back` is put back; unless it is
    "before", it becomes "proven" too. The learning rate becomes `scale` times the one that training
    began at. `mark` is 0, 1 or 2 where the guard is to look at the kernels for the first, second or
    third time; then it compares the three, and hands the result to `compared()`.
    """

    cause: Cause = "good"
    keep: tuple[Slot, ...] = ()
    put_back: Slot | None = None
    scale: float = 1.0
    mark: int | None = None
    set_aside: bool = False
    stop: bool = False
    value: float | None = None
    reference: float | None = None
    rejected: tuple[Rejected, ...] = ()  # what became of the batches that were undone
