"""The loss that tf_keras needs as its own; imported only where tf_keras is in use."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import tf_keras
from keras import tree

from pykguard.external import _tensorflow


@tf_keras.saving.register_keras_serializable(package="pykguard", name="ExternalLoss")
class LegacyExternalLoss(tf_keras.losses.Loss):
    """An external loss, as `compile()` of tf_keras takes it."""

    protects_steps = True

    def __init__(self, loss: Any) -> None:
        super().__init__(name=loss.name)
        self.loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The mean of the losses, as tf_keras reduces them."""
        self.loss.prepare(sample_weight, getattr(y_pred, "_keras_mask", None))
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses, of shape `(rows,)`."""
        return self.loss.losses(_tensorflow, y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """That of the loss."""
        return dict(self.loss.get_config())

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LegacyExternalLoss:
        """Make the loss again, of the function, or take the loss, that `custom_objects` has."""
        from pykguard.external._loss import ExternalLoss

        fn = tf_keras.saving.get_registered_object(config["fn"])
        return cls(ExternalLoss.of(fn, config))


def install(of_ours: type) -> None:
    """Have `compile()` of tf_keras take losses of this class."""
    make = tf_keras.Model.compile
    if not hasattr(make, "without_external_losses"):
        tf_keras.Model.compile = _taking(make, of_ours)


def _taking(compiles: Callable[..., None], of_ours: type) -> Callable[..., None]:
    def as_legacy(loss: Any) -> Any:
        return LegacyExternalLoss(loss) if isinstance(loss, of_ours) else loss

    @wraps(compiles)
    def compile(
        self: Any, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        compiles(self, optimizer, tree.map_structure(as_legacy, loss), *args, **kwargs)

    compile.without_external_losses = compiles  # type: ignore[attr-defined]
    return compile
