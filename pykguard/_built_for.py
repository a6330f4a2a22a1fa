"""For which variables an optimizer was built."""

from __future__ import annotations

from typing import Any

import keras

from pykguard._optimizers import innermost
from pykguard.learning_rate import is_of_legacy


def is_built(optimizer: Any) -> bool:
    """Whether it was built for some."""
    return bool(_keys_of(optimizer))


def is_built_for_others(optimizer: Any, model: Any) -> bool:
    """Whether it was built for variables that are not among the model's trainable ones."""
    return not _keys_of(optimizer) <= {_key(variable) for variable in model.trainable_variables}


def _key(variable: Any) -> Any:
    return id(variable) if isinstance(variable, keras.Variable) else variable._unique_id


def _keys_of(optimizer: Any) -> set[Any]:
    """What an optimizer was built for; of tf_keras' older kind, what it has slots for."""
    optimizer = innermost(optimizer)
    if not is_of_legacy(optimizer):
        return {
            _key(variable) for variable in getattr(optimizer, "_trainable_variables", None) or ()
        }
    slots = getattr(optimizer, "_slots", {})
    return set(getattr(optimizer, "_index_dict", None) or slots)
