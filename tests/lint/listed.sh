#!/bin/sh
# No C file is forgotten by the build. Usage: listed.sh BUILD
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
. tests/lint/files.sh

compiled=$(cd "$build" && sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' compile_commands.json | sort -u | xargs realpath)

# Those that stand for something else: what runs under sanitizers instead of criterion, and a user of headers. And what
# uses libraries that we are compared with, which may not be there.
exceptions='tests/plain/plain\.c|tests/headers/user\.c|perf/(peers|inside)/(.*_)?lib(uv|event)\.c'
forgotten=$(c_files | grep '\.c$' | grep -vxE "$exceptions" | while IFS= read -r file; do
    echo "$compiled" | grep -qxF "$(realpath "$file")" || echo "$file: no meson.build lists it"
done)
[ -z "$forgotten" ] || {
    echo "$forgotten"
    exit 1
}
