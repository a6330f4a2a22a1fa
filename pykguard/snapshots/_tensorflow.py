"""Snapshots on TensorFlow: what the variables hold, read in one compiled function.

A read shares the variable's buffer until the next write, which then takes a new one, so that
keeping a state costs nothing before training goes on and a page of new memory for each of its own
afterwards. Writing back shares in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pykguard._framework import read_now, replicas_of
from pykguard.snapshots._base import Look, Part, Snapshot, Snapshots, _each_name

AT_ONCE_BYTES = 8 * 2**20  # read in a fraction of a millisecond


class TensorFlowSnapshots(Snapshots):
    """Keeps training states as tensors that share their memory with the model while they can."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._readers: dict[tuple[int, ...], _Made] = {}
        self._writers: dict[tuple[int, ...], _Made] = {}
        self._checkers: dict[tuple[int, ...], _Made] = {}
        self._plans: dict[Any, _Plan] = {}
        self._adders: dict[tuple[Any, ...], Any] = {}
        self._counter: Any = None
        self._at_once = AT_ONCE_BYTES
        self._thread = ThreadPoolExecutor(1, "pykguard-check")

    def look(self) -> Look:
        """Read the state, and check the smallest variables, mostly 8 MiB; see the base class."""
        plan = self._plan()
        finite, *tensors = plan.look()
        broken: list[Part] = []
        if not finite.numpy().all():
            pairs = zip(plan.parts, tensors, strict=True)
            by_handle = {id(part.handle): tensor for part, tensor in pairs}
            suspects = [p for p, so in zip(plan.checked, finite.numpy(), strict=True) if not so]
            broken = _confirmed(suspects, lambda handles: [by_handle[id(h)] for h in handles])
        return Look(self._agreed(_each_name(broken)), self._snapshot(plan.parts, tensors))

    def check_rest(
        self, snapshot: Snapshot, if_good: Callable[[], None]
    ) -> Callable[[], list[str]] | None:
        """Check the larger variables on a thread beside the training; see the base class."""
        large = self._plan_of(snapshot).large
        if not large:
            return None
        copies = {id(p.handle): c for p, c in zip(snapshot.parts, snapshot.copies, strict=True)}
        tensors = [copies[id(part.handle)] for part in large]

        def check() -> list[str]:
            broken = _each_name(self._broken(large, tensors))
            if not broken and not self._has_other_workers():
                if_good()
            return broken

        checked = self._thread.submit(check)
        return lambda: self._agreed(checked.result())

    def _plan(self) -> _Plan:
        """How to look at the variables as they are now, found out once for them."""
        variables = self.variables()
        key = (*map(id, variables), frozenset(self._not_judged))
        if key not in self._plans:
            if len(self._plans) >= 3:
                self._plans.clear()
            self._plans[key] = self._new_plan(variables, tuple(self._parts(variables)))
        return self._plans[key]

    def _plan_of(self, snapshot: Snapshot) -> _Plan:
        """The one by which a snapshot was taken."""
        for plan in self._plans.values():
            if plan.parts is snapshot.parts:
                return plan
        return self._new_plan([part.variable for part in snapshot.parts], snapshot.parts)

    def _new_plan(self, variables: Sequence[Any], parts: tuple[Part, ...]) -> _Plan:
        judged = self._judged(parts)
        is_small = _are_small([part.handle for part in judged], self._at_once)
        small = [part for part, so in zip(judged, is_small, strict=True) if so]
        large = [part for part, so in zip(judged, is_small, strict=True) if not so]
        checked = [part for part in small if part.handle.dtype.is_floating]
        look = _compile_look([p.handle for p in parts], [p.handle for p in checked])
        return _Plan(variables, parts, checked, large, look)

    def _parts(self, variables: Sequence[Any]) -> list[Part]:
        return [Part(each, v) for v in variables for each in replicas_of(v)]

    def _copy(self, parts: Sequence[Part], into: Snapshot | None) -> Sequence[Any]:
        return self._read([part.handle for part in parts])

    def _read(self, handles: Sequence[Any]) -> list[Any]:
        reader = _kept(self._readers, handles, _compile_reads)
        return list(reader.made())

    def _write(self, parts: Sequence[Part], values: Sequence[Any]) -> None:
        writer = _kept(self._writers, [part.handle for part in parts], _compile_assignments)
        writer.made(*values)

    def _non_finite(self, parts: Sequence[Part]) -> list[Part]:
        floating = [part for part in parts if part.handle.dtype.is_floating]
        if not floating:
            return []
        checker = _kept(self._checkers, [part.handle for part in floating], _compile_checks)
        finite = checker.made().numpy()
        return _confirmed([p for p, so in zip(floating, finite, strict=True) if not so], self._read)

    def _broken(self, parts: Sequence[Part], tensors: Sequence[Any]) -> list[Part]:
        """Those whose tensor holds a NaN or an infinity."""
        pairs = [(p, t) for p, t in zip(parts, tensors, strict=True) if t.dtype.is_floating]
        by_handle = {id(p.handle): t for p, t in pairs}
        elsewhere = [(p, t) for p, t in pairs if not _is_for_blas(t)]
        suspects = [p for p, t in pairs if _is_for_blas(t) and not _has_finite_squares(t)]
        if elsewhere:
            key = tuple((t.dtype, tuple(t.shape), t.device) for _, t in elsewhere)
            if key not in self._adders:
                self._adders.clear()
                self._adders[key] = _compile_sums(key)
            finite = self._adders[key](*(t for _, t in elsewhere)).numpy()
            suspects += [p for (p, _), so in zip(elsewhere, finite, strict=True) if not so]
        return _confirmed(suspects, lambda handles: [by_handle[id(h)] for h in handles])

    def _agreed(self, broken: list[str]) -> list[str]:
        if self.alone or not self._has_other_workers():
            return broken
        if self._counter is None:
            self._counter = _compile_sum_of_workers(self._model.distribute_strategy)
        everywhere = self._counter(tf.constant(float(len(broken))))
        return broken or (["a variable of another worker"] if float(everywhere) else [])

    def _has_other_workers(self) -> bool:
        strategy = self._model.distribute_strategy
        return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def _matrix(self, part: Part) -> Any:
        value = read_now(part.handle)
        # NumPy looks into the memory of a CPU without a copy.
        n = value.shape[-1]
        return np.asarray(value).reshape(-1, n) if _is_on_cpu(value) else tf.reshape(value, (-1, n))

    def _load(self, part: Part, array: np.ndarray[Any, Any]) -> Any:
        with tf.device(part.handle.device):
            return tf.identity(tf.cast(array, part.handle.dtype))


