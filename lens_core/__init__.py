"""Look inside decoder-only language models: hooked models, lenses, patching, editing.

from lens_core import HookedModel
model = HookedModel.from_pretrained("tiny-world")
logits, cache = model.run_with_cache("The Eiffel Tower is in")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lens_core.model.cache import ActivationCache
    from lens_core.model.config import ModelConfig
    from lens_core.model.factored import FactoredMatrix
    from lens_core.model.hooked_model import HookedModel
    from lens_core.model.self_check import SelfCheckReport

__all__ = ["ActivationCache", "FactoredMatrix", "HookedModel", "ModelConfig", "SelfCheckReport"]

_HOMES = {
    "ActivationCache": "lens_core.model.cache",
    "FactoredMatrix": "lens_core.model.factored",
    "HookedModel": "lens_core.model.hooked_model",
    "ModelConfig": "lens_core.model.config",
    "SelfCheckReport": "lens_core.model.self_check",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: whoever only lists models must not wait.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
