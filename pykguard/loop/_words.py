"""How the messages of a loop spell what its user writes."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """A language's numbers and calls; the defaults are Python's.

    Attributes:
        first: What its users call the first epoch and the first batch.
        batches: How they ask for batches.
        report: How they report one.
        state: How they read the state on JAX.
    """

    first: int = 0
    batches: str = "`loop.batches(data)`"
    report: str = "`loop.report(loss=…)`"
    state: str = "`loop.state()`"