class _Plan(NamedTuple):
    """How to look at some variables, which it holds, so that their identities stay theirs."""

    variables: Sequence[Any]
    parts: tuple[Part, ...]
    checked: list[Part]  # at once, since they are small
    large: list[Part]
    look: Any  # reads all, and says which of `checked` have a finite sum


class _Made:
    """What was made for some variables, mostly a compiled function; it must not outlive them."""

    def __init__(self, handles: Sequence[Any], made: Any) -> None:
        self.handles = list(handles)
        self.made = made


def _kept(
    held: dict[tuple[int, ...], _Made],
    handles: Sequence[Any],
    make: Callable[[Sequence[Any]], Any],
) -> _Made:
    """What `make` makes for these variables, made once; of others only the last few are kept.

    The entry holds the variables, so that their identities stay theirs.
    """
    key = tuple(id(handle) for handle in handles)
    if key not in held:
        if len(held) >= 3:
            held.clear()
        held[key] = _Made(handles, make(handles))
    return held[key]


def _are_small(handles: Sequence[Any], most: int) -> list[bool]:
    """Whether each is one of the smallest, which together have so many bytes at most."""
    sizes = [handle.shape.num_elements() * handle.dtype.size for handle in handles]
    small = [False] * len(handles)
    total = 0
    for place in sorted(range(len(handles)), key=sizes.__getitem__):
        total += sizes[place]
        small[place] = total <= most
    return small


def _confirmed(
    suspects: Sequence[Part], read: Callable[[Sequence[Any]], Sequence[Any]]
) -> list[Part]:
    """Those that hold a NaN or an infinity, among them whose sum is not finite.

    A sum is finite only if every term is, and adding up is the fastest way to read an array; but it
    may overflow where no term does.
    """
    if not suspects:
        return []
    tensors = read([part.handle for part in suspects])
    pairs = zip(suspects, tensors, strict=True)
    return [part for part, tensor in pairs if not bool(tf.reduce_all(tf.math.is_finite(tensor)))]


def _is_on_cpu(tensor: Any) -> bool:
    return "CPU" in tensor.device


def _is_for_blas(tensor: Any) -> bool:
    return _is_on_cpu(tensor) and tensor.dtype in (tf.float32, tf.float64)


def _has_finite_squares(tensor: Any) -> bool:
    """Whether the sum of squares is finite.

    BLAS adds them up on this thread alone, in half the time that TensorFlow takes of its threads,
    on which the training waits.
    """
    values = np.asarray(tensor).ravel()  # no copy
    return bool(np.isfinite(np.dot(values, values)))


def _compile(function: Any, *signature: Any) -> Any:
    """One trace for good; TensorFlow warns of many small functions that share their name."""
    return tf.function(function, autograph=False).get_concrete_function(*signature)


def _compile_reads(handles: Sequence[Any]) -> Any:
    return _compile(lambda: [handle.read_value() for handle in handles])


def _compile_checks(handles: Sequence[Any]) -> Any:
    sums = _sums([handle.device for handle in handles])
    return _compile(lambda: sums(*(handle.read_value() for handle in handles)))


def _compile_look(handles: Sequence[Any], checked: Sequence[Any]) -> Any:
    sums = _sums([handle.device for handle in checked])

    def look() -> Any:
        values = [handle.read_value() for handle in handles]
        by_handle = {id(handle): value for handle, value in zip(handles, values, strict=True)}
        return [sums(*(by_handle[id(handle)] for handle in checked)), *values]

    return _compile(look)


def _compile_assignments(handles: Sequence[Any]) -> Any:
    def assign(*values: Any) -> None:
        for handle, value in zip(handles, values, strict=True):
            handle.assign(value)

    return _compile(assign, *(tf.TensorSpec(h.shape, h.dtype) for h in handles))


def _compile_sums(signature: Sequence[tuple[Any, Any, str]]) -> Any:
    specs = [tf.TensorSpec(shape, dtype) for dtype, shape, _ in signature]
    return _compile(_sums([device for _, _, device in signature]), *specs)


def _sums(devices: Sequence[str]) -> Any:
    """A function that says which of its arguments have a finite sum."""

    def flags(*tensors: Any) -> Any:
        finite = []
        for tensor, device in zip(tensors, devices, strict=True):
            with tf.device(device):
                finite.append(tf.math.is_finite(tf.reduce_sum(tensor)))
        return tf.stack(finite) if finite else tf.zeros((0,), "bool")

    return flags


def _compile_sum_of_workers(strategy: Any) -> Any:
    def add(number: Any) -> Any:
        everywhere = strategy.run(lambda: number)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, everywhere, axis=None)

    return _compile(add, tf.TensorSpec((), "float32"))
