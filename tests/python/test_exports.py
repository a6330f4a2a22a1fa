import re

import helpers
import pytest

import pykguard


def version_in(file, pattern):
    found = re.search(pattern, (helpers.ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    return found and found.group(1)


def test_the_public_names_are_these():
    assert sorted(pykguard.__all__) == [
        "BadBatch",
        "Difference",
        "Event",
        "Explanation",
        "ExternalLossError",
        "ExternalLossModel",
        "GuardError",
        "GuardWarning",
        "GuardedLoop",
        "LoopError",
        "LossHistory",
        "MonitorError",
        "OptionTypeError",
        "OptionValueError",
        "Record",
        "ResetLearningRate",
        "RestoreBest",
        "RevertOnLossIncrease",
        "RevertToBestOnIncrease",
        "SnapshotError",
        "SpikeGuard",
        "UnsupportedError",
        "__version__",
        "current_learning_rate",
        "external_loss",
        "guarded_loop",
        "read_history",
        "reset_learning_rate",
    ]


def test_every_public_name_exists():
    assert [name for name in pykguard.__all__ if not hasattr(pykguard, name)] == []


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("pyproject.toml", r'^version = "(.+)"$'),
        ("DESCRIPTION", r"^Version: (\S+)$"),
        ("NEWS.md", r"\A# kguard (\S+)$"),
    ],
)
def test_the_version_is_the_same_in(file, pattern):
    assert version_in(file, pattern) == pykguard.__version__


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (pykguard.OptionValueError, (pykguard.GuardError, ValueError)),
        (pykguard.OptionTypeError, (pykguard.GuardError, TypeError)),
        (pykguard.MonitorError, (pykguard.GuardError, ValueError)),
        (pykguard.LoopError, (pykguard.GuardError, RuntimeError)),
        (pykguard.SnapshotError, (pykguard.GuardError, RuntimeError)),
        (pykguard.ExternalLossError, (pykguard.GuardError, RuntimeError)),
        (pykguard.UnsupportedError, (pykguard.GuardError, RuntimeError)),
        (pykguard.GuardWarning, (UserWarning,)),
    ],
)
def test_an_error_can_be_caught_as(error, parents):
    assert all(issubclass(error, parent) for parent in parents)
