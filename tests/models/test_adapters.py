"""What a run trains: LoRA begins as the model was, only the chosen parameters move, and the rest is the same bits."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import MODELS, build
from torch.utils.flop_counter import FlopCounterMode

from workbench import runs
from workbench.errors import UserError
from workbench.models.adapters import choose_trained, has_adapter, save_adapter, without_adapter
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.flops import backward_products, flops_of, forward_flops
from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.models.token_stats import token_stats
from workbench.runs import execution
from workbench.tasks.samples import Task
from workbench.tasks.spec import TaskSpec
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn

QUICK = Settings(steps=4, batch_size=4, lr=1e-2, warmup=1, record_every=2, checkpoint_every=2)


def logp(lm: LanguageModel, task: Task) -> torch.Tensor:
    with torch.no_grad():
        return token_stats(lm, collate(lm, [encode(lm, s) for s in task.forget])).logp


def test_lora_begins_as_the_model_was_and_can_be_switched_off(full: LanguageModel, small: Task) -> None:
    before = logp(full, small)
    run = unlearn(full, small, "wga", "uniform", settings=QUICK.replace(train="lora"))
    assert has_adapter(run.lm)
    assert not has_adapter(full)
    assert (logp(run.lm, small) - before).abs().max() > 1e-3
    with without_adapter(run.lm):
        assert torch.equal(logp(run.lm, small), before)
    again = full.frozen_copy()
    choose_trained(again, "lora", seed=1)
    assert torch.equal(logp(again, small), before)


def test_only_the_chosen_layers_move(full: LanguageModel, small: Task) -> None:
    run = unlearn(full, small, "wga", "uniform", settings=QUICK.replace(train="layers:1-2"))
    moved = {
        name
        for (name, a), b in zip(run.lm.module.named_parameters(), full.module.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert moved == {n for n, _ in full.module.named_parameters() if ".layers.1." in n or ".layers.2." in n}


@pytest.mark.parametrize("changes", [{"train": "lora"}, {"train": "layers:3"}, {"dual_rate": 1.0, "retain_eps": 0.01},
                                     {"train": "lora", "retain_loss": "kl"}])  # fmt: skip
def test_resuming_gives_the_same_bits(changes: dict[str, Any], full: LanguageModel, small: Task) -> None:
    settings = QUICK.replace(**changes)
    states: list[Checkpoint] = []

    def keep(state: Checkpoint) -> None:
        states.append(copy.deepcopy(state))

    whole = unlearn(full, small, "npo", "uniform", settings=settings, on_checkpoint=keep)
    trained = [n for n, p in whole.lm.module.named_parameters() if p.requires_grad]
    assert sorted(states[0].parameters) == sorted(trained)
    rest = unlearn(full, small, "npo", "uniform", settings=settings, resume=states[0])
    assert [e["loss"] for e in rest.events] == [e["loss"] for e in whole.events[2:]]
    assert rest.lm.fingerprint() == whole.lm.fingerprint()


def test_dual_ascent_follows_the_retain_loss(full: LanguageModel, small: Task) -> None:
    settings = QUICK.replace(steps=6, dual_rate=2.0, retain_eps=0.1)
    events = unlearn(full, small, "grad_diff", "uniform", settings=settings).events
    alpha = 1.0
    for event in events:
        assert event["alpha"] == pytest.approx(alpha)
        alpha = max(0.0, alpha + 2.0 * (event["retain_loss"] - 0.1))
    assert events[-1]["alpha"] != 1.0


def test_a_run_with_lora_leaves_its_adapter_alone(tmp_path: Path, own: list[str]) -> None:
    spec = TaskSpec(forget=own[1], retain=own[3])
    config = runs.Config(
        task=spec, model="bio-full", objective="npo", weights="uniform", settings=QUICK.replace(train="lora")
    )
    run = execution.start(config, tmp_path / "run")
    assert (run.path / "adapter" / "adapter_model.safetensors").exists()
    assert not (run.path / "model").exists()
    task = spec.load()
    after = run.table("tokens.parquet").query("phase == 'after' and probe_set == 'forget'")  # type: ignore[union-attr]
    after_logp = logp(runs.load_result(run), task)
    assert after_logp.tolist() == pytest.approx(after["logp"].tolist(), abs=1e-4)


@pytest.mark.parametrize("layer", [None, 1, 2, -1])
@pytest.mark.parametrize("train", ["all", "lora", "layers:0", "layers:3", "layers:1,3"])
def test_what_a_backward_pass_costs(full: LanguageModel, small: Task, train: str, layer: int | None) -> None:
    """As torch counts it, for a loss of the answers' likelihood or of one layer's states."""
    lm = full.frozen_copy()
    lm.module.set_attn_implementation("eager")
    choose_trained(lm, train)
    batch = collate(lm, [encode(lm, s) for s in small.forget[:4]])
    stats = token_stats(lm, batch, extras=False, states=layer)
    loss = stats.nll.mean() if stats.states is None else (stats.states**2).mean()
    products = backward_products(lm, layer)
    if not loss.requires_grad:
        assert products == (0, 0, 0)
        return
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert flops_of(products, lm, batch) == pytest.approx(counter.get_total_flops(), rel=1e-3)


@pytest.mark.parametrize(("name", "train"), [("Mixtral", "all"), ("Qwen 2 MoE", "layers:1"), ("DeepSeek-V3", "all")])
def test_what_experts_cost(tmp_path: Path, small: Task, name: str, train: str) -> None:
    """As torch counts it where experts run one by one: a position is charged for those that it is sent to."""
    tiny = next(each for each in MODELS if each.name == name)
    lm = load(str(build(tiny, tmp_path / "model", [s.answer for s in small.retain])), device="cpu", prompt="plain")
    lm.module.set_attn_implementation("eager")
    lm.module.set_experts_implementation("eager")
    choose_trained(lm, train)
    batch = collate(lm, [encode(lm, s) for s in small.forget[:4]])
    with FlopCounterMode(display=False) as counter:
        loss = token_stats(lm, batch, extras=False).nll.mean()
    assert forward_flops(lm, batch) == pytest.approx(counter.get_total_flops(), rel=0.04)  # without rotary angles
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert flops_of(backward_products(lm), lm, batch) == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize(
    ("train", "what"),
    [("some", "all, lora, or layers"), ("layers:", "all, lora, or layers"), ("layers:2-x", "all, lora")],
)
def test_what_train_cannot_be(train: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        Settings(train=train)


@pytest.mark.parametrize("train", ["layers:4", "layers:2-9", "layers:3-1"])
def test_layers_that_are_not_there(train: str, full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="layers 0 to 3"):
        unlearn(full, small, "wga", "uniform", settings=QUICK.replace(train=train))


def test_a_copy_has_the_adapter_merged_and_can_be_trained_again(full: LanguageModel, small: Task) -> None:
    """A reference and a second run begin with what the first left, whatever that trained."""
    first = unlearn(full, small, "wga", "uniform", settings=QUICK.replace(train="lora"))
    copied = first.lm.frozen_copy()
    assert not has_adapter(copied)
    assert [n for n, _ in copied.module.named_parameters()] == [n for n, _ in full.module.named_parameters()]
    torch.testing.assert_close(logp(copied, small), logp(first.lm, small), rtol=1e-4, atol=1e-4)
    again = unlearn(first.lm, small, "npo", "uniform", settings=QUICK.replace(train="lora"))
    with without_adapter(again.lm):
        torch.testing.assert_close(logp(again.lm, small), logp(first.lm, small), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="has an adapter"):
        unlearn(first.lm, small, "wga", "uniform", settings=QUICK, in_place=True)


def test_an_adapter_is_loaded_by_its_directory(tmp_path: Path, full: LanguageModel, small: Task) -> None:
    run = unlearn(full, small, "wga", "uniform", settings=QUICK.replace(train="lora"))
    save_adapter(run.lm, tmp_path / "adapter")
    loaded = load(str(tmp_path / "adapter"), device="cpu")
    torch.testing.assert_close(logp(loaded, small), logp(run.lm, small), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def from_peft(full: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """An adapter by peft alone, beside its base model, and the logits of the two together."""
    folder = tmp_path_factory.mktemp("peft")
    full.save(folder / "base")
    return folder, by_peft(folder, target_modules=["q_proj", "down_proj"], modules_to_save=["norm"])


def by_peft(folder: Path, **settings: Any) -> torch.Tensor:
    """Write a random adapter; the logits with it."""
    config = peft.LoraConfig(r=2, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for an attribute by its old name, and advises on ties
        model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(folder / "base"), config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder / "adapter")
    return model.eval()(IDS).logits.detach()


IDS = torch.arange(3, 19).view(2, 8)


def changed(folder: Path, target: Path, name: str, content: dict[str, Any] | str) -> str:
    """A copy of an adapter with other values in one of its JSON files, or other content."""
    shutil.copytree(folder, target)
    file = target / name
    if isinstance(content, dict):
        content = json.dumps((json.loads(file.read_text()) if file.exists() else {}) | content)
    file.write_text(content)
    return str(target)


@pytest.mark.parametrize("base", ["{folder}/base", "../base", "base", "here"])
def test_an_adapter_made_by_peft(
    base: str, from_peft: tuple[Path, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its base is named absolutely, relative to the adapter, or relative to where the user is."""
    folder, logits = from_peft
    shutil.copytree(folder / "adapter", folder / "copy", dirs_exist_ok=True)
    if base == "here":
        monkeypatch.chdir(tmp_path)
        shutil.copytree(folder / "base", tmp_path / "here")
    elif base == "base":
        monkeypatch.chdir(folder)
    file = folder / "copy" / "adapter_config.json"
    place = base.format(folder=folder)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": place}))
    lm = load(str(folder / "copy"), device="cpu")
    torch.testing.assert_close(lm.module(IDS).logits, logits, rtol=1e-4, atol=1e-4)
    assert not has_adapter(lm)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
