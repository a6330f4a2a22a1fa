"""The example of the loss history runs, and explains what it printed."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_the_loss_history_example_explains_what_its_console_shows():
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    output = subprocess.run(
        [sys.executable, ROOT / "examples" / "loss_history.py"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    ).stdout
    parts = output.split("----------------")[1:]
    assert len(parts) == 3
    for part in parts:
        console, *explained = re.split(r"^Epoch \d+\n", part, flags=re.MULTILINE)
        epochs = re.split(r"^Epoch \d+/\d+\n", console, flags=re.MULTILINE)[1:]
        shown = [re.findall(r" loss: ([\d.e-]+)", epoch)[-1] for epoch in epochs]
        said = [re.search(r"the console showed last +(\S+)", each).group(1) for each in explained]
        assert said == shown and len(said) >= 2
