"""What cannot be is one line before a model is loaded: options, seeds, layers, levels."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import refused
from runs_of import QUICK, config_of, own_files

from workbench.errors import UserError
from workbench.objectives import objective
from workbench.runs import execution, jobs, loading
from workbench.tasks.samples import Task
from workbench.unlearning import Settings
from workbench.unlearning.trial import check_options


@pytest.fixture(scope="module")
def own(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return own_files(bio, tmp_path_factory.mktemp("own"), 8)


@pytest.mark.parametrize(
    ("pairs", "more", "line"),
    [
        (["beta=0"], {"objective": "npo"}, "objective 'npo' cannot be computed with beta=0"),
        (["beta=nan"], {"objective": "npo"}, "beta must be a number of at most 1e+15, not nan"),
        (["beta=inf"], {"objective": "wga"}, "beta must be a number of at most 1e+15, not inf"),
        (["beta=1e300"], {"objective": "wga"}, "beta must be a number of at most 1e+15"),
        (["beta=-1e14"], {"objective": "wga"}, "is -inf, not a finite number"),
        (["lr=nan"], {}, "lr must be"),
        (["lr=inf"], {}, "lr must be"),
        (["seed=9300000000001"], {}, "seed must be at most 1.09951e+12, not 9300000000001"),
        (["steps=" + "9" * 30], {}, "steps must be at most 1e+09"),
        (["steps=" + "9" * 5000], {}, "is not a whole number"),
        (["lora_rank=999999999", "train=lora"], {}, "lora_rank must be at most 65536"),
        (["train=layers:99"], {}, "train=layers:99: the model has layers 0 to 3"),
        (["layer=99"], {"objective": "rmu"}, "layer=99: the model has 4 layers"),
        (["share=0.5"], {"objective": "rmu"}, "share is for objectives over single tokens, and 'rmu' steers states"),
        (["least_weight=0.5"], {"weights": "atwu"}, "fixed before the run, and 'atwu' learns along"),
        (["retain_share=0.5", "retain_loss=states"], {}, "retain_share is for losses over single tokens"),
        ([], {"stop-at": "forget.nonsense<=1", "probe-every": "1"}, "the forget set has no nonsense"),
        ([], {"stop-at": "forgot.probability<=1", "probe-every": "1"}, "the forgot set has no probability"),
    ],
)
def test_it_is_refused_before_the_model_is_loaded(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    pairs: list[str], more: dict[str, str], line: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    options = {
        "model": "bio-full",
        "objective": "wga",
        "weights": "uniform",
        **own,
        **more,
        "out": str(tmp_path / "run"),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += [word for pair in pairs for word in ("--set", pair)]
    assert line in refused(capsys, "unlearn", *words)
    assert line in refused(capsys, "unlearn", *words, "--background")
    assert not (tmp_path / "run").exists()


def test_every_objective_can_be_computed_with_its_own_options() -> None:
    for name in objective:
        check_options(name, objective[name].options)


def test_a_large_seed_that_can_be_used_is(own: dict[str, str], tmp_path: Path) -> None:
    settings = QUICK.replace(steps=1, batch_size=4, seed=2**40)
    config = config_of(own, settings, objective="wga", weights="random", probe_limit=1)
    assert execution.start(config, tmp_path / "run").status()["status"] == "finished"
    with pytest.raises(UserError, match="at least -1"):
        Settings(seed=-(2**41))


def test_a_job_of_a_level_that_does_not_exist_starts_nothing(own: dict[str, str], tmp_path: Path) -> None:
    config = config_of(own, probe_every=2, stop_at="forget.nonsense<=1")
    with pytest.raises(UserError, match="the forget set has no nonsense"):
        jobs.start(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_scorer_to_go_on_from_is_read_before_the_model(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    config = config_of(own, weights="atwu", scorer=str(tmp_path / "no.safetensors"))
    with pytest.raises(UserError, match=r"no\.safetensors: no such file"):
        execution.start(config, tmp_path / "run")
