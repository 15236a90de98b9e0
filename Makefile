# make setup | demo | test | lint | clean.  VENV says where the environment lies, PYTHON what makes it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint clean

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 || continue; \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN := "$(VENV)/bin/python"
# What make test leaves out; the tests marked gpu skip themselves where there is none.
TESTS ?= -m "not weights and not network"
# Another seed, and another split, than the shipped model was trained on.
DEMO_SEED ?= 20
DEMO := $(RUN) tools/video_demo.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml

help:
	@echo "make setup  environment with torch, Detectron2 and amodal2 in $(VENV)"
	@echo "make demo   render 20 unseen videos, run the shipped model on them, print the AP table"
	@echo "make test   tests on the CPU"
	@echo "make lint   ruff and mypy"
	@echo "make clean  remove what was built and what the demo wrote; the environment stays"

setup:
	@test -n "$(PYTHON)" || { echo "setup: expected Python 3.11 or later, got none; set PYTHON" >&2; exit 1; }
	@"$(PYTHON)" tools/setup_env.py --venv "$(VENV)"

demo: setup
	$(RUN) datasets/prepare_aquarium.py --out demo_data --train 0 --val 20 --seed $(DEMO_SEED) \
		--size 240x160 --frames 32 --format mp4 --force
	rm -rf demo_out
	$(DEMO) --input demo_data/val_00000.mp4 --output demo_out
	$(DEMO) --input demo_data/val_*.mp4 --output demo_out/predictions --save json \
		--score-threshold 0
	$(RUN) tools/evaluate.py --gt demo_data/val.json --pred demo_out/predictions --visible-as-amodal
	@echo "overlay of the first video: demo_out/overlay.mp4, its tracks: demo_out/tracks.json"

test: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 $(TESTS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf build dist amodal2.egg-info demo_data demo_out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f amodal2/_C*.so
	find amodal2 csrc tests tools datasets -name __pycache__ -type d -prune -exec rm -rf {} +
