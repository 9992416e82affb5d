"""The built-in replay buffers, registered through the hook that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_buffers() -> list[type]:
    """Give the buffer classes."""
    from contlearn.replay.class_balanced import ClassBalancedBuffer
    from contlearn.replay.priority import HerdingBuffer, LossAwareBuffer, UncertaintyBuffer
    from contlearn.replay.reservoir import ReservoirBuffer

    return [
        ClassBalancedBuffer,
        ReservoirBuffer,
        HerdingBuffer,
        UncertaintyBuffer,
        LossAwareBuffer,
    ]
