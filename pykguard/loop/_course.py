"""The course of a training: what callbacks are told of its epochs and batches, and in which order.

How the epochs and batches are asked for is left to `GuardedLoop`.
"""

from __future__ import annotations

from typing import Any

from pykguard._callback import Callback
from pykguard._errors import LoopError
from pykguard._framework import to_numpy
from pykguard._warnings import warn
from pykguard.events import epoch_name
from pykguard.loop._arrays import Arrays
from pykguard.loop._idle import StepCounts
from pykguard.loop._undo import Undo
from pykguard.loop._words import Words


class Course:
    """Begins and ends epochs and batches; runs once.

    Args:
        model: What the callbacks are given as their model: the stand-in for all models.
        callbacks: Keras' list of the callbacks.
        epochs: The numbers of the epochs.
        steps: How many batches an epoch has, or None.
        arrays: What a batch reads and writes on JAX.
        undo: What keeps the state before a batch.
        counts: What counts the optimizers' steps.
        words: How messages spell the calls and the numbers of the user.

    Attributes:
        epoch: The epoch that is open; None where none is.
        n_batches: How many batches of the epoch were reported.
        is_claimed: Whether the one training was asked for.
        has_ended: Whether it has ended.
        is_open: Whether a batch was begun and not reported.
    """

    def __init__(
        self,
        model: Any,
        callbacks: Any,
        *,
        epochs: range,
        steps: int | None,
        arrays: Arrays,
        undo: Undo,
        counts: StepCounts,
        words: Words,
    ) -> None:
        self._model = model
        self._callbacks = callbacks
        self._epochs = epochs
        self._steps = steps
        self._arrays = arrays
        self._undo = undo
        self._counts = counts
        self._words = words
        self.epoch: int | None = None
        self.n_batches = 0
        self.is_claimed = self.has_ended = self.is_open = False
        self._is_short = False  # whether the data of the epoch ended
        self._val_logs: dict[str, float] = {}
        self._last_logs: dict[str, float] | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether a callback wants the training to stop."""
        return bool(self._model.stop_training)

    def claim(self) -> None:
        """Refuse a second training.

        Raises:
            LoopError: It is one.
        """
        if self.is_claimed:
            raise LoopError("a guarded loop runs once: make another one to train on")
        self.is_claimed = True

    def begin(self) -> None:
        """Begin the training."""
        self._model.stop_training = False
        self._callbacks.on_train_begin()

    # ---------------------------------------------------------------- epochs
    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self.epoch, self.n_batches, self._is_short = epoch, 0, False
        self._val_logs = {}
        self._model.begin_means()
        self._counts.begin_epoch()
        self._callbacks.on_epoch_begin(epoch)

    def validated(self, metrics: dict[str, float]) -> None:
        """Take the metrics of a validation into the epoch's logs."""
        self._val_logs |= {f"val_{name.removeprefix('val_')}": v for name, v in metrics.items()}

    def end_epoch(self) -> None:
        """End the epoch.

        Raises:
            LoopError: It had no batch, or the last one was not reported.
        """
        self.require_report()
        assert self.epoch is not None
        if not self.n_batches:
            name = epoch_name(self.epoch)
            raise LoopError(f"{name} had no batch: go through {self._words.batches}")
        if self._steps is not None and self._is_short and self.n_batches < self._steps:
            warn(f"guarded_loop: the data ended after {self.n_batches} of {self._steps} `steps`")
        if self.epoch == self._epochs[0]:
            self._counts.warn_of_idle()
        logs = {name: float(to_numpy(mean)) for name, mean in self._model.means().items()}
        self._last_logs = logs | self._val_logs
        self._callbacks.on_epoch_end(self.epoch, self._last_logs)

    # ---------------------------------------------------------------- batches
    def n_left(self) -> int | None:
        """How many batches of the epoch are still to come at most; None if that is not known."""
        return None if self._steps is None else max(self._steps - self.n_batches, 0)

    def begin_batch(self) -> None:
        """Begin a batch.

        Raises:
            LoopError: The last one was not reported.
        """
        self.require_report()
        self._callbacks.on_train_batch_begin(self.n_batches)
        self._model.has_begun = True
        self._model.step_rate.note()
        self._undo.keep()
        self._arrays.begin_batch()
        self.is_open = True

    def end_batch(self, loss: Any, size: int, metrics: dict[str, Any], state: Any) -> None:
        """End the batch that is open, with what was reported of it."""
        self._arrays.take(state)
        logs = self._model.add_batch(loss, size, metrics)
        self.is_open = False
        self.n_batches += 1
        self._callbacks.on_train_batch_end(self.n_batches - 1, logs)

    def data_ended(self) -> None:
        """Note that the data had no more batches for this epoch."""
        self._is_short = True

    def require_report(self) -> None:
        """Refuse to go on while a batch is open.

        Raises:
            LoopError: One is.
        """
        if self.is_open:
            assert self.epoch is not None
            raise LoopError(
                f"batch {self._batch()} of {epoch_name(self.epoch)} was not reported: call "
                f"{self._words.report} once in each batch"
            )

    # ---------------------------------------------------------------- the end
    def finish(self) -> None:
        """End the training as `fit` does."""
        if not self.has_ended:
            self.has_ended, self.epoch = True, None
            self._undo.forget()
            self._model.finalize_optimizers()
            try:
                self._callbacks.on_train_end(self._last_logs)
            except BaseException:
                self._release()
                raise

    def abandon(self) -> None:
        """End without `on_train_end()`, as `fit` does after an error; an open batch is undone."""
        if self.has_ended:
            return
        self.has_ended, self.epoch = True, None
        try:
            if self.is_open:
                self._undo.put_back()
        finally:
            self.is_open = False
            self._undo.forget()
            self._release()

    def end_after_break(self) -> None:
        """End after the loop was left; a batch that is open means that it was by an error."""
        if self.is_open:
            self.abandon()
        else:
            self.finish()

    def where(self) -> str:
        """Where the training is, and what is undone if it is abandoned now."""
        where = f"in {epoch_name(self.epoch)}" if self.epoch is not None else "before an epoch"
        if self.is_open:
            where += f", batch {self._batch()}"
            where += "; the weights are as before that batch" if self._undo.is_ready else ""
        return where

    def _batch(self) -> int:
        """The number of the batch that is open, as the user counts."""
        return self._words.first + self.n_batches

    def _release(self) -> None:
        for callback in self._callbacks.callbacks:
            callback = getattr(callback, "core", callback)  # of what stands for one of R
            if isinstance(callback, Callback):
                callback.release()
