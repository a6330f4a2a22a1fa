"""Arrays that a step on JAX takes and gives back, checked so that nothing is lost silently."""

from __future__ import annotations

from typing import Any

from pykguard._errors import LoopError, UnsupportedError
from pykguard.loop import _state
from pykguard.loop._words import Words


class Arrays:
    """The variables of all models, as a batch reads and writes them on JAX.

    Args:
        pairs: The models with their optimizers.
        words: How messages spell the calls of the user.
        is_jax: Whether Keras runs on JAX; elsewhere variables change in place.
    """

    def __init__(self, pairs: list[tuple[Any, Any]], words: Words, *, is_jax: bool) -> None:
        self._pairs = pairs
        self._words = words
        self._is_jax = is_jax
        self._is_read = False
        self._before: list[Any] = []

    def begin_batch(self) -> None:
        """Note which arrays the variables hold."""
        if self._is_jax:
            self._is_read, self._before = False, self._now()

    def read(self) -> Any:
        """The arrays, as `GuardedLoop.state()` gives them.

        Raises:
            UnsupportedError: Keras runs on another backend.
        """
        if not self._is_jax:
            raise UnsupportedError("`state()` is for JAX; elsewhere variables change in place")
        self._is_read = True
        states = [_state.read(each) for each in self._variables()]
        return states[0] if len(states) == 1 else states

    def take(self, state: Any) -> None:
        """Assign what a step gave back; None where it has assigned the variables itself.

        Raises:
            LoopError: The state was not read in this batch, or no variable was assigned.
            OptionTypeError, OptionValueError: The state does not fit.
            UnsupportedError: Keras runs on another backend.
        """
        if not self._is_jax:
            if state is not None:
                raise UnsupportedError("`state` is for JAX; elsewhere variables change in place")
            return
        if state is not None:
            if not self._is_read:
                raise LoopError(
                    f"`state` was not made of what {self._words.state} returned in this batch, so "
                    "what the callbacks changed since then would be lost"
                )
            _state.write(self._variables(), state)
        elif list(map(id, self._before)) == list(map(id, self._now())):
            raise LoopError(
                "no variable was assigned in this batch, so the callbacks would see none of its "
                f"training: report what the step returned as `state`, or {self._words.state} if it "
                "was to change nothing"
            )

    def _variables(self) -> list[_state.ModelState]:
        return [_state.variables_of(model, optimizer) for model, optimizer in self._pairs]

    def _now(self) -> list[Any]:
        return [v.value for parts in self._variables() for part in parts for v in part]
