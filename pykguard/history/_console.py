"""What Keras' progress bar makes of the losses that it is given."""

from __future__ import annotations

import functools
from typing import Any

from pykguard._framework import library_of


def shown(value: float, verbose: int) -> str:
    """A loss as the console shows it.

    Four decimals, or scientific where it is at most 0.001; with `verbose=2` that is where it is
    negative, too.
    """
    size = value if verbose == 2 else abs(value)
    return f"{value:.4f}" if size > 1e-3 else f"{value:.4e}"


class BarAverage:
    """What the bar holds after each batch: up to Keras 3.14.1 the mean of the means it was given.

    Args:
        model: The model, which may be of Keras 3 or of tf_keras.
        verbose: As `fit` was told; only with 1 is the bar given anything before the epoch's end.
    """

    def __init__(self, model: Any, verbose: int) -> None:
        self.averages, self.averages_at_end = _habits(library_of(model)) if verbose == 1 else (0, 0)
        self._total = 0.0
        self._count = 0

    def add(self, logged: float, steps: int) -> None:
        """Give it what was logged after an execution of so many steps."""
        self._total += logged * steps
        self._count += steps

    @property
    def value(self) -> float:
        """What an averaging bar holds now."""
        return self._total / max(1, self._count)

    def at_end(self, logged: float) -> float:
        """What an averaging bar holds when it was given the epoch's loss as well."""
        return (self._total + logged) / (self._count + 1)


@functools.cache
def _habits(library: Any) -> tuple[bool, bool]:
    """Whether the bar averages what it is given, within an epoch and at its end."""
    if library.__name__ == "tf_keras":
        return False, False  # it is told which values are means already
    logger = library.callbacks.ProgbarLogger()
    logger.set_params({"verbose": 1, "epochs": 1, "steps": 3})
    logger.on_train_begin()
    logger._maybe_init_progbar()
    bar = logger.progbar
    bar.verbose = 0
    held = []
    for step, finalize in ((1, False), (2, False), (3, True)):
        bar.update(step, [("loss", float(step))], finalize=finalize)
        total, count = bar._values["loss"]
        held.append(total / count)
    return held[1] != 2.0, held[2] != 3.0
