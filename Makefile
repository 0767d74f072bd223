# Every target makes the environment it needs: Python 3.10 or later, make and a compiler are enough.
#
#   make test PYTHON=python3.12     another interpreter
#   make test ROS=jazzy             the ROS wheels of another distribution (kilted, jazzy)
#   make test TESTS='test/engine'   some of the tests, or any other options of pytest
#   make demo DEMO='--picks 1'      options of jepa demo; DEMO='--video conveyor' plays the shipped recording
#
# A sourced ROS installation is used instead of the wheels.

PYTHON ?= python3
ROS ?= kilted
TESTS ?=
DEMO ?=

ifneq ($(and $(ROS_DISTRO),$(AMENT_PREFIX_PATH)),)
SOURCED := --sourced
VENV := .venv-sourced-$(ROS_DISTRO)
else
ROS_WHEELS := ros-$(ROS)
VENV := $(if $(filter kilted,$(ROS)),.venv,.venv-$(ROS))
# a Python with ROS wheels that calls make hands these on; they would keep another environment from finding its own
ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH
endif
# after the whole suite on Kilted, the parts that meet ROS and OpenCV run on Jazzy's wheels and OpenCV 4 too
ifeq ($(ROS)$(TESTS),kilted)
JAZZY := .venv-jazzy
JAZZY_TESTS := $(wildcard test/nodes test/launch test/demo test/bench test/engine test/data test/test_*.py)
endif
endif

MAKE_ENVIRONMENT = $(PYTHON) tools/environment.py $(SOURCED)
# what an installed environment is made from
SOURCES := setup.py setup.cfg pyproject.toml package.xml constraints.txt tools/environment.py \
  $(shell find resource scripts launch config models recordings -type f 2>/dev/null)

.PHONY: help demo test test-tensorrt lint clean distclean

help:
	@echo 'make demo       the simulated picking cell: live table, then a page with a film, figures and a bag in jepa_demo/'
	@echo 'make test       lint and the whole test suite, on Kilted wheels, then what meets ROS on Jazzy wheels'
	@echo 'make test-tensorrt   parse and build every exported graph with TensorRT for RTX, which needs no GPU'
	@echo 'make lint       ruff alone'
	@echo 'make clean      remove what builds and runs left behind'
	@echo 'make distclean  remove the environments as well'
	@echo
	@sed -n '3,8s/^# *//p' Makefile

demo: $(VENV)/.run
	$(VENV)/bin/jepa demo $(DEMO)

# Training has a process of its own: signals that end a run, and torch's threads, beside ROS, OpenGL and OpenVINO in one
# process are more than any of them promises. All parts run, whatever the others say; the last line is pytest's own.
test: lint $(VENV)/.test $(JAZZY:%=%/.nodes)
	@status=0; began=$$(date +%s); trap '$(PYTHON) tools/clean_shared_memory.py '$$began EXIT; \
	$(if $(TESTS),,$(VENV)/bin/python -m pytest --ignore=test/training || status=$$?;) \
	$(VENV)/bin/python -m pytest $(or $(TESTS),test/training) || status=$$?; \
	$(if $(JAZZY),$(JAZZY)/bin/python -m pytest $(JAZZY_TESTS) || status=$$?;) \
	exit $$status

# NVIDIA's libraries come from PyPI into a folder of their own, which no other environment sees.
TENSORRT := $(VENV)-tensorrt

test-tensorrt: $(VENV)/.test $(TENSORRT)/.installed
	JEPA_TENSORRT_RTX=$(abspath $(TENSORRT)) $(VENV)/bin/python -m pytest test/engine/test_tensorrt_build.py
	@echo 'Not shown without a GPU: that plans run, what they compute, CUDA graphs, the timing cache, any time.'

# tried again next time where it cannot be had
$(TENSORRT)/.installed: test/tensorrt_rtx.py $(VENV)/.test
	$(VENV)/bin/python test/tensorrt_rtx.py $(TENSORRT)
	@test -e $(TENSORRT)/unavailable || touch $@

lint: $(VENV)/.test
	$(VENV)/bin/python -m ruff check --quiet .

$(VENV)/.run: $(SOURCES)
	$(MAKE_ENVIRONMENT) $(VENV) --extras $(ROS_WHEELS) sim
	@touch $@

$(VENV)/.test: $(SOURCES)
	$(MAKE_ENVIRONMENT) $(VENV) --extras $(ROS_WHEELS) train sim openvino test
	@touch $(VENV)/.run $@

.venv-jazzy/.nodes: $(SOURCES)
	$(MAKE_ENVIRONMENT) .venv-jazzy --extras ros-jazzy test --with 'opencv-python-headless<5'
	@touch $@

clean:
	rm -rf build install log dist jepa_ros.egg-info jepa_demo .pytest_cache .ruff_cache .hypothesis
	find jepa_ros launch test tools -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
