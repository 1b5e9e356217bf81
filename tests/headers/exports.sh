#!/bin/sh
# The shared library exports exactly the functions that the public headers declare, all of one version.
# Usage: exports.sh LIBRARY COMPILER…
set -eu
library=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# One declaration a line; its name is the last word before the first parenthesis behind the attribute.
"$@" -E -P -I include include/sluice/sluice.h | tr '\n' ' ' | grep -oE 'visibility\("default"\)\)\)[^;]*;' |
    sed -E 's/^visibility\("default"\)\)\)//; s/\(.*//; s/.*[ *]([a-z0-9_]+) *$/\1@@SLUICE_0.1/' |
    LC_ALL=C sort >"$folder/declared"
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort >"$folder/exported"

[ -s "$folder/declared" ] || {
    echo "exports.sh: found no declaration in include/sluice/sluice.h: this check sees nothing" >&2
    exit 1
}
diff -u "$folder/declared" "$folder/exported"
