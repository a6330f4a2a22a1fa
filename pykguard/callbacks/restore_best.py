"""The guard that lets training run and leaves the best weights."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from pykguard import _checks
from pykguard.callbacks import _turns
from pykguard.callbacks._guard import Guard
from pykguard.events import epoch_name
from pykguard.rules import best as rule
from pykguard.rules._epochs import INITIAL


class RestoreBest(Guard):
    """Lets training run, and leaves the best weights in the model when it ends.

    Minimising, an epoch is the best so far iff `value < best - min_delta`, and its mirror image
    when maximising; a value or weights that are not finite are never the best. The state that the
    best epoch ended with is put back at the end of `fit`, however `fit` stops; as a context manager
    also when it ends by Ctrl-C or an exception, which goes on afterwards.

    If no epoch could be the best, a warning says why; if the weights are not finite then, the
    initial state is put back. An epoch that a guard in front of it in the list took back is not
    judged, so put it behind the revert guards.

    Args:
        monitor: Name of the quantity in the epoch's logs. Defaults to `"val_loss"`.
        mode: `"min"`, `"max"` or `"auto"`, which infers it as Keras does. Defaults to `"auto"`.
        min_delta: How much better than the best a value must be, in units of the quantity.
            Defaults to 0.
        restore_optimizer: Whether the optimizer's state is put back too. Defaults to False.
        restore_random_state: Whether the global random state of Python, NumPy and PyTorch is put
            back too. Defaults to False.
        start_from_epoch: Epochs before this one, counted from 0, are never the best.
            Defaults to 0.
        probe: None, or a tuple `(x, y)` or `(x, y, sample_weight)` with equally many rows, without
            NaN. The value is then the model's loss on these data at the epoch's end.
            Defaults to None.
        verbose: 0 is silent, 1 prints a line when the state is put back. Defaults to 0.

    Raises:
        OptionTypeError, OptionValueError: An option cannot be used; also at the start of `fit`,
            if the model does not take the probe.
        MonitorError: The quantity is missing from an epoch that measured others, or `mode="auto"`
            cannot tell its direction.

    Example:
        >>> with RestoreBest("val_loss") as keep:
        ...     model.fit(x, y, validation_split=0.2, epochs=100, callbacks=[keep])
        >>> keep.best_epoch
    """

    _state: rule.State
    _before: rule.State  # before the best so far was found

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: str = "auto",
        min_delta: float = 0.0,
        restore_optimizer: bool = False,
        restore_random_state: bool = False,
        start_from_epoch: int = 0,
        probe: Any = None,
        verbose: int = 0,
    ) -> None:
        self.min_delta = _checks.number("min_delta", min_delta, minimum=0)
        super().__init__(
            monitor=monitor,
            mode=mode,
            restore_optimizer=restore_optimizer,
            restore_random_state=restore_random_state,
            start_from_epoch=start_from_epoch,
            probe=probe,
            verbose=verbose,
        )

    def restore(self) -> None:
        """Put the best state back now; may be called during, between and after `fit`s.

        Raises:
            SnapshotError: The guard has not been in a `fit` yet.
        """
        keeper = self._in_use()
        self._settle()
        if self._state.best_epoch is not None:
            keeper.put_back()
            reason = f"of {epoch_name(self._state.best_epoch)} is the best"
            self._record_restore(self._state.best_epoch, reason)
        elif keeper.snapshots.non_finite():
            keeper.put_back()
            why = "no epoch was finite" if self._n_measured else "no epoch was brought to its end"
            self._record_restore(INITIAL, f"is not finite; {why}")
            self._warn(f"{why}, so the model is back in its initial state")
        elif not self._warn_if_never_measured() and self._n_measured:
            self._warn(
                f"no epoch was the best: of {self._n_measured}, all were before `start_from_epoch` "
                f"or not finite in {self._monitor_name()!r}, so the last weights stay"
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh, or from a loaded state, and keep the initial state."""
        super().on_train_begin(logs)
        self._training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the state if the epoch is the best so far."""
        self._settle()
        self._epoch = epoch
        if _turns.taken_back(self.model, epoch):
            return
        value = self._measure(logs)
        options = rule.Options(self._direction or "min", self.min_delta, self.start_from_epoch)
        promising = rule.may_be_best(options, self._state, epoch, value)
        weights_finite = not (promising and self._in_use().look())
        state, improved = rule.step(options, self._state, epoch, value, weights_finite)
        if improved and self._is_last(epoch) and self._in_use().look_closely():
            improved, state = False, self._state
        if improved:
            self._keep_seen(checked=self._is_last(epoch))
            self._before = self._state
        else:
            self._in_use().drop_seen()
        self._state = state

    def _take_back_kept(self, broken: list[str]) -> None:
        self._state = self._before

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the best state back."""
        self._training = False
        self.restore()

    def __enter__(self) -> RestoreBest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._training:
            return
        self._training = False
        keeper = self._in_use()
        keeper.snapshots.alone = error is not None  # the other processes may not come here
        if keeper.snapshot is None:
            self._warn("was interrupted while it kept a state, so there is none to put back")
        else:
            self.restore()

    def _record_restore(self, epoch: int, reason: str) -> None:
        event = self._event(
            "restore",
            epoch=max(self._epoch, 0),
            value=self._state.best,
            reference=None,
            restored_from=epoch,
            reason=reason,
        )
        self._record(event)

    def _begin_run(self) -> None:
        super()._begin_run()
        self._before = self._state
        self._training = False
        self._epoch = INITIAL

    def _to_rule_state(self, values: dict[str, Any]) -> rule.State:
        return rule.State(**values)
