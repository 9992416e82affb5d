"""What a softmax makes of scores: probabilities, their logarithms, the free energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["free_energy", "log_softmax", "softmax"]


def softmax(logits: Any, temperature: float = 1.0) -> FloatArray:
    """Give the probabilities over the last axis.

    Shape: logits (..., C); the result alike, in 64 bits.
    Example:
        >>> softmax([0.0, 0.0]).tolist()
        [0.5, 0.5]
    """
    import numpy as np

    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def log_softmax(logits: Any, temperature: float = 1.0) -> FloatArray:
    """Give the logarithms of the probabilities over the last axis.

    Shape: logits (..., C); the result alike.
    Example:
        >>> log_softmax([0.0, 0.0]).tolist()
        [-0.693, -0.693]
    """
    import numpy as np

    scaled = np.asarray(logits) / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def free_energy(logits: Any, temperature: float = 1.0) -> FloatArray:
    """Give T · logsumexp(logits / T), the negative free energy: evidence for any label at all.

    Shape: logits (..., C); the result (...).
    Source: Liu et al., "Energy-based Out-of-distribution Detection", 2020.
    Example:
        >>> float(free_energy([0.0, 0.0]))  # log 2
        0.693
    """
    import numpy as np

    scaled = np.asarray(logits, dtype=np.float64) / temperature
    top = scaled.max(axis=-1, keepdims=True)
    result: FloatArray = temperature * (top[..., 0] + np.log(np.exp(scaled - top).sum(axis=-1)))
    return result
