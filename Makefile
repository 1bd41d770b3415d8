# Two commands are all a new user needs: `make demo` and `make test`. Both prepare this folder by themselves.
.PHONY: demo test check mutants faults bench lock clean help
PY := .venv/bin/python
ARGS ?=

help:
	@echo "make demo    a small city quarter on this machine   (ARGS=\"--seconds 30 --outage 10 --json\")"
	@echo "make test    the whole test suite                   (ARGS=\"-k store\")"
	@echo "make check   lint and types"
	@echo "make mutants break one rule of the bus or the store at a time: do the tests notice?   (ARGS=\"echo late\")"
	@echo "make faults  cut the power, kill, fill, damage: is anything lost? writes docs/faults.md   (ARGS=\"P02 N04\")"
	@echo "make bench   measure against others, writes bench/RESULTS.md and bench/DURABILITY.md   (ARGS=\"--quick\")"
	@echo "make lock    renew the locked requirements"

demo: .venv/.demo
	@$(PY) -m gateway demo --config config/gateway.toml $(ARGS)

test: .venv/.dev .venv/.tools
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

check: .venv/.dev
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

mutants: .venv/.dev .venv/.tools
	@$(PY) tests/mutants.py $(ARGS)

faults: .venv/.dev .venv/.tools .venv/.fault-tools
	@$(PY) tests/faults/run.py $(ARGS)

bench: .venv/.dev .venv/.tools
	@$(PY) bench/run.py $(ARGS)

lock: .venv/.dev
	@$(PY) .ci/lock.py

clean:
	rm -rf .venv .bench .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info

.venv/.python:
	@sh .ci/venv

.venv/.demo: .venv/.python requirements.lock pyproject.toml
	@test -e .venv/.dev || sh .ci/install requirements.lock
	@touch $@

.venv/.dev: .venv/.python requirements-dev.lock pyproject.toml
	@sh .ci/install requirements-dev.lock
	@touch $@

.venv/.tools: .ci/tools
	@sh .ci/tools
	@touch $@

.venv/.fault-tools: .ci/fault-tools
	@sh .ci/fault-tools
	@touch $@
