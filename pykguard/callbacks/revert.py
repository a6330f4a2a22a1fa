"""Guards that go back when an epoch made the model worse."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pykguard import _checks
from pykguard._optimizers import finalize
from pykguard.callbacks import _turns
from pykguard.callbacks._guard import Guard
from pykguard.events import epoch_name
from pykguard.learning_rate import read_learning_rate, scale_learning_rate
from pykguard.rules import revert as rule
from pykguard.rules._epochs import INITIAL


class _RevertGuard(Guard):
    """What the two revert guards share; they differ only in the state they go back to."""

    _state: rule.State
    _before: rule.State | None  # before the last epoch was judged
    _seen: rule.Seen | None  # what it was judged by
    _epoch: int  # the last epoch
    _kept_last: bool  # whether the last epoch's end state was kept
    _stopped_within: bool  # whether training was told to stop after a step had been undone
    _last_rate: float | None  # after the last revert
    _warned: bool
    _go_back_to: ClassVar[Literal["accepted", "best"]]

    def __init__(
        self,
        monitor: str = "loss",
        *,
        mode: str = "auto",
        tolerance: float = 0.0,
        relative_tolerance: float = 0.0,
        reference: str = "best",
        patience: int = 0,
        restore_optimizer: bool = True,
        restore_random_state: bool = False,
        lr_factor: float = 1.0,
        min_lr: float = 0.0,
        max_reverts: int | None = None,
        start_from_epoch: int = 0,
        probe: Any = None,
        verbose: int = 0,
    ) -> None:
        self.tolerance = _checks.number("tolerance", tolerance, minimum=0)
        self.relative_tolerance = _checks.number(
            "relative_tolerance", relative_tolerance, minimum=0
        )
        self.reference: rule.Reference = _checks.choice("reference", reference, rule.REFERENCES)
        self.patience = _checks.integer("patience", patience, minimum=0)
        self.lr_factor = _checks.number("lr_factor", lr_factor, above=0, maximum=1)
        self.min_lr = _checks.number("min_lr", min_lr, minimum=0)
        self.max_reverts = _checks.optional_integer("max_reverts", max_reverts, minimum=1)
        super().__init__(
            monitor=monitor,
            mode=mode,
            restore_optimizer=restore_optimizer,
            restore_random_state=restore_random_state,
            start_from_epoch=start_from_epoch,
            probe=probe,
            verbose=verbose,
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Settle the last epoch; in the first one keep the initial state."""
        super().on_epoch_begin(epoch, logs)
        self._disown_if_taken_back()

    def _disown_if_taken_back(self) -> None:
        """Forget the last epoch if a guard behind this one took back what this one accepted."""
        taken = _turns.taken_back(self.model, self._epoch)
        if taken is None or taken.guard() is self or self._before is None:
            return
        self._state, self._before = self._before, None
        if self._kept_last:
            self._in_use().keep()
            self._state = self._state._replace(kept_epoch=taken.restored_from)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Judge the epoch; keep its end state, let it pass, or go back."""
        if self._undo_steps_from_a_broken_state():
            taken = _turns.taken_back_since(self.model, self._epoch)
            if taken is None or taken.guard() is self:
                _turns.take_back(self.model, epoch, self._state.kept_epoch, self)
            self._before, self._epoch = None, epoch
            return
        self._before, self._epoch = None, epoch
        if _turns.taken_back(self.model, epoch):
            return
        value = self._measure(logs)
        value_finite = value is None or math.isfinite(value)
        broken = self._in_use().look() if value_finite else []
        seen = rule.Seen(epoch, value, weights_finite=not broken)
        state, decision = rule.step(self._rule_options(), self._state, seen)
        if decision.action != "revert" and (not decision.keep or self._is_last(epoch)):
            broken = self._in_use().look_closely()
            seen = seen._replace(weights_finite=not broken)
            state, decision = rule.step(self._rule_options(), self._state, seen)
        if decision.keep:
            self._keep_seen(checked=self._is_last(epoch))
        else:
            self._in_use().drop_seen()
        self._before, self._seen, self._kept_last = self._state, seen, decision.keep
        self._state = state
        if decision.action == "revert":
            self._revert(seen, decision, broken)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Settle the last epoch, and say so if there was nothing to judge."""
        if self._settle():
            finalize(self.model)
        self._disown_if_taken_back()
        self._warn_if_never_measured()

    def _undo_steps_from_a_broken_state(self) -> bool:
        """At an epoch's end, put back the kept state if the epoch's steps began at a broken one.

        That is so where the epoch was over before the check of the kept state was asked for its
        result, and where training was told to stop, which it does one step later.
        """
        if self._stopped_within:
            self._in_use().put_back()
            return True
        return self._settle()

    def _take_back_kept(self, broken: list[str]) -> None:
        assert self._before is not None and self._seen is not None
        taken = _turns.taken_back_since(self.model, self._seen.epoch)
        if taken is not None and taken.guard() is not self:
            self._state, self._before = self._before, None
            return
        seen = self._seen._replace(weights_finite=False)
        self._state, decision = rule.step(self._rule_options(), self._before, seen)
        self._revert(seen, decision, broken)
        if self._first_step_taken:  # its loss is not of the state that is there now
            self.model.reset_metrics()
            self._stopped_within = bool(self.model.stop_training)

    def _revert(self, seen: rule.Seen, decision: rule.Decision, broken: list[str]) -> None:
        self._in_use().put_back()
        _turns.take_back(self.model, seen.epoch, self._state.kept_epoch, self)
        old_rate = read_learning_rate(self.model)
        scale_learning_rate(self.model, self.lr_factor, self.min_lr)
        event = self._event(
            "revert",
            epoch=seen.epoch,
            value=seen.value,
            reference=decision.reference,
            restored_from=decision.restored_from,
            reason=self._reason(seen, decision, broken),
        )
        self._record(event, old_rate)
        if decision.stop:
            self.model.stop_training = True
            times = "1 revert" if self.max_reverts == 1 else f"{self.max_reverts} reverts"
            reason = f"used up the {times} that `max_reverts` allows"
            self._record(event._replace(action="stop", restored_from=None, reason=reason))
        elif self._state.n_reverts_running >= 2 and not self._is_lower(event.learning_rate):
            self._warn_of_repetition()
        self._last_rate = event.learning_rate

    def _is_lower(self, rate: float | None) -> bool:
        return rate is not None and self._last_rate is not None and rate < self._last_rate

    def _warn_of_repetition(self) -> None:
        if not self._warned:
            self._warned = True
            lower = "a lower `min_lr`" if self.lr_factor < 1 else "`lr_factor` below 1"
            self._warn(
                "two epochs running were reverted to the same state with the same learning rate; "
                f"the same data may fail again and again. Use {lower} or `max_reverts`, "
                "and no LearningRateScheduler, which sets the rate anew"
            )

    def _reason(self, seen: rule.Seen, decision: rule.Decision, broken: list[str]) -> str:
        if decision.cause == "value":
            return "is not finite"
        if decision.cause == "weights":
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            verb = "was not measured, but there are" if seen.value is None else "hides"
            return f"{verb} non-finite values in {broken[0]}{more}"
        assert decision.reference is not None and decision.reference_epoch is not None
        sign = "+" if self._direction == "min" else "-"
        allowed = f" {sign} {decision.allowed:.4g}" if decision.allowed else ""
        when = epoch_name(decision.reference_epoch)
        return f"is worse than {self.reference} {decision.reference:.4g} ({when}){allowed}"

    def _rule_options(self) -> rule.Options:
        return rule.Options(
            direction=self._direction or "min",
            tolerance=self.tolerance,
            relative_tolerance=self.relative_tolerance,
            reference=self.reference,
            patience=self.patience,
            max_reverts=self.max_reverts,
            start_from_epoch=self.start_from_epoch,
            go_back_to=self._go_back_to,
        )

    def _begin_run(self) -> None:
        super()._begin_run()
        self._warned = False
        self._before = None
        self._seen = None
        self._kept_last = False
        self._stopped_within = False
        self._epoch = INITIAL
        self._last_rate = None

    def _to_rule_state(self, values: dict[str, Any]) -> rule.State:
        return rule.State(**values)


