# make demo | test | lab | course | docs | voila | data | test-all | test-browser | leaderboard | leaderboard-real | leaderboard-attacks   (PYTHON=python3.12: another interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo lab course docs voila data test test-all test-browser fuzz leaderboard leaderboard-real leaderboard-attacks clean

$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.installed-demos: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demos]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

demo: $(VENV)/.installed  ## a complete example on embedded data; prints where the report is
	$(BIN)/workbench demo

lab: $(VENV)/.installed  ## JupyterLab on the notebooks with exercises, copied to workbench-notebooks
	$(BIN)/workbench lab

# A page is a kernel, so only who has the token that is printed gets one. A token also keeps out a page elsewhere whose
# name has been pointed at this machine: voila, unlike JupyterLab, answers to any Host.
voila: $(VENV)/.installed-demos  ## notebooks 01 and 03 and the talk as pages without code (ARGS=--port=...)
	$(BIN)/python scripts/course.py --demos --out build/demos
	JUPYTER_PATH=$(CURDIR)/docs $(BIN)/voila build/demos --template=workbench --Voila.ip=127.0.0.1 --token $(ARGS)

course: $(VENV)/.installed-demos  ## the editions of the course, into build/course: exercises, solutions, talk
	$(BIN)/python scripts/course.py

docs: $(VENV)/.installed-docs  ## the site, into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo build/site/index.html

data: $(VENV)/.installed  ## rebuild the embedded data and models
	$(BIN)/python scripts/build_data.py

test: $(VENV)/.installed-test  ## lint, types and the default tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

test-browser: $(VENV)/.installed-test $(VENV)/.installed-demos  ## JupyterLab in Chromium, light and dark
	$(BIN)/python -m pytest -m 'browser or not browser' tests/browser tests/view/test_token_page.py tests/view/test_compare_widgets.py

test-all: $(VENV)/.installed-test  ## the same with the slow tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m ''

fuzz: $(VENV)/.installed-test  ## 10,000 inputs for each reader of rows and of files that the package writes
	FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest -n 2 --dist load tests/tasks/test_any_rows.py tests/runs/test_any_run_files.py

leaderboard: $(VENV)/.installed  ## every objective with several weights on biographies: docs/findings/leaderboard.md
	$(BIN)/python benchmarks/leaderboard.py

REAL := --task tofu/forget01 --retain-rows 160 --model planted-smollm2 --name SmolLM2-135M --lrs 3e-5,1e-4 --gammas 0.1,1 --steps 12
REAL += --batch-size 4 --objectives npo,simnpo,undial,rmu,atwu --weights uniform,atwu --limit 24 --tuning-limit 12

leaderboard-real: $(VENV)/.installed  ## five objectives on TOFU and SmolLM2 (3 hours on one core); ARGS="--data-dir DIR --spans FILE"
	$(BIN)/workbench models get smollm2
	test -d planted-smollm2 || $(BIN)/workbench finetune tofu/forget01 $(ARGS) --retain-rows 160 --model smollm2 --out planted-smollm2
	$(BIN)/python benchmarks/leaderboard.py $(REAL) $(ARGS) --workers 1 --threads 1 --out docs/findings/leaderboard-real

ATTACKS := --chosen docs/findings/leaderboard.json --objectives wga,npo,simnpo,rmu,atwu --limit 48 --attack-limit 24
ATTACKS += --attacks greedy,worst_phrasing,int4,leak_at_k,benign_others,logit_lens,uds
ATTACKS += --set leak_at_k.tries=32 --set leak_at_k.k=16 --set benign_others.lr=1e-3

leaderboard-attacks: $(VENV)/.installed  ## what comes back of five objectives with four weights: docs/findings/leaderboard-attacks.md
	$(BIN)/python benchmarks/leaderboard.py $(ATTACKS) --out docs/findings/leaderboard-attacks

clean:
	rm -rf $(VENV) build dist *.egg-info
