# valloc: `make test` tests, `make bench` measures, `make help` lists all targets.

BUILD := build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
SANITIZERS := asan ubsan tsan
CROSS := aarch64 aarch64-secure riscv64 baseline musl
# The analyzer looks at what unity.c includes, too.
ANALYZE := -Xclang -analyzer-opt-analyze-headers
C_FILES := $(wildcard c/src/*.[ch] c/src/*/*.[ch] c/include/*.h c/include/*.hpp c/jemalloc/*.[ch] c/examples/*.c tests/*/*.[ch] benches/*/*.[ch])
# Output goes to a log, which is printed if the command fails.
QUIET := >$(BUILD)/last.log 2>&1 || { cat $(BUILD)/last.log; exit 1; }

.PHONY: all help test test-c test-secure test-sanitizers test-tools test-cross test-cross-quick \
        test-rust test-targets bench bench-quick bench-c bench-threads bench-secure bench-programs bench-memory \
        lint format install packages clean bench-rust bench-full bench-instructions compare fuzz \
        fuzz-minimise misuse-table bench-programs-rust bench-programs-c bench-report bench-tables \
        bench-startup bench-realtime bench-profiled test-programs

all: $(BUILD)/release/build.ninja
	cmake --build --preset release

help:
	@echo 'make                     builds the C libraries in build/release'
	@echo 'make install             installs them to PREFIX ($(PREFIX))'
	@echo 'make packages            builds Debian packages, or others by GENERATOR=RPM'
	@echo 'make test                runs every test: C, Rust, sanitizers'
	@echo 'make test-c              C tests in the release, debug and unchecked builds'
	@echo 'make test-secure         C tests in the secure build'
	@echo 'make test-tools          programs on valloc under memcheck'
	@echo 'make test-cross          C tests on musl, and emulated on aarch64, riscv64 and the first x86-64'
	@echo 'make test-rust           Rust tests'
	@echo 'make test-targets        the crates compile for other targets and for the oldest Rust'
	@echo 'make test-programs       browsers, servers and interpreters on valloc and glibc: docs/programs.md'
	@echo 'make fuzz                every fuzzer for SECONDS=60, in parallel'
	@echo 'make misuse-table        130 kinds of misuse on valloc and its peers: docs/misuse.md'
	@echo 'make bench               speed by size, and latencies: tables, CSV and a page in build/bench'
	@echo 'make bench-quick         the same with fewer sizes and one round, in 2 minutes once built'
	@echo 'make bench-full          all benchmarks but bench-secure, on one page with tables; an hour'
	@echo 'make bench-c             patterns of one thread in C, by LD_PRELOAD'
	@echo 'make bench-threads       patterns of memory that crosses threads, by LD_PRELOAD'
	@echo 'make bench-programs      whole Rust, C and C++ programs'
	@echo 'make bench-memory        resident memory over time'
	@echo 'make bench-startup       cost of preloading for small programs'
	@echo 'make bench-instructions  instructions of every operation'
	@echo 'make bench-realtime      slowest calls under SCHED_FIFO, as root'
	@echo 'make bench-profiled      cost of the heap profilers of valloc and jemalloc'
	@echo 'make bench-secure        cost of each feature of the secure build'
	@echo 'make bench-report        writes page, plots and tables again, from existing samples'
	@echo 'make bench-tables        writes all results as Markdown, from existing samples: results.md'
	@echo 'make compare OLD=rev     compares a commit with the working tree, or with NEW=rev'
	@echo 'make lint                checks formatting, static analysis and layers'
	@echo 'make format              formats C and Rust in place'
	@echo 'make clean               removes all builds'

$(BUILD)/%/build.ninja: CMakeLists.txt CMakePresets.json tests/CMakeLists.txt
	@.ci/setup.sh build test
	@mkdir -p $(BUILD)
	@cmake --preset $* $(QUIET)

# ---- Tests ----

test: test-c test-secure test-sanitizers test-tools test-rust test-targets
	@echo 'All tests passed.'

test-c: $(BUILD)/release/build.ninja $(BUILD)/debug/build.ninja $(BUILD)/unchecked/build.ninja
	cmake --build --preset release
	ctest --preset release --parallel $(JOBS)
	cmake --build --preset debug
	ctest --preset debug --parallel $(JOBS)
	cmake --build --preset unchecked
	ctest --preset unchecked --label-regex quick --parallel $(JOBS)

# tests/CMakeLists.txt leaves out tests that do not apply to the secure build (freed memory is not
# written to, the order of slots, the size of an empty program, instruction counts), tests that do
# not depend on the build (models, the first x86-64, installation), and most programs.
test-secure: $(BUILD)/secure/build.ninja
	cmake --build --preset secure
	ctest --preset secure --parallel $(JOBS)

test-sanitizers: $(SANITIZERS:%=$(BUILD)/%/build.ninja)
	for preset in $(SANITIZERS); do \
	    cmake --build --preset $$preset && ctest --preset $$preset --parallel $(JOBS) || exit 1; \
	done

# Programs under memcheck. AddressSanitizer is tested in its own build.
test-tools: $(BUILD)/valgrind/build.ninja
	cmake --build --preset valgrind
	ctest --preset valgrind --label-regex tools --parallel $(JOBS)

# Cross compilers and emulators need an x86-64 machine.
ifeq ($(shell uname -m),x86_64)
test-cross-quick: WITHOUT := --label-exclude slow
test-cross test-cross-quick: $(CROSS:%=$(BUILD)/%/build.ninja)
	for preset in $(CROSS); do \
	    cmake --build --preset $$preset && \
	    ctest --preset $$preset --parallel $(JOBS) $(WITHOUT) || exit 1; \
	done

$(CROSS:%=$(BUILD)/%/build.ninja): $(BUILD)/%/build.ninja: CMakeLists.txt CMakePresets.json tests/CMakeLists.txt
	@.ci/setup.sh build cross
	@.ci/cmocka.sh $(BUILD)/cmocka
	@cmake --preset $* $(QUIET)
endif

test-rust:
	@.ci/setup.sh build test
	cargo test --workspace --all-targets
	cargo test --workspace --doc
	cargo test --package valloc --features override
	cargo test --package valloc --features secure
	cargo test --package valloc --features dlopen --test heap
	RUSTFLAGS='--cfg valloc_forwards' cargo test --package valloc --target-dir target/forwards \
	    --test forwards --test heap
	cargo test --package valloc --features allocator-api2 --test heap --test collections
	cargo run --quiet --release --package valloc --features allocator-api2 --example request_arena
	RUSTC_BOOTSTRAP=1 cargo check --quiet --package valloc --features nightly \
	    --target-dir target/nightly
	RUSTC_BOOTSTRAP=1 RUSTDOCFLAGS='--cfg docsrs -D warnings' cargo doc --quiet --no-deps \
	    --package valloc-sys --package valloc --features allocator-api2,nightly --target-dir target/nightly
	cargo run --quiet --release --package valloc --example json
	cargo run --quiet --release --package valloc --example server
	python3 tests/consumer/examples.py
	@# cargo would check against the valloc-sys that it unpacked last time.
	@rm -rf "$${CARGO_HOME:-$$HOME/.cargo}"/registry/*/-*/valloc-sys-*
	cargo publish --workspace --dry-run --allow-dirty

test-targets:
	@.ci/targets.sh

# Programs that cannot be installed are left out, with a message. Takes half an hour.
test-programs: all
	@.ci/setup.sh whole || true
	python3 tests/programs/whole.py $(BUILD)/release \
	    $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only '$(ONLY)',--write docs/programs.md)

