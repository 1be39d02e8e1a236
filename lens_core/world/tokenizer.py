"""The tokenizer of tiny-world: byte-level BPE with a BOS token, trained on the generated corpus.

Numbers are cut into pairs of digits, so that a year is " 17" + "32" (Hanna et al. 2023 need that),
and capital letters of acronyms stay single. Names and common things are one token each. The text it
is trained on holds every frame, held-out ones too: it learns spelling, not sentences.
"""

import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lens_core.world.facts import FACTS, RELATIONS
from lens_core.world.frames import expand, lines
from lens_core.world.lexicon import ALL_WORDS, FOODS, NAMES
from lens_core.world.mix import NATURAL, document

BOS = "<|endoftext|>"
_PIECES = (
    r"'s|'t|'re|'ve|'m|'ll|'d"
    r"| ?\p{Lu}(?=\p{Lu}|\))| ?\p{L}+| ?\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def training_text(seed: int, n_documents: int) -> list[str]:
    """Documents, every frame, and enough of every name, object and number to make each a token."""
    rng = random.Random(seed)
    texts = [document(rng, NATURAL)[1] for _ in range(n_documents)]
    frames = [f"{style}/{relation}" for style in ("frames", "talk") for relation in RELATIONS]
    others = ["talk/small_talk", "openings", "closings", "ioi_intro", "ioi_give"]
    for name in [*frames, *others]:
        for line in lines(name):
            texts += [expand(line, rng) for _ in range(8)]
    texts += [f"{i:02d}{j:02d} {i} {j:02d}" for i in range(100) for j in range(0, 100, 3)]
    whole = [*ALL_WORDS, *FOODS, *(f.object for f in FACTS)]
    texts += [f" {w} " for w in whole for _ in range(60)]
    texts += [n for n in NAMES for _ in range(60)]
    return texts


def train_tokenizer(
    vocab_size: int, seed: int = 7, n_documents: int = 60_000
) -> PreTrainedTokenizerFast:
    """Train the tokenizer; deterministic from the seed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(seed, n_documents), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=BOS,
        unk_token=BOS,
        model_max_length=128,
    )


def load_or_train(folder: Path, vocab_size: int) -> PreTrainedTokenizerFast:
    """The tokenizer in ``folder``, trained and saved there first if it is not yet there."""
    if (folder / "tokenizer.json").exists():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer = train_tokenizer(vocab_size)
    tokenizer.save_pretrained(folder)
    return tokenizer
