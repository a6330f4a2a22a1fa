"""A loop of one's own that drives Keras' callbacks as `fit` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any

from pykguard import _checks
from pykguard._callback import Callback
from pykguard._errors import LoopError, OptionTypeError, OptionValueError, UnsupportedError
from pykguard._framework import backend_of, is_legacy, to_numpy
from pykguard._optimizers import innermost
from pykguard._warnings import warn
from pykguard.events import epoch_name
from pykguard.learning_rate import counter_of
from pykguard.loop import _state
from pykguard.loop._callbacks import callback_list
from pykguard.loop._pairs import check_pairs
from pykguard.loop._scalars import check_scalar
from pykguard.loop._stand_in import stand_in
from pykguard.snapshots import Snapshot, snapshots_for


class GuardedLoop:
    """The epochs and batches of a loop; made by `guarded_loop()`.

    Iterating over it gives the epochs' numbers, from 0, and runs the callbacks' hooks of training
    and of epochs; iterating over `batches()` runs those of batches. A loop runs once.
    """

    def __init__(
        self,
        models: Any,
        optimizers: Any,
        callbacks: Any,
        *,
        epochs: int,
        initial_epoch: int,
        steps: int | None,
        verbose: int,
        restore_on_error: bool,
    ) -> None:
        self._range = range(initial_epoch, epochs)
        self._steps = steps
        models, optimizers = check_pairs(models, optimizers)
        self._model = stand_in(models, optimizers, is_legacy(models[0]))
        self._pairs = list(zip(models, optimizers, strict=True))
        self._callbacks = callback_list(
            self._model, callbacks, verbose=verbose, epochs=epochs, steps=steps
        )
        self._snapshots = snapshots_for(self._model, optimizer=True) if restore_on_error else None
        self._before: Snapshot | None = None  # the state before the batch
        self._is_used = self._has_ended = self._is_managed = False
        self._epoch: int | None = None
        self._n = 0  # batches reported in this epoch
        self._is_open = False  # whether a batch was begun and not reported
        self._ran_out = False
        self._state_read = False
        self._arrays: list[Any] = []
        self._val_logs: dict[str, float] = {}
        self._last_logs: dict[str, float] | None = None

    # ---------------------------------------------------------------- what users call
    @property
    def history(self) -> Any:
        """What `fit` would return: a `keras.callbacks.History` of the epochs that ended."""
        return self._callbacks._history

    def __iter__(self) -> Iterator[int]:
        if self._is_used:
            raise LoopError("a guarded loop runs once: make another one to train on")
        self._is_used = True
        return self._each_epoch()

    def batches(self, data: Iterable[Any]) -> Iterator[Any]:
        """Go through the batches of an epoch, each of which has to be reported.

        Ends early where a callback stops training, as `fit` does.

        Args:
            data: Whatever gives batches, as a `tf.data.Dataset`, a `DataLoader`, a generator or
                `range(100)`; of them at most `steps` are taken in an epoch.

        Raises:
            LoopError: No epoch is running; or, when the next batch is asked for, the last one was
                not reported.
        """
        if self._epoch is None:
            raise LoopError("`batches()` was called outside of the epochs of the loop")
        if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
            raise OptionTypeError("data", "something that gives batches", data)
        return self._each_batch(data)

    def report(self, loss: Any, *, size: int = 1, state: Any = None, **metrics: Any) -> None:
        """Say what a batch came to, after its update.

        What is logged is Keras' own mean since the epoch began, weighted by the sizes `n`,

            logged_b = sum(n_i * value_i for i <= b) / sum(n_i for i <= b)

        in the precision of `keras.config.floatx()`; a LossHistory records `loss` itself.

        Args:
            loss: The batch's loss: a number, or a tensor without dimensions. NaN is for the
                callbacks to act on.
            size: How many samples the batch had. Defaults to 1.
            state: On JAX, what `state()` returned, with the arrays that the step computed in the
                places of the old ones; None where the variables were assigned. Defaults to None.
            metrics: More numbers of the batch, by the names under which they are logged.

        Raises:
            LoopError: No batch is open, or this one was reported before; on JAX, no variable was
                assigned, or `state` is not made of this batch's `state()`.
            OptionTypeError, OptionValueError: A value is not one number, `size` is not a whole
                number of at least 1, or `state` does not fit.
        """
        if not self._is_open:
            was = "this batch was reported before" if self._n else "no batch is open"
            raise LoopError(f"`report()` is for one batch of `batches()`, once: {was}")
        loss = check_scalar("loss", loss)
        size = _checks.integer("size", size, minimum=1)
        for name, value in metrics.items():
            if name.startswith("val_"):
                raise OptionValueError(name, "reported by `report_validation()`", value)
            metrics[name] = check_scalar(name, value)
        self._take(state)
        logs = self._model.add_batch(loss, size, metrics)
        self._is_open = False
        self._n += 1
        self._callbacks.on_train_batch_end(self._n - 1, logs)

    def report_validation(self, **metrics: Any) -> None:
        """Say what a validation at the epoch's end came to, for its logs.

        Args:
            metrics: Numbers by name; Keras' prefix `val_` is put before names that lack it, so that
                `report_validation(**model.evaluate(…, return_dict=True))` does what `fit` does.

        Raises:
            LoopError: No epoch is running, or a batch of it was not reported.
            OptionTypeError, OptionValueError: A value is not one number.
        """
        if self._epoch is None:
            raise LoopError("`report_validation()` was called outside of the epochs of the loop")
        self._require_report()
        values = {name: float(to_numpy(check_scalar(name, v))) for name, v in metrics.items()}
        self._val_logs |= {f"val_{name.removeprefix('val_')}": v for name, v in values.items()}

    def state(self) -> Any:
        """On JAX, the arrays to compute a batch with; read anew in each batch.

        A callback may have changed them since the last one: a guard puts others back, and learning
        rates are among the optimizer's. They may be donated to a step.

        Returns:
            A tuple of lists, `(trainable_variables, non_trainable_variables, optimizer_variables)`,
            as `stateless_call()` and `stateless_apply()` take them; where there are several models,
            a list of such tuples.

        Raises:
            UnsupportedError: Keras runs on another backend, where steps change variables in place.
        """
        if backend_of(self._model) != "jax":
            raise UnsupportedError("`state()` is for JAX; elsewhere variables change in place")
        self._state_read = True
        states = [_state.read(each) for each in self._variables()]
        return states[0] if len(states) == 1 else states

    def __enter__(self) -> GuardedLoop:
        self._is_managed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_used or self._has_ended:
            return
        if error is None:
            self._end_after_break()
            return
        where = f"in {epoch_name(self._epoch)}" if self._epoch is not None else "before an epoch"
        if self._is_open:
            where += f", batch {self._n}"
            where += "; the weights are as before that batch" if self._before else ""
        self._abandon()
        if hasattr(error, "add_note"):
            error.add_note(f"guarded_loop: ended {where}")

    # ---------------------------------------------------------------- epochs and batches
    def _each_epoch(self) -> Iterator[int]:
        try:
            self._model.stop_training = False
            self._callbacks.on_train_begin()
            for epoch in self._range:
                self._begin_epoch(epoch)
                yield epoch
                self._end_epoch(epoch)
                if self._model.stop_training:
                    break
            self._finish()
        except GeneratorExit:  # by `break`, or by an error that is on its way
            if not self._is_managed:
                self._end_after_break()
            raise
        except BaseException:
            if not self._is_managed:
                self._abandon()
            raise

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch, self._n, self._ran_out = epoch, 0, False
        self._val_logs = {}
        self._model.begin_means()
        self._counts = self._step_counts()
        self._callbacks.on_epoch_begin(epoch)

    def _end_epoch(self, epoch: int) -> None:
        self._require_report()
        if not self._n:
            raise LoopError(f"{epoch_name(epoch)} had no batch: go through `loop.batches(data)`")
        if self._steps is not None and self._ran_out and self._n < self._steps:
            warn(f"guarded_loop: the data ended after {self._n} of {self._steps} `steps`")
        if epoch == self._range[0]:
            self._warn_of_idle_optimizers()
        logs = {name: float(to_numpy(mean)) for name, mean in self._model.means().items()}
        self._last_logs = logs | self._val_logs
        self._callbacks.on_epoch_end(epoch, self._last_logs)

    def _each_batch(self, data: Iterable[Any]) -> Iterator[Any]:
        left = None if self._steps is None else max(self._steps - self._n, 0)
        for batch in islice(data, left):
            self._begin_batch()
            yield batch
            self._require_report()
            if self._model.stop_training:
                return
        self._ran_out = True

    def _begin_batch(self) -> None:
        self._require_report()
        self._callbacks.on_train_batch_begin(self._n)
        self._model.has_begun = True
        self._model.step_rate.note()
        if self._snapshots is not None:
            into, self._before = self._before, None
            self._before = self._snapshots.take(into=into)
        if backend_of(self._model) == "jax":
            self._state_read, self._arrays = False, self._arrays_now()
        self._is_open = True

    def _require_report(self) -> None:
        if self._is_open:
            assert self._epoch is not None
            raise LoopError(
                f"batch {self._n} of {epoch_name(self._epoch)} was not reported: call "
                "`loop.report(loss=…)` once in each batch"
            )

    # ---------------------------------------------------------------- the state on JAX
    def _take(self, state: Any) -> None:
        """Assign what a step on JAX gave back, and refuse what would be lost silently."""
        if backend_of(self._model) != "jax":
            if state is not None:
                raise UnsupportedError("`state` is for JAX; elsewhere variables change in place")
            return
        if state is not None:
            if not self._state_read:
                raise LoopError(
                    "`state` was not made of what `loop.state()` returned in this batch, so what "
                    "the callbacks changed since then would be lost"
                )
            _state.write(self._variables(), state)
        elif list(map(id, self._arrays)) == list(map(id, self._arrays_now())):
            raise LoopError(
                "no variable was assigned in this batch, so the callbacks would see none of its "
                "training: give `state=` what the step returned, or `state=loop.state()` if it was "
                "to change nothing"
            )

    def _variables(self) -> list[_state.ModelState]:
        return [_state.variables_of(model, optimizer) for model, optimizer in self._pairs]

    def _arrays_now(self) -> list[Any]:
        return [v.value for parts in self._variables() for part in parts for v in part]

    # ---------------------------------------------------------------- the end
    def _end_after_break(self) -> None:
        if self._is_open:
            self._abandon()
        else:
            self._finish()

    def _finish(self) -> None:
        if not self._has_ended:
            self._has_ended, self._epoch = True, None
            self._before = None
            self._model.finalize_optimizers()
            try:
                self._callbacks.on_train_end(self._last_logs)
            except BaseException:
                self._release()
                raise

    def _abandon(self) -> None:
        """End without `on_train_end()`, as `fit` does after an error; an open batch is undone."""
        if self._has_ended:
            return
        self._has_ended, self._epoch = True, None
        try:
            if self._is_open and self._snapshots is not None and self._before is not None:
                self._snapshots.alone = True
                self._snapshots.restore(self._before)
        finally:
            self._is_open, self._before = False, None
            self._release()

    def _release(self) -> None:
        for callback in self._callbacks.callbacks:
            callback = getattr(callback, "core", callback)  # of what stands for one of R
            if isinstance(callback, Callback):
                callback.release()

    # ---------------------------------------------------------------- optimizers that idle
    def _step_counts(self) -> list[int]:
        return [int(to_numpy(counter_of(innermost(each)))) for _, each in self._pairs]

    def _warn_of_idle_optimizers(self) -> None:
        counts = zip(self._counts, self._step_counts(), self._pairs, strict=True)
        for before, after, (model, optimizer) in counts:
            if before == after and innermost(optimizer) is optimizer:
                warn(
                    f"guarded_loop: the optimizer of {model.name!r} took no step in the first "
                    "epoch; what another one holds is not put back by guards"
                )


def guarded_loop(
    models: Any,
    optimizers: Any,
    callbacks: Any = None,
    epochs: int = 1,
    *,
    initial_epoch: int = 0,
    steps: int | None = None,
    verbose: int = 1,
    restore_on_error: bool = True,
) -> GuardedLoop:
    """Let a hand-written training loop drive Keras' callbacks, progress bar and History.

    The callbacks are those of `fit`, unchanged. Their `model` stands for all models of the loop
    together with their optimizers, so a guard that goes back puts all of them back.

    Where there are several models, Keras' callbacks that set a learning rate set that of the first
    optimizer, which is also the one that a LossHistory records; a guard's `lr_factor` cuts all.
    A single model is what ModelCheckpoint saves, and what a probe evaluates if it was compiled.

    How the loop ends decides what the callbacks are told:

    - At the end of the epochs, and when a callback stops training, all is as in `fit`.
    - After `break` `on_train_end()` is called too; an epoch that was left is not judged.
    - After an error in the loop's body it is not, as in `fit`; a LossHistory closes its file.

    With `restore_on_error`, models and optimizers are then as they were before the batch that was
    not reported yet, whether its gradients were applied or not. That takes a copy of the state at
    each batch; without it they stay as they are. A batch that was reported stays.

    Without `with`, Python does not tell a `break` from an error: a batch that is not reported
    counts as an error, and everything else as a `break`.

    Args:
        models: A Keras model that is built, or a list of them, of Keras 3 or of tf_keras.
        optimizers: The optimizer of the model, or a list: the one at a position trains the model at
            that position. One that was not built is built for its model's trainable variables.
        callbacks: None, a callback or a list of them. Defaults to None.
        epochs: The number of the last epoch, counted from 1. Defaults to 1.
        initial_epoch: The epoch to begin with, counted from 0. Defaults to 0.
        steps: How many batches an epoch has, for the progress bar, and to cut longer data short;
            None means as many as there are. Defaults to None.
        verbose: 0 is silent, 1 shows a progress bar, 2 prints a line an epoch. Defaults to 1.
        restore_on_error: Whether an error within a batch undoes that batch. Defaults to True.

    Returns:
        The loop: iterate over its epochs, in each over `batches(data)`, and `report()` each batch.
        Then `history` is what `fit` would have returned.

    Raises:
        OptionTypeError, OptionValueError: An argument cannot be used; models and optimizers are not
            equally many, a model has no variables yet, or an optimizer was built for variables that
            its model does not have.
        UnsupportedError: A model is trained on several replicas, or by another backend.

    Example:
        >>> guard = RevertOnLossIncrease(tolerance=0.1)
        >>> with guarded_loop([generator, critic], [g_opt, c_opt], [guard], epochs=20) as loop:
        ...     for epoch in loop:
        ...         for x in loop.batches(dataset):
        ...             g_loss, c_loss = train_step(x)
        ...             loop.report(g_loss, size=len(x), critic_loss=c_loss)
        >>> loop.history.history
    """
    epochs = _checks.integer("epochs", epochs, minimum=1)
    initial_epoch = _checks.integer("initial_epoch", initial_epoch, minimum=0)
    if initial_epoch >= epochs:
        raise OptionValueError("initial_epoch", f"below `epochs`, {epochs}", initial_epoch)
    if _checks.integer("verbose", verbose, minimum=0) > 2:
        raise OptionValueError("verbose", "0, 1 or 2", verbose)
    return GuardedLoop(
        models,
        optimizers,
        callbacks,
        epochs=epochs,
        initial_epoch=initial_epoch,
        steps=_checks.optional_integer("steps", steps, minimum=1),
        verbose=int(verbose),
        restore_on_error=_checks.flag("restore_on_error", restore_on_error),
    )