# ---- Fuzzing ----

SECONDS ?= 60
FUZZERS := process allocators arena slab slot_stack bitmap size_class

# New inputs go to build/fuzz/corpus, failing ones to build/fuzz. `make fuzz-minimise` copies inputs
# that reach new code to tests/fuzz/corpus.
fuzz: $(BUILD)/fuzz/build.ninja
	cmake --build --preset fuzz
	@mkdir -p $(FUZZERS:%=$(BUILD)/fuzz/corpus/%)
	printf '%s\n' $(FUZZERS) | xargs -P $(JOBS) -I{} sh -c '$(BUILD)/fuzz/tests/fuzz_{} \
	    -max_total_time=$(SECONDS) -max_len=2048 -artifact_prefix=$(BUILD)/fuzz/{}- \
	    $(BUILD)/fuzz/corpus/{} tests/fuzz/corpus/{} >$(BUILD)/fuzz/{}.log 2>&1 && \
	    echo "{}: $$(grep ^Done $(BUILD)/fuzz/{}.log)" || \
	    { tail -40 $(BUILD)/fuzz/{}.log; exit 255; }'

fuzz-minimise: $(BUILD)/fuzz/build.ninja
	cmake --build --preset fuzz
	for fuzzer in $(FUZZERS); do \
	    $(BUILD)/fuzz/tests/fuzz_$$fuzzer -set_cover_merge=1 -max_len=512 tests/fuzz/corpus/$$fuzzer \
	        $(BUILD)/fuzz/corpus/$$fuzzer || exit 1; \
	done

