"""The errors and warnings of pykguard.

GuardError
├── OptionValueError (ValueError)   an option of the right type with a value that cannot be used
├── OptionTypeError (TypeError)     an option of the wrong type
├── MonitorError (ValueError)       the monitored quantity is not there, or has no direction
├── LoopError (RuntimeError)        a loop of one's own was not run as `guarded_loop` needs it
├── SnapshotError (RuntimeError)    a training state could not be kept or put back
├── ExternalLossError (RuntimeError) the function of an external loss failed
└── UnsupportedError (RuntimeError) the backend or the strategy is not supported
GuardWarning (UserWarning)          a guard is at work but cannot do what its user may expect
"""

from __future__ import annotations

from typing import Any


class GuardError(Exception):
    """Base class of the errors that pykguard raises on purpose."""


class _OptionError(GuardError):
    def __init__(self, argument: str, requirement: str, value: Any) -> None:
        self.argument = argument
        self.requirement = requirement
        self.value = value
        super().__init__(f"`{argument}` must be {requirement}, got {brief(value)}")


class OptionValueError(_OptionError, ValueError):
    """An option of the right type whose value cannot be used.

    Attributes:
        argument: Name of the option.
        requirement: What it must be, as the sentence `must be …` says it.
        value: What was given.
    """


class OptionTypeError(_OptionError, TypeError):
    """An option of the wrong type. Has the attributes of `OptionValueError`."""


class MonitorError(GuardError, ValueError):
    """The monitored quantity is missing from the logs, or has no known direction."""


class LoopError(GuardError, RuntimeError):
    """A loop of one's own was not run as `guarded_loop` needs it, such as without a report."""


class SnapshotError(GuardError, RuntimeError):
    """A training state could not be kept or put back."""


class ExternalLossError(GuardError, RuntimeError):
    """The function of an external loss failed, or did not return what it must."""


class UnsupportedError(GuardError, RuntimeError):
    """The Keras backend or the distribution strategy is not supported."""


class GuardWarning(UserWarning):
    """A guard is at work but cannot do what its user may expect."""


def brief(value: Any, limit: int = 80) -> str:
    """A value as a message shows it: arrays by their shape, long texts cut."""
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {shape}"
    text = repr(_number_in(value) if shape == () and hasattr(value, "device") else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _number_in(tensor: Any) -> Any:
    """The number that a tensor holds; the tensor itself where it holds none that is known."""
    try:
        return float(tensor)
    except (TypeError, ValueError):
        return tensor
