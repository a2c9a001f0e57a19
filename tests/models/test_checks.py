"""What is no causal model with a tokenizer is refused in one line; the hub is asked aloud, and never when offline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from tiny_models import MODELS, build

from workbench.errors import UserError, one_line
from workbench.evals import probe
from workbench.models import hub
from workbench.models.adapters import choose_trained, save_adapter
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.models.token_stats import token_stats
from workbench.tasks.samples import Task

TINY = {tiny.name: tiny for tiny in MODELS}


@pytest.mark.parametrize(
    ("kind", "more"),
    [("rwkv", {}), ("xlstm", {}), ("bert", {}), ("xlm-roberta", {}), ("xlm", {"causal": True, "is_decoder": True}),
     ("xlnet", {}), ("xlnet", {"is_decoder": True}), ("xlnet", {"attn_type": "uni", "is_decoder": True})],
)  # fmt: skip
def test_kinds_that_cannot_be_measured_are_refused_by_name(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind} | more))
    with pytest.raises(UserError, match=f"{kind} (is not supported|reads in both directions)"):
        load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["Llama 2", "Llama 3", "Mistral", "GPT-2", "Gemma", "Qwen 2", "GPT-NeoX", "Cohere"])
@pytest.mark.parametrize("kept", [[], ["tokenizer_config.json"]])
def test_a_folder_without_tokenizer_files(name: str, kept: list[str], tmp_path: Path) -> None:
    """For some classes transformers makes empty tokenizers, which turn every text into nothing."""
    build(TINY[name], tmp_path, ["one two three", "four"])
    for file in tmp_path.iterdir():
        if "token" in file.name and file.name not in kept:
            file.unlink()
    with pytest.raises(UserError, match="no tokenizer files"):
        load(str(tmp_path), device="cpu")


def test_an_empty_tokenizer(full: LanguageModel, tmp_path: Path) -> None:
    build(TINY["GPT-2"], tmp_path, ["one two three", "four"])
    record = json.loads((tmp_path / "tokenizer.json").read_text())
    record["model"] |= {"vocab": {"<|endoftext|>": 0}, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="no tokenizer files"):
        load(str(tmp_path), device="cpu")


def test_tokens_added_without_embeddings(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    """They are an error only where they occur; a padding token without an embedding is none."""
    full.save(tmp_path / "model")
    tokenizer = load(str(tmp_path / "model"), device="cpu").tokenizer
    tokenizer.add_tokens(["Zorblax"])
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    tokenizer.save_pretrained(tmp_path / "model")
    lm = load(str(tmp_path / "model"), device="cpu")

    def logp(lm: LanguageModel, samples: list[Any]) -> torch.Tensor:
        return token_stats(lm, collate(lm, [encode(lm, s) for s in samples])).logp.detach()

    assert torch.equal(logp(lm, small.forget), logp(full, small.forget))
    odd = replace(small.forget[0], question="Who is Zorblax?")
    with pytest.raises(UserError, match=r"none for token \d+ \('Zorblax'\)"):
        logp(lm, [odd])
    with pytest.raises(UserError, match="Zorblax"):
        probe(lm, replace(small, sets=small.sets | {"forget": [odd]}))
    with pytest.raises(UserError, match="Zorblax"):
        logp(lm.frozen_copy(), [odd])


def test_an_error_is_told_whole_on_one_line(tmp_path: Path) -> None:
    assert one_line(ValueError("first\n  second\n\nthird")) == "first second third"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("long " * 1000))) == 600
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError) as raised:
        load(str(tmp_path), device="cpu")
    assert "\n" not in str(raised.value)


def response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None, url="", text="", json=dict)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError("no route\nto host"), r"the hub cannot be reached \(no route to host\); connect"),
        (
            RepositoryNotFoundError("401 Client Error", response=response(401)),
            "neither a directory here nor on the hub",
        ),
        (GatedRepoError("403", response=response(403)), "accepted its terms"),
        (HfHubHTTPError("500\nbroken", response=response(500)), "not given by the hub: 500 broken"),
    ],
)
def test_the_hub_is_asked_aloud_and_each_answer_is_one_line(
    error: Exception,
    what: str,
    full: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where it does not answer, the cache is used if it can be."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(UserError, match=what) as raised:
        load("owner/name", device="cpu")
    assert "\n" not in str(raised.value)
    full.save(tmp_path / "model")
    capfd.readouterr()
    cached(tmp_path / "model", tmp_path / "cache", "owner/name")
    assert load("owner/name", device="cpu").fingerprint() == full.fingerprint()
    assert capfd.readouterr().err.startswith("workbench: asking the hub for owner/name ...\n")


def test_offline_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="not in the hub's cache, and HF_HUB_OFFLINE is set"):
        load("owner/name", device="cpu")
    assert capfd.readouterr().err == ""


def cached(folder: Path, cache: Path, name: str) -> None:
    """Put a folder's files where the hub's cache has them."""
    home = cache / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    (home / "snapshots").mkdir()
    (home / "snapshots" / ("0" * 40)).symlink_to(folder, target_is_directory=True)


def test_models_and_adapters_in_the_hubs_cache(
    full: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    full.save(tmp_path / "model")
    cached(tmp_path / "model", tmp_path / "cache", "owner/model")
    lm = load("owner/model", device="cpu")
    assert (lm.name, lm.fingerprint()) == ("owner/model", full.fingerprint())
    choose_trained(lm, "lora")
    save_adapter(lm, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "workbench.json").read_text())["base"] == "owner/model"
    cached(tmp_path / "adapter", tmp_path / "cache", "owner/adapter")
    adapted = load("owner/adapter", device="cpu")
    assert (adapted.name, adapted.fingerprint()) == ("owner/adapter", full.fingerprint())
    assert hub.fetch("owner/adapter").startswith(str(tmp_path / "cache"))
    (tmp_path / "adapter" / "workbench.json").write_text(json.dumps({"base": "owner/adapter"}))
    with pytest.raises(UserError, match="whose base model is itself"):
        load("owner/adapter", device="cpu")
