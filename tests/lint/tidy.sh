#!/bin/sh
# clang-tidy finds nothing in what a build compiles. Tests are spared the static analyzer, which takes twenty times as
# long as the rest (they run), and what they cannot but do: speak in signal handlers, stand in for the C library's calls.
# Usage: tidy.sh CLANG-TIDY BUILD
set -eu
tidy=$1
cd "$2"

# The library is compiled twice: as what is tested, and without assertions to count its instructions. Only the first tells
# the analyzer what we know.
database=$(mktemp -d)
trap 'rm -rf "$database"' EXIT
python3 -c 'import json; print(json.dumps([entry for entry in json.load(open("compile_commands.json"))
    if "libbudget" not in entry["output"]], indent=0))' >"$database/compile_commands.json"

files=$(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' compile_commands.json | sort -u)
result=0
of_tests='--checks=-clang-analyzer-*,-bugprone-signal-handler,-readability-inconsistent-declaration-parameter-name'
echo "$files" | grep -v '/tests/' | xargs -n 4 -P "$(nproc)" "$tidy" --quiet -p "$database" || result=1
echo "$files" | grep '/tests/' | xargs -n 8 -P "$(nproc)" "$tidy" --quiet "$of_tests" -p "$database" || result=1
exit $result
