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
        n_contexts: prompts that keys are averaged over, the bare one included.
        n_trained: of these, so many have the answer trained in them; None: all, as published.
        reach: the share of the change at which the answer must already hold. 1 is published: the
            answer is trained under the whole change. A paraphrase's key gets a little less of the
            change than the edited one, and a neighbour's much less: a reach between the two is what
            tells them apart. The bare prompt has the answer trained under the whole change too, and
            other prompts are held still under it.
        settle: how often the step that brings the loss below ``enough_nats`` is halved again, so
            that the change is hardly larger than it need be; 0 is published.
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
    n_trained: int | None = None
    reach: float = 1.0
    settle: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        _at_least("n_contexts", self.n_contexts, 1)
        _at_least("settle", self.settle, 0)
        if self.n_trained is not None:
            _at_least("n_trained", self.n_trained, 1)
        if not 0 < self.reach <= 1:
            raise EditingError(f"reach is {self.reach}; it is above 0 and at most 1.")
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
        every_spelling: whether the key of "r-rome" stands for all spellings of the subject's end:
            "Seoul" is other tokens, with another key, at the beginning of a text than after a
            space. False is published: the mean over contexts, which hardly ever has the former.
        names_weight: as in `MemitSettings`.
    """

    layer: int = 17
    variant: Variant = "r-rome"
    use_covariance: bool = True
    ridge: float = 1e-4
    every_spelling: bool = False
    names_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("ridge", self.ridge, 0)
        _at_least("names_weight", self.names_weight, 0)
        if self.variant not in VARIANTS:
            raise EditingError(
                f"There is no variant {self.variant!r} of ROME; choose one of "
                f"{', '.join(VARIANTS)}."
            )


@dataclass(frozen=True)
class MemitSettings(ValueSettings):
    """Settings of `memit`; the defaults are GPT-2 XL's published ones.

    Attributes:
        layers: whose W_out are edited, in order; negative ones count from the end.
        covariance_weight: lambda in units of the key width d_mlp; see `memit` for why.
        names_weight: weight of the second moment of the keys at names' last tokens, beside C's; 0
            is the published form. The names are known of tiny-world only.
        ridge: added to C's diagonal, in mean diagonal entries of C.
        batch: facts written at once; more go one batch after another, each seeing the edits before
            it. None: all at once.
    """

    clamp: float = 0.75
    layers: tuple[int, ...] = (13, 14, 15, 16, 17)
    covariance_weight: float = 3.125
    names_weight: float = 0.0
    ridge: float = 1e-4
    batch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_layers(self.layers)
        _check_batch(self.batch)
        _at_least("covariance_weight", self.covariance_weight, 0)
        _at_least("names_weight", self.names_weight, 0)
        _at_least("ridge", self.ridge, 0)


@dataclass(frozen=True)
class EmmetSettings(ValueSettings):
    """Settings of `emmet`; the defaults are GPT-2 XL's published ones.

    Attributes:
        layer: the layer whose W_out is edited; negative ones count from the end.
        batch_ridge: how soft the constraints are, in mean diagonal entries of K^T C^-1 K, so that
            two facts with almost the same key cannot tear the weight apart; the published code
            adds 0.1 whatever their size.
        names_weight, ridge, batch: as in `MemitSettings`.
    """

    clamp: float = 0.75
    layer: int = 17
    batch_ridge: float = 1e-3
    names_weight: float = 0.0
    ridge: float = 1e-4
    batch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_batch(self.batch)
        _at_least("batch_ridge", self.batch_ridge, 0)
        _at_least("names_weight", self.names_weight, 0)
        _at_least("ridge", self.ridge, 0)

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layer."""
        return (self.layer,)


@dataclass(frozen=True)
class AlphaEditSettings(ValueSettings):
    """Settings of `alphaedit`; the layers are GPT-2 XL's published ones.

    Attributes:
        layers: whose W_out are edited, in order.
        null_share: the share of C's trace that the free directions hold together; the published
            code takes directions with a singular value below 0.02, whatever the size of C.
        ridge: of the update, in mean squared lengths of the keys (published: 10, whatever their
            size).
        batch: facts written at once; each batch leaves the keys of those before it as they are.
    """

    clamp: float = 0.75
    layers: tuple[int, ...] = (13, 14, 15, 16, 17)
    null_share: float = 0.02
    ridge: float = 1e-2
    batch: int | None = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_layers(self.layers)
        _check_batch(self.batch)
        if not self.ridge > 0:
            raise EditingError(f"ridge is {self.ridge}; it must be above 0.")
        if not 0 < self.null_share < 1:
            raise EditingError(f"null_share is {self.null_share}; it lies between 0 and 1.")


@dataclass(frozen=True)
class FineTuneSettings:
    """Settings of `fine_tune`; the defaults are GPT-2 XL's published ones.

    Attributes:
        layer: the layer whose W_out is trained; negative ones count from the end.
        lr: of Adam; steps: the most it takes; weight_decay: pulls the change towards 0.
        enough_nats: it stops when the mean loss is below (published: 0.01 in the code, 0.03 in the
            paper).
        constrained: whether no entry of the weight may move by more than ``bound`` (FT+L).
    """

    layer: int = 1
    lr: float = 5e-4
    steps: int = 25
    weight_decay: float = 0.0
    enough_nats: float = 1e-2
    constrained: bool = False
    bound: float = 5e-4

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        for name in ("weight_decay", "enough_nats"):
            _at_least(name, getattr(self, name), 0)
        for name in ("lr", "bound"):
            if not getattr(self, name) > 0:
                raise EditingError(f"{name} is {getattr(self, name)}; it must be above 0.")


def _check_layers(layers: tuple[int, ...]) -> None:
    if not layers or list(layers) != sorted(set(layers)):
        raise EditingError(
            f"The layers {list(layers)} are edited one after another from the first; name each "
            "once, in their order."
        )


def _check_batch(batch: int | None) -> None:
    if batch is not None:
        _at_least("batch", batch, 1)


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise EditingError(f"{name} is {value}; it must be at least {least}.")