class RevertOnLossIncrease(_RevertGuard):
    """Takes back an epoch that made the monitored quantity worse.

    At the end of each epoch its value is compared with a reference value `r`. Minimising, the epoch
    is worse iff

        not (value <= r + max(tolerance, relative_tolerance * |r|))

    and its mirror image when maximising; NaN is therefore worse. A worse epoch is undone: the whole
    training state that the last accepted epoch ended with is put back. A value that is not finite,
    or weights that are not, count as worse at once, whatever `tolerance` and `patience`, also in
    the first epoch, which goes back to the initial state.

    Restored are the model's variables (weights, BatchNorm statistics, seed generators) and, with
    `restore_optimizer`, the optimizer's (moments, iterations, loss scale) except the learning rate.
    Not restored is the order of the data, nor, unless `restore_random_state`, the global random
    state of Python, NumPy and PyTorch.

    One copy of that state is kept, on the device. TensorFlow shares its memory with the model until
    the next step. There the smaller variables, up to 8 MiB, are checked at the epoch's end, and the
    larger ones beside the next epoch's first step; if one of those is not finite, the epoch is
    taken back before the second step. Until then callbacks behind the guard see it, so a
    ModelCheckpoint may save it. In the last epoch all of them are checked at its end.

    Where several devices train one model, all take the same decision and put back what each held.
    Under PyTorch's DistributedDataParallel the value is the mean of the processes' values, and the
    guard has to be among the callbacks of each process.

    Put the guards first in the list of callbacks. Those behind them then see the model as the
    guards leave it, while `logs` keep the epoch's true values:

    - EarlyStopping counts a reverted epoch as one without improvement.
    - ModelCheckpoint saves the state that was put back. One that monitors another quantity than the
      guard goes before it, or it may file that state under the reverted epoch's value.
    - ReduceLROnPlateau and `lr_factor` both cut the learning rate, one after the other.
      LearningRateScheduler sets it anew at each epoch, whatever the guard did, unless its function
      goes on from the rate that it is given. ResetLearningRate replaces it, and with it what the
      guard had cut.
    - TerminateOnNaN ends training within the epoch, which the guard then takes back: training ends
      with the good state in place.

    When several guards are in one list, the first one that goes back settles
    the epoch: those behind it leave it unjudged, those before it do not count it as accepted.

    Args:
        monitor: Name of the quantity in the epoch's logs. Defaults to `"loss"`.
        mode: `"min"`, `"max"` or `"auto"`, which infers it as Keras does. Defaults to `"auto"`.
        tolerance: How much worse than the reference a value may be, in units of the quantity.
            Defaults to 0.
        relative_tolerance: The same as a fraction of `|r|`; the larger of the two counts.
            Defaults to 0.
        reference: `"best"`, the best value so far, which moves only on strict improvement; or
            `"previous"`, the last accepted value. Defaults to `"best"`.
        patience: Number of worse epochs in a row that are let pass before one is taken back.
            An accepted or a reverted epoch starts the count anew. Defaults to 0.
        restore_optimizer: Whether the optimizer's state is put back too. Defaults to True.
        restore_random_state: Whether the global random state of Python, NumPy and PyTorch is put
            back too, which `Dropout` without a seed draws from on PyTorch, and the order of the
            data may. Defaults to False.
        lr_factor: After a revert the learning rate is multiplied by this, above 0 and at most 1;
            a schedule is scaled from then on. The velocities of SGD and RMSprop with momentum,
            which are sums of steps at the old rate, are scaled with it. Defaults to 1.
        min_lr: The learning rate is not cut below this. Defaults to 0.
        max_reverts: After that many reverts training stops, with the good state in place; None
            means no limit. Defaults to None.
        start_from_epoch: Epochs before this one, counted from 0, are accepted unjudged unless they
            are not finite. Defaults to 0.
        probe: None, or a tuple `(x, y)` or `(x, y, sample_weight)` with equally many rows, without
            NaN. The value is then the model's loss on these data with the weights as they
            stand at the epoch's end, which the training loss does not describe. Defaults to None.
        verbose: 0 is silent, 1 prints a line for each event. Defaults to 0.

    Raises:
        OptionTypeError, OptionValueError: An option cannot be used; also at the start of `fit`,
            if the model does not take the probe.
        MonitorError: The quantity is missing from an epoch that measured others, or `mode="auto"`
            cannot tell its direction.

    Example:
        >>> guard = RevertOnLossIncrease("val_loss", tolerance=1e-3, lr_factor=0.5, verbose=1)
        >>> model.fit(x, y, validation_split=0.2, epochs=30, callbacks=[guard])
        >>> guard.events
    """

    _go_back_to = "accepted"


