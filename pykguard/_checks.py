"""Checks of the options that users give. Each returns the value it accepts, or raises."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeVar

from pykguard._errors import OptionTypeError, OptionValueError

Choice = TypeVar("Choice", bound=str)


def number(
    name: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Accept a finite real number with `minimum <= value <= maximum` and `value > above`."""
    requirement = "a finite number" + _bounds(minimum, maximum, above)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise OptionTypeError(name, requirement, value)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not (math.isfinite(result) and minimum <= result <= maximum and result > above):
        raise OptionValueError(name, requirement, value)
    return result


def integer(name: str, value: Any, *, minimum: int, optional: bool = False) -> int:
    """Accept a whole number of at least `minimum`; bools and floats are refused."""
    requirement = f"a whole number of at least {minimum}" + (" or None" if optional else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise OptionTypeError(name, requirement, value)
    if value < minimum:
        raise OptionValueError(name, requirement, value)
    return int(value)


def optional_integer(name: str, value: Any, *, minimum: int) -> int | None:
    """Accept None or what `integer` accepts."""
    return None if value is None else integer(name, value, minimum=minimum, optional=True)


def flag(name: str, value: Any) -> bool:
    """Accept True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, bool):
        raise OptionTypeError(name, "True or False", value)
    return value


def choice(name: str, value: Any, choices: Sequence[Choice]) -> Choice:
    """Accept one of `choices`."""
    requirement = "one of " + ", ".join(f'"{c}"' for c in choices)
    if not isinstance(value, str):
        raise OptionTypeError(name, requirement, value)
    for each in choices:
        if each == value:
            return each
    raise OptionValueError(name, requirement, value)


def text(name: str, value: Any) -> str:
    """Accept a string that is not empty or blank."""
    requirement = "a string that is not empty"
    if not isinstance(value, str):
        raise OptionTypeError(name, requirement, value)
    if not value.strip():
        raise OptionValueError(name, requirement, value)
    return value


def _bounds(minimum: float, maximum: float, above: float) -> str:
    if above > -math.inf and maximum < math.inf:
        return f" above {above:g} and at most {maximum:g}"
    if above > -math.inf:
        return f" above {above:g}"
    if minimum > -math.inf:
        return f" of at least {minimum:g}"
    return ""
