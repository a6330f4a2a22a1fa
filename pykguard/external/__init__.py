"""Losses that live outside Keras: plain NumPy functions, and functions of the whole model."""

from pykguard.external._loss import external_loss
from pykguard.external._main_thread import OnMain
from pykguard.external._model import ExternalLossModel

__all__ = ["ExternalLossModel", "OnMain", "external_loss"]
