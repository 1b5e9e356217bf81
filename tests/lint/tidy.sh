#!/bin/sh
# clang-tidy finds nothing in what a build compiles. Usage: tidy.sh CLANG-TIDY BUILD
set -eu
cd "$2"

sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' compile_commands.json | sort -u |
    xargs -n 4 -P "$(nproc)" "$1" --quiet -p .
