"""Weights that do not fit are an error and never random numbers; prefixes of training libraries are taken off."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import UserError
from workbench.models.language_model import LanguageModel
from workbench.models.load import load

Tensors = dict[str, torch.Tensor]
Edit = Callable[[dict[str, Any]], dict[str, Any]]


def saved(lm: LanguageModel, folder: Path, edit: Edit) -> str:
    """A checkpoint of the model whose tensors were edited."""
    lm.save(folder)
    file = folder / "model.safetensors"
    save_file({k: v.clone() for k, v in edit(load_file(file)).items()}, file, metadata={"format": "pt"})
    return str(folder)


def renamed(old: str, new: str, count: int = 0) -> Edit:
    return lambda tensors: {re.sub(old, new, key, count=count): value for key, value in tensors.items()}


def without(part: str) -> Edit:
    return lambda tensors: {key: value for key, value in tensors.items() if part not in key}


WRAPPED = {
    "data parallel": renamed("^", "module."),
    "compiled": renamed("^", "_orig_mod."),
    "peft": renamed("^", "base_model.model."),
    "fsdp": renamed("^", "_fsdp_wrapped_module."),
    "fabric": renamed("^", "_forward_module."),
    "nested": renamed("^", "module._orig_mod._fsdp_wrapped_module."),
    "peft in data parallel": renamed("^", "module.base_model.model."),
    "inside": renamed(r"^model\.", "model._fsdp_wrapped_module."),
    "each layer": renamed(r"layers\.(\d+)\.", r"layers.\1._checkpoint_wrapped_module."),
    "one part": renamed(r"self_attn\.", "self_attn._orig_mod."),
    "several places": renamed(
        r"^model\.layers\.(\d+)\.mlp\.",
        r"module.model._orig_mod.layers.\1._fsdp_wrapped_module._checkpoint_wrapped_module.mlp._orig_mod.",
    ),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_prefixes_of_training_libraries_are_taken_off(
    how: str, full: LanguageModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lm = load(saved(full, tmp_path / "wrapped", WRAPPED[how]), device="cpu")
    assert lm.fingerprint() == full.fingerprint()
    lines = [line for line in capfd.readouterr().err.splitlines() if "taken off" in line]
    assert len(lines) == 1
    lm.save(tmp_path / "again")
    assert sorted(load_file(tmp_path / "again" / "model.safetensors")) == sorted(
        load_file(Path(full.path) / "model.safetensors")
    )


def test_a_plain_checkpoint_says_nothing(
    full: LanguageModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load(saved(full, tmp_path / "plain", lambda tensors: tensors), device="cpu")
    assert "taken off" not in capfd.readouterr().err


def extra_layer(tensors: Tensors) -> Tensors:
    return tensors | {k.replace("layers.3", "layers.4"): v for k, v in tensors.items() if "layers.3" in k}


UNFIT = {
    "a layer missing": (without("layers.2."), r"9 missing \(model\.layers\.2\.input_layernorm\.weight, .*, \.\.\.\)"),
    "a tensor missing": (without("layers.0.mlp.up"), r"1 missing \(model\.layers\.0\.mlp\.up_proj\.weight\)"),
    "a layer renamed": (renamed("layers.2.", "layers.7."), r"9 missing .*; 9 unexpected \(model\.layers\.7\."),
    "a layer too many": (extra_layer, r"9 unexpected \(model\.layers\.4\."),
    "an unknown prefix": (renamed("^", "student."), r"39 missing .*; 38 unexpected \(student\."),
    "a known and an unknown prefix": (renamed("^", "module.student."), r"unexpected \(student\."),
    "another shape": (
        lambda tensors: {k: v[:8] if "q_proj" in k else v for k, v in tensors.items()},
        r"4 of another shape \(model\.layers\.0\.self_attn\.q_proj\.weight \[8, 128\], not \[128, 128\]",
    ),
    "embeddings missing": (without("embed_tokens"), r"missing \(.*model\.embed_tokens\.weight"),
    "nothing but a stray": (lambda tensors: {"stray": torch.zeros(1)}, r"missing .*1 unexpected \(stray\)"),
    "a tensor twice": (
        lambda tensors: {k: v for k, v in tensors.items() if "layers.2" not in k}
        | {f"module.{k}": v + 1 for k, v in tensors.items() if "norm" in k},
        r"9 missing .*9 unexpected \(module\.",
    ),
    "an adapter left in it": (
        renamed(r"q_proj\.weight", "q_proj.base_layer.weight"), r"4 missing .*4 unexpected .*base_layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNFIT)
def test_weights_that_do_not_fit_are_named_in_one_line(what: str, full: LanguageModel, tmp_path: Path) -> None:
    edit, named = UNFIT[what]
    with pytest.raises(UserError, match=named) as raised:
        load(saved(full, tmp_path, edit), device="cpu")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    "edit",
    [
        lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)},
        lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]},
        lambda tensors: {("lm_head.weight" if "embed" in k else k): v for k, v in tensors.items()},
    ],
)
def test_what_checkpoints_may_hold_or_leave_out(edit: Edit, full: LanguageModel, tmp_path: Path) -> None:
    """Computed buffers of older versions, and tied embeddings under either name or both."""
    assert full.module.config.tie_word_embeddings
    assert load(saved(full, tmp_path, edit), device="cpu").fingerprint() == full.fingerprint()


def sharded(lm: LanguageModel, folder: Path) -> dict[str, Any]:
    lm.save(folder)
    lm.module.save_pretrained(folder, max_shard_size="500KB")
    (folder / "model.safetensors").unlink()
    return json.loads((folder / "model.safetensors.index.json").read_text())


def test_checkpoints_in_several_files(full: LanguageModel, tmp_path: Path) -> None:
    index = sharded(full, tmp_path)
    file = tmp_path / "model.safetensors.index.json"
    assert len(set(index["weight_map"].values())) > 2
    assert load(str(tmp_path), device="cpu").fingerprint() == full.fingerprint()
    name = index["weight_map"]["model.layers.1.mlp.up_proj.weight"]
    tensors = load_file(tmp_path / name)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / name, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 missing \(model\.layers\.1\.mlp\.up_proj\.weight\)"):
        load(str(tmp_path), device="cpu")
    for elsewhere in ("../model.safetensors", str(tmp_path / name), "a/../../model.safetensors"):
        changed = index | {"weight_map": index["weight_map"] | {"model.norm.weight": elsewhere}}
        file.write_text(json.dumps(changed))
        with pytest.raises(UserError, match="files outside its directory"):
            load(str(tmp_path), device="cpu")
    for content in ("{}", "[]", "{", '{"weight_map": {"a": 1}}', '{"weight_map": {}}'):
        file.write_text(content)
        with pytest.raises(UserError, match=r"damaged|metadata"):
            load(str(tmp_path), device="cpu")
    file.write_text(json.dumps(index))
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"transformers_weights": "own.safetensors.index.json"})
    )
    (tmp_path / "own.safetensors.index.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"own\.safetensors\.index\.json names files outside its directory"):
        load(str(tmp_path), device="cpu")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_weights": None}))
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        load(str(tmp_path), device="cpu")


def test_experts_that_cannot_be_put_together(full: LanguageModel, tmp_path: Path) -> None:
    """Experts are separate tensors in the file and one in the model."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MixtralConfig(
        vocab_size=full.module.config.vocab_size, num_key_value_heads=1, num_local_experts=4, **sizes
    )
    lm = LanguageModel(MixtralForCausalLM(config), full.tokenizer, "experts")
    folder = tmp_path / "whole"
    assert load(saved(lm, folder, renamed("^", "module.")), device="cpu").fingerprint() == lm.fingerprint()
    cases = {
        "one part of one": (without("layers.1.block_sparse_moe.experts.3.w1"), r"1 cannot be put together .*gate_up"),
        "one": (
            without("layers.1.block_sparse_moe.experts.3."),
            r"2 of another shape \(model\.layers\.1\.mlp\.experts",
        ),
        "all": (without("layers.1.block_sparse_moe.experts."), r"2 missing \(model\.layers\.1\.mlp\.experts"),
    }
    for number, (edit, named) in enumerate(cases.values()):
        with pytest.raises(UserError, match=named):
            load(saved(lm, tmp_path / str(number), edit), device="cpu")


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers.": "blk.", "mlp.": "ffn_",
    "self_attn.o_proj": "attn_output", "self_attn.": "attn_", "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm", "_proj": "",
}  # fmt: skip


