# Two commands: make demo, make test. Both make .venv first; make test a second one for Blender, which wants an older numpy.
PYTHON ?= python3
BIN := .venv/bin
BLENDER := .venv-blender

.PHONY: setup demo test lint clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Formspect needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(BLENDER)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BLENDER)
	$(BLENDER)/bin/pip install --quiet --constraint constraints.txt --editable '.[test-blender]'
	touch $@

demo: setup
	$(BIN)/formspect run notched_cap --output out/demo --severity bulge=0.8,1.5,3.0 --severity short-notch=-1.0,-2.5

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# a process for each core; cad and synth twice: with numpy 2, and with Blender's numpy 1, where its renderer is tested too
test: lint $(BLENDER)/ready
	synth/system_packages.sh
	$(BIN)/pytest --numprocesses auto
	$(BLENDER)/bin/python -m pytest --numprocesses auto tests/test_cad_*.py tests/test_synth_*.py

clean:
	rm -rf out data runs .pytest_cache .ruff_cache .hypothesis
