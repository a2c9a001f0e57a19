"""What a model must be, besides whole: it reads from left to right, and it has an embedding for each of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from workbench.errors import UserError
from workbench.models.catalog import read_record

# transformers has these without an attention mask, so that padding before a prompt is read as text.
WITHOUT_MASK = ("rwkv", "xlstm")
# These are given a token that stands for the next one, and read it in both directions, whatever is_decoder says.
MASKED = ("xlm", "xlnet")
# These read in both directions unless their configuration says is_decoder.
ENCODERS = (
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
    "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
TOKENIZER_FILES = ("tokenizer.*", "vocab*", "*.model", "*.tiktoken", "tekken.json")


def check_directory(name: str, folder: Path) -> None:
    """Raise for an architecture that cannot be measured (by its name in `config.json`), or without a tokenizer."""
    if not (folder / "config.json").exists():
        raise UserError(f"model '{name}' has no config.json; give a saved transformers model, or a .gguf file")
    record = read_record(folder / "config.json")
    kind = record.get("model_type")
    if kind in WITHOUT_MASK:
        raise UserError(f"model '{name}': {kind} is not supported: without an attention mask, it reads padding as text")
    if kind in MASKED or (kind in ENCODERS and not record.get("is_decoder")):
        raise UserError(f"model '{name}': {kind} reads in both directions; give a causal language model")
    if not any(file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)):
        raise _no_tokenizer(name)


def check_tokenizer(name: str, tokenizer: Any) -> None:
    """Raise for a tokenizer without offsets, and for the empty one that transformers makes where files are missing."""
    if not tokenizer.is_fast:
        raise UserError(f"model '{name}' has no fast tokenizer; character offsets need one")
    if not set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()):
        raise _no_tokenizer(name)


def _no_tokenizer(name: str) -> UserError:
    return UserError(
        f"model '{name}' cannot be loaded: it has no tokenizer files (tokenizer.json); copy those of the model that it "
        "was made from, or save its tokenizer there: tokenizer.save_pretrained(directory)"
    )


def guard_embedding(name: str, module: Any, tokenizer: Any) -> None:
    """Make a token without an embedding one clear error where it occurs, whoever encodes it; such a pad is replaced.

    Tokens are often added to a tokenizer and not to the model, and as often they never occur in a text.
    """
    embed = module.get_input_embeddings()
    rows = embed.weight.shape[0]
    if max(tokenizer.get_vocab().values()) < rows:
        return
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = tokenizer.eos_token

    def check(embedding: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        highest = int(inputs[0].max()) if inputs[0].numel() else 0
        if highest >= rows:
            raise UserError(
                f"model '{name}' has {rows} embeddings, none for token {highest} "
                f"({tokenizer.convert_ids_to_tokens(highest)!r}); resize them, or use texts without this token"
            )

    embed.register_forward_pre_hook(check)
