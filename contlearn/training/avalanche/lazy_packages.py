"""Import the parts of avalanche that are used, not all that its packages name.

An `__init__` file of avalanche imports every module beside it, and with them plotting, trackers
and image libraries: twelve seconds and 600 MB for a training that touches none of them. Inside
`avalanche_parts` its packages are put in place without running those files. A name in `_HOMES` is
fetched from the module that defines it; anything else asked of a package runs its `__init__` then,
as the standard library's `LazyLoader` does. So nothing of avalanche is missing or replaced, and
whoever imports more of it later gets it, with the same classes. If avalanche is imported before
us, all is as it found it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any, Final

from contlearn.deferred import DeferringFinder, Named, deferring, quiet_imports

__all__ = ["avalanche_parts"]

_ROOT: Final = "avalanche"

# Where avalanche 0.6.0 defines what it and we ask its packages for.
_HOMES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "avalanche.benchmarks": {
            "CLExperience": "scenarios.generic_scenario",
            "CLStream": "scenarios.generic_scenario",
            "DatasetExperience": "scenarios.dataset_scenario",
            "OnlineCLExperience": "scenarios.online",
        },
        "avalanche.benchmarks.scenarios": {
            "CLExperience": "generic_scenario",
            "OnlineCLExperience": "online",
        },
        "avalanche.benchmarks.utils": {
            "TaskAwareSupervisedClassificationDataset": "classification_dataset",
            "_make_taskaware_classification_dataset": "classification_dataset",
        },
        "avalanche.evaluation": {
            "GenericPluginMetric": "metric_definitions",
            "Metric": "metric_definitions",
            "PluginMetric": "metric_definitions",
        },
        "avalanche.evaluation.metrics": {
            "accuracy_metrics": "accuracy",
            "loss_metrics": "loss",
        },
        "avalanche.logging": {
            "BaseLogger": "base_logger",
            "InteractiveLogger": "interactive_logging",
            "TextLogger": "text_logging",
        },
        "avalanche.models": {
            "BaseModel": "base_model",
            "MultiTaskModule": "dynamic_modules",
            "avalanche_forward": "utils",
        },
        "avalanche.training": {"LearningWithoutForgetting": "regularization"},
        "avalanche.training.plugins": {
            "AGEMPlugin": "agem",
            "EWCPlugin": "ewc",
            "EvaluationPlugin": "evaluation",
            "GEMPlugin": "gem",
            "LFLPlugin": "lfl",
            "LwFPlugin": "lwf",
            "MASPlugin": "mas",
            "RWalkPlugin": "rwalk",
            "SupervisedPlugin": "strategy_plugin",
            "SynapticIntelligencePlugin": "synaptic_intelligence",
        },
        "avalanche.training.templates": {"SupervisedTemplate": "common_templates"},
    }
)

# Modules that a training runs, and what of other libraries they name without using it: classes for
# comparing and in annotations, modules for drawing and for the quadratic programs of GEM.
_NAMED_ONLY: Final[Named] = MappingProxyType(
    {
        "avalanche.benchmarks.utils.dataset_traversal_utils": {
            "torchvision.datasets.vision": ("StandardTransform",)
        },
        "avalanche.benchmarks.utils.transforms": {"torchvision.transforms": ("Compose",)},
        "avalanche.evaluation.metric_results": {"matplotlib.figure": ("Figure",)},
        "avalanche.evaluation.metric_utils": {
            "matplotlib.axes": ("Axes",),
            "matplotlib.pyplot": (),
        },
        "avalanche.training.plugins.gem": {"qpsolvers": ()},
    }
)


def avalanche_parts() -> AbstractContextManager[None]:
    """Import from avalanche inside this block; its packages load what is asked for."""
    return deferring(_Finder(_NAMED_ONLY))


class _Finder(DeferringFinder):
    """Finds avalanche's modules where they are, and puts its packages in place unrun."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of avalanche; leave every other to whoever comes next."""
        if not fullname.startswith(f"{_ROOT}."):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is None:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader and spec.submodule_search_locations is not None:
                spec.loader = _PackageLoader(spec.loader)
        return spec


class _PackageLoader(Loader):
    """Puts a package in place; its `__init__` runs when more is asked of it than we know."""

    def __init__(self, real: Loader) -> None:
        self._real = real
        self._lock = threading.RLock()
        self._is_running = False

    def create_module(self, spec: ModuleSpec) -> _LazyPackage:
        return _LazyPackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing yet."""

    def run(self, package: ModuleType) -> bool:
        """Run the package's `__init__`; False while it is running already."""
        with self._lock:
            if self._is_running:
                return False
            if isinstance(package, _LazyPackage):
                self._is_running = True
                try:
                    with quiet_imports():
                        self._real.exec_module(package)
                    # As LazyLoader does; what was put in place is an ordinary module from now on.
                    object.__setattr__(package, "__class__", ModuleType)
                finally:
                    self._is_running = False
            return True


class _LazyPackage(ModuleType):
    """A package of avalanche whose `__init__` has not run."""

    def __getattr__(self, name: str) -> Any:
        package = self.__name__
        if name.startswith("__") and name != "__all__":
            # What inspection and warnings look for in any module; no package here defines it.
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = _HOMES.get(package, {}).get(name)
        if home is not None:
            return getattr(importlib.import_module(f"{package}.{home}"), name)
        if name != "__all__" and find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        loader = self.__spec__.loader if self.__spec__ is not None else None
        if isinstance(loader, _PackageLoader) and loader.run(self):
            return getattr(self, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        loader = self.__spec__.loader if self.__spec__ is not None else None
        if isinstance(loader, _PackageLoader):
            loader.run(self)
        return list(self.__dict__)
