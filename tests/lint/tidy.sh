#!/bin/sh
# clang-tidy finds nothing in what a build compiles. Tests are spared the static analyzer, which takes twenty times as
# long as the rest: they run. Usage: tidy.sh CLANG-TIDY BUILD
set -eu
tidy=$1
cd "$2"

files=$(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' compile_commands.json | sort -u)
result=0
echo "$files" | grep -v '/tests/' | xargs -n 4 -P "$(nproc)" "$tidy" --quiet -p . || result=1
echo "$files" | grep '/tests/' | xargs -n 8 -P "$(nproc)" "$tidy" --quiet '--checks=-clang-analyzer-*' -p . || result=1
exit $result
