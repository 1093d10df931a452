# valloc: `make bench` measures, `make test` proves; `make help` lists the rest.

BUILD := build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
SANITIZERS := asan ubsan tsan
CROSS := aarch64 baseline musl
C_FILES := $(wildcard c/src/*.[ch] c/include/*.h c/examples/*.c tests/*/*.[ch] benches/c/*.[ch])
# Cargo's and the override library's builds get separate folders: they never wait for each other.
QUIET := >$(BUILD)/last.log 2>&1 || { cat $(BUILD)/last.log; exit 1; }

.PHONY: all help test test-c test-secure test-sanitizers test-tools test-cross test-cross-quick \
        test-rust bench bench-quick bench-c bench-threads bench-secure bench-programs bench-memory \
        lint format install clean bench-rust bench-full bench-instructions compare fuzz \
        fuzz-minimise misuse-table bench-programs-rust bench-programs-c bench-report bench-tables \
        bench-startup test-programs

all: $(BUILD)/release/build.ninja
	cmake --build --preset release

help:
	@echo 'make              the C libraries, in build/release'
	@echo 'make test         every test, C and Rust, sanitizers included'
	@echo 'make test-c       the C tests on the release and debug builds'
	@echo 'make test-secure  the C tests on the secure build'
	@echo 'make test-tools   what memcheck reports of programs on valloc'
	@echo 'make test-cross   the C tests on musl, aarch64 and the first x86-64, the last two emulated'
	@echo 'make test-rust    the Rust tests'
	@echo 'make test-programs  browsers, servers, interpreters on valloc and glibc: docs/programs.md'
	@echo 'make fuzz         every fuzzer for SECONDS=60, as many at a time as there are processors'
	@echo 'make misuse-table  what valloc and its peers make of misused memory: docs/misuse.md'
	@echo 'make bench        the founding benchmark and latencies: tables, CSV, a page in build/bench'
	@echo 'make bench-quick  the same with fewer sizes and one round, under 2 minutes once it is built'
	@echo 'make bench-full   everything below but bench-secure, on one page, and the tables; an hour'
	@echo 'make bench-c      C patterns by LD_PRELOAD against the peers'
	@echo 'make bench-threads  patterns of memory that crosses threads, by LD_PRELOAD'
	@echo 'make bench-secure  what each feature of the secure build costs'
	@echo 'make bench-startup  what preloading adds to programs that do next to nothing'
	@echo 'make bench-programs  whole Rust, C and C++ programs against the peers'
	@echo 'make bench-memory  resident memory over time, plotted against live bytes'
	@echo 'make bench-instructions  instructions of every operation against the peers'
	@echo 'make bench-report  the page, plots and tables anew, from the samples that there are'
	@echo 'make bench-tables  all results as Markdown, from the last run of each part: results.md'
	@echo 'make compare OLD=rev [NEW=rev]  two states of valloc; NEW is the working tree'
	@echo 'make lint         formatting, static analysis, layers'
	@echo 'make format       formats C and Rust in place'
	@echo 'make install      to PREFIX ($(PREFIX))'

$(BUILD)/%/build.ninja: CMakeLists.txt CMakePresets.json tests/CMakeLists.txt
	@.ci/setup.sh build test
	@mkdir -p $(BUILD)
	@cmake --preset $* $(QUIET)

# ---- Tests ----

test: test-c test-secure test-sanitizers test-tools test-rust
	@echo 'All tests passed.'

test-c: $(BUILD)/release/build.ninja $(BUILD)/debug/build.ninja
	cmake --build --preset release
	ctest --preset release --parallel $(JOBS)
	cmake --build --preset debug
	ctest --preset debug --parallel $(JOBS)

# tests/CMakeLists.txt leaves out what says nothing there: that freed memory is not written to, the
# order of slots (fuzz_slab), an empty program's size and the fast paths' instructions, which are of
# the normal build; what has nothing of the build in it (the models, the first x86-64, installation);
# of the programs all but two.
test-secure: $(BUILD)/secure/build.ninja
	cmake --build --preset secure
	ctest --preset secure --parallel $(JOBS)

test-sanitizers: $(SANITIZERS:%=$(BUILD)/%/build.ninja)
	for preset in $(SANITIZERS); do \
	    cmake --build --preset $$preset && ctest --preset $$preset --parallel $(JOBS) || exit 1; \
	done

# What memcheck sees of a program on valloc; AddressSanitizer's part is in its build's own tests.
test-tools: $(BUILD)/valgrind/build.ninja
	cmake --build --preset valgrind
	ctest --preset valgrind --label-regex tools --parallel $(JOBS)

# Cross compilers and emulators are those of an x86-64 machine.
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
	cargo test --package valloc --features allocator-api2 --test heap --test collections
	cargo run --quiet --release --package valloc --features allocator-api2 --example request_arena
	RUSTC_BOOTSTRAP=1 cargo check --quiet --package valloc --features nightly \
	    --target-dir target/nightly
	cargo run --quiet --release --package valloc --example json
	cargo publish --workspace --dry-run --allow-dirty

# What cannot be installed is left out, and said so. Half an hour: no part of `make test`.
test-programs: all
	@.ci/setup.sh whole || true
	python3 tests/programs/whole.py $(BUILD)/release \
	    $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only '$(ONLY)',--write docs/programs.md)

# ---- Fuzzing ----

SECONDS ?= 60
FUZZERS := process allocators arena slab slot_stack bitmap size_class

# New inputs go to build/fuzz/corpus; what failed, to build/fuzz. `make fuzz-minimise` takes the new
# ones that reach new code over into tests/fuzz/corpus.
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

misuse-table: all
	@.ci/setup.sh bench test
	python3 tests/misuse/compare.py $(BUILD)/release

# ---- Benchmarks ----

# Each benchmark leaves samples, tables and plots in OUT, and renews the page of all of them. ROUNDS
# instead of what each does by itself: make bench-full ROUNDS=1 tries everything.
OUT := $(BUILD)/bench
RUST := target/release
FULL := bench bench-programs-rust bench-programs-c bench-memory bench-threads bench-c \
        bench-instructions bench-startup
MEASURE := --out $(OUT) $(if $(ROUNDS),--rounds $(ROUNDS))
# What failed or was interrupted is reported on as well, then make ends with the status of it.
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

# A part that fails does not take the others with it.
bench-full: all bench-rust
	@.ci/setup.sh programs
	@for part in $(FULL); do \
	    echo "== $$part, $$(date -u +%H:%M:%S) UTC"; \
	    $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	$(RUST)/report --out $(OUT) >/dev/null || failed="$$failed report"; \
	python3 benches/tables.py $(OUT) || failed="$$failed tables"; \
	echo "Done, $$(date -u +%H:%M:%S) UTC: $(OUT)/index.html, $(OUT)/results.md"; \
	test -z "$$failed" || { echo "Failed:$$failed"; cat $(OUT)/*-failures.txt 2>/dev/null; exit 1; }

bench-report: bench-rust
	$(RUST)/report --out $(OUT)

bench-tables:
	@python3 benches/tables.py $(OUT)

bench-memory: bench-rust
	$(RUST)/memory $(MEASURE)

bench-c: all bench-rust
	python3 benches/c/own.py $(BUILD)/release $(MEASURE); own=$$?; \
	    ($(call by_preload,c/compare.py,micro,$(if $(ROUNDS),--rounds $(ROUNDS)))) && exit $$own

bench-threads: all bench-rust
	$(call by_preload,c/threads.py,threads,$(if $(ROUNDS),--rounds $$((4 * $(ROUNDS)))))

bench-secure: all bench-rust
	@.ci/setup.sh test
	python3 benches/c/secure.py $(BUILD)/release $(MEASURE); status=$$?; \
	    $(RUST)/report --out $(OUT) >/dev/null && exit $$status

bench-startup: all bench-rust
	$(call by_preload,c/startup.py,startup,$(if $(ROUNDS),--rounds $(ROUNDS)))

bench-programs: bench-programs-rust bench-programs-c

bench-programs-rust: bench-rust
	$(RUST)/programs $(MEASURE)

bench-programs-c: all bench-rust
	@.ci/setup.sh programs
	$(call by_preload,programs/run.py,programs-c,$(if $(ROUNDS),--rounds $(ROUNDS)))

bench-instructions: all bench-rust
	$(call by_preload,c/instructions.py,instructions)

# Two states of valloc: make compare OLD=revision [NEW=revision].
compare: all
	@.ci/setup.sh build bench
	@test -n '$(OLD)' || { echo 'usage: make compare OLD=revision [NEW=revision]'; exit 2; }
	python3 benches/commits.py $(BUILD)/release '$(OLD)' $(if $(NEW),'$(NEW)') \
	    $(if $(ROUNDS),--rounds $(ROUNDS))

# ---- Style ----

lint: $(BUILD)/release/build.ninja
	@.ci/setup.sh lint
	python3 .ci/layers.py
	clang-format --dry-run --Werror $(C_FILES)
	clang-tidy --quiet c/src/unity.c c/src/override.c c/src/operators.c -- -std=gnu11 -Ic/include -DVALLOC_OVERRIDE=1
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