def test_a_merged_adapter_is_saved_as_a_plain_model(
    settings: dict[str, Any], full: LanguageModel, tmp_path: Path
) -> None:
    full.save(tmp_path / "base")
    logits = by_peft(tmp_path, target_modules=["q_proj"], **settings)
    merged = load(str(tmp_path / "adapter"), device="cpu")
    merged.save(tmp_path / "merged")
    saved = load_file(tmp_path / "merged" / "model.safetensors")
    assert set(saved) - {"lm_head.weight"} == set(load_file(tmp_path / "base" / "model.safetensors"))
    again = load(str(tmp_path / "merged"), device="cpu")
    assert again.fingerprint() == merged.fingerprint()
    torch.testing.assert_close(again.module(IDS).logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["Mixtral", "DeepSeek-V3"])
def test_adapters_of_experts_are_merged_once(name: str, tmp_path: Path) -> None:
    """By peft's own choice of layers they are nested, one for each tensor of the experts."""
    tiny = next(each for each in MODELS if each.name == name)
    build(tiny, tmp_path / "base", ["one two three", "four"])
    logits = by_peft(tmp_path, target_modules="all-linear")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_parameters"]
    lm = load(str(tmp_path / "adapter"), device="cpu")
    torch.testing.assert_close(lm.module.train().eval()(IDS).logits, logits, rtol=1e-4, atol=1e-4)
    lm.save(tmp_path / "merged")
    assert load(str(tmp_path / "merged"), device="cpu").fingerprint() == lm.fingerprint()


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("adapter_config.json", {"base_model_name_or_path": None}, "does not name its base model"),
        ("adapter_config.json", {"base_model_name_or_path": 3}, "does not name its base model"),
        ("adapter_config.json", {"base_model_name_or_path": "/gone/base"}, "'/gone/base' is not here"),
        ("adapter_config.json", {"base_model_name_or_path": "."}, "whose base model is itself"),
        ("adapter_config.json", {"peft_type": "UNHEARD"}, "cannot be loaded: 'UNHEARD'"),
        ("adapter_config.json", {"target_modules": ["other"]}, "cannot be loaded: No modules were targeted"),
        ("adapter_config.json", {"alora_invocation_tokens": [1]}, "cannot be merged: aLoRA does not support merging"),
        ("adapter_config.json", {"r": 3}, "another shape"),
        ("adapter_config.json", {"use_dora": True}, r"8 missing \(.*magnitude"),
        ("adapter_config.json", "{", "damaged"),
        ("adapter_config.json", "[1]", "holds no JSON object"),
        ("adapter_config.json", "[" * 100000, "damaged"),
        ("workbench.json", "{", "damaged"),
        ("workbench.json", "null", "holds no JSON object"),
        ("workbench.json", {"prompt": "loud"}, "prompt is chat or plain"),
        ("workbench.json", {"base": "bio-retain", "base_sha256": "0"}, "not those on which the adapter was trained"),
        ("adapter_model.safetensors", "junk", "cannot be loaded"),
        ("model.safetensors", "", "holds a model and an adapter"),
    ],
)
def test_a_damaged_adapter_is_one_line(
    name: str, content: Any, what: str, from_peft: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=what) as raised:
        load(changed(from_peft[0] / "adapter", tmp_path / "adapter", name, content), device="cpu")
    assert "\n" not in str(raised.value)


