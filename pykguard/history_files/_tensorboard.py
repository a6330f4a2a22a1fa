"""What TensorBoard shows of a training, written with TensorBoard's own writer."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

from pykguard._errors import OptionTypeError, OptionValueError

SECONDS_BETWEEN_FLUSHES = 5


class TensorBoardWriter:
    """Writes scalars and texts as TensorFlow's `tf.summary` would, on every backend.

    As Keras' TensorBoard callback does, it keeps what belongs to training and to validation in the
    folders `train` and `validation`, each made when it is first written to. A value is kept as a
    32-bit float, which is what TensorBoard shows; one that is not finite is kept as it is.

    Args:
        log_dir: The folder, which need not exist.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: str) -> None:
        _require_tensorboard()
        self._log_dir = log_dir
        self._writers: dict[str, Any] = {}

    def scalars(
        self, part: Literal["train", "validation"], step: int, values: Mapping[str, float]
    ) -> None:
        """Write a value for each tag."""
        import numpy as np
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        with np.errstate(over="ignore"):
            for tag, value in values.items():
                self._add(part, step, scalar_pb(tag, float(value)))

    def text(self, tag: str, step: int, text: str) -> None:
        """Write a text, which TensorBoard shows as Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add("train", step, text_pb(tag, text))

    def flush(self) -> None:
        """Hand everything so far to the operating system."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush, and close the files; closing them again does nothing."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _add(self, part: str, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if part not in self._writers:
            self._writers[part] = EventFileWriter(
                os.path.join(self._log_dir, part), flush_secs=SECONDS_BETWEEN_FLUSHES
            )
        self._writers[part].add_event(Event(wall_time=time.time(), step=step, summary=summary))


def check_log_dir(log_dir: Any) -> str | None:
    """Check the option `log_dir`: None, or the name of a folder that is there or can be made."""
    if log_dir is None:
        return None
    requirement = "None or the name of a folder"
    if not isinstance(log_dir, (str, os.PathLike)):
        raise OptionTypeError("log_dir", requirement, log_dir)
    name = os.path.expanduser(os.fsdecode(log_dir))
    if not name.strip() or "\0" in name or os.path.isfile(name):
        raise OptionValueError("log_dir", requirement, name)
    _require_tensorboard()
    return name


def _require_tensorboard() -> None:
    if find_spec("tensorboard") is None:
        raise ImportError(
            "`log_dir` needs the package tensorboard: install it with `pip install tensorboard`"
        )
