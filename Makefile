# `make` alone lists the targets. CI calls nothing but `make test`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup fmt lint test chart chart-readme image soak crash-matrix mutants mutants-cut demo demo-cluster bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the servers and tools that the tests need (Debian)
	@scripts/setup

fmt: ## Format the code
	cargo fmt --all

lint: ## Formatting, clippy, docs, and the invariants of absence
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	scripts/lint

# Doc tests come first: the output has to end with the summary of the suite.
test: setup lint ## Everything that CI checks: lint, doc tests, and every test against real servers
	scripts/chart cut
	cargo test --workspace --doc --quiet
	@if cargo nextest --version >/dev/null 2>&1; then \
	  echo "cargo nextest run --workspace"; cargo nextest run --workspace; \
	else \
	  echo "cargo test --workspace"; cargo test --workspace --lib --bins --tests; \
	fi

chart: ## Check the Helm chart by helm 3 and 4, against the strict schemas of five Kubernetes
	@scripts/chart

chart-readme: ## Make the chart's table of values from its values.yaml
	@$${HIGHWATER_TOOLS:-$$HOME/.cache/highwater-tools}/venv/bin/python scripts/chart-readme

image: ## Build the image by buildah, as target/highwater-dev.tar
	@scripts/image

soak: ## Plan from a million arbitrary facts, read as many damaged records, simulate 2,000 schedules of a cluster, explore the model wider, and follow a transaction of two million rows
	PROPTEST_CASES=$${CASES:-1000000} cargo test -p highwater-common --lib -- no_fact_can_panic_the_planner any_bytes damaged_bytes
	PROPTEST_CASES=$${CASES:-1000000} cargo test -p highwater-proto --lib -- no_stored_record_can_panic_its_reader
	HIGHWATER_SEEDS=$${SEEDS:-2000} cargo test -p highwater-coordinator --lib -- a_cluster_under_faults_commits_every_row_once_and_ends
	HIGHWATER_WIDE_MODEL=1 cargo test -p highwater-model --test protocol -- hold cannot everything --nocapture --test-threads=1
	HIGHWATER_SOAK=1 cargo test -p highwater-integration-tests --test it -- a_transaction_of_two_million_rows_stays_small

crash-matrix: ## Strike at every failpoint in every way, embedded and in a cluster (the tests take turns)
	HIGHWATER_FULL_MATRIX=1 cargo test -p highwater-integration-tests --test it crash_matrix -- --nocapture

mutants: ## Change the code in small ways, and demand that a test notices each (hours; needs cargo-mutants and cargo-nextest)
	@scripts/mutants

mutants-cut: ## The same for the commit path and the stream of the pure core (an hour)
	@scripts/mutants cut

demo: ## Copy a month of flights between two SQLite files, and prove that they are equal
	@scripts/demo

demo-cluster: setup ## Copy a year of flights on a cluster whose worker and leader are killed meanwhile, and prove that it is equal
	@scripts/demo-cluster

bench: ## Measure copies against one COPY pipe, and the control path on etcd; `scripts/bench NAME` for one
	@scripts/bench
