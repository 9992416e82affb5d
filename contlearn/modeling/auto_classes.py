"""transformers' classes that choose by a model's files; every other module takes them from here.

The first import of them and of an encoder pulls in assisted generation and losses of images, which
name a function of scikit-learn and one of scipy: seconds and 80 MB for what an encoder never calls.
What every encoder needs of transformers is imported here too, so that its names are seen.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import Final

from contlearn.deferred import DeferringFinder, Named, deferring, uncollected

__all__ = [
    "MODEL_MAPPING",
    "AutoConfig",
    "AutoModel",
    "AutoModelForSeq2SeqLM",
    "AutoTokenizer",
    "modeling_auto",
]

_OF_IMAGES: Final = ("deformable_detr", "for_object_detection", "grounding_dino", "rt_detr")
_NAMED_ONLY: Final[Named] = MappingProxyType(
    {
        "transformers.generation.candidate_generator": {"sklearn.metrics": ("roc_curve",)},
        **{
            f"transformers.loss.loss_{name}": {"scipy.optimize": ("linear_sum_assignment",)}
            for name in _OF_IMAGES
        },
    }
)

with uncollected(), deferring(DeferringFinder(_NAMED_ONLY)):
    importlib.import_module("transformers.modeling_utils")
    from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.models.auto import modeling_auto

MODEL_MAPPING = modeling_auto.MODEL_MAPPING