def test_adapters_whose_bases_are_each_other(from_peft: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    for name, base in (("one", "../two"), ("two", "../one")):
        config = {"base_model_name_or_path": base}
        changed(from_peft[0] / "adapter", tmp_path / name, "adapter_config.json", config)
    with pytest.raises(UserError, match="whose base model is itself"):
        load(str(tmp_path / "one"), device="cpu")


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda key: f"other.{key}", "25 missing .*25 unexpected"),
        (lambda key: None if "lora_A" in key else key, "8 missing"),
        (lambda key: None if "norm" in key else key, "9 missing"),
        (lambda key: key.replace("layers.3", "layers.9"), "6 missing .*6 unexpected"),
        (lambda key: f"module.{key}", None),
        (lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."), None),
    ],
)
def test_an_adapter_that_does_not_fit(
    edit: Any,
    what: str | None,
    from_peft: tuple[Path, torch.Tensor],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, logits = from_peft
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = {edit(key): tensor for key, tensor in load_file(file).items() if edit(key)}
    save_file(tensors, file, metadata={"format": "pt"})
    if what is None:
        torch.testing.assert_close(load(str(tmp_path / "adapter")).module(IDS).logits, logits, rtol=1e-4, atol=1e-4)
        assert capfd.readouterr().err.count("taken off the names of its tensors") == 1
        return
    with pytest.raises(UserError, match=what):
        load(str(tmp_path / "adapter"), device="cpu")


def test_the_base_of_a_saved_adapter_is_checked(full: LanguageModel, retained: LanguageModel, tmp_path: Path) -> None:
    full.save(tmp_path / "base")
    lm = load(str(tmp_path / "base"), device="cpu")
    choose_trained(lm, "lora")
    save_adapter(lm, tmp_path / "adapter")
    record = json.loads((tmp_path / "adapter" / "workbench.json").read_text())
    assert record["base_sha256"] == full.fingerprint()
    assert record["base"] == str((tmp_path / "base").resolve())
    assert load(str(tmp_path / "adapter"), device="cpu").fingerprint() == full.fingerprint()
    shutil.rmtree(tmp_path / "base")
    retained.save(tmp_path / "base")
    with pytest.raises(UserError, match="not those on which the adapter was trained"):
        load(str(tmp_path / "adapter"), device="cpu")


def test_a_pickled_adapter_is_not_read(from_peft: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    shutil.copytree(from_peft[0] / "adapter", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(tmp_path / "adapter"), device="cpu")
