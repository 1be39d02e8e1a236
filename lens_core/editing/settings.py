"""How an edit is computed: what every method that optimises a value shares, and ROME's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lens_core.editing.errors import EditingError

Variant = Literal["r-rome", "original", "p-rome"]
VARIANTS: tuple[Variant, ...] = ("r-rome", "original", "p-rome")
# "essence": "<subject> is a", read at the subject's last token, as published. "relations": other
# questions about the subject, read where their answer is. Or templates of one's own with "{}".
KLPrompts = Literal["essence", "relations"] | tuple[str, ...]


@dataclass(frozen=True)
class ValueSettings:
    """How v*, the value to be written, is found by gradient descent (Meng et al. 2022, 3.1).

    Minimised: the new answer's mean negative log-probability over contexts, ``kl_factor`` times the
    KL divergence that the change causes on other prompts, and ``weight_decay`` times the size of
    the change over the squared size of what it changes (the published code's form).

    Attributes:
        steps: most steps of Adam; lr: its rate.
        kl_factor, kl_prompts: how strongly and on which prompts the model is held still.
        weight_decay: see above.
        clamp: largest size of the change, in sizes of what it changes.
        enough_nats: a fact whose whole loss is below this takes no more steps.
        n_contexts: prompts that the answer is trained in, the bare one included.
        seed: decides contexts.
    """

    steps: int = 20
    lr: float = 0.5
    kl_factor: float = 0.0625
    kl_prompts: KLPrompts = "essence"
    weight_decay: float = 0.5
    clamp: float = 4.0
    enough_nats: float = 0.05
    n_contexts: int = 21
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        _at_least("n_contexts", self.n_contexts, 1)
        for name in ("kl_factor", "weight_decay", "enough_nats"):
            _at_least(name, getattr(self, name), 0)
        for name in ("lr", "clamp"):
            if not getattr(self, name) > 0:
                raise EditingError(f"{name} is {getattr(self, name)}; it must be above 0.")
        prompts = self.kl_prompts
        if isinstance(prompts, str):
            if prompts not in ("essence", "relations"):
                raise EditingError(
                    f'kl_prompts is {prompts!r}; choose "essence", "relations" or a tuple of texts '
                    'with "{}" for the subject.'
                )
        elif not prompts or not all(isinstance(p, str) and p.count("{}") == 1 for p in prompts):
            raise EditingError('Every text in kl_prompts has one "{}" where the subject goes.')


@dataclass(frozen=True)
class RomeSettings(ValueSettings):
    """Settings of `rome`; the defaults are GPT-2 XL's published ones but for ``variant``.

    Attributes:
        layer: the layer whose W_out is edited; negative ones count from the end.
        variant: which key goes where. "r-rome": the mean over contexts everywhere (Gupta et al.
            2024); "p-rome": the bare prompt's everywhere; "original": the published code's mixture,
            the mean in the direction of the edit and the bare prompt's in its size.
        use_covariance: move along C^-1 k, so that other keys are disturbed least; False: along k.
        ridge: added to C's diagonal before it is inverted, in mean diagonal entries of C.
    """

    layer: int = 17
    variant: Variant = "r-rome"
    use_covariance: bool = True
    ridge: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("ridge", self.ridge, 0)
        if self.variant not in VARIANTS:
            raise EditingError(
                f"There is no variant {self.variant!r} of ROME; choose one of "
                f"{', '.join(VARIANTS)}."
            )


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise EditingError(f"{name} is {value}; it must be at least {least}.")