misuse-table: all $(BUILD)/secure/build.ninja
	@.ci/setup.sh bench test
	cmake --build --preset secure --target valloc_override
	python3 tests/misuse/compare.py $(BUILD)/release

# ---- Benchmarks ----

# Each benchmark writes samples, tables and plots to OUT, and the page of all of them. ROUNDS replaces
# the default number of rounds: make bench-full ROUNDS=1 tries everything.
OUT := $(BUILD)/bench
RUST := target/release
FULL := bench bench-programs-rust bench-programs-c bench-memory bench-threads bench-c \
        bench-instructions bench-startup
MEASURE := --out $(OUT) $(if $(ROUNDS),--rounds $(ROUNDS))
# A failed or interrupted benchmark is reported, too; make then ends with its status.
define by_preload
	python3 benches/$(1) $(BUILD)/release --out $(OUT)/$(2)-samples.csv $(3); status=$$?; \
	    $(RUST)/report --out $(OUT) $(2) && exit $$status
endef

bench-rust:
	@.ci/setup.sh build bench
	@mkdir -p $(OUT)
	cargo build --quiet --release --package valloc-benches --bins

bench: bench-rust
	$(RUST)/founding $(MEASURE); status=$$?; $(RUST)/latency $(MEASURE) && exit $$status

bench-quick: bench-rust
	$(RUST)/founding --quick --out $(OUT); status=$$?; \
	    $(RUST)/latency --quick --out $(OUT) && exit $$status

