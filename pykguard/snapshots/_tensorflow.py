"""Snapshots on TensorFlow: what the variables hold, read in one compiled function.

A read shares the variable's buffer until the next write, which then takes a new one, so that
keeping a state costs nothing before training goes on and a page of new memory for each of its own
afterwards. Writing back shares in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any

import numpy as np
import tensorflow as tf

from pykguard.snapshots._base import Part, Snapshot, Snapshots, _each_name

AT_ONCE_BYTES = 8 * 2**20  # read in a fraction of a millisecond


class TensorFlowSnapshots(Snapshots):
    """Keeps training states as tensors that share their memory with the model while they can."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._readers: dict[tuple[int, ...], _Function] = {}
        self._writers: dict[tuple[int, ...], _Function] = {}
        self._checkers: dict[tuple[Any, ...], Any] = {}
        self._adder: Any = None

    def non_finite_at_once(self) -> list[str]:
        """Names of the variables that are not finite, among the smallest ones up to 8 MiB."""
        parts, _ = self._split(self._judged(self._parts(self.variables())))
        return self._agreed(_each_name(self._non_finite(parts)))

    def check_rest(self, snapshot: Snapshot) -> Callable[[], list[str]] | None:
        """Check the larger variables on a thread beside the training; see the base class."""
        _, large = self._split(self._judged(snapshot.parts))
        if not large:
            return None
        copies = {id(p.handle): c for p, c in zip(snapshot.parts, snapshot.copies, strict=True)}
        check = _Beside(lambda: self._broken(large, [copies[id(p.handle)] for p in large]))
        return lambda: self._agreed(_each_name(check.result()))

    def _split(self, parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
        small: list[Part] = []
        large: list[Part] = []
        size = 0
        for part in sorted(parts, key=lambda p: _bytes(p.handle)):
            size += _bytes(part.handle)
            (small if size <= AT_ONCE_BYTES or not small else large).append(part)
        return small, large

    def _parts(self, variables: Sequence[Any]) -> list[Part]:
        return [Part(each, v) for v in variables for each in _components(v)]

    def _copy(self, parts: Sequence[Part], into: Snapshot | None) -> Sequence[Any]:
        return self._read([part.handle for part in parts])

    def _read(self, handles: Sequence[Any]) -> list[Any]:
        reader = _kept(self._readers, handles, _compile_reads)
        return list(reader.function())

    def _write(self, parts: Sequence[Part], values: Sequence[Any]) -> None:
        writer = _kept(self._writers, [part.handle for part in parts], _compile_assignments)
        writer.function(*values)

    def _non_finite(self, parts: Sequence[Part]) -> list[Part]:
        return self._broken(parts, self._read([part.handle for part in parts])) if parts else []

    def _broken(self, parts: Sequence[Part], tensors: Sequence[Any]) -> list[Part]:
        """Those whose tensor holds a NaN or an infinity.

        A sum is finite only if every term is, and adding up is the fastest way to read an array; a
        sum may overflow where no term does, so those that are not finite are looked at closely.
        """
        pairs = [(p, t) for p, t in zip(parts, tensors, strict=True) if t.dtype.is_floating]
        if not pairs:
            return []
        key = tuple((t.dtype, tuple(t.shape), t.device) for _, t in pairs)
        if key not in self._checkers:
            if len(self._checkers) >= 2:  # the small ones' and the large ones'
                self._checkers.clear()
            self._checkers[key] = _compile_sums(key)
        finite = self._checkers[key](*(t for _, t in pairs)).numpy()
        suspects = [pair for pair, is_finite in zip(pairs, finite, strict=True) if not is_finite]
        return [p for p, t in suspects if not bool(tf.reduce_all(tf.math.is_finite(t)))]

    def _agreed(self, broken: list[str]) -> list[str]:
        strategy = self._model.distribute_strategy
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return broken
        if self._adder is None:
            self._adder = _compile_sum_of_workers(strategy)
        everywhere = self._adder(tf.constant(float(len(broken))))
        return broken or (["a variable of another worker"] if float(everywhere) else [])

    def _load(self, part: Part, array: np.ndarray[Any, Any]) -> Any:
        with tf.device(part.handle.device):
            return tf.identity(tf.cast(array, part.handle.dtype))


class _Beside:
    """A function's result, computed on a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="pykguard-check", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Wait for it; raises what the function raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result


class _Function:
    """A compiled function, and the variables that it must not outlive."""

    def __init__(self, handles: Sequence[Any], function: Any) -> None:
        self.handles = list(handles)
        self.function = function


def _kept(
    functions: dict[tuple[int, ...], _Function],
    handles: Sequence[Any],
    compile_for: Callable[[Sequence[Any]], Any],
) -> _Function:
    """The function for these variables, compiled if need be; of others only the last few are kept.

    The entry holds the variables, so that their identities stay theirs.
    """
    key = tuple(id(handle) for handle in handles)
    if key not in functions:
        if len(functions) >= 3:
            functions.clear()
        functions[key] = _Function(handles, compile_for(handles))
    return functions[key]


def _components(variable: Any) -> Iterator[Any]:
    """The `tf.Variable`s behind a variable, one for each replica that is in this process."""
    handle = variable if isinstance(variable, tf.Variable) else variable.value
    # A mirrored variable has its replicas' in `values`; an ordinary one has no such attribute.
    yield from getattr(handle, "values", None) or (handle,)


def _bytes(handle: Any) -> int:
    return int(np.prod(handle.shape)) * int(handle.dtype.size)


def _compile(function: Any, *signature: Any) -> Any:
    """One trace for good; TensorFlow warns of many small functions that share their name."""
    return tf.function(function, autograph=False).get_concrete_function(*signature)


def _compile_reads(handles: Sequence[Any]) -> Any:
    return _compile(lambda: [handle.read_value() for handle in handles])


def _compile_assignments(handles: Sequence[Any]) -> Any:
    def assign(*values: Any) -> None:
        for handle, value in zip(handles, values, strict=True):
            handle.assign(value)

    return _compile(assign, *(tf.TensorSpec(h.shape, h.dtype) for h in handles))


def _compile_sums(signature: Sequence[tuple[Any, Any, str]]) -> Any:
    def flags(*tensors: Any) -> Any:
        finite = []
        for tensor, (_, _, device) in zip(tensors, signature, strict=True):
            with tf.device(device):
                finite.append(tf.math.is_finite(tf.reduce_sum(tensor)))
        return tf.stack(finite)

    return _compile(flags, *(tf.TensorSpec(shape, dtype) for dtype, shape, _ in signature))


def _compile_sum_of_workers(strategy: Any) -> Any:
    def add(number: Any) -> Any:
        everywhere = strategy.run(lambda: number)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, everywhere, axis=None)

    return _compile(add, tf.TensorSpec((), "float32"))
