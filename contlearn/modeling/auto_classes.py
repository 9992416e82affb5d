"""transformers' classes that choose by a model's files; every other module takes them from here.

The first import of them and of an encoder pulls in assisted generation and losses of images, which
name a function of scikit-learn and one of scipy: seconds and 80 MB for what an encoder never calls.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from contlearn.modeling.deferred import DeferringFinder, Named, deferring

__all__ = [
    "MODEL_MAPPING",
    "AutoConfig",
    "AutoModel",
    "AutoModelForSeq2SeqLM",
    "AutoTokenizer",
    "modeling_auto",
]

_NAMED_ONLY: Final[Named] = MappingProxyType(
    {
        "transformers.generation.candidate_generator": {"sklearn.metrics": ("roc_curve",)},
        "transformers.loss.loss_for_object_detection": {
            "scipy.optimize": ("linear_sum_assignment",)
        },
    }
)

with deferring(DeferringFinder(_NAMED_ONLY)):
    from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.models.auto import modeling_auto

MODEL_MAPPING = modeling_auto.MODEL_MAPPING
