# Each target does all its own set-up: the first run makes a virtual environment and compiles llama.cpp (some minutes).
PYTHON ?= python3
VENV ?= .venv
QUANT ?= Q4_K_M
CHECKPOINT ?= katanemo/Arch-Router-1.5B
MODEL_NAME ?= Arch-Router-1.5B
PEERS_MODEL ?= build/random-1.5B-Q4_0.gguf
ROUNDS ?= 9
BIN := $(VENV)/bin

.PHONY: demo test check model peers format clean

demo: $(VENV)/.installed
	@$(BIN)/archroute demo

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# QUANT may name several levels; CHECKPOINT may be a folder; IMATRIX is a file, or auto to collect one.
model: $(VENV)/.installed-convert
	@$(BIN)/python -m tools.convert "$(CHECKPOINT)" -o "models/$(MODEL_NAME)-{level}.gguf" --name "$(MODEL_NAME)" \
		--prompt-format card $(foreach level,$(QUANT),--quantize $(level)) $(if $(IMATRIX),--imatrix "$(IMATRIX)") \
		--verify --record

# ONLY may name scenarios, PEERS_MODEL another Qwen2 GGUF; JSON=1 prints JSON. See docs/peers.md.
peers: $(VENV)/.installed-peers
	@tools=$$($(BIN)/python -m tools.measure.build_llama_tools) && \
	{ test -e "$(PEERS_MODEL)" || { echo "Making $(PEERS_MODEL), random weights ..." >&2 && \
		mkdir -p "$(dir $(PEERS_MODEL))" && $(BIN)/python -m tools.measure.random_model \
		--vocabulary "$$tools/ggml-vocab-qwen2.gguf" -o "$(PEERS_MODEL)"; }; } && \
	$(BIN)/python -m tools.measure.peers "$(PEERS_MODEL)" --llama-server "$$tools/llama-server" \
		--llama-bench "$$tools/llama-bench" --transformers --rounds $(ROUNDS) $(if $(THREADS),--threads $(THREADS)) \
		$(foreach scenario,$(ONLY),--only $(scenario)) $(if $(JSON),--json)

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV); llama.cpp is compiled the first time, which takes some minutes ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-convert: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV); llama.cpp is compiled the first time, which takes some minutes ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[convert]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-peers: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV); llama.cpp is compiled the first time, and torch is large ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[peers]'
	@touch $(VENV)/.installed $(VENV)/.installed-convert $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV); llama.cpp is compiled the first time, which takes some minutes ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-convert $@
