"""A Hugging Face language model whose inside can be read and edited.

    model = HookedModel.from_pretrained("tiny-world")
    logits, cache = model.run_with_cache("The Eiffel Tower is in")
    logits = model.run("The Eiffel Tower is in", interventions=[zero("z", 3, heads=[1])])

The model runs its own code: taps read and edit on the way and change nothing when they have nothing
to do. Weights are never changed, folded or copied. One model may be used by many threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_core.interventions.edit import Intervention
from lens_core.model import loading
from lens_core.model.cache import ActivationCache
from lens_core.model.config import ModelConfig, read_config
from lens_core.model.edited import Edited
from lens_core.model.errors import UnknownSiteError, UnsupportedModelError
from lens_core.model.execute import Request, execute
from lens_core.model.families import discover
from lens_core.model.generate import generate
from lens_core.model.pieces import Pieces
from lens_core.model.self_check import SelfCheckReport, self_check
from lens_core.model.sites import LAYER_SITES, SITES, SiteName
from lens_core.model.spec import ModelSpec
from lens_core.model.taps import install
from lens_core.model.tokens import (
    Tokenization,
    Tokens,
    choose_pad_id,
    tokenizer_prepends_bos,
)
from lens_core.model.weights import Weights

_SPEC_ATTRIBUTE = "_lens_spec"
# The interventions of the `with model.interventions(...)` blocks around us, by model.
_AMBIENT: ContextVar[tuple[tuple[int, Intervention], ...]] = ContextVar(
    "lens_core_ambient", default=()
)


class HookedModel(Tokenization, Weights, Pieces, Edited):
    """See the module's docstring; make one with `from_pretrained` or `from_hf`.

    Attributes:
        hf_model: the model itself, hooked; tokenizer: its tokenizer, or None.
        cfg: sizes and kinds.
        spec: where the parts are.
        default_prepend_bos: whether prompts begin with BOS unless said otherwise.
        report: what the self-check at load found, None if it was left out.
    """

    def __init__(
        self,
        hf_model: Any,
        tokenizer: Any,
        spec: ModelSpec,
        cfg: ModelConfig,
        default_prepend_bos: bool,
    ) -> None:
        self.hf_model, self.tokenizer, self.spec, self.cfg = hf_model, tokenizer, spec, cfg
        self.default_prepend_bos = default_prepend_bos
        self.pad_id = choose_pad_id(tokenizer)
        self.report: SelfCheckReport | None = None
        self.disabled_sites: Mapping[str, str] = {}

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | str | None = None,
        device_map: loading.DeviceMap | None = None,
        revision: str | None = None,
        limit_gb: float | None = None,
        check: bool = True,
    ) -> HookedModel:
        """Load a shipped model, a local folder or a hub model; arguments as in `loading.load`.

        Args:
            check: run the self-check, and switch off the sites that fail it.

        Raises:
            LensError: one of `lens_core.model.errors`, with a sentence that says what to do.
        """
        loaded = loading.load(
            name,
            device=device,
            dtype=dtype,
            device_map=device_map,
            revision=revision,
            limit_gb=limit_gb,
        )
        return cls.from_hf(
            loaded.hf_model,
            loaded.tokenizer,
            name=loaded.name,
            prepend_bos=True if loaded.source == "shipped" else None,
            check=check,
        )

    @classmethod
    def from_hf(
        cls,
        hf_model: Any,
        tokenizer: Any = None,
        *,
        name: str | None = None,
        prepend_bos: bool | None = None,
        check: bool = True,
    ) -> HookedModel:
        """Wrap a causal language model of transformers that is already in memory.

        The model is put into eval mode and its attention goes through this library from now on,
        with the same results to the last bit. Its weights are not touched.

        Args:
            prepend_bos: whether prompts begin with BOS by default; None: what the tokenizer does.
            check: run the self-check, and switch off the sites that fail it.

        Raises:
            UnsupportedModelError: its structure cannot be read; the sentence says what is missing.
        """
        if (
            not hasattr(hf_model, "get_output_embeddings")
            or hf_model.get_output_embeddings() is None
        ):
            raise UnsupportedModelError(
                f"{type(hf_model).__name__} has no language-model head; load a causal model."
            )
        hf_model.eval()
        reference = None
        spec = getattr(hf_model, _SPEC_ATTRIBUTE, None)
        if spec is None:
            spec, reference = discover(hf_model)
            install(hf_model, spec)
            setattr(hf_model, _SPEC_ATTRIBUTE, spec)
        name = name or hf_model.config.name_or_path or hf_model.config.model_type
        bos = tokenizer_prepends_bos(tokenizer) if prepend_bos is None else prepend_bos
        model = cls(hf_model, tokenizer, spec, read_config(hf_model, spec, name), bos)
        if check:
            model.report = self_check(model, reference)
            model.disabled_sites = dict(model.report.disabled_sites)
        return model

    # --- running ---------------------------------------------------------------------------------

    def run(
        self,
        tokens: Tokens,
        interventions: Iterable[Intervention] = (),
        *,
        stop_at_layer: int | None = None,
        start_at_layer: int = 0,
        resid: Tensor | None = None,
        attention_mask: Tensor | None = None,
        last_logits_only: bool = False,
        grad: bool = False,
    ) -> Tensor:
        """One forward pass.

        Args:
            tokens: LongTensor [batch, pos], a text, or a list of texts (padded on the left).
            interventions: applied after those of the surrounding `with model.interventions(...)`.
            stop_at_layer: layers from this one on are not computed.
            start_at_layer, resid: skip the layers before this one, and start it from
                Float[Tensor, "batch pos d_model"].
            attention_mask: LongTensor [batch, pos], 0 at left padding; None: see the pad tokens.
            last_logits_only: compute the logits of the last position only.
            grad: keep the autograd graph, from the embeddings on.

        Returns:
            Logits Float[Tensor, "batch pos d_vocab"]; with `stop_at_layer`, the residual stream
            there, Float[Tensor, "batch pos d_model"].

        Raises:
            InterventionError: an intervention cannot apply (before the run).
            InterventionNotAppliedError: one applied nowhere (after it).
            EmptyPromptError, PromptTooLongError, TokenError: see `to_tokens`.
        """
        request = Request(
            tokens=tokens,
            interventions=(*self._ambient(), *interventions),
            names=(),
            stop_at_layer=stop_at_layer,
            start_at_layer=start_at_layer,
            resid=resid,
            attention_mask=attention_mask,
            last_logits_only=last_logits_only,
            grad=grad,
        )
        return execute(self, request)[0]

    def run_with_cache(
        self,
        tokens: Tokens,
        names: Iterable[SiteName] | str | None = None,
        interventions: Iterable[Intervention] = (),
        stop_at_layer: int | None = None,
        *,
        start_at_layer: int = 0,
        resid: Tensor | None = None,
        attention_mask: Tensor | None = None,
        last_logits_only: bool = False,
        grad: bool = False,
    ) -> tuple[Tensor, ActivationCache]:
        """One forward pass that records activations, after any intervention on them.

        Args:
            names: sites to record, such as "resid_post" (all layers), ("pattern", 3), or
                TransformerLens hook names; None: every site; []: nothing.
            grad: record tensors of the autograd graph, so that `torch.autograd.grad(metric,
                [cache["resid_post", 3]])` works.

        The other arguments, the first value returned and the errors are those of `run`.
        """
        request = Request(
            tokens=tokens,
            interventions=(*self._ambient(), *interventions),
            names=names,
            stop_at_layer=stop_at_layer,
            start_at_layer=start_at_layer,
            resid=resid,
            attention_mask=attention_mask,
            last_logits_only=last_logits_only,
            grad=grad,
        )
        return execute(self, request)

    def generate(
        self,
        tokens: Tokens,
        max_new_tokens: int = 20,
        interventions: Iterable[Intervention] = (),
        temperature: float = 0.0,
        seed: int = 0,
        *,
        attention_mask: Tensor | None = None,
        stop_at_eos: bool = True,
    ) -> Tensor:
        """Continue a prompt token by token with a key-value cache; interventions hold throughout.

        Positions of interventions are absolute: 0 is the first column of the prompt, and those past
        the prompt are the generated tokens. Without positions, an intervention acts on every token,
        generated ones included; one whose tensor has the prompt's positions acts on the prompt.

        Args:
            temperature: 0 takes the most likely token, else samples (fixed by `seed`).
            stop_at_eos: end when every row has produced the end-of-sequence token.

        Returns:
            LongTensor [batch, prompt + new], the prompt included.

        Raises:
            PromptTooLongError: prompt and new tokens do not fit into the context; and as `run`.
        """
        return generate(
            self,
            tokens,
            max_new_tokens,
            (*self._ambient(), *interventions),
            temperature=temperature,
            seed=seed,
            attention_mask=attention_mask,
            stop_at_eos=stop_at_eos,
        )

    @contextmanager
    def interventions(self, *interventions: Intervention) -> Iterator[None]:
        """Apply interventions to every run of this model, in this thread, inside the block.

        Blocks nest: outer interventions apply first; leaving a block takes exactly its own away.
        """
        token = _AMBIENT.set((*_AMBIENT.get(), *((id(self), edit) for edit in interventions)))
        try:
            yield
        finally:
            _AMBIENT.reset(token)

    def _ambient(self) -> tuple[Intervention, ...]:
        return tuple(edit for owner, edit in _AMBIENT.get() if owner == id(self))

    # --- sites -----------------------------------------------------------------------------------

    @property
    def sites(self) -> dict[str, tuple[int, ...] | None]:
        """The sites that this model has: the layers of each, None for those it has once."""
        found: dict[str, tuple[int, ...] | None] = {}
        for name, site in SITES.items():
            if site.per_layer:
                layers = tuple(n for n in self.spec.layers_with(name) if self.has_site(name, n))
                if layers:
                    found[name] = layers
            elif self.has_site(name, None):
                found[name] = None
        return found

    def has_site(self, site: str, layer: int | None) -> bool:
        """Whether a site can be read and edited, at that layer if it is per layer."""
        return site not in self.disabled_sites and self.spec.has(site, layer)

    def why_missing(self, site: str, layer: int | None) -> str:
        """Why a site is not there, as half a sentence."""
        if site in self.disabled_sites:
            return f"the self-check switched it off ({self.disabled_sites[site]})"
        if site in LAYER_SITES and layer is not None:
            return self.spec.layers[layer].missing.get(site, "it is there")
        return self.spec.missing.get(site, "it is there")

    def resolve_layer(self, layer: int) -> int:
        """A layer counted from the start; negative ones count from the end.

        Raises:
            UnknownSiteError: there is no such layer.
        """
        n_layers = self.cfg.n_layers
        if not -n_layers <= layer < n_layers:
            raise UnknownSiteError(
                f"{self.cfg.name} has the layers 0 to {n_layers - 1}; there is no layer {layer}."
            )
        return layer % n_layers

    @property
    def offloaded(self) -> bool:
        """Whether some weights are in memory only while their layer runs (accelerate)."""
        return any(p.is_meta for p in self.hf_model.parameters())

    def self_check(self) -> SelfCheckReport:
        """Check again that the taps see and do what they say; the report is printable."""
        return self_check(self, None)

    def __repr__(self) -> str:
        c = self.cfg
        return (
            f"HookedModel({c.name}: {c.family}, {c.n_layers} layers, d_model {c.d_model}, "
            f"{c.n_heads} heads, {c.n_params / 1e6:.1f}M parameters)"
        )
