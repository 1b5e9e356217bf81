# shellcheck shell=sh
# Lists our C files in the folders given, or in all; to be sourced from the root of the tree.
c_files() {
    [ $# -gt 0 ] || set -- include uring engine tools perf tests
    for folder in "$@"; do
        [ ! -d "$folder" ] || find "$folder" -name '*.[ch]' -type f
    done | LC_ALL=C sort
}
