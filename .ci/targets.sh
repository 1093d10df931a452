#!/bin/sh
# targets.sh: checks that the crates compile for every target of docs/platforms.md, and with the
# oldest Rust that Cargo.toml states. What rustup has not installed is left out, with a message;
# `targets.sh --install` asks rustup for it first.
set -eu
cd "$(dirname "$0")/.."
targets=$(sed -n 's/^| `\([a-z0-9_-]*\)` |.*/\1/p' docs/platforms.md)
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

if [ "${1:-}" = --install ]; then
    # shellcheck disable=SC2086 # a list of words
    rustup target add $targets && rustup toolchain install "$oldest" --profile minimal
    exit
fi
check() {
    echo "cargo $*"
    cargo "$@" --quiet --package valloc --features allocator-api2
}
checked=0
for target in $targets; do
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
        case $target in
        x86_64-unknown-linux-gnu) compiler=cc ;;
        x86_64-unknown-linux-musl) compiler=musl-gcc ;;
        aarch64-unknown-linux-gnu) compiler=aarch64-linux-gnu-gcc ;;
        riscv64gc-*) compiler=riscv64-linux-gnu-gcc ;;
        *) compiler=true ;; # the crate forwards and needs none
        esac
        if command -v "$compiler" >/dev/null; then
            check check --target "$target"
            checked=$((checked + 1))
            continue
        fi
    fi
    echo "not checked: $target"
done
if command -v rustup >/dev/null && rustup run "$oldest" rustc --version >/dev/null 2>&1; then
    check "+$oldest" check --target-dir target/oldest
else
    echo "not checked: Rust $oldest"
fi
echo "$checked targets checked"
