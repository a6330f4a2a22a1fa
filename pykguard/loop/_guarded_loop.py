"""The function that makes a loop of what its user gives."""

from __future__ import annotations

from typing import Any, TypeVar

from pykguard import _checks
from pykguard._errors import OptionValueError
from pykguard.loop._loop import GuardedLoop

Loop = TypeVar("Loop", bound=GuardedLoop)


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
    counts as an error, and everything else as a `break`. With it, a `break` that leaves such a
    batch counts as an error too, and a warning says so.

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
        UnsupportedError: A model is trained on several replicas, or by another backend; or a
            callback resumes what was broken off, as BackupAndRestore does in `fit`.

    Example:
        >>> guard = RevertOnLossIncrease(tolerance=0.1)
        >>> with guarded_loop([generator, critic], [g_opt, c_opt], [guard], epochs=20) as loop:
        ...     for epoch in loop:
        ...         for x in loop.batches(dataset):
        ...             g_loss, c_loss = train_step(x)
        ...             loop.report(g_loss, size=len(x), critic_loss=c_loss)
        >>> loop.history.history
    """
    return make_loop(
        GuardedLoop,
        models,
        optimizers,
        callbacks,
        epochs,
        initial_epoch=initial_epoch,
        steps=steps,
        verbose=verbose,
        restore_on_error=restore_on_error,
    )


def make_loop(
    kind: type[Loop],
    models: Any,
    optimizers: Any,
    callbacks: Any,
    epochs: Any,
    *,
    initial_epoch: Any,
    steps: Any,
    verbose: Any,
    restore_on_error: Any,
) -> Loop:
    """Make a loop of this kind, which also tells how its users count; checks the options."""
    first = kind._words.first
    epochs = _checks.integer("epochs", epochs, minimum=1)
    initial_epoch = _checks.integer("initial_epoch", initial_epoch, minimum=first)
    last = epochs - 1 + first
    if initial_epoch > last:
        requirement = f"at most {last}, where the last of {epochs} `epochs` begins"
        raise OptionValueError("initial_epoch", requirement, initial_epoch)
    if _checks.integer("verbose", verbose, minimum=0) > 2:
        raise OptionValueError("verbose", "0, 1 or 2", verbose)
    return kind(
        models,
        optimizers,
        callbacks,
        epochs=epochs,
        initial_epoch=initial_epoch - first,
        steps=_checks.optional_integer("steps", steps, minimum=1),
        verbose=int(verbose),
        restore_on_error=_checks.flag("restore_on_error", restore_on_error),
    )