def as_gguf(lm: LanguageModel, file: Path, edit: Edit = lambda tensors: tensors) -> str:
    """The model as a GGUF file, written with gguf's own writer; rotary halves are interleaved there."""
    config, writer = lm.module.config, gguf.GGUFWriter(file, "llama")
    for key, value in {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "head_count": config.num_attention_heads, "head_count_kv": config.num_key_value_heads,
        "layer_norm_rms_eps": config.rms_norm_eps, "vocab_size": config.vocab_size,
        "rope_dimension_count": config.hidden_size // config.num_attention_heads,
    }.items():  # fmt: skip
        getattr(writer, f"add_{key}")(value)
    model = json.loads(lm.tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([1] * len(words))
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    tensors = {}
    for key, tensor in lm.module.state_dict().items():
        if key != "lm_head.weight":
            heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}.get(key.split(".")[-2][0])
            if heads and "self_attn" in key:
                tensor = tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
            for old, new in GGUF_NAMES.items():
                key = key.replace(old, new)
            tensors[key] = np.ascontiguousarray(tensor.numpy())
    for key, array in edit(tensors).items():
        writer.add_tensor(key, array)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    return str(file)


GGUF_UNFIT = {
    "missing": (without("blk.1.ffn_up"), r"1 missing \(model\.layers\.1\.mlp\.up_proj\.weight\)"),
    "renamed": (renamed("blk.1.ffn_up", "blk.1.ffn_top"), r"1 missing .*1 unexpected \(blk\.1\.ffn_top\.weight\)"),
    "another shape": (
        lambda tensors: {k: v[:8] if "blk.1.attn_q" in k else v for k, v in tensors.items()}, "1 of another shape",
    ),
    "a layer too many": (
        lambda tensors: tensors | {k.replace("blk.3", "blk.4"): v for k, v in tensors.items()}, "9 unexpected",
    ),
}  # fmt: skip


def test_a_gguf_holds_every_tensor(full: LanguageModel, tmp_path: Path) -> None:
    assert load(as_gguf(full, tmp_path / "whole.gguf"), device="cpu").fingerprint() == full.fingerprint()
    for what, (edit, named) in GGUF_UNFIT.items():
        with pytest.raises(UserError, match=named):
            load(as_gguf(full, tmp_path / f"{what}.gguf", edit), device="cpu")
