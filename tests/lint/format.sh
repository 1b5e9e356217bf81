#!/bin/sh
# Every C file is as clang-format would write it. Usage: format.sh CLANG-FORMAT
set -eu
cd "$(dirname "$0")/../.."
. tests/lint/files.sh

c_files | xargs "${1:-clang-format}" --style=file --dry-run -Werror
