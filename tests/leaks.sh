#!/bin/sh
# Runs a test program and fails if any of its processes leaves a report of the address sanitizer behind: criterion
# does not look at how a process ends that has passed its test, and leaks are reported at the very end.
# Usage: leaks.sh PROGRAM [arguments]
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

suppressions=$(dirname "$0")/leaks.supp
LSAN_OPTIONS=suppressions=$suppressions:print_suppressions=0 \
ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}:log_path=$folder/report "$@"
status=$?
for report in "$folder"/report.*; do
    [ -e "$report" ] || continue
    cat "$report" >&2
    [ $status -ne 0 ] || status=1
done
exit $status
