"""The side of an external loss that runs in Python on NumPy arrays, one call a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pykguard._errors import ExternalLossError, GuardError
from pykguard.external import _failure, _spsa
from pykguard.external._returned import Array, Losses, as_gradient, as_losses, as_pair


class Spsa(NamedTuple):
    """How gradients are estimated."""

    perturbation: float
    n_draws: int
    random: np.random.Generator


class Host:
    """Calls the user's function and checks what comes back.

    Args:
        fn: The function.
        name: The loss's name, for messages.
        spsa: How to estimate gradients; None where the function returns them.
    """

    def __init__(self, fn: Callable[[Array, Array], Any], name: str, spsa: Spsa | None) -> None:
        self.fn = fn
        self.name = name
        self.spsa = spsa

    def losses(self, y_true: Any, y_pred: Any, *, weighted: bool) -> Losses:
        """The losses of a batch, without a gradient.

        Raises:
            ExternalLossError: The function failed, or returned what it may not; or it returned a
                scalar where the samples are `weighted`.
        """
        with _failure.noted():
            return self._called(np.asarray(y_true), np.asarray(y_pred), weighted)[0]

    def losses_and_gradient(
        self, y_true: Any, y_pred: Any, *, weighted: bool
    ) -> tuple[Losses, Array]:
        """The losses of a batch and their gradient with respect to the predictions.

        Raises:
            ExternalLossError: As `losses()`.
        """
        with _failure.noted():
            y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
            losses, gradient = self._called(y_true, y_pred, weighted)
            return losses, self._estimated(y_true, y_pred) if gradient is None else gradient

    def estimated_gradient(self, y_true: Any, y_pred: Any) -> Array:
        """The gradient by simultaneous perturbation.

        Raises:
            ExternalLossError: As `losses()`.
        """
        with _failure.noted():
            return self._estimated(np.asarray(y_true), np.asarray(y_pred))

    def _estimated(self, y_true: Array, y_pred: Array) -> Array:
        assert self.spsa is not None
        return _spsa.estimate(
            lambda at: self._called(y_true, at, weighted=False)[0].values,
            y_pred,
            **self.spsa._asdict(),
        )

    def _called(self, y_true: Array, y_pred: Array, weighted: bool) -> tuple[Losses, Array | None]:
        try:
            returned = self.fn(y_true.copy(), y_pred.copy())
        except GuardError:
            raise
        except Exception as error:
            raise ExternalLossError(
                f"the function of the external loss {self.name!r} must return a loss, "
                f"but raised {type(error).__name__}: {error}"
            ) from error
        if self.spsa is not None:
            return self._losses(returned, y_pred, weighted), None
        loss, gradient = as_pair(self.name, returned)
        return self._losses(loss, y_pred, weighted), as_gradient(self.name, gradient, y_pred)

    def _losses(self, returned: Any, y_pred: Array, weighted: bool) -> Losses:
        losses = as_losses(self.name, returned, y_pred)
        if losses.is_scalar and weighted:
            raise ExternalLossError(
                f"the function of the external loss {self.name!r} must return one loss a sample, "
                f"{len(y_pred)} of them, where samples are weighted or masked, got one number"
            )
        return losses
