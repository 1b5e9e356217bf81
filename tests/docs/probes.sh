#!/bin/sh
# The probes that docs/profiling.md tells of are in the library, with as many arguments, and no others; and they cost
# nothing when off: none has a semaphore, which would be a load and a branch. Usage: probes.sh LIBRARY
set -eu
library=$(realpath "$1")
page=$(realpath "$(dirname "$0")/../../docs/profiling.md")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# From rows of the form | `name` | `argument` `argument` | ... |
sed -nE 's/^\| `([a-z_]+)` +\| ((`[a-z_]+` *)+)\|.*/\1 \2/p' "$page" |
    awk '{ print $1, NF - 1 }' | LC_ALL=C sort >"$folder/told"
LC_ALL=C readelf -n "$library" >"$folder/notes"
awk '/Provider:/ { ours = $2 == "sluice" } /Name:/ { name = $2 } /Arguments:/ && ours { print name, NF - 1 }' \
    "$folder/notes" | LC_ALL=C sort -u >"$folder/built"

[ -s "$folder/told" ] || {
    echo "probes.sh: found no table of probes in $page: this test sees nothing" >&2
    exit 1
}
if grep 'Semaphore:' "$folder/notes" | grep -v 'Semaphore: 0x0*$'; then
    echo "probes.sh: a probe has a semaphore" >&2
    exit 1
fi
diff -u "$folder/told" "$folder/built"
