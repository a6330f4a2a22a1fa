"""The base of kguard's callbacks: one class for the `fit` of Keras 3 and of tf_keras."""

from __future__ import annotations

from typing import Any

import keras

from pykguard._errors import GuardError

TWICE = "it is in the list of callbacks twice"


class Callback(keras.callbacks.Callback):
    """A callback of Keras 3 that tf_keras takes too.

    tf_keras asks its callbacks which batch hooks they have. It must be told truly: where no
    callback has any, it calls none.
    """

    _begins_once = False

    def set_model(self, model: Any) -> None:
        """Take the model of the next `fit`."""
        super().set_model(model)
        self._begins_once = True

    def _begin(self) -> None:
        """Refuse a second beginning for one model: the work would be done twice."""
        if not self._begins_once:
            raise GuardError(f"{type(self).__name__}: {TWICE}, or had no `set_model()` before")
        self._begins_once = False

    def release(self) -> None:
        """Let go of files where training ended by an error, which skips `on_train_end()`."""

    def _implements_train_batch_hooks(self) -> bool:
        return _overrides(self, "train", "on_batch_begin", "on_batch_end")

    def _implements_test_batch_hooks(self) -> bool:
        return _overrides(self, "test")

    def _implements_predict_batch_hooks(self) -> bool:
        return _overrides(self, "predict")


def _overrides(callback: Any, phase: str, *more: str) -> bool:
    hooks = (f"on_{phase}_batch_begin", f"on_{phase}_batch_end", *more)
    return any(not getattr(getattr(callback, hook), "_is_default", False) for hook in hooks)
