"""Tiny random models of many architectures, each with a small tokenizer of the class that its family has.

They show whether an architecture works, not how well. Nothing here imports the workbench.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

VOCABULARY = 420  # bytes, special tokens and a few merges


@dataclass(frozen=True)
class Tiny:
    """An architecture at a size that runs in a moment.

    Attributes:
        name: as the table has it.
        kind: transformers' `model_type`.
        tokenizer: the tokenizer class of the family.
        pieces: "bytes" (byte-level BPE) or "sentencepiece" (BPE over characters with byte fallback).
        sizes: of its configuration, beside `SIZES`.
    """

    name: str
    kind: str
    tokenizer: str
    pieces: str = "bytes"
    sizes: dict[str, Any] = field(default_factory=dict)


SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
FAST, BPE = "PreTrainedTokenizerFast", "sentencepiece"
MAMBA = {"state_size": 8}
MIXER = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
MODELS = [
    Tiny("Llama 2", "llama", "LlamaTokenizer", BPE),
    Tiny("Llama 3", "llama", FAST, sizes={"rope_theta": 500000.0}),
    Tiny("Llama 4", "llama4_text", FAST, sizes={"num_local_experts": 2, "intermediate_size_mlp": 48, "head_dim": 8,
                                               "interleave_moe_layer_step": 2}),
    Tiny("Mistral", "mistral", "LlamaTokenizer", BPE, {"sliding_window": 64}),
    Tiny("Mixtral", "mixtral", "LlamaTokenizer", BPE, {"num_local_experts": 4}),
    Tiny("Qwen 2", "qwen2", "Qwen2Tokenizer"),
    Tiny("Qwen 2 MoE", "qwen2_moe", "Qwen2Tokenizer", sizes=EXPERTS | {"shared_expert_intermediate_size": 16}),
    Tiny("Qwen 3", "qwen3", "Qwen2Tokenizer", sizes={"head_dim": 8}),
    Tiny("Qwen 3 MoE", "qwen3_moe", "Qwen2Tokenizer", sizes=EXPERTS | {"head_dim": 8}),
    Tiny("Gemma", "gemma", "GemmaTokenizer", BPE, {"head_dim": 8}),
    Tiny("Gemma 2", "gemma2", "GemmaTokenizer", BPE, {"head_dim": 8, "sliding_window": 64}),
    Tiny("Gemma 3, text", "gemma3_text", "GemmaTokenizer", BPE, {"head_dim": 8, "sliding_window": 64}),
    Tiny("Gemma 3, with vision", "gemma3", "GemmaTokenizer", BPE),
    Tiny("Gemma 3n, text", "gemma3n_text", "GemmaTokenizer", BPE, {
        "head_dim": 8, "num_kv_shared_layers": 0, "laurel_rank": 4,
        "layer_types": ["sliding_attention", "full_attention"], "hidden_size_per_layer_input": 8, "altup_num_inputs": 2,
        "activation_sparsity_pattern": None, "vocab_size_per_layer_input": VOCABULARY}),
    Tiny("Phi-3", "phi3", "LlamaTokenizer", BPE),
    Tiny("OLMo 2", "olmo2", "GPT2Tokenizer"),
    Tiny("GPT-2", "gpt2", "GPT2Tokenizer", sizes=GPT2),
    Tiny("GPT-NeoX", "gpt_neox", "GPTNeoXTokenizer"),
    Tiny("Falcon", "falcon", FAST),
    Tiny("Granite", "granite", "GPT2Tokenizer"),
    Tiny("Cohere", "cohere", "CohereTokenizer"),
    Tiny("DeepSeek-V3", "deepseek_v3", FAST, sizes=LATENT | {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
        "moe_intermediate_size": 16, "num_key_value_heads": 4}),
    Tiny("gpt-oss", "gpt_oss", FAST, sizes={"num_local_experts": 4, "head_dim": 8}),
    Tiny("Jamba", "jamba", "LlamaTokenizer", BPE, {
        "num_experts": 2, "mamba_d_state": 4, "mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1}),
    Tiny("Falcon-H1", "falcon_h1", FAST, sizes=MIXER | {"mamba_d_ssm": 64}),
    Tiny("Bamba", "bamba", FAST, sizes=MIXER | {"attn_layer_indices": [1]}),
    Tiny("Zamba 2", "zamba2", "LlamaTokenizer", BPE, {
        "num_hidden_layers": 4, "num_key_value_heads": 4, "mamba_d_state": 8, "n_mamba_heads": 4, "mamba_headdim": 16,
        "mamba_ngroups": 1, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "num_mem_blocks": 1,
        "adapter_rank": 4, "chunk_size": 16}),
    Tiny("Nemotron-H", "nemotron_h", FAST, sizes={
        "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1, "head_dim": 8,
        "layers_block_type": ["mamba", "attention"], "chunk_size": 16}),
    Tiny("Qwen 3 Next", "qwen3_next", "Qwen2Tokenizer", sizes=EXPERTS | {
        "shared_expert_intermediate_size": 16, "head_dim": 8, "linear_num_key_heads": 1, "linear_num_value_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}),
    Tiny("Mamba", "mamba", "GPTNeoXTokenizer", sizes=MAMBA),
    Tiny("Mamba 2", "mamba2", "GPTNeoXTokenizer", sizes=MAMBA | {"num_heads": 4, "head_dim": 16, "n_groups": 1,
                                                                "chunk_size": 16}),
    Tiny("RWKV", "rwkv", "GPTNeoXTokenizer", sizes={"attention_hidden_size": 32, "context_length": 256}),
]  # fmt: skip


def byte_level(texts: Sequence[str], specials: Sequence[str]) -> Tokenizer:
    """BPE over bytes, as GPT-2, Qwen and Llama 3 have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def sentencepiece(texts: Sequence[str], specials: Sequence[str]) -> Tokenizer:
    """BPE over characters with a byte for each that is unknown, as sentencepiece makes it for Llama 2 and Gemma."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    first = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def build_tokenizer(tiny: Tiny, texts: Sequence[str]) -> Any:
    """A tokenizer of the family's class, trained on the texts."""
    make: Callable[..., Any] = getattr(transformers, tiny.tokenizer)
    if tiny.tokenizer == FAST:
        made = byte_level(texts, ["<|end_of_text|>", "<|pad|>"])
        return make(tokenizer_object=made, eos_token="<|end_of_text|>", pad_token="<|pad|>")
    plain = make()
    ends = [plain.unk_token, plain.bos_token, plain.eos_token, plain.pad_token]
    specials = list(dict.fromkeys(str(each) for each in ends if each is not None))
    made = (sentencepiece if tiny.pieces == BPE else byte_level)(texts, specials)
    return make(vocab=made.get_vocab(), merges=[tuple(pair) for pair in _merges(made)])


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    import json

    return list(json.loads(tokenizer.to_str())["model"]["merges"])


def build_model(tiny: Tiny, tokenizer: Any, seed: int = 0) -> Any:
    """A random model in float32 with the tokenizer's ids."""
    torch.manual_seed(seed)
    ids = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    ids["vocab_size"] = len(tokenizer)
    if tiny.kind == "gemma3":
        text = SIZES | ids | {"head_dim": 8, "sliding_window": 64}
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "image_size": 16, "patch_size": 8}  # fmt: skip
        config: Any = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    else:
        plain = transformers.AutoConfig.for_model(tiny.kind)
        known = {key: value for key, value in SIZES.items() if hasattr(plain, key)}
        config = transformers.AutoConfig.for_model(
            tiny.kind, **known | ids | {"tie_word_embeddings": False} | tiny.sizes
        )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def build(tiny: Tiny, folder: Path, texts: Sequence[str]) -> Path:
    """Save the model with its tokenizer, and return the directory."""
    tokenizer = build_tokenizer(tiny, texts)
    model = build_model(tiny, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
