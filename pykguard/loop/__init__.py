"""Loops of one's own that drive Keras' callbacks."""

from pykguard.loop._guarded_loop import guarded_loop
from pykguard.loop._loop import GuardedLoop

__all__ = ["GuardedLoop", "guarded_loop"]
