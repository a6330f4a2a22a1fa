"""Decisions to go back, and what is settled by them."""

from __future__ import annotations

from pykguard.rules.spike import _progress
from pykguard.rules.spike._types import Cause, Decision, Rejected, Slot, State, Watch


def rolled_back(
    state: State, cause: Cause, evidence: Rejected, slot: Slot
) -> tuple[State, Decision]:
    """Put back a state since the weights were at fault."""
    decision = Decision(
        cause,
        put_back=slot,
        scale=state.scale,
        value=evidence.value,
        reference=evidence.reference,
        rejected=(evidence._replace(cause=cause),),
    )
    return state, decision


def undone(state: State, slot: Slot, evidence: Rejected, settled: bool = False) -> Decision:
    """Put back a state since a batch was bad; `settled` if it is known why."""
    return Decision(
        evidence.cause,
        put_back=slot,
        scale=state.scale,
        value=evidence.value,
        reference=evidence.reference,
        rejected=(evidence,) if settled else (),
    )


def joined(good: Decision, trouble: Decision) -> Decision:
    """What a good batch asks for, and what follows on it."""
    return trouble._replace(
        keep=(*good.keep, *trouble.keep), rejected=(*good.rejected, *trouble.rejected)
    )


def calmed(state: State) -> State:
    """After the weights were found at fault: what was suspected is settled."""
    progress = _progress.interrupted(state.progress)
    return unsuspected(state)._replace(
        progress=progress, had_trouble=True, since_trouble=0, since_compared=0
    )


def unsuspected(state: State) -> State:
    """With nothing that is suspected, of the data or of the weights."""
    return state._replace(
        watch=Watch(),
        is_back=False,
        is_retry=False,
        pending=(),
        bad_at_proven=(),
        n_running=0,
        n_within=0,
        n_broken=0,
    )
