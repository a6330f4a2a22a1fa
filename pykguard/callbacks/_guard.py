"""What all guards share: options, events, the monitored value, and a state that can be saved."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from pykguard import _checks
from pykguard._errors import OptionValueError, SnapshotError
from pykguard._framework import backend_of, library_of
from pykguard._probe import Data, Probe, as_probe
from pykguard._processes import mean_of_all
from pykguard.callbacks import _turns
from pykguard.callbacks._direction import infer_direction
from pykguard.callbacks._initial import when_built
from pykguard.callbacks._recorder import Recorder
from pykguard.events import Action, Event
from pykguard.learning_rate import read_learning_rate
from pykguard.rules._comparison import Direction
from pykguard.rules.monitor import known, read_monitor
from pykguard.snapshots import Keeper, snapshots_for

Mode = Literal["auto", "min", "max"]
MODES: tuple[Mode, ...] = ("auto", "min", "max")


class Loaded(NamedTuple):
    """What `load_state_dict()` leaves for the next `fit`: the kept state's arrays, if any."""

    kept: list[np.ndarray[Any, Any]] | None


class Guard(Recorder):
    """Base class of the guards that judge a quantity at each epoch's end.

    A guard starts afresh at each `fit`, unless `load_state_dict()` was called before it.
    """

    _state: Any  # the rule's

    def __init__(
        self,
        *,
        monitor: str,
        mode: str,
        restore_optimizer: bool,
        restore_random_state: bool,
        start_from_epoch: int,
        probe: Any,
        verbose: int,
    ) -> None:
        super().__init__()
        self.monitor = _checks.text("monitor", monitor)
        self.mode: Mode = _checks.choice("mode", mode, MODES)
        self.restore_optimizer = _checks.flag("restore_optimizer", restore_optimizer)
        self.restore_random_state = _checks.flag("restore_random_state", restore_random_state)
        self.start_from_epoch = _checks.integer("start_from_epoch", start_from_epoch, minimum=0)
        self._probe: Probe | None = as_probe(probe)
        self.probe: Data | None = None if self._probe is None else self._probe.data
        self.verbose = _checks.integer("verbose", verbose, minimum=0)
        if self._probe is not None and self.monitor not in ("loss", "val_loss"):
            requirement = '"loss" or "val_loss" with a probe, whose value is the model\'s loss'
            raise OptionValueError("monitor", requirement, monitor)
        self._events: list[Event] = []
        self._loaded: Loaded | None = None
        self._to_start_from: Loaded | None = None  # until the first epoch begins
        self._keeper: Keeper | None = None
        self._begin_run()

    # ---------------------------------------------------------------- what users read
    @property
    def best(self) -> float | None:
        """The best value so far; None before there is one."""
        best: float | None = self._state.best
        return best

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best value, counted from 0."""
        epoch: int | None = self._state.best_epoch
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """All that the guard has learnt: events, best value, and the kept state as arrays.

        Returns:
            A dictionary of numbers, strings, lists and NumPy arrays, for `load_state_dict()`. The
            global random state is not in it. Where several workers of tf_keras train, each of them
            has to call this.
        """
        if self._keeper is not None:
            self._settle()
        return {
            "guard": type(self).__name__,
            "events": [event.to_dict() for event in self._events],
            "rule": self._state._asdict(),
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
            rule_state = self._to_rule_state(state["rule"])
            kept = None if kept is None else [np.asarray(array) for array in kept]
        except (KeyError, TypeError):
            name = None
        if name != type(self).__name__:
            requirement = f"what `state_dict()` of a {type(self).__name__} returned"
            raise OptionValueError("state", requirement, state)
        self._events, self._state = events, rule_state
        self._loaded, self._keeper = Loaded(kept), None

    # ---------------------------------------------------------------- one fit
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh, or from a loaded state, and keep the initial state."""
        self._begin()
        loaded, self._loaded = self._loaded, None
        events, state = self._events, self._state
        self._begin_run()
        if loaded is not None:
            self._events, self._state = events, state
        snapshots = snapshots_for(
            self.model, optimizer=self.restore_optimizer, random=self.restore_random_state
        )
        self._keeper = Keeper(snapshots)
        _turns.forget(self.model)
        self._to_start_from = None
        when_built(self.model, lambda late: self._begin_with(loaded or Loaded(None), late))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """In the first epoch keep the initial state, as all callbacks' `on_train_begin` left it."""
        self._in_use()

    def _begin_run(self) -> None:
        """Forget the previous `fit`."""
        self._events = []
        self._state = self._to_rule_state({})
        self._direction: Direction | None = None if self.mode == "auto" else self.mode
        self._n_measured = 0
        self._last_logs: dict[str, Any] | None = None
        self._first_step_taken = False

    def _begin_with(self, loaded: Loaded, late: bool) -> None:
        if late:
            if self._probe is not None:
                self._probe.check_inputs(self.model)
            self._keep_initial(loaded)
            return
        if self._probe is not None:
            self._probe.check_fits(self.model)
        self._to_start_from = loaded

    def _keep_initial(self, loaded: Loaded) -> None:
        self._to_start_from = None
        keeper = self._in_use()
        broken = keeper.snapshots.accept_infinite()
        if broken:
            self._warn(f"the model holds NaN before its first step, in {', '.join(broken[:3])}")
        if loaded.kept is not None:
            keeper.snapshot = keeper.snapshots.from_arrays(loaded.kept)
        else:
            keeper.keep()

    def _in_use(self) -> Keeper:
        if self._keeper is None:
            raise SnapshotError(f"{type(self).__name__} has not been in a `fit` yet")
        if self._to_start_from is not None:
            self._keep_initial(self._to_start_from)
        return self._keeper

    def _kept_arrays(self) -> list[np.ndarray[Any, Any]] | None:
        loaded = self._loaded or self._to_start_from
        if loaded is not None:
            return loaded.kept
        if self._keeper is None or self._keeper.snapshot is None:
            return None
        return self._keeper.snapshots.to_arrays(self._keeper.snapshot)

    # ---------------------------------------------------------------- checks that take their time
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Settle, before the second step since then, whether the last kept state is finite."""
        if self._keeper is None or not self._keeper.is_unproven():
            return
        if self._first_step_taken:
            self._settle()
        self._first_step_taken = True

    def _keep_seen(self, *, checked: bool) -> None:
        self._in_use().keep_seen(checked=checked)
        self._first_step_taken = False

    def _is_last(self, epoch: int) -> bool:
        """Whether no step will follow, so that there is nothing to check beside."""
        epochs = (self.params or {}).get("epochs")
        return bool(self.model.stop_training) or (epochs is not None and epoch + 1 >= epochs)

    def _settle(self) -> bool:
        """Wait for the check of the kept state, if one is under way.

        Returns:
            Whether it was broken; the epoch that it ended has then been taken back.
        """
        broken = self._in_use().verdict()
        if broken:
            self._take_back_kept(broken)
        return bool(broken)

    def _take_back_kept(self, broken: list[str]) -> None:
        """Undo that the last kept state was accepted; `broken` are the variables not finite."""
        raise NotImplementedError

    # ---------------------------------------------------------------- judging an epoch
    def _measure(self, logs: dict[str, Any] | None) -> float | None:
        """The value to judge at this epoch's end; None where it was not measured."""
        self._last_logs = {name: _plain(value) for name, value in (logs or {}).items()}
        if self._probe is not None:
            value: float | None = self._probe.loss(self.model)
        else:
            value = read_monitor(self._last_logs, self.monitor) if logs else None
        if backend_of(self.model) == "torch":
            value = mean_of_all(value)
        if self._direction is None:
            self._direction = infer_direction(self.monitor, self.model)
        self._warn_of_idle_tracker(value)
        self._n_measured += value is not None
        return value

    def _monitor_name(self) -> str:
        return self.monitor if self._probe is None else "probe_loss"

    def _warn_of_idle_tracker(self, value: float | None) -> None:
        step = "train_step" if self._monitor_name() == "loss" else "test_step"
        library = library_of(self.model)
        own_step = getattr(type(self.model), step) is not getattr(library.Model, step)
        if value == 0.0 and own_step and self.monitor in ("loss", "val_loss"):
            self._warn(
                f"{self._monitor_name()} is exactly 0: a `{step}` of your own has to update the "
                "model's loss tracker for its loss to reach the end of the epoch"
            )

    def _warn_if_never_measured(self) -> bool:
        if self._last_logs is None or self._n_measured:
            return False
        self._warn(
            f"`monitor` {self.monitor!r} was in no epoch's metrics, so nothing was judged; "
            f"there were {known(self._last_logs)}"
        )
        return True

    def _event(
        self,
        action: Action,
        *,
        epoch: int,
        value: float | None,
        reference: float | None,
        restored_from: int | None,
        reason: str,
    ) -> Event:
        return Event(
            epoch=epoch,
            batch=None,
            action=action,
            monitor=self._monitor_name(),
            value=value,
            reference=reference,
            restored_from=restored_from,
            learning_rate=read_learning_rate(self.model),
            reason=reason,
        )

    def _to_rule_state(self, values: dict[str, Any]) -> Any:
        """The rule's state with these values."""
        raise NotImplementedError


def _plain(value: Any) -> Any:
    """A number in place of a tensor, which tf_keras may log."""
    return value.numpy() if hasattr(value, "numpy") and not hasattr(value, "detach") else value
