import ast
import inspect
import re

import pytest

import pykguard

GUARDS = [
    pykguard.RevertOnLossIncrease,
    pykguard.RevertToBestOnIncrease,
    pykguard.RestoreBest,
    pykguard.SpikeGuard,
    pykguard.LossHistory,
    pykguard.ResetLearningRate,
]
LOOP = pykguard.guarded_loop  # whose callbacks and epochs have a default, as in `fit`
WITH_OPTIONS = [
    *GUARDS,
    pykguard.external_loss,
    pykguard.ExternalLossModel,
    LOOP,
]
PUBLIC = [getattr(pykguard, name) for name in pykguard.__all__ if name != "__version__"]


def section(thing, title):
    """The entries of one section of a docstring: name and text, in order."""
    lines = inspect.getdoc(thing).splitlines()
    if f"{title}:" not in lines:
        return {}
    entries = {}
    for text in lines[lines.index(f"{title}:") + 1 :]:
        if text and not text.startswith(" "):
            break
        start = re.match(r"    (\w+): (.*)", text)
        if start:
            name = start.group(1)
            entries[name] = start.group(2)
        elif text.strip():
            entries[name] += " " + text.strip()
    return entries


def parameters(function):
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }


def methods_with_arguments():
    for guard in (*GUARDS, pykguard.Record, pykguard.GuardedLoop):
        for name, method in inspect.getmembers(guard, inspect.isfunction):
            own = method.__module__.startswith("pykguard") and not name.startswith("_")
            if own and section(method, "Args"):
                yield pytest.param(method, id=f"{guard.__name__}.{name}")


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_every_public_thing_says_what_it_is_in_its_first_line(thing):
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    first = (own or "").split("\n")[0]
    assert first.endswith(".") and len(first) > 15


@pytest.mark.parametrize("guard", WITH_OPTIONS)
def test_the_documented_arguments_are_the_real_ones(guard):
    assert list(section(guard, "Args")) == list(parameters(guard))


@pytest.mark.parametrize("guard", WITH_OPTIONS)
def test_the_documented_defaults_are_the_real_ones(guard):
    said = {}
    for name, text in section(guard, "Args").items():
        default = re.search(r"Defaults to `?(.+?)`?\.$", text)
        said[name] = ast.literal_eval(default.group(1)) if default else inspect.Parameter.empty
    assert said == parameters(guard)


OTHERWISE = [LOOP, pykguard.SpikeGuard]  # takes several by position; takes none


@pytest.mark.parametrize("guard", [each for each in WITH_OPTIONS if each not in OTHERWISE])
def test_only_the_first_and_what_has_to_be_given_may_be_given_by_position(guard):
    first, *others = inspect.signature(guard).parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    for each in others:
        assert (each.kind is inspect.Parameter.KEYWORD_ONLY) == (each.default is not each.empty)


@pytest.mark.parametrize("method", list(methods_with_arguments()))
def test_the_documented_arguments_of_methods_are_the_real_ones(method):
    assert list(section(method, "Args")) == list(parameters(method))


def test_the_documented_fields_of_an_event_are_the_real_ones():
    assert tuple(section(pykguard.Event, "Attributes")) == pykguard.Event._fields


def test_the_documented_fields_of_a_difference_are_the_real_ones():
    assert tuple(section(pykguard.Difference, "Attributes")) == pykguard.Difference._fields


def test_the_documented_fields_of_an_option_error_are_the_real_ones():
    error = pykguard.OptionValueError("tolerance", "positive", -1)
    assert set(section(pykguard.OptionValueError, "Attributes")) == set(vars(error))


def test_both_revert_guards_take_the_same_options():
    assert parameters(pykguard.RevertOnLossIncrease) == parameters(pykguard.RevertToBestOnIncrease)
