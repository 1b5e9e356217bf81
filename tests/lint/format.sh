#!/bin/sh
# Every C file is as clang-format would write it, and no line of a comment is longer than one of code, either.
# Usage: format.sh CLANG-FORMAT
set -eu
cd "$(dirname "$0")/../.."
. tests/lint/files.sh

c_files | xargs "${1:-clang-format}" --style=file --dry-run -Werror

# Texts that people read on a terminal stay in one piece.
if c_files | xargs grep -nE '^.{121,}' | grep -vE '^[^:]*:[0-9]+: *"'; then
    echo 'format.sh: these lines are longer than 120 columns' >&2
    exit 1
fi
