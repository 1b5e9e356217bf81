#!/bin/sh
# clang-tidy finds nothing in what a build compiles. Tests are spared the static analyzer, which takes twenty times as
# long as the rest (they run), and what they cannot but do: speak in signal handlers, stand in for the C library's calls.
# Usage: tidy.sh CLANG-TIDY BUILD
set -eu
tidy=$1
cd "$2"

files=$(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' compile_commands.json | sort -u)
result=0
of_tests='--checks=-clang-analyzer-*,-bugprone-signal-handler,-readability-inconsistent-declaration-parameter-name'
echo "$files" | grep -v '/tests/' | xargs -n 4 -P "$(nproc)" "$tidy" --quiet -p . || result=1
echo "$files" | grep '/tests/' | xargs -n 8 -P "$(nproc)" "$tidy" --quiet "$of_tests" -p . || result=1
exit $result
