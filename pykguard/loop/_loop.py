"""A loop of one's own that drives Keras' callbacks as `fit` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any

from pykguard import _checks
from pykguard._errors import LoopError, OptionTypeError, OptionValueError
from pykguard._framework import backend_of, is_legacy, to_numpy
from pykguard._warnings import warn
from pykguard.loop._arrays import Arrays
from pykguard.loop._callbacks import callback_list
from pykguard.loop._course import Course
from pykguard.loop._idle import StepCounts
from pykguard.loop._pairs import check_pairs
from pykguard.loop._scalars import check_scalar
from pykguard.loop._stand_in import stand_in
from pykguard.loop._undo import Undo
from pykguard.loop._words import Words


class GuardedLoop:
    """The epochs and batches of a loop; made by `guarded_loop()`.

    Iterating over it gives the epochs' numbers, from 0, and runs the callbacks' hooks of training
    and of epochs; iterating over `batches()` runs those of batches. A loop runs once.
    """

    _words = Words()

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
        models, optimizers = check_pairs(models, optimizers)
        model = stand_in(models, optimizers, is_legacy(models[0]))
        pairs = list(zip(models, optimizers, strict=True))
        self._epochs = range(initial_epoch, epochs)
        self._callbacks = callback_list(
            model, callbacks, verbose=verbose, epochs=epochs, steps=steps
        )
        self._arrays = Arrays(pairs, self._words, is_jax=backend_of(model) == "jax")
        self._course = Course(
            model,
            self._callbacks,
            epochs=self._epochs,
            steps=steps,
            arrays=self._arrays,
            undo=Undo(model, is_wanted=restore_on_error),
            counts=StepCounts(pairs),
            words=self._words,
        )
        self._is_managed = False

    @property
    def history(self) -> Any:
        """What `fit` would return: a `keras.callbacks.History` of the epochs that ended."""
        return self._callbacks._history

    def __iter__(self) -> Iterator[int]:
        self._course.claim()
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
        self._require_epoch("batches()")
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
        if not self._course.is_open:
            n_batches = self._course.n_batches
            was = "this batch was reported before" if n_batches else "no batch is open"
            raise LoopError(f"`report()` is called once in each batch: {was}")
        loss = check_scalar("loss", loss)
        size = _checks.integer("size", size, minimum=1)
        for name, value in metrics.items():
            if name.startswith("val_"):
                raise OptionValueError(name, "reported by `report_validation()`", value)
            metrics[name] = check_scalar(name, value)
        self._course.end_batch(loss, size, metrics, state)

    def report_validation(self, **metrics: Any) -> None:
        """Say what a validation at the epoch's end came to, for its logs.

        Args:
            metrics: Numbers by name; Keras' prefix `val_` is put before names that lack it, so that
                `report_validation(**model.evaluate(…, return_dict=True))` does what `fit` does.

        Raises:
            LoopError: No epoch is running, or a batch of it was not reported.
            OptionTypeError, OptionValueError: A value is not one number.
        """
        self._require_epoch("report_validation()")
        self._course.require_report()
        values = {name: float(to_numpy(check_scalar(name, v))) for name, v in metrics.items()}
        self._course.validated(values)

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
        return self._arrays.read()

    def __enter__(self) -> GuardedLoop:
        self._is_managed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        where = self._leave(by_error=error is not None)
        if where is not None and error is not None and hasattr(error, "add_note"):
            error.add_note(f"guarded_loop: ended {where}")

    def _require_epoch(self, caller: str) -> None:
        if self._course.epoch is None:
            raise LoopError(f"`{caller}` was called outside of the epochs of the loop")

    def _leave(self, *, by_error: bool) -> str | None:
        """End the training, unless it has; returns where that was if it was by an error."""
        course = self._course
        if not course.is_claimed or course.has_ended:
            return None
        where = course.where()
        if course.is_open and not by_error:
            warn(f"guarded_loop: left {where}; it was not reported, so that counts as an error")
        if not (course.is_open or by_error):
            course.finish()
            return None
        course.abandon()
        return where

    def _each_epoch(self) -> Iterator[int]:
        course = self._course
        try:
            course.begin()
            for epoch in self._epochs:
                course.begin_epoch(epoch)
                yield epoch
                course.end_epoch()
                if course.is_stopped:
                    break
            course.finish()
        except GeneratorExit:  # by `break`, or by an error that is on its way
            if not self._is_managed:
                course.end_after_break()
            raise
        except BaseException:
            if not self._is_managed:
                course.abandon()
            raise

    def _each_batch(self, data: Iterable[Any]) -> Iterator[Any]:
        for batch in islice(data, self._course.n_left()):
            self._course.begin_batch()
            yield batch
            self._course.require_report()
            if self._course.is_stopped:
                return
        self._course.data_ended()
