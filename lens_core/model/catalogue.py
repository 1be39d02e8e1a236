"""Which models there are to look into: what ships with Lens Lab, and models of the hub by family.

    find("pythia-70m").gb_float32, find("gpt2").teaches
    to_frame().query("gb_float32 < 1 and not gated")

Parameter counts come from the published configs (tied weights count once) and are tested against
`lens_core.model.sizing.estimate`. Whether a model is gated is as last seen; owners change that.
"""

import difflib
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pandas as pd

from lens_core.model.errors import UnknownModelError
from lens_core.model.sources import shipped_models

_PYTHIA_STEPS = (
    "step0",
    *(f"step{2**k}" for k in range(10)),
    *(f"step{1000 * k}" for k in range(1, 144)),
)


@dataclass(frozen=True)
class CatalogueEntry:
    """One model: how large it is, what it needs, and what it is good for teaching."""

    id: str
    family: str
    n_params: int
    teaches: str
    gated: bool = False
    needs_hub: bool = True
    checkpoints: tuple[str, ...] = ()

    @property
    def gb_float32(self) -> float:
        """Memory of the weights in GB (1e9 bytes) as float32, the default on a CPU."""
        return self.n_params * 4 / 1e9

    @property
    def gb_float16(self) -> float:
        """Memory of the weights in GB (1e9 bytes) as float16 or bfloat16."""
        return self.n_params * 2 / 1e9


def entries() -> tuple[CatalogueEntry, ...]:
    """Every model, the shipped ones first; within a family from small to large."""
    return (*_shipped(), *HUB_ENTRIES)


def families() -> tuple[str, ...]:
    """Names of the families, in the order of `entries()`."""
    return tuple(dict.fromkeys(entry.family for entry in entries()))


def find(name: str) -> CatalogueEntry:
    """The entry with this id; its last part will do, and capitals do not matter.

    Raises UnknownModelError, naming the nearest ids, where there is none.
    """
    wanted = name.strip().lower()
    by_name: dict[str, CatalogueEntry] = {}
    for entry in entries():
        by_name.setdefault(entry.id.lower(), entry)
        by_name.setdefault(entry.id.lower().rpartition("/")[2], entry)
    if wanted in by_name:
        return by_name[wanted]
    near = difflib.get_close_matches(wanted, by_name, n=3) or ["gpt2"]
    ids = dict.fromkeys(by_name[key].id for key in near)
    raise UnknownModelError(
        f"The catalogue has no model {name[:100]!r}; did you mean {' or '.join(ids)}?"
    )


def to_frame() -> pd.DataFrame:
    """The catalogue as a table, one row a model; `checkpoints` counts training steps."""
    return pd.DataFrame(
        [
            {
                "id": entry.id,
                "family": entry.family,
                "n_params": entry.n_params,
                "gb_float32": entry.gb_float32,
                "gb_float16": entry.gb_float16,
                "gated": entry.gated,
                "needs_hub": entry.needs_hub,
                "checkpoints": len(entry.checkpoints),
                "teaches": entry.teaches,
            }
            for entry in entries()
        ]
    )


_SHIPPED_TEACHES = {
    "tiny-world": "Facts, indirect objects, induction, agreement: every lab, in milliseconds.",
    "glass-copy": "Two blocks set by hand, four words: a circuit that is known to the last weight.",
    "glass-induction": "Eight heads set by hand, two of which do everything: find which.",
    "glass-facts": "Twelve people's facts, each in a neuron of its own: trace and patch them.",
    "glass-lookup": "The same shape without a circuit: whatever finds a head here is wrong.",
}


def _shipped() -> tuple[CatalogueEntry, ...]:
    return tuple(
        CatalogueEntry(
            id=name,
            family="Lens Lab",
            n_params=_count_stored(folder),
            teaches=_SHIPPED_TEACHES.get(name, "Made for Lens Lab; its README says what is in it."),
            needs_hub=False,
            checkpoints=tuple(sorted(path.name for path in folder.glob("checkpoints/*/"))),
        )
        for name, folder in shipped_models().items()
    )


