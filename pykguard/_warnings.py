"""Warning users, each time there is something to say."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

import keras

from pykguard._errors import GuardWarning

_INSIDE = tuple(os.path.dirname(os.path.abspath(f)) for f in (__file__, keras.__file__))

Handler = Callable[[str], object]
_handler: Handler | None = None


def warn(message: str) -> None:
    """Give a `GuardWarning` at the line of the user's code that led here.

    Unlike `warnings.warn` it does not keep silent about what it has said before: a second `fit`
    that goes wrong in the same way is as worth a word as the first.
    """
    if _handler is not None:
        _handler(message)
        return
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
    warnings.warn_explicit(
        message, GuardWarning, frame.f_code.co_filename, frame.f_lineno, registry={}
    )


def hand_to(handler: Handler | None) -> None:
    """Let `handler` have the messages, as R does, which has warnings of its own."""
    global _handler
    _handler = handler
