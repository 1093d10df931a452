#!/bin/sh
# cmocka.sh DIR: puts the source of cmocka there, from the distribution's source package: its library
# is of this machine and its libc, and tests of others build it. Leaves apt's own lists alone.
set -eu
directory=$(realpath -m "$1")
[ ! -e "$directory/src/cmocka.c" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/sources" "$work/package"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$list" ] || sed 's/^deb /deb-src /; s/^Types:.*/Types: deb-src/' "$list" \
        >"$work/sources/${list##*/}"
done
cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$work/sources";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
APT::Sandbox::User "";
END
export APT_CONFIG="$work/apt.conf"
apt-get -qq update
cd "$work/package"
apt-get -qq source --download-only cmocka
# apt has checked the signed list's sums; the maintainer's key is not here.
dpkg-source --no-check -x ./*.dsc source >/dev/null
mkdir -p "$(dirname "$directory")"
rm -rf "$directory"
cp -r source "$directory"
