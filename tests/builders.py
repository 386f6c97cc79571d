"""Stages of tests: a function that stands as the module of a stage."""

import inspect
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


def stage(function) -> tuple[str, ...]:
    """What an artifact names as its code, so that ``function`` builds it."""
    module = ModuleType(f"stage_{function.__name__}")
    module.build = function
    module.__spec__ = ModuleSpec(module.__name__, None, origin=inspect.getsourcefile(function))
    sys.modules[module.__name__] = module
    return (module.__name__,)
