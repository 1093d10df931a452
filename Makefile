# valloc: `make bench` measures, `make test` proves; `make help` lists the rest.

BUILD := build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
SANITIZERS := asan ubsan tsan
C_FILES := $(wildcard c/src/*.[ch] c/include/*.h c/examples/*.c tests/*/*.[ch] benches/c/*.[ch])
# Cargo's and the override library's builds get separate folders: they never wait for each other.
QUIET := >$(BUILD)/last.log 2>&1 || { cat $(BUILD)/last.log; exit 1; }

.PHONY: all help test test-c test-secure test-sanitizers test-rust bench bench-quick bench-c \
        bench-threads bench-secure \
        bench-programs bench-memory lint format install clean

all: $(BUILD)/release/build.ninja
	cmake --build --preset release

help:
	@echo 'make              the C libraries, in build/release'
	@echo 'make test         every test, C and Rust, sanitizers included'
	@echo 'make test-c       the C tests on the release and debug builds'
	@echo 'make test-secure  the C tests on the secure build, but the longest'
	@echo 'make test-rust    the Rust tests'
	@echo 'make bench        the founding benchmark and latencies: tables, CSV, a page in build/bench'
	@echo 'make bench-quick  the same with fewer sizes, under 2 minutes'
	@echo 'make bench-c      C patterns by LD_PRELOAD against the peers'
	@echo 'make bench-threads  patterns of memory that crosses threads, by LD_PRELOAD'
	@echo 'make bench-secure  what each feature of the secure build costs'
	@echo 'make bench-programs  whole Rust, C and C++ programs against the peers'
	@echo 'make bench-memory  resident memory over time, plotted against live bytes'
	@echo 'make lint         formatting, static analysis, layers'
	@echo 'make format       formats C and Rust in place'
	@echo 'make install      to PREFIX ($(PREFIX))'

$(BUILD)/%/build.ninja: CMakeLists.txt CMakePresets.json tests/CMakeLists.txt
	@.ci/setup.sh build test
	@mkdir -p $(BUILD)
	@cmake --preset $* $(QUIET)

# ---- Tests ----

test: test-c test-secure test-sanitizers test-rust
	@echo 'All tests passed.'

test-c: $(BUILD)/release/build.ninja $(BUILD)/debug/build.ninja
	cmake --build --preset release
	ctest --preset release --parallel $(JOBS)
	cmake --build --preset debug
	ctest --preset debug --parallel $(JOBS)

# What takes longest there is what the other builds test as well.
test-secure: $(BUILD)/secure/build.ninja
	cmake --build --preset secure
	ctest --preset secure --parallel $(JOBS) --exclude-regex 'conformance|limits'

test-sanitizers: $(SANITIZERS:%=$(BUILD)/%/build.ninja)
	for preset in $(SANITIZERS); do \
	    cmake --build --preset $$preset && ctest --preset $$preset --parallel $(JOBS) || exit 1; \
	done

test-rust:
	@.ci/setup.sh build test
	cargo test --workspace --all-targets
	cargo test --workspace --doc
	cargo test --package valloc --features override
	cargo test --package valloc --features secure
	cargo test --package valloc --features allocator-api2 --test heap --test collections
	cargo run --quiet --release --package valloc --features allocator-api2 --example request_arena
	RUSTC_BOOTSTRAP=1 cargo check --quiet --package valloc --features nightly \
	    --target-dir target/nightly
	cargo run --quiet --release --package valloc --example json
	cargo publish --workspace --dry-run --allow-dirty

# ---- Benchmarks ----

bench:
	@.ci/setup.sh build bench
	cargo run --quiet --release --package valloc-benches --bin founding -- --out $(BUILD)/bench
	cargo run --quiet --release --package valloc-benches --bin latency -- --out $(BUILD)/bench

bench-quick:
	@.ci/setup.sh build bench
	cargo run --quiet --release --package valloc-benches --bin founding -- --quick --out $(BUILD)/bench

bench-memory:
	@.ci/setup.sh build bench
	cargo run --quiet --release --package valloc-benches --bin memory -- --out $(BUILD)/bench

bench-c: all
	@.ci/setup.sh bench
	python3 benches/c/compare.py $(BUILD)/release
	$(BUILD)/release/benches/c/instances

bench-threads: all
	@.ci/setup.sh bench
	python3 benches/c/threads.py $(BUILD)/release

bench-secure: all
	@.ci/setup.sh bench test
	python3 benches/c/secure.py $(BUILD)/release

bench-programs: all
	@.ci/setup.sh bench programs
	@mkdir -p $(BUILD)/bench
	cargo build --release --package valloc-benches --bins
	target/release/programs --out $(BUILD)/bench
	python3 benches/programs/run.py $(BUILD)/release --out $(BUILD)/bench/programs-c-samples.csv
	target/release/programs --report-c --out $(BUILD)/bench

# ---- Style ----

lint: $(BUILD)/release/build.ninja
	@.ci/setup.sh lint
	python3 .ci/layers.py
	clang-format --dry-run --Werror $(C_FILES)
	clang-tidy --quiet c/src/unity.c c/src/override.c -- -std=gnu11 -Ic/include -DVALLOC_OVERRIDE=1
	clang-tidy --quiet c/src/unity.c -- -std=gnu11 -Ic/include -DVALLOC_OVERRIDE=1 -DVALLOC_SECURE=1
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --package valloc --all-targets --features allocator-api2 --quiet -- -D warnings

format:
	@.ci/setup.sh lint
	clang-format -i $(C_FILES)
	cargo fmt --all

install: all
	cmake --install $(BUILD)/release --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)
	cargo clean