# If a part fails, the others still run.
bench-full: all bench-rust
	@.ci/setup.sh programs
	@for part in $(FULL); do \
	    echo "== $$part, $$(date -u +%H:%M:%S) UTC"; \
	    $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	$(RUST)/report --out $(OUT) >/dev/null || failed="$$failed report"; \
	python3 benches/report/tables.py $(OUT) || failed="$$failed tables"; \
	echo "Done, $$(date -u +%H:%M:%S) UTC: $(OUT)/index.html, $(OUT)/results.md"; \
	test -z "$$failed" || { echo "Failed:$$failed"; cat $(OUT)/*-failures.txt 2>/dev/null; exit 1; }

bench-report: bench-rust
	$(RUST)/report --out $(OUT)

bench-tables:
	@python3 benches/report/tables.py $(OUT)

bench-memory: bench-rust
	$(RUST)/memory $(MEASURE)

bench-c: all bench-rust
	python3 benches/speed/own.py $(BUILD)/release $(MEASURE); own=$$?; \
	    ($(call by_preload,speed/compare.py,micro,$(if $(ROUNDS),--rounds $(ROUNDS)))) && exit $$own

bench-threads: all bench-rust
	$(call by_preload,threads/threads.py,threads,$(if $(ROUNDS),--rounds $$((4 * $(ROUNDS)))))

bench-secure: all bench-rust
	@.ci/setup.sh test
	python3 benches/speed/secure.py $(BUILD)/release $(MEASURE); status=$$?; \
	    $(RUST)/report --out $(OUT) >/dev/null && exit $$status

bench-startup: all bench-rust
	$(call by_preload,startup/startup.py,startup,$(if $(ROUNDS),--rounds $(ROUNDS)))

bench-realtime: all
	@.ci/setup.sh bench
	@mkdir -p $(OUT)
	python3 benches/threads/realtime.py $(BUILD)/release --out $(OUT)/realtime-samples.csv \
	    $(if $(ROUNDS),--rounds $(ROUNDS))

bench-programs: bench-programs-rust bench-programs-c

bench-programs-rust: bench-rust
	$(RUST)/programs $(MEASURE)

# jemalloc has its profiler only if it is built so, and both follow frame pointers or unwind tables.
bench-profiled:
	@.ci/setup.sh build bench
	RUSTFLAGS='-C force-frame-pointers=yes' cargo build --quiet --release --package valloc-benches \
	    --features profiling --bins --target-dir target/profiling
	target/profiling/release/programs --profiled --out $(OUT)/profiled $(if $(ROUNDS),--rounds $(ROUNDS))

bench-programs-c: all bench-rust
	@.ci/setup.sh programs
	$(call by_preload,programs/run.py,programs-c,$(if $(ROUNDS),--rounds $(ROUNDS)))

bench-instructions: all bench-rust
	$(call by_preload,speed/instructions.py,instructions)

# Compares two versions of valloc: make compare OLD=revision [NEW=revision].
compare: all
	@.ci/setup.sh build bench
	@test -n '$(OLD)' || { echo 'usage: make compare OLD=revision [NEW=revision]'; exit 2; }
	python3 benches/report/commits.py $(BUILD)/release '$(OLD)' $(if $(NEW),'$(NEW)') \
	    $(if $(ROUNDS),--rounds $(ROUNDS))

# ---- Style ----

lint: $(BUILD)/release/build.ninja
	@.ci/setup.sh lint
	python3 .ci/layers.py
	python3 .ci/packages.py
	python3 .ci/manual.py
	clang-format --dry-run --Werror $(C_FILES)
	clang-tidy --quiet c/src/unity.c c/src/api/override.c c/src/api/operators.c -- -std=gnu11 -Ic/src -Ic/include $(ANALYZE) -DVALLOC_OVERRIDE=1
	clang-tidy --quiet c/src/unity.c c/src/api/copies.c -- -std=gnu11 -Ic/src -Ic/include $(ANALYZE) -DVALLOC_OVERRIDE=1 -DVALLOC_SECURE=1 -DVALLOC_SECURE_COPIES=1
	clang-tidy --quiet c/jemalloc/*.c -- -std=gnu11 -Ic/include
	cargo fmt --all --check
	for example in web python; do cargo fmt --check --manifest-path docs/examples/$$example/Cargo.toml || exit 1; done
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --package valloc --all-targets --features allocator-api2 --quiet -- -D warnings

format:
	@.ci/setup.sh lint
	clang-format -i $(C_FILES)
	cargo fmt --all

# GENERATOR=RPM on systems with RPM packages.
GENERATOR ?= DEB
packages:
	@.ci/setup.sh build
	@mkdir -p $(BUILD)
	@cmake -S . -B $(BUILD)/packages -DCMAKE_INSTALL_PREFIX=/usr -DVALLOC_BUILD_TESTS=OFF $(QUIET)
	@cmake --build $(BUILD)/packages --parallel $(JOBS) $(QUIET)
	cd $(BUILD)/packages && cpack -G $(GENERATOR)

install: all
	cmake --install $(BUILD)/release --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)
	cargo clean
