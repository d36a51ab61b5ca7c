# Each target does all its own set-up: the first run makes a virtual environment and compiles llama.cpp (some minutes).
# GPU=cuda, metal, rocm, sycl or vulkan builds it for a GPU; CMAKE_ARGS, CC, CXX, CFLAGS and CXXFLAGS count, too. Other
# settings than last time build it again. ENGINE=ik adds ik_llama.cpp, a second engine. See docs/install.md.
PYTHON ?= python3
VENV ?= .venv
QUANT ?= Q4_K_M
CHECKPOINT ?= katanemo/Arch-Router-1.5B
MODEL_NAME ?= Arch-Router-1.5B
PROMPT_FORMAT ?= card
# Which tests make test-pythons runs: not those of checkpoints.
PYTHONS_TESTS ?= tests --ignore=tests/convert
# Collecting the other folders takes longer than their quick tests.
QUICK := tests/test_*.py $(addprefix tests/,config decoding prompts routing system targets)
PEERS_MODEL ?= build/random-1.5B-Q4_0.gguf
ROUNDS ?= 9
BIN := $(VENV)/bin
quoted = '$(subst ','\'',$(1))'
# What is installed for an extra; nothing to do takes a moment.
install = $(BIN)/python -m tools.install $(1) --gpu $(call quoted,$(GPU)) --engine $(call quoted,$(ENGINE))

.PHONY: demo test quick test-training test-trainer test-apps test-measure test-package test-hub test-litellm test-pythons check model predictor peers format clean

demo: $(BIN)/python
	@$(call install)
	@$(BIN)/archroute demo $(if $(ENGINE),--engine $(call quoted,$(ENGINE)))

# In the order of the folders: what the tests of a folder share is made once, and no long file of few tests comes last.
# With bytecode, whatever the environment says: the tests start hundreds of processes, which would compile the package each.
test: $(BIN)/python
	@$(call install,dev)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The tests of logic alone, for the inner loop.
quick: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/python -m pytest -m quick $(QUICK)

# How the bundled models and the labelled cases are made; see training/README.md.
test-training: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/python -m pytest training/tests

# The same of a training itself, with PyTorch (large).
test-trainer: $(BIN)/python
	@$(call install,dev)
	@$(call install,tiny)
	@$(BIN)/python -m pytest training/tests/with_torch

# The example app on a virtual screen, a host in Node, programs bundled by PyInstaller (some minutes).
test-apps: $(BIN)/python
	@$(call install,dev)
	@command -v Xvfb >/dev/null && command -v node >/dev/null && $(BIN)/python -c 'import tkinter' 2>/dev/null || \
	{ echo "make test-apps needs Xvfb, Node.js and a Python with tkinter (Debian: apt install xvfb nodejs python3-tk)" >&2; exit 1; }
	@$(BIN)/python -m pytest tests/apps

# The programs that developers measure with (tools/measure).
test-measure: $(BIN)/python
	@$(call install,dev)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests/measure

# The sdist, the wheel built from it, and its commands where nothing else is installed. llama.cpp is not compiled again.
test-package: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/python -m pytest tests/package

# Downloads and the cache with the oldest huggingface-hub that is allowed, and with the newest.
test-hub: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/python -m tools.release.suite --ends-of huggingface-hub -- tests/models

# LiteLLM with a server of ours as its api_base and as its classifier, in an environment of its own.
test-litellm: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/python -m tools.measure.litellm_environment build/litellm
	@$(BIN)/python -m tools.measure.server_litellm build/litellm/bin/python
	@$(BIN)/python -m tools.measure.litellm_classifiers build/litellm

# Every Python that the package is for and that is on this machine, or those that PYTHONS names ("3.10 3.13").
test-pythons: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/python -m tools.release.suite $(foreach version,$(or $(PYTHONS),all),--python $(version)) -- $(PYTHONS_TESTS)

check: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m tools.docs check

# QUANT may name several levels; CHECKPOINT may be a folder; IMATRIX is a file, or auto to collect one; PROMPT_FORMAT is
# what the model was trained on.
model: $(BIN)/python
	@$(call install,convert)
	@$(BIN)/python -m tools.convert $(call quoted,$(CHECKPOINT)) -o $(call quoted,models/$(MODEL_NAME)-{level}.gguf) \
		--name $(call quoted,$(MODEL_NAME)) --prompt-format $(call quoted,$(PROMPT_FORMAT)) \
		$(foreach level,$(QUANT),--quantize $(call quoted,$(level))) \
		$(if $(IMATRIX),--imatrix $(call quoted,$(IMATRIX))) --verify --record

# The predictor that comes with the package, from a folder of sets of outcomes: OUTCOMES=FOLDER. See models/README.md.
PREDICTOR_SETS = mmlupro routellm_mmlu zeroeval routellm_gsm8k arenahard
predictor: $(BIN)/python
	@$(call install,quality)
	@$(BIN)/archroute quality train --tiers training/quality/tiers.json --encoder none --together -o models/quality.safetensors \
		--licence "outcomes Apache-2.0, questions MIT and Apache-2.0" $(foreach set,$(PREDICTOR_SETS), \
		$(call quoted,$(OUTCOMES)/prompts_$(set).jsonl.gz) $(call quoted,$(OUTCOMES)/outcomes_$(set).csv.gz))

# ONLY may name scenarios, PEERS_MODEL another Qwen2 GGUF; JSON=1 prints JSON. See docs/peers.md.
peers: $(BIN)/python
	@$(call install,peers)
	@tools=$$($(BIN)/python -m tools.measure.build_llama_tools) && \
	{ test -e "$(PEERS_MODEL)" || { echo "Making $(PEERS_MODEL), random weights ..." >&2 && \
		mkdir -p "$(dir $(PEERS_MODEL))" && $(BIN)/python -m tools.measure.random_model \
		--vocabulary "$$tools/ggml-vocab-qwen2.gguf" -o "$(PEERS_MODEL)"; }; } && \
	$(BIN)/python -m tools.measure.peers "$(PEERS_MODEL)" --llama-server "$$tools/llama-server" \
		--llama-bench "$$tools/llama-bench" --transformers --rounds $(ROUNDS) $(if $(THREADS),--threads $(THREADS)) \
		$(if $(ENGINE),--engine $(call quoted,$(ENGINE))) \
		$(foreach scenario,$(ONLY),--only $(scenario)) $(if $(JSON),--json)

format: $(BIN)/python
	@$(call install,dev)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
