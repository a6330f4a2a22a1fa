"""Functions that may be called on the main thread only, as those of R, in steps that run compiled.

TensorFlow and JAX call Python from threads of their own while a compiled step runs, and the thread
that started the step waits for it. A function of R's that waits for the main thread would then wait
for ever. So `run_apart()` starts the step on another thread, and the main thread answers the calls
that `OnMain` passes on to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from pykguard._errors import UnsupportedError

_TURN = 0.01  # seconds after which the main thread lets Python run what others have left to it

_lock = threading.Lock()
_waiting: list[_Call] = []
_n_apart = 0  # how many steps run apart, each but the last within a call that another made
_idle: list[_Worker] = []
_bell = threading.Lock()  # let go of where a call is waiting and where a step has ended
_bell.acquire()


class OnMain:
    """A function that is called on the main thread, whichever thread asks for it.

    Args:
        fn: The function.
        name: Its name.
    """

    there_are_some = False  # where there are none, no step has to run apart

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        self.fn = fn
        self.__name__ = name
        OnMain.there_are_some = True

    def __call__(self, *args: Any) -> Any:
        """What the function returns.

        Raises:
            UnsupportedError: This is another thread, and the main thread answers no calls.
        """
        if is_main():
            return self.fn(*args)
        call = _Call(self, args)
        with _lock:
            if not _n_apart:
                raise call.refusal()
            _waiting.append(call)
        _ring()
        return call.answer()


def is_apart() -> bool:
    """Whether this is a thread on which a step runs apart."""
    return isinstance(threading.current_thread(), _Worker)


def is_main() -> bool:
    """Whether this is the main thread."""
    return threading.current_thread() is threading.main_thread()


def run_apart(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns, called on another thread while this one, the main, answers calls.

    Raises:
        KeyboardInterrupt: The user interrupted. The function has ended all the same: from the
            interruption on its calls were refused.
        Exception: What the function raised.
    """
    global _n_apart
    step = _Step(function, args)
    with _lock:
        _n_apart += 1
    try:
        worker = _idle.pop() if _idle else _Worker()
        worker.steps.put(step)
        interrupted = False
        while not step.has_ended:
            try:
                _answer_until_ended(step, refuse=interrupted)
            except KeyboardInterrupt:
                interrupted = True
    finally:
        with _lock:
            _n_apart -= 1
            left = [] if _n_apart else list(_waiting)
        for call in left:
            call.refuse()
    if interrupted:
        raise KeyboardInterrupt
    if step.error is not None:
        raise step.error
    return step.returned


def _answer_until_ended(step: _Step, refuse: bool) -> None:
    while not step.has_ended:
        with _lock:
            calls = [call for call in _waiting if call.within in (None, step)]
        for call in calls:
            if refuse:
                call.refuse()
            else:
                call.make(step)
        _bell.acquire(timeout=_TURN)


def _ring() -> None:
    with suppress(RuntimeError):  # it rings already
        _bell.release()


class _Step:
    """A function that runs on a worker."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.returned: Any = None
        self.error: BaseException | None = None
        self.has_ended = False

    def run(self) -> None:
        try:
            self.returned = self.function(*self.args)
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.has_ended = True
        _ring()


class _Worker(threading.Thread):
    """A thread that runs steps, and is kept for the next."""

    def __init__(self) -> None:
        super().__init__(name="kguard-step", daemon=True)
        self.steps: SimpleQueue[_Step] = SimpleQueue()
        self.start()

    def run(self) -> None:
        """Run steps for as long as the process lives."""
        while True:
            step = self.steps.get()
            step.run()
            _idle.append(self)
            step.end()
            del step


class _Call:
    """A call that waits for the main thread, and for which another thread waits."""

    def __init__(self, function: OnMain, args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.within: _Step | None = None  # during which it is made
        self.returned: Any = None
        self.error: Exception | None = None
        self.is_answered = threading.Event()

    def answer(self) -> Any:
        """What the main thread has answered, once it has."""
        self.is_answered.wait()
        with _lock:
            _waiting.remove(self)
        if self.error is not None:
            raise self.error
        return self.returned

    def make(self, step: _Step) -> None:
        """Make the call, on the main thread."""
        self.within = step
        if self.is_answered.is_set():
            return
        try:
            self.returned = self.function.fn(*self.args)
        except Exception as error:
            self.error = error
        self.is_answered.set()

    def refuse(self) -> None:
        """Answer with an error, unless it is answered."""
        if not self.is_answered.is_set():
            self.error = self.refusal()
            self.is_answered.set()

    def refusal(self) -> UnsupportedError:
        return UnsupportedError(
            f"the function {self.function.__name__!r} can be called on the main thread only, and "
            "that does not wait for it here: use it in the loss of a model that was compiled with "
            "it, or run eagerly"
        )