class RevertToBestOnIncrease(_RevertGuard):
    """Takes back an epoch that made the quantity worse, to the best state so far.

    The rule, the options and the errors are those of `RevertOnLossIncrease`; they differ in the
    state that is put back, which here is the one that the best epoch ended with. The two guards do
    the same unless `tolerance`, `relative_tolerance` or `reference="previous"` lets an epoch be
    accepted that is not the best. Before there is a best epoch it is the last accepted state.

    Args:
        monitor: Name of the quantity in the epoch's logs. Defaults to `"loss"`.
        mode: `"min"`, `"max"` or `"auto"`, which infers it as Keras does. Defaults to `"auto"`.
        tolerance: How much worse than the reference a value may be. Defaults to 0.
        relative_tolerance: The same as a fraction of the reference's size. Defaults to 0.
        reference: `"best"` or `"previous"`. Defaults to `"best"`.
        patience: Number of worse epochs in a row that are let pass. Defaults to 0.
        restore_optimizer: Whether the optimizer's state is put back too. Defaults to True.
        restore_random_state: Whether the global random state of Python, NumPy and PyTorch is put
            back too. Defaults to False.
        lr_factor: After a revert the learning rate is multiplied by this. Defaults to 1.
        min_lr: The learning rate is not cut below this. Defaults to 0.
        max_reverts: After that many reverts training stops; None means no limit. Defaults to None.
        start_from_epoch: Epochs before this one are accepted unjudged. Defaults to 0.
        probe: None, or a tuple `(x, y)` or `(x, y, sample_weight)`. Defaults to None.
        verbose: 0 is silent, 1 prints a line for each event. Defaults to 0.
    """

    _go_back_to = "best"
