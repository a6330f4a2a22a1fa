import ast
import re
import subprocess
import sys

import helpers
import pytest

MODULES = sorted(helpers.PACKAGE.rglob("*.py"))


def imports_of(path):
    """Dotted names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, *rooms):
    return any(name == room or name.startswith(room + ".") for room in rooms)


def room_of(path):
    return path.relative_to(helpers.PACKAGE).parts[0]


def files_in(*rooms):
    found = [path for path in MODULES if room_of(path) in rooms]
    assert found
    return found


def is_stdlib(name):
    return name.split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("path", files_in("rules"), ids=lambda p: p.name)
def test_rules_know_nothing_but_the_checks(path):
    allowed = ("pykguard._errors", "pykguard._checks", "pykguard.rules")
    assert [n for n in imports_of(path) if not is_stdlib(n) and not within(n, *allowed)] == []


@pytest.mark.parametrize("path", files_in("_checks.py", "_errors.py"), ids=lambda p: p.name)
def test_checks_and_errors_know_nothing_but_each_other(path):
    assert [
        n for n in imports_of(path) if not is_stdlib(n) and not within(n, "pykguard._errors")
    ] == []


@pytest.mark.parametrize("path", files_in("history_files"), ids=lambda p: p.name)
def test_history_files_know_no_keras(path):
    allowed = ("pykguard._errors", "pykguard.history_files", "numpy", "tensorboard")
    assert [n for n in imports_of(path) if not is_stdlib(n) and not within(n, *allowed)] == []


@pytest.mark.parametrize("path", files_in("snapshots"), ids=lambda p: p.name)
def test_snapshots_decide_nothing(path):
    assert [n for n in imports_of(path) if within(n, "pykguard.rules", "pykguard.callbacks")] == []


INSIDE = [path for path in MODULES if room_of(path) not in ("__init__.py", "callbacks")]


@pytest.mark.parametrize("path", INSIDE, ids=lambda p: str(p.relative_to(helpers.PACKAGE)))
def test_only_the_front_door_imports_the_callbacks(path):
    assert [n for n in imports_of(path) if within(n, "pykguard.callbacks")] == []


def test_every_folder_of_the_package_is_installed():
    pyproject = (helpers.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[(.*?)\]\n\n", pyproject, re.MULTILINE | re.DOTALL).group(1)
    there = {
        ".".join(path.parent.relative_to(helpers.PACKAGE.parent).parts)
        for path in MODULES
        if path.name == "__init__.py"
    }
    assert set(re.findall(r'"(.+?)"', listed)) == there


def test_every_python_file_is_in_a_folder_of_the_package():
    assert [p for p in MODULES if not (p.parent / "__init__.py").exists()] == []


def test_the_rules_run_without_keras():
    code = (
        f"{helpers.WITHOUT_KERAS}\n"
        "from pykguard.rules import best, monitor, revert, spike\n"
        "backends = {'tensorflow', 'jax', 'torch'}\n"
        "assert not {'keras', 'numpy', *backends} & set(sys.modules), 'Keras was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
