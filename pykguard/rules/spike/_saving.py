"""The rule's state as plain numbers, lists and dictionaries, and back."""

from __future__ import annotations

from typing import Any

from pykguard.rules.spike._levels import Levels
from pykguard.rules.spike._progress import Progress
from pykguard.rules.spike._types import State


def to_dict(state: State) -> dict[str, Any]:
    """What is worth going on from; a search, a check and what was suspected are not."""
    return {
        "levels": {name: list(losses) for name, losses in state.levels._asdict().items()},
        "best": state.progress.best,
        "n_seen": state.n_seen,
        "n_bad": state.n_bad,
        "n_far": state.n_far,
        "scale": state.scale,
        "had_trouble": state.had_trouble,
        "is_under_way": state.is_under_way,
        "n_batches": state.n_batches,
        "n_rollbacks": state.n_rollbacks,
    }


def from_dict(values: dict[str, Any]) -> State:
    """The state that `to_dict()` was given, at weights that nothing has proven yet."""
    levels = {name: tuple(losses) for name, losses in values["levels"].items()}
    return State(
        levels=Levels(**levels),
        progress=Progress(best=values["best"]),
        n_seen=values["n_seen"],
        n_bad=values["n_bad"],
        n_far=values["n_far"],
        standing="unproven",
        scale=values["scale"],
        had_trouble=values["had_trouble"],
        is_under_way=values["is_under_way"],
        n_batches=values["n_batches"],
        n_rollbacks=values["n_rollbacks"],
    )
