"""Look inside decoder-only language models: hooked models, lenses, patching, editing.

from lens_core import HookedModel
model = HookedModel.from_pretrained("tiny-world")
logits, cache = model.run_with_cache("The Eiffel Tower is in")
"""

from lens_core.model.cache import ActivationCache
from lens_core.model.config import ModelConfig
from lens_core.model.factored import FactoredMatrix
from lens_core.model.hooked_model import HookedModel
from lens_core.model.self_check import SelfCheckReport

__all__ = ["ActivationCache", "FactoredMatrix", "HookedModel", "ModelConfig", "SelfCheckReport"]
