"""Replacing a learning rate."""

from __future__ import annotations

from typing import Any

from pykguard import _checks
from pykguard._framework import to_numpy
from pykguard.learning_rate._check import check_rate
from pykguard.learning_rate._compiled import renew
from pykguard.learning_rate._held import as_given, counter_of, hold, is_of_legacy
from pykguard.learning_rate._schedule import adjusted_class
from pykguard.learning_rate._target import find_target


def reset_learning_rate(
    model_or_optimizer: Any, learning_rate: Any, *, restart: bool = True
) -> None:
    """Replace a learning rate, in force from the next step.

    A number, a schedule and a callable may each take the place of each other, before, between and
    within `fit`, and in a loop of one's own. Steps that were compiled are traced anew where that is
    needed: Keras would go on with the old schedule. The optimizer's moments and its step counter
    `t` are left as they are. With a schedule `s`, and `t0` the counter now,

        rate(t) = s(t - t0) with restart, and s(t) without

    A schedule that starts over is held as one of pykguard's own, so a model that is saved with it
    can be loaded where pykguard was imported before.

    In a loop of one's own on JAX, which holds the optimizer's variables itself, assign them before,
    and take them from the optimizer again afterwards.

    Args:
        model_or_optimizer: A Keras model that was compiled with one optimizer, or an optimizer; of
            Keras 3 or of tf_keras.
        learning_rate: A finite number above 0; a `LearningRateSchedule` of the same library; or a
            function without arguments, which Keras calls at each step on PyTorch and in eager
            execution, and once when it traces a compiled step.
        restart: Whether a schedule begins with its step 0, or goes on from the optimizer's step.
            Defaults to True.

    Raises:
        OptionTypeError, OptionValueError: An argument cannot be used, or a schedule or callable,
            which is called once to see, gives something else than one finite number of at least 0.
            The old rate stays.

    Example:
        >>> reset_learning_rate(model, keras.optimizers.schedules.CosineDecay(0.1, 1000))
    """
    restart = _checks.flag("restart", restart)
    model, optimizer = find_target(model_or_optimizer)
    step = int(to_numpy(counter_of(optimizer)))
    rate = check_rate(learning_rate, is_of_legacy(optimizer), 0 if restart else step)
    was_number = not callable(as_given(optimizer))
    if callable(rate) and (is_of_legacy(optimizer) or (restart and step > 0)):
        rate = adjusted_class(is_of_legacy(optimizer))(rate, start=step if restart else 0)
    hold(optimizer, rate)
    if callable(rate) or not was_number:
        renew(optimizer, model)
