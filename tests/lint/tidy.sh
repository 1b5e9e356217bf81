#!/bin/sh
# clang-tidy finds nothing. Usage: tidy.sh CLANG-TIDY BUILD, a build folder that holds compile_commands.json.
set -eu
tidy=$1
build=$(realpath "$2")
cd "$(dirname "$0")/../.."
. tests/lint/files.sh

c_files uring engine tools perf tests | grep '\.c$' |
    xargs -n 4 -P "$(nproc)" "$tidy" --quiet -p "$build"
