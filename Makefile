# make demo       a small Atto-MaskRCNN, trained on a generated mini VOC: about 10 minutes
# make test       the quick tests; make test-all adds the slow ones
# make lint       style, types, and which package may import which
# make docs       the documentation as a site, in site/
#
# PYTHON=python3.12 chooses the interpreter, DETECTRON2=<path or requirement> another Detectron2.

PYTHON ?= python3
BIN := .venv/bin
DETECTRON2 ?= -r requirements/detectron2.txt

.PHONY: setup demo test test-all lint docs detectron2

setup: .venv/installed detectron2

.venv/installed: setup.py pyproject.toml requirements/build.txt requirements/tested.txt
	@echo "setting up .venv (some minutes, several GB: PyTorch)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements/build.txt
	$(BIN)/pip install --quiet -c requirements/tested.txt -e '.[dev,exploration,onnx,pretraining,robustness,timm,train]'
	@touch $@

# Not a dependency: everything else works without it, so a failure is one line. Retried at each call.
detectron2: .venv/installed
	@$(BIN)/python -c "import detectron2" 2>/dev/null \
	|| { echo "building Detectron2 (about 2 minutes; log in .venv/detectron2.log)"; \
	     $(BIN)/pip install --no-build-isolation -c requirements/tested.txt $(DETECTRON2) \
	         > .venv/detectron2.log 2>&1; } \
	|| echo "Detectron2 could not be installed: continuing without it (see .venv/detectron2.log)"

demo: setup
	$(BIN)/python tools/demo.py

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m "not slow" --cov --cov-report=

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
