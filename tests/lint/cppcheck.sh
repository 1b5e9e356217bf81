#!/bin/sh
# cppcheck finds nothing in what we ship in C. What it does not have (system headers) it does not need.
# Usage: cppcheck.sh CPPCHECK
set -eu
cd "$(dirname "$0")/../.."

folders=
for folder in uring engine tools perf; do
    [ ! -d "$folder" ] || folders="$folders $folder"
done
# shellcheck disable=SC2086 # a list of words
"${1:-cppcheck}" --quiet --std=c11 --language=c --library=posix,gnu -D_GNU_SOURCE -D__linux__ -DSLUICE_VERSION='""' -I . -I include \
    --enable=warning,performance,portability --inline-suppr --suppress=missingIncludeSystem \
    --file-filter='*.c' -j "$(nproc)" --error-exitcode=1 $folders
