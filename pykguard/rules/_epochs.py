"""How epochs are numbered: from 0."""

INITIAL = -1
"""The epoch that stands for the state before training began."""
