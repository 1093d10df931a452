#!/bin/sh
# setup.sh GROUP...: installs what the groups (build, test, cross, lint, bench, programs, whole) need and
# the machine lacks: as root by apt-get, else it says the command. Rust has to be there already.
set -eu

packages() {
    case $1 in
    build) echo g++ make cmake ninja-build pkg-config ;;
    test)
        echo libcmocka-dev python3 valgrind clang libclang-rt-dev libclang-dev
        echo perl git sqlite3 bash gawk stress-ng spin z3 dpkg-dev rpm cpio
        echo google-perftools golang-go binutils # readers of profiles
        echo systemtap-sdt-dev # static probes
        echo libc++-dev libc++abi-dev # another C++ runtime
        # The suite of the distribution's own python3, by its version.
        apt-cache depends python3 2>/dev/null |
            sed -n 's/^ *Depends: \(python3\.[0-9]*\)$/lib\1-testsuite/p'
        # Ubuntu has it as a snap only; the test of the benchmarks' page then opens no browser.
        ! grep -qx 'ID=debian' /etc/os-release || echo chromium
        ;;
    cross)
        echo gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross
        echo gcc-riscv64-linux-gnu g++-riscv64-linux-gnu libc6-dev-riscv64-cross
        echo qemu-user musl-tools dpkg-dev
        ;;
    lint) echo clang clang-format clang-tidy python3 ;;
    bench) echo python3 valgrind libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4 ;;
    programs)
        echo python3 clang perl sqlite3 redis-server redis-tools ghostscript z3 gawk git
        echo lua5.4 ruby rocksdb-tools
        ;;
    whole) python3 "$(dirname "$0")/../tests/programs/whole.py" --packages ;;
    *)
        echo "setup.sh: no group named $1" >&2
        exit 2
        ;;
    esac
}

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it from https://rustup.rs or by 'apt-get install cargo rustc'" >&2
    exit 1
fi
missing=
for group in "$@"; do
    for package in $(packages "$group"); do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "Packages are missing. As root:" >&2
    echo "    apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
