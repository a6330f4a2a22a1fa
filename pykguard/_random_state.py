"""The global random states of Python, NumPy and PyTorch.

TensorFlow and JAX have none that could be read: what Keras' layers draw there comes from seed
generators, which are variables of the model.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def read() -> dict[str, Any]:
    """The states as they are now."""
    states: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state()}
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def write(states: dict[str, Any]) -> None:
    """Put the states back."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        if "cuda" in states:
            torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def untouched() -> Iterator[None]:
    """Whatever draws random numbers inside, the states afterwards are those of before."""
    states = read()
    try:
        yield
    finally:
        write(states)
