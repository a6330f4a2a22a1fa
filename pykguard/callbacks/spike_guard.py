"""The guard that goes back within an epoch, batch by batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pykguard import _checks
from pykguard._errors import OptionValueError, SnapshotError
from pykguard._framework import require_one_process, to_numpy
from pykguard._optimizers import finalize, stands_for_loop
from pykguard._processes import mean_of_all
from pykguard.callbacks import _turns
from pykguard.callbacks._initial import when_built
from pykguard.callbacks._own_losses import OwnLosses
from pykguard.callbacks._recorder import Recorder
from pykguard.callbacks._slots import Kept, Slots, moves_of
from pykguard.callbacks._spike_words import compared, left, reason, stopped
from pykguard.events import Action, Event
from pykguard.learning_rate import read_learning_rate, scale_learning_rate
from pykguard.rules import spike as rule
from pykguard.rules._epochs import INITIAL
from pykguard.snapshots import snapshots_for

CALM_INTERVAL = 32  # batches between two states that are kept, where `interval` is None


class BadBatch(NamedTuple):
    """A batch whose data were found bad.

    Attributes:
        epoch: The epoch in which it first was, counted from 0.
        batch: Its place in the epoch, counted from 0.
        times: How often the batch at this place was found bad.
    """

    epoch: int
    batch: int
    times: int


class SpikeGuard(Recorder):
    """Takes back single batches that make training go bad, and finds a rate that trains.

    It watches each batch's own loss `l_t`, which is measured at the weights `w_t` before the
    batch's update; not the running mean that Keras logs, which hides spikes. With `m` the median of
    the last `window` accepted losses, `m_f` and `MAD_f` the median and the median absolute
    deviation of `f(loss)` (Hampel, 1974), `s_f = 1.4826 * MAD_f`, and `L0` the loss at the initial
    weights, a batch is bad iff

        not (l_t <= max(2 * m, (m_cbrt + threshold * s_cbrt)**3,
                        min(exp(m_log + threshold * s_log), H)))

    so NaN is bad, or if `w_t` are not finite. Cube roots of sums of squares are nearly normal
    (Wilson and Hilferty, 1931). Logarithms count where losses spread over orders of magnitude, up
    to `H = L0 / 4`, and up to `H = 10 * L0` where `s_log > 1`: where nearly all rows are learnt by
    heart, the loss of those that are not may be higher than at the beginning, but up to `2 * L0`
    after a loss that was above that too. Of losses of which `m <= 0` the limit is
    `m + max(threshold * s, |m|)`, and `10 * L0` where more than half are 0 and none is negative.
    Before `warmup` losses were accepted it is at least twice `L0`, or four times `m` if that is
    lower; before 8 were, three times `L0`, and before any trouble ten times for one alone, whose
    neighbours are not above three times, as first batches may differ much.

    A good loss proves the weights that it was measured at. In calm, where a fit knows its number
    of batches, up to eight are judged together when the last of them is over: a callback that saves
    the model within an epoch may meet a bad one first. With `interval=1` each is judged at once.
    What follows on a bad one:

    - **The batch is undone**: `w_t` is put back, the optimizer's state and the metrics too, and
      training goes on with the next batch (Chowdhery et al., 2022). If that is good at `w_t`, it
      was the data, and the rate stays. `bad_batches` lists batches whose data were bad.
    - **Bad batches in a row** are data too while that is likely. With `p` the share of bad data so
      far, `n` of them are not, where `p**n < 1e-4`; at least 2, and 4 if they are NaN. Then older,
      proven weights are put back. If a batch is bad there too, it is the data after all; if one is
      good there and the next one bad at `w_t`, the updates had broken the weights: the rate is at
      fault. Weights may explode on a part of the batches only; so where `p > 0.15` early, `n`
      batches with `(1 - p)**n < 0.01` are measured at the initial weights. If none is bad there,
      the rate is at fault.
    - **The rate at fault early**, before the loss has fallen by a fifth: trials from the initial
      state of a sixteenth of the training, at least 16 and at most 24 batches, each at 0.3 times
      the last one's rate, or 0.09 times where that ended above twice `L0`, as long as they end
      lower than the best before by 2 %; then the best trial's end and rate, or those of the one
      after it if that ended as low but for chance, as high rates look better in few batches than
      they are (Wu et al., 2018). A trial is abandoned when it breaks, and when its end leaves a
      kernel less than a quarter of the units that learnt at first, as ReLUs that are off for good.
      Where the data have proved so bad meanwhile that `p**n > 1e-3` for the `n` that broke a trial,
      its rate is tried once more in the end.
    - **The rate at fault later**: back to the state with the best loss, and the rate times
      `lr_factor`, as "bold driver" methods do (Vogl et al., 1988; Battiti, 1989).
    - **Other rates**, once the rate was at fault: from time to time as many batches as a trial has
      are trained at the present rate, then as many from the same state at another one, and training
      goes on from the better end. While the loss falls, and on a plateau that it has never left,
      the other rate is 3.3 times the present one, up to where it began, or to 0.7 of one that was
      at fault later; it is taken unless it ends higher by a standard error or leaves fewer units
      that learn. Where the loss hovers the other rate is 0.3 times the present one, and has to end
      lower by two. Comparisons that are lost come ever more seldom. If a kernel has lost three
      quarters of its units meanwhile, training begins anew at a lower rate.
    - **A slow rise**: where the loss, smoothed as the mean of the last 16 without the two highest
      and the two lowest, is above 1.5 times its best by more than 3 robust standard deviations of
      those 16, or for 32 losses above twice its best, by a tenth of `L0` and, in cube roots, by
      1.25 of theirs, batches are measured at the best state and at the present one by turns, 5 to
      20 at each, but beyond 5 no more than a quarter of the batches that are left. The rate is at
      fault if those at the present one are higher by 2.5 standard errors, and only they are high or
      they are 1.5 times as high. Right before the end of training, 1.2 times its best by one
      deviation is enough to look.
    - **A bad first batch**: where one of the next losses is 30 times lower, up to five batches are
      measured at the initial weights. If one of them is ten times lower, the first was bad, and
      training begins anew.
    - **A dead network**, of which more than half of the kernels get no gradients, begins anew. Its
      best state is put back at the end if training has not got as far again, unless more than a
      tenth of the batches had been left out by then, without which losses tell little.
    - **The end of such a run**, and of one in which more than a tenth of the batches were bad data:
      the rate times 0.3 when 10 % of the batches are left, and again when 3 % are (Hu et al.,
      2024), since the highest rate that trains, and data with gaps, leave noisy weights. When
      training has ended the rate is as it was before.

    When training ends, weights that are not finite or that the last batches found bad are replaced
    by the newest proven ones. Where nothing helps, training stops with the best state in place.

    The logged loss is the mean of the accepted batches; of an epoch without any it is NaN. A
    LossHistory in the list records every batch. Put the guard first in the list.

    Under MirroredStrategy a batch's loss is the mean over its rows on all replicas.

    Not restored are the learning rate, the global random state of Python, NumPy and PyTorch, and
    the order of the data. Steps of several batches (`steps_per_execution`) are undone together.

    Args:
        window: Number of accepted losses that say what is normal. Defaults to 128.
        threshold: How many robust standard deviations above the median a good loss may be.
            Defaults to 6.
        warmup: Number of accepted losses before the median and its deviation are trusted.
            Defaults to 32.
        interval: A state is kept before every so many batches at most: at first before the batches
            0, 1, 4 and 16, in the last 12 batches before every eighth, in trouble and in the 64
            batches after it before each. A bad batch with no state from right before it takes
            training back to the last one that was proven; with 1 there always is one. None means
            32. Defaults to None.
        lr_factor: What the rate is multiplied by where it is at fault, above 0 and below 1.
            Defaults to 0.5.
        max_rollbacks: After that many roll-backs training stops with the best state in place; None
            means no limit. Defaults to None.
        verbose: 0 is silent, 1 prints a line for each event. Defaults to 0.

    Raises:
        OptionTypeError, OptionValueError: An option cannot be used.
        MonitorError: A `train_step` of the user's own does not update the model's loss tracker.
        UnsupportedError: The model is trained in several processes of TensorFlow, or on several
            replicas with a Keras such as 3.7, whose metrics do not tell them apart.

    Example:
        >>> guard = SpikeGuard(verbose=1)
        >>> model.fit(x, y, epochs=10, callbacks=[guard])
        >>> guard.events

    References:
        Battiti, R. (1989). Accelerated backpropagation learning: two optimization methods. Complex
        Systems 3, 331-342.

        Chowdhery, A. et al. (2022). PaLM: scaling language modeling with pathways.
        arXiv:2204.02311, section 5.1.

        Hampel, F. R. (1974). The influence curve and its role in robust estimation. Journal of the
        American Statistical Association 69, 383-393.

        Hu, S. et al. (2024). MiniCPM: unveiling the potential of small language models with
        scalable training strategies. arXiv:2404.06395, section 4.

        Vogl, T. P. et al. (1988). Accelerating the convergence of the back-propagation method.
        Biological Cybernetics 59, 257-263.

        Wilson, E. B. and Hilferty, M. M. (1931). The distribution of chi-square. Proceedings of the
        National Academy of Sciences 17, 684-688.

        Wu, Y. et al. (2018). Understanding short-horizon bias in stochastic meta-optimization.
        arXiv:1803.02021.
    """

    _state: rule.State
    _bad: dict[int, tuple[int, int]]  # by the place in the epoch: the first epoch, how often
    _best_epoch: int | None
    _epoch: int
    _first_epoch: int
    _scale: float  # of the rate that training began at
    _taken: _turns.TakenBack | None  # the last epoch that another guard took back
    _marks: list[list[Any]]  # looks at the kernels, by which a dead network is found
    _are_batches_over: bool  # those of this epoch
    _is_empty: bool  # whether none of them was accepted
    _measured: dict[str, Any]  # what is to be logged of them, where Keras has it wrong

    def __init__(
        self,
        *,
        window: int = 128,
        threshold: float = 6.0,
        warmup: int = 32,
        interval: int | None = None,
        lr_factor: float = 0.5,
        max_rollbacks: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.window = _checks.integer("window", window, minimum=8)
        self.threshold = _checks.number("threshold", threshold, above=0)
        self.warmup = _checks.integer("warmup", warmup, minimum=1)
        self.interval = _checks.optional_integer("interval", interval, minimum=1)
        self.lr_factor = _checks.number("lr_factor", lr_factor, above=0, maximum=1)
        self.max_rollbacks = _checks.optional_integer("max_rollbacks", max_rollbacks, minimum=1)
        self.verbose = _checks.integer("verbose", verbose, minimum=0)
        if self.warmup > self.window:
            raise OptionValueError("warmup", f"at most `window`, {self.window}", warmup)
        if self.lr_factor == 1:
            raise OptionValueError("lr_factor", "below 1", lr_factor)
        self._loaded: list[np.ndarray[Any, Any]] | None = None
        self._is_loaded = False
        self._slots: Slots | None = None
        self._losses: OwnLosses | None = None
        self._begin_run()

    monitor = "loss"

    # ---------------------------------------------------------------- what users read
    @property
    def best(self) -> float | None:
        """The lowest smoothed loss, of 16 accepted ones; None before one is below the first."""
        best = self._state.progress.best
        return None if self._best_epoch is None or math.isinf(best) else best

    @property
    def best_epoch(self) -> int | None:
        """The epoch in which it was reached, counted from 0."""
        return None if self.best is None else self._best_epoch

    @property
    def bad_batches(self) -> list[BadBatch]:
        """The places in an epoch whose data were found bad, in the order of their first time."""
        return [BadBatch(first, batch, n) for batch, (first, n) in self._bad.items()]

    def state_dict(self) -> dict[str, Any]:
        """All that the guard has learnt: events, levels, and the best state as arrays.

        Returns:
            A dictionary of numbers, strings, lists and NumPy arrays, for `load_state_dict()`.
        """
        return {
            "guard": type(self).__name__,
            "events": [event.to_dict() for event in self._events],
            "rule": rule.to_dict(self._state),
            "best_epoch": self._best_epoch,
            "bad_batches": [list(each) for each in self.bad_batches],
            "kept": self._kept_arrays(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()` at the next `fit`, instead of starting afresh.

        Raises:
            OptionValueError: `state` did not come from `state_dict()`.
        """
        try:
            name, kept = state["guard"], state["kept"]
            events = [Event(**event) for event in state["events"]]
            rule_state = rule.from_dict(state["rule"])
            bad = {batch: (first, n) for first, batch, n in state["bad_batches"]}
            best_epoch = state["best_epoch"]
            kept = None if kept is None else [np.asarray(array) for array in kept]
        except (KeyError, TypeError, ValueError):
            name = None
        if name != type(self).__name__:
            requirement = f"what `state_dict()` of a {type(self).__name__} returned"
            raise OptionValueError("state", requirement, state)
        self._begin_run()
        self._events, self._state, self._bad = events, rule_state, bad
        self._best_epoch, self._scale = best_epoch, rule_state.scale
        self._loaded, self._is_loaded, self._slots = kept, True, None

    # ---------------------------------------------------------------- one fit
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh, or from a loaded state, and keep the initial state."""
        self._begin()
        require_one_process(self.model, "SpikeGuard")
        self.release()
        if not self._is_loaded:
            self._begin_run()
            self._loaded = None
        self._is_loaded = False
        self._losses = OwnLosses(self.model)
        self._slots = Slots(
            snapshots_for(self.model, optimizer=True, metrics=True, within_epochs=True)
        )
        _turns.forget(self.model)
        self._is_built = False
        when_built(self.model, self._begin_with)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin an epoch; another guard may have taken back the one before."""
        steps = (self.params or {}).get("steps")
        self._losses_in_use().begin_epoch(steps)
        self._n_waiting, self._n_together = 0, 1
        self._are_batches_over, self._is_empty, self._measured = False, False, {}
        if self._epoch == INITIAL:
            self._first_epoch = epoch
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the state, where it is time to."""
        if self._n_waiting:
            return  # no other state is due before those are judged
        slots = self._slots_in_use()
        if "initial" not in slots:
            if self._is_built:
                self._keep_initial()
            return  # otherwise the first step will make the variables
        taken, self._taken = self._taken, _turns.taken_back_since(self._model, self._epoch - 1)
        has_jumped = self._taken is not None and self._taken is not taken
        self._is_kept = has_jumped or rule.is_due(self._options, self._state, self._n_left(batch))
        if not self._is_kept:
            return
        slots.take(self._epoch, self._scale)
        if has_jumped:
            self._state = rule.moved(self._state)
            slots.keep("proven")
            slots.keep("best")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Judge the batch, or in calm the last few, and take back what is bad."""
        self._losses_in_use().note()
        self._n_waiting, self._last_batch = self._n_waiting + 1, batch
        if self._n_waiting >= self._n_together:
            self._judge(batch)
            self._n_together = self._together(batch)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Before `fit` validates, which starts the metrics anew: end the epoch's batches."""
        self._end_batches()

    def _end_batches(self) -> None:
        """Judge what was not judged, as where another callback stopped training in the epoch.

        Keras has made up by then what it will log; if batches are undone, it is to be corrected.
        """
        if self._are_batches_over:
            return
        self._are_batches_over = True
        if self._n_waiting and self._judge(self._last_batch):
            self._measured = self._measure()
        self._is_empty = self._losses_in_use().is_mean_empty()

    def _judge(self, batch: int) -> bool:
        """Judge the batches since that was done last, of which this is the last one.

        Returns:
            Whether a state was put back.
        """
        n, self._n_waiting = self._n_waiting, 0
        losses = self._losses_in_use().take()
        if losses is None:
            self._warn_of_hidden_loss()
            return False
        losses = [float(mean_of_all(loss) or 0.0) for loss in losses]
        if n == 1:
            return self._judge_execution(tuple(losses), batch, self._is_kept, None)
        # If one is undone, so are those that came after it.
        return any(
            self._judge_execution(
                (loss,), batch + 1 - n + place, self._is_kept and place == 0, following
            )
            for place, (loss, following) in enumerate(zip(losses, (*losses[1:], None), strict=True))
        )

    def _judge_execution(
        self, losses: tuple[float, ...], batch: int, is_kept: bool, following: float | None
    ) -> bool:
        """Judge an execution, mostly of one batch; returns whether a state was put back.

        Args:
            losses: Of its batches.
            batch: The place of the last one.
            is_kept: Whether the state before it was kept.
            following: The next batch's loss, where it is known already.
        """
        broken = self._slots_in_use().broken() if is_kept else []
        seen = rule.Seen(
            losses,
            is_kept,
            not broken,
            (self._epoch, batch),
            self._n_left(batch),
            self._n_all(),
            following,
        )
        self._state, decision = rule.step(self._options, self._state, seen)
        self._follow(decision, batch)
        is_put_back = decision.put_back is not None
        if len(self._marks) == 3:
            kernels = [moves_of(*looks) for looks in zip(*self._marks, strict=True)]
            self._marks = []
            self._state, decision = rule.compared(self._options, self._state, kernels)
            self._follow(decision, batch)
            is_put_back |= decision.put_back is not None
        return is_put_back

    def _together(self, batch: int) -> int:
        """How many of the next executions may be judged together: 1 where that may differ."""
        steps = (self.params or {}).get("steps")
        losses = self._losses_in_use()
        if not steps or losses.per_execution > 1 or stands_for_loop(self.model):
            return 1
        n = rule.together(self._options, self._state, self._n_left(batch))
        return max(1, min(n, int(steps) - 1 - batch))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Let no epoch without an accepted batch be logged as one with a loss of 0."""
        self._end_batches()
        if not logs:
            return
        logs.update(self._measured)
        if self._is_empty:
            for name in [name for name in logs if not name.startswith("val_")]:
                logs[name] = math.nan

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave weights that are known to be good."""
        slots = self._slots_in_use()
        slot = None
        if "initial" in slots:
            is_finite = not slots.snapshots.non_finite()
            slot = rule.at_end(self._state, is_finite)
        if slot is not None:
            kept = slots.put_back(slot, self.model, self._epoch, self._scale)
            finalize(self.model)
            words = left(slot, is_finite)
            self._add("restore", None, None, None, self._epoch_of(kept), words)
        was_tried = self._state.comparison is not None
        self._state = rule.warmed(self._state)
        old_rate = self._rescale(self._state.scale)
        if old_rate is not None:
            words = "is put back to what it was before " + (
                "another one was tried" if was_tried else "it was lowered for the end"
            )
            self._add("reset_learning_rate", old_rate, None, None, None, words, old_rate)
        self.release()

    def release(self) -> None:
        """Let go of the model's tracker, and of copies that nobody needs any more."""
        self._marks = []
        if self._slots is not None:
            self._slots.release_spare()
        if self._losses is not None:
            self._losses.close()
            self._losses = None

    # ---------------------------------------------------------------- inside
    def _begin_run(self) -> None:
        self._events = []
        self._state = rule.State()
        self._bad = {}
        self._best_epoch = None
        self._scale = 1.0
        self._epoch = INITIAL
        self._first_epoch = 0
        self._is_kept = False
        self._taken = None
        self._marks = []
        self._n_waiting, self._n_together, self._last_batch = 0, 1, 0
        self._are_batches_over, self._is_empty, self._measured = False, False, {}
        self._warned = False
        self._compared_rate: float | None = None
        self._options: rule.Options = self._rule_options()

    def _begin_with(self, late: bool) -> None:
        """Keep the initial state now, or before the first batch, as all callbacks have left it."""
        self._is_built = not late
        if late:
            self._keep_initial()
        else:
            self._slots_in_use().prepare()

    def _keep_initial(self) -> None:
        slots, epoch = self._slots_in_use(), max(self._epoch, 0)
        slots.take(epoch, self._scale)
        if slots.broken():
            with_nan = slots.snapshots.accept_infinite()
            if with_nan:
                names = ", ".join(with_nan[:3])
                self._warn(f"the model holds NaN before its first step, in {names}")
            slots.take(epoch, self._scale)
        for slot in ("initial", "proven", "best"):
            slots.keep(slot)
        arrays, self._loaded = self._loaded, None
        if arrays is not None:
            without_metrics = snapshots_for(self.model, optimizer=True)
            snapshot = without_metrics.from_arrays(arrays)
            slots["best"] = Kept(snapshot, INITIAL, self._scale)
        self._initial = slots["initial"]
        self._is_kept = True

    def _follow(self, decision: rule.Decision, batch: int) -> None:
        slots = self._slots_in_use()
        for slot in decision.keep:
            slots.keep(slot)
        if decision.set_aside:
            slots["aside"] = slots["best"]
        if "best" in decision.keep:
            self._best_epoch = self._epoch
        restored = None
        if decision.put_back is not None:
            kept = slots.put_back(decision.put_back, self.model, self._epoch, self._scale)
            restored = self._epoch_of(kept)
        old_rate = self._rescale(decision.scale)
        self._tell(decision, batch, restored, old_rate)
        if decision.mark is not None:
            self._marks = [*self._marks[: decision.mark], slots.kernels(self.model)]
        elif not self._state.watch.n_marks:
            self._marks = []
        if decision.stop:
            self.model.stop_training = True

    def _rescale(self, scale: float) -> float | None:
        """Scale the rate, if need be; returns what it was before, None if it stays."""
        if scale == self._scale:
            return None
        old = read_learning_rate(self.model)
        scale_learning_rate(self.model, scale / self._scale, 0.0)
        self._scale = scale
        return old

    def _tell(
        self, decision: rule.Decision, batch: int, restored: int | None, old_rate: float | None
    ) -> None:
        for each in decision.rejected:
            epoch, place = each.where or (self._epoch, batch)
            if each.cause == "data":
                first, n = self._bad.get(place, (epoch, 0))
                self._bad[place] = first, n + 1
            back_to = epoch if restored is None else restored
            self._add(
                "rollback",
                each.value,
                each.reference,
                (epoch, place),
                back_to,
                reason(each),
                old_rate,
            )
        value, reference = decision.value, decision.reference
        here = self._epoch, batch
        if decision.cause == "comparing":
            self._compared_rate = old_rate
        elif decision.cause in ("raised", "lowered"):
            words = compared(decision.cause, value, reference)
            old = self._compared_rate
            self._add("reset_learning_rate", old, None, here, None, words, old)
        elif decision.cause == "compared":
            words = compared(decision.cause, value, reference, old_rate)
            self._add("restore", value, reference, here, self._epoch, words)
        elif decision.cause == "end":
            words = "is lowered for the end of a training that had trouble"
            self._add("reset_learning_rate", old_rate, None, here, None, words, old_rate)
        elif decision.cause == "drift is data":
            words = f"is the smoothed loss, and {reference:.4g} at the best state: it is the data"
            self._add("restore", value, self.best, here, self._epoch, words)
        if decision.stop:
            words = stopped(decision.cause, self.max_rollbacks)
            self._add("stop", value, reference, here, restored, words)

    def _add(
        self,
        action: Action,
        value: float | None,
        reference: float | None,
        where: tuple[int, int] | None,
        restored_from: int | None,
        words: str,
        old_rate: float | None = None,
    ) -> None:
        epoch, batch = where or (max(self._epoch, 0), None)
        event = Event(
            epoch=epoch,
            batch=batch,
            action=action,
            monitor="learning_rate" if action == "reset_learning_rate" else "loss",
            value=value,
            reference=reference,
            restored_from=restored_from,
            learning_rate=read_learning_rate(self.model),
            reason=words,
        )
        self._record(event, old_rate)

    def _epoch_of(self, kept: Kept) -> int:
        return INITIAL if kept is self._initial else kept.epoch

    def _kept_arrays(self) -> list[np.ndarray[Any, Any]] | None:
        if self._slots is None or "best" not in self._slots:
            return self._loaded
        return self._slots.arrays("best", self.model)

    def _measure(self) -> dict[str, Any]:
        """What Keras would log now of the batches that are in its metrics."""
        values = {k: to_numpy(v) for k, v in self.model.get_metrics_result().items()}
        return {k: v if len(v.shape) else float(v) for k, v in values.items()}

    def _warn_of_hidden_loss(self) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                "a batch's own loss could not be told from those of `test_on_batch()` or "
                "`train_on_batch()` within the epoch, so the batch was not judged"
            )

    def _n_left(self, batch: int) -> int | None:
        """How many batches follow on this one, if `fit` runs to its end and knows its steps."""
        params = self.params or {}
        epochs, steps = params.get("epochs"), params.get("steps")
        if not epochs or not steps:
            return None
        return int((epochs - self._epoch) * steps - 1 - batch)

    def _n_all(self) -> int:
        """How many batches the training has, where `_n_left()` knows it."""
        params = self.params or {}
        epochs, steps = params.get("epochs") or 0, params.get("steps") or 0
        return int((epochs - self._first_epoch) * steps)

    def _rule_options(self) -> rule.Options:
        return rule.Options(
            window=self.window,
            threshold=self.threshold,
            warmup=self.warmup,
            interval=self.interval or CALM_INTERVAL,
            lr_factor=self.lr_factor,
            max_rollbacks=self.max_rollbacks,
        )

    def _losses_in_use(self) -> OwnLosses:
        if self._losses is None:
            raise SnapshotError("SpikeGuard has not been in a `fit` yet")
        return self._losses

    def _slots_in_use(self) -> Slots:
        if self._slots is None:
            raise SnapshotError("SpikeGuard has not been in a `fit` yet")
        return self._slots
