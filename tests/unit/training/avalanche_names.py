"""Tell what avalanche's packages hold: `python -m tests.unit.training.avalanche_names ours|theirs`.

`ours` imports our bridge first, and then asks for more of avalanche in each way that a plugin may;
`theirs` imports avalanche as it is, and the bridge last. One JSON object goes to standard output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import sys
import threading
import types
import warnings


def identity(value: object) -> str:
    """Name a value so that two processes agree on it."""
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    name = getattr(value, "__qualname__", type(value).__name__)
    return f"{getattr(value, '__module__', '')}.{name}"


def packages() -> dict[str, dict[str, str]]:
    """Give every package of avalanche with its public names."""
    import avalanche

    found = []
    for info in pkgutil.walk_packages(avalanche.__path__, "avalanche."):
        if info.ispkg:
            # Some want libraries that avalanche does not ask for.
            with contextlib.suppress(ImportError):
                found.append(importlib.import_module(info.name))
    for package in found:
        dir(package)
    return {
        package.__name__: {
            name: identity(getattr(package, name))
            for name in dir(package)
            if not name.startswith("_")
        }
        for package in found
    }


def ways_to_ask_for_more() -> dict[str, bool]:
    """Use avalanche behind the bridge as strangers do; name each way and say whether it works."""
    from contlearn.training.avalanche import bridge

    ways = {}
    library = "torchvision" not in sys.modules
    from avalanche.benchmarks.utils.transforms import Compose

    ways["no instance of a class that is not loaded"] = library and not isinstance(1, Compose)
    import torchvision

    ways["instance of a class that was loaded later"] = isinstance(
        torchvision.transforms.Compose([]), Compose
    )
    from avalanche.models.dynamic_modules import MultiTaskModule

    ways["module"] = MultiTaskModule is bridge.MultiTaskModule
    ways["not loaded so far"] = "wandb" not in sys.modules
    star: dict[str, object] = {}
    exec("from avalanche.logging import *", star)
    ways["star"] = {"WandBLogger", "TextLogger"} <= star.keys()
    import avalanche.training

    seen: list[object] = []
    each = [threading.Thread(target=lambda: seen.append(avalanche.training.DER)) for _ in range(4)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    ways["attribute, by four threads"] = len(seen) == 4 and len(set(seen)) == 1
    from avalanche.training.plugins import ReplayPlugin

    ways["name from a package"] = issubclass(ReplayPlugin, bridge.SupervisedPlugin)
    return ways


def strange_homes() -> list[str]:
    """Give the names that we fetch from another place than the package does."""
    from contlearn.training.avalanche import lazy_packages

    wrong = []
    for package, names in lazy_packages._HOMES.items():
        module = importlib.import_module(package)
        ours = {name: getattr(module, name) for name in names}
        dir(module)
        wrong += [f"{package}.{n}" for n, value in ours.items() if vars(module)[n] is not value]
    return wrong


def main() -> None:
    warnings.simplefilter("ignore")
    if sys.argv[1:] == ["ours"]:
        ways = ways_to_ask_for_more()
        told = {"ways": ways, "strange": strange_homes(), "packages": packages()}
    else:
        import avalanche.training

        found = packages()
        before = avalanche.training.DER, type(avalanche.training)
        importlib.import_module("contlearn.training.avalanche.bridge")
        kept = before == (avalanche.training.DER, types.ModuleType)
        told = {"packages": found, "kept": kept and packages() == found}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
