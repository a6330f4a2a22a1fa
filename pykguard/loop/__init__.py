"""Loops of one's own that drive Keras' callbacks."""

from pykguard.loop._loop import GuardedLoop, guarded_loop

__all__ = ["GuardedLoop", "guarded_loop"]
