# The front door of hotframe. `make` alone lists what it can do.
#
# Programs are installed only from the distribution (apt), each command is printed first, and
# NO_INSTALL=1 makes it print and stop. Only apt and the finished binary ever run under sudo.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
HOTFRAME := $(TARGET)/release/hotframe
# Length of `make record`, of each run of `make bench`, of each target of `make fuzz`.
SECONDS ?=
export NO_INSTALL

.PHONY: help
help: ## this list
	@echo 'hotframe: make TARGET'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  %-14s %s\n' "$${name#  }" "$$text"; done

.PHONY: record
record: tools-build ## build, record this machine for 10 s (SECONDS=), write hotframe.html and .pb.gz
	scripts/record.sh '$(or $(SECONDS),10)'

.PHONY: build
build: tools-build ## the release binary
	$(CARGO) build --release --locked -p hotframe

.PHONY: test
test: tools-build ## all tests; the live ones too when root
	scripts/test.sh

.PHONY: test-runtimes
test-runtimes: tools-build ## every version of Java and Python that can be had (root, registries)
	scripts/test-runtimes.sh

.PHONY: check
check: tools-check check-format check-generated check-bpf check-lint check-doc check-web ## all that is checked without running hotframe
	@echo 'check: all good'

.PHONY: check-format
check-format: ## rustfmt and clang-format
	$(CARGO) fmt --all --check
	scripts/clang-format.sh --dry-run -Werror

.PHONY: check-lint
check-lint: ## clippy, warnings as errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: check-doc
check-doc: ## rustdoc, warnings as errors
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --locked --workspace --no-deps --quiet

.PHONY: check-generated
check-generated: ## the Rust twins of all abi.h are fresh
	scripts/generate.sh --check

.PHONY: check-bpf
check-bpf: ## the BPF C compiles for x86-64 and arm64
	scripts/check-bpf.sh

.PHONY: check-web
check-web: ## the built page is fresh (where Node is there)
	scripts/web.sh --check

.PHONY: format
format: ## write what check-format wants
	$(CARGO) fmt --all
	scripts/clang-format.sh -i

.PHONY: generate
generate: tools-check ## write the Rust twins of all abi.h
	scripts/generate.sh

.PHONY: web
web: ## build the page into web/dist
	scripts/web.sh

.PHONY: verify
verify: tools-build ## load each BPF program, print the verifier's instruction counts and times (root)
	scripts/verify.sh

.PHONY: oracles
oracles: tools-build ## other people's readers of our formats: installs them below testing/, compares
	$(CARGO) build --release --locked -p hotframe
	scripts/oracles.sh --install

.PHONY: bench
bench: tools-build ## hotframe beside other profilers (LOADS= TOOLS= SECONDS= ROUNDS=)
	$(CARGO) build --release --locked -p hotframe
	HOTFRAME_BIN=$(abspath $(HOTFRAME)) SECONDS_EACH='$(SECONDS)' python3 benches/peers/run.py

.PHONY: soak
soak: tools-build ## half an hour of churn at 997 Hz: does --memory hold? (SECONDS= MEMORY= NICE= HZ= LOAD=clang PLOT=FILE.svg; root)
	$(CARGO) build --release --locked -p hotframe
	HOTFRAME_BIN=$(abspath $(HOTFRAME)) SECONDS_SOAK='$(SECONDS)' MEMORY='$(MEMORY)' PLOT='$(PLOT)' NICE='$(NICE)' HZ='$(HZ)' LOAD='$(LOAD)' python3 testing/soak/run.py

.PHONY: bench-frames
bench-frames: ## the frame store's policies on the same streams (STREAM=FILE, JSON=1)
	scripts/bench-frames.sh

.PHONY: fuzz
fuzz: ## each fuzz target for SECONDS (60)
	scripts/fuzz.sh '$(or $(SECONDS),60)'

.PHONY: dist
dist: tools-build ## dist/hotframe: one static binary
	scripts/dist.sh

.PHONY: doc
doc: ## the API documentation
	$(CARGO) doc --workspace --no-deps
	@echo "open $(TARGET)/doc/hotframe_core/index.html"

.PHONY: tools-build tools-check
tools-build:
	@scripts/tools.sh build
tools-check:
	@scripts/tools.sh check