def _count_stored(folder: Path) -> int:
    """Parameters by the headers of the safetensors files, without reading a weight."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        total += sum(prod(tensor["shape"]) for tensor in header.values())
    return total


def _family(
    family: str,
    *models: tuple[str, int, str],
    gated: bool = False,
    checkpoints: tuple[str, ...] = (),
) -> tuple[CatalogueEntry, ...]:
    return tuple(
        CatalogueEntry(id, family, n_params, teaches, gated=gated, checkpoints=checkpoints)
        for id, n_params, teaches in models
    )


HUB_ENTRIES: tuple[CatalogueEntry, ...] = (
    *_family(
        "GPT-2",
        ("distilgpt2", 81_912_576, "Six layers distilled from twelve: what does a lens lose?"),
        ("gpt2", 124_439_808, "The model of most papers: logit lens, IOI circuit, greater-than."),
        ("gpt2-medium", 354_823_168, "Whether a circuit found in gpt2 has a twin one size up."),
        ("gpt2-large", 774_030_080, "Does steering need less strength in a larger model?"),
        ("gpt2-xl", 1_557_611_200, "Causal tracing and ROME on the model of the paper."),
    ),
    *_family(
        "TinyStories",
        ("roneneldan/TinyStories-1M", 3_745_984, "Grammar in 64 dimensions; runs on anything."),
        ("roneneldan/TinyStories-3M", 8_278_400, "What a doubled width buys over 1M."),
        ("roneneldan/TinyStories-8M", 19_702_528, "Names that stay through a story."),
        ("roneneldan/TinyStories-28M", 51_987_968, "Local and global attention in turn."),
        ("roneneldan/TinyStories-33M", 68_514_048, "Sparse autoencoders, trained at home."),
        ("roneneldan/TinyStories-1Layer-21M", 66_155_520, "One layer: attribution is all."),
        ("roneneldan/TinyStories-2Layers-33M", 78_748_672, "The least depth for induction."),
    ),
    *_family(
        "Pythia",
        ("EleutherAI/pythia-14m", 14_067_712, "The cheapest model with 154 training checkpoints."),
        ("EleutherAI/pythia-31m", 30_494_720, "When induction appears during training."),
        ("EleutherAI/pythia-70m", 70_426_624, "Parallel blocks; published autoencoders."),
        ("EleutherAI/pythia-160m", 162_322_944, "As large as gpt2: the same circuits?"),
        ("EleutherAI/pythia-410m", 405_334_016, "Tuned lenses; features over training."),
        ("EleutherAI/pythia-1b", 1_011_781_632, "Few wide layers: does depth or width recall?"),
        ("EleutherAI/pythia-1.4b", 1_414_647_808, "Causal tracing of facts over training."),
        ("EleutherAI/pythia-2.8b", 2_775_208_960, "Do truth directions carry over between topics?"),
        ("EleutherAI/pythia-6.9b", 6_857_302_016, "A finding scaled by ten on the same data."),
        ("EleutherAI/pythia-12b", 11_846_072_320, "The end of the suite, for two devices."),
        checkpoints=_PYTHIA_STEPS,
    ),
    *_family(
        "GPT-Neo and GPT-J",
        ("EleutherAI/gpt-neo-125m", 125_198_592, "Every other layer sees 256 tokens only."),
        ("EleutherAI/gpt-neo-1.3B", 1_315_575_808, "A mid-size twin of gpt2-xl on other data."),
        ("EleutherAI/gpt-neo-2.7B", 2_651_307_520, "A logit lens that stays unreadable for long."),
        ("EleutherAI/gpt-j-6b", 6_050_882_784, "ROME and MEMIT on the larger model of the papers."),
        ("EleutherAI/gpt-neox-20b", 20_554_567_680, "Editing at scale over several devices."),
    ),
    *_family(
        "OPT",
        ("facebook/opt-125m", 125_239_296, "ReLU: neurons that are exactly off."),
        ("facebook/opt-350m", 331_196_416, "Norms after the sum and a projected embedding."),
        ("facebook/opt-1.3b", 1_315_758_080, "Dead neurons counted over depth."),
        ("facebook/opt-2.7b", 2_651_596_800, "Inference-time steering on a ReLU model."),
        ("facebook/opt-6.7b", 6_658_473_984, "The size at which outlier dimensions appear."),
    ),
    *_family(
        "BLOOM",
        ("bigscience/bloom-560m", 559_214_592, "ALiBi; one question in forty-six languages."),
        ("bigscience/bloom-1b1", 1_065_314_304, "Do languages share their middle layers?"),
        ("bigscience/bloom-1b7", 1_722_408_960, "Neurons that fire for one language."),
        ("bigscience/bloom-3b", 3_002_557_440, "A fact edited in one language, read in another."),
    ),
    *_family(
        "Falcon",
        ("tiiuae/falcon-rw-1b", 1_311_625_216, "ALiBi in English: distance as a penalty."),
        ("tiiuae/falcon-7b", 6_921_720_704, "Multi-query attention: seventy-one heads, one key."),
    ),
    *_family(
        "SmolLM2",
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008, "A modern block at gpt2's size."),
        ("HuggingFaceTB/SmolLM2-360M", 361_821_120, "Query heads that share keys."),
        ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384, "Strong facts on a laptop."),
    ),
    *_family(
        "Qwen2.5",
        ("Qwen/Qwen2.5-0.5B", 494_032_768, "Two key heads for fourteen query heads."),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304, "Refusal and persona directions with a chat twin."),
        ("Qwen/Qwen2.5-3B", 3_085_938_688, "Multi-step facts: which hop fails?"),
        ("Qwen/Qwen2.5-7B", 7_615_616_512, "In-context learning: function vectors."),
    ),
    *_family(
        "Qwen3",
        ("Qwen/Qwen3-0.6B-Base", 596_049_920, "Norms on queries and keys; small and recent."),
        ("Qwen/Qwen3-1.7B-Base", 1_720_574_976, "Patchscopes: a model names its own states."),
        ("Qwen/Qwen3-4B-Base", 4_022_468_096, "Reasoning traces beside the lens."),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360, "Transcoders and attribution graphs."),
    ),
    *_family(
        "Llama",
        ("meta-llama/Llama-3.2-1B", 1_235_814_400, "The standard modern block: RMS norm, rotary."),
        ("meta-llama/Llama-3.2-3B", 3_212_749_824, "Arithmetic and calendar circuits."),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248, "Published autoencoders, every layer."),
        gated=True,
    ),
    *_family(
        "TinyLlama",
        ("TinyLlama/TinyLlama_v1.1", 1_100_048_384, "Llama's block, not gated."),
    ),
    *_family(
        "Gemma",
        ("google/gemma-3-270m", 268_098_176, "A huge vocabulary on a small body."),
        ("google/gemma-3-1b-pt", 999_885_952, "Five local layers to each global one."),
        ("google/gemma-2b", 2_506_172_416, "Multi-query attention and a wide MLP."),
        ("google/gemma-2-2b", 2_614_341_888, "Gemma Scope; soft-capped logits."),
        ("google/gemma-2-9b", 9_241_705_984, "How features change with size."),
        gated=True,
    ),
    *_family(
        "Phi",
        ("microsoft/phi-1_5", 1_418_270_720, "Parallel blocks with one norm."),
        ("microsoft/phi-2", 2_779_683_840, "Facts learnt from synthetic text."),
        ("microsoft/Phi-3-mini-4k-instruct", 3_821_079_552, "What refusal looks like."),
    ),
    *_family(
        "OLMo 2",
        ("allenai/OLMo-2-0425-1B", 1_484_916_736, "Open data: the text behind a fact."),
        ("allenai/OLMo-2-1124-7B", 7_298_617_344, "Norms after each part, not before."),
    ),
    *_family(
        "Mistral",
        ("mistralai/Mistral-7B-v0.1", 7_241_732_096, "Attention in a sliding window."),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704, "Which expert takes which token."),
        gated=True,
    ),
    *_family(
        "GPT-OSS",
        ("openai/gpt-oss-20b", 20_914_757_184, "A learnt attention sink; sparse experts."),
    ),
    *_family(
        "StarCoder2",
        ("bigcode/starcoder2-3b", 3_030_371_328, "Code: brackets, variable binding."),
    ),
    *_family(
        "Granite",
        ("ibm-granite/granite-3.1-2b-base", 2_533_525_504, "Scaled residuals."),
    ),
    *_family(
        "StableLM 2",
        ("stabilityai/stablelm-2-1_6b", 1_644_515_328, "Layer norm in Llama's block."),
    ),
)  # fmt: skip
