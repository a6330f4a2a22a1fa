"""The list of callbacks that a loop drives: Keras' own."""

from __future__ import annotations

from typing import Any

import keras

from pykguard._errors import OptionTypeError, UnsupportedError
from pykguard._framework import is_legacy, library_of


def callback_list(model: Any, callbacks: Any, **params: Any) -> Any:
    """Keras' list of the given callbacks, with History and, if it shows, the progress bar.

    Args:
        model: What the callbacks are given as their model.
        callbacks: None, a callback, or a list of them.
        params: What they are given as their `params`: verbose, epochs and steps.

    Raises:
        OptionTypeError: One of them is not a callback of the model's library.
        UnsupportedError: One resumes what was broken off, which only `fit` can.
    """
    library = library_of(model)
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    kinds = (keras.callbacks.Callback, library.callbacks.Callback)
    for callback in callbacks:
        is_list = isinstance(callback, library.callbacks.CallbackList)
        if is_list or not isinstance(callback, kinds):
            raise OptionTypeError("callbacks", "None, a callback or a list of them", callback)
        if isinstance(callback, library.callbacks.BackupAndRestore):
            raise UnsupportedError(
                "BackupAndRestore cannot let a loop begin where it was broken off: save what is "
                "needed by a ModelCheckpoint or by hand, and give `initial_epoch`"
            )
        if is_legacy(model) and not hasattr(callback, "_implements_train_batch_hooks"):
            raise OptionTypeError("callbacks", "of tf_keras, as the models are", callback)
    return library.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        add_progbar=params["verbose"] != 0,
        model=model,
        **params,
    )
