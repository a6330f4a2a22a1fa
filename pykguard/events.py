"""What a guard did, and the evidence it did it on."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Action = Literal["revert", "rollback", "restore", "reset_learning_rate", "stop"]


class Event(NamedTuple):
    """One recorded decision with its evidence.

    Attributes:
        epoch: Epoch in which it was taken, counted from 0 as in Keras' hooks.
        batch: Batch within the epoch, counted from 0; None for a decision at an epoch's end.
        action: `"revert"`, `"rollback"`, `"restore"`, `"reset_learning_rate"` or `"stop"`.
        monitor: Name of the judged quantity; `"probe_loss"` for the loss on a probe, and
            `"learning_rate"` where that was reset.
        value: Its value; None where the epoch did not measure it. The old rate where it was reset.
        reference: What it was compared with; None where there was nothing to compare with yet.
        restored_from: Epoch whose end state was put back, or within an epoch the one in which the
            state was kept; -1 is the state before training, None means that no state was put back.
        learning_rate: Learning rate in force after the event; None without an optimizer.
        reason: What was wrong, as words that follow on the quantity and its value.
    """

    epoch: int
    batch: int | None
    action: Action
    monitor: str
    value: float | None
    reference: float | None
    restored_from: int | None
    learning_rate: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The event as a plain dictionary."""
        return self._asdict()

    def __str__(self) -> str:
        return describe(self)


def describe(event: Event, old_rate: float | None = None) -> str:
    """One line for the console. Epochs are numbered from 1 in it, as on Keras' own lines.

    Args:
        event: The event.
        old_rate: The learning rate before it, where it is to be named if it changed.
    """
    if event.action == "reset_learning_rate":
        return (
            f"Epoch {event.epoch + 1}: learning rate {event.value:.4g} -> {event.learning_rate:.4g}"
        )
    value = "" if event.value is None else f" {event.value:.4g}"
    when = "After epoch" if event.action == "restore" and event.batch is None else "Epoch"
    when += f" {event.epoch + 1}" + ("" if event.batch is None else f", batch {event.batch + 1}")
    line = f"{when}: {event.monitor}{value} {event.reason}: {_outcome(event)}"
    rate = event.learning_rate
    if rate is not None and old_rate is not None and rate != old_rate:
        line += f", learning rate {old_rate:.4g} -> {rate:.4g}"
    return line


def epoch_name(epoch: int) -> str:
    """How an epoch is called in messages: numbered from 1, -1 being the initial state."""
    return "the initial state" if epoch < 0 else f"epoch {epoch + 1}"


def _outcome(event: Event) -> str:
    if event.action == "stop":
        return "training stopped"
    verb = {"revert": "reverted to", "rollback": "rolled back to", "restore": "restored"}
    where = "" if event.restored_from is None else f" {epoch_name(event.restored_from)}"
    return verb[event.action] + where
