#!/bin/sh
# docs/compliance.md names every case that it should, and only tests that exist and are run.
set -eu
cd "$(dirname "$0")/../.."
page=docs/compliance.md

# What the page has to say: the cases of raw streams, and those that upstream lacks.
wanted() {
    seq 1 40
    seq 62 75
    seq 88 102
    seq 107 142
    printf 'X%s\n' 1 2 3 4 5 8 9 17 18 20
}

complaints=$(
    rows=$(sed -n 's/^| \([X0-9]*\) | .*/\1/p' "$page")
    for case in $(wanted); do
        echo "$rows" | grep -qx "$case" || echo "$page: no row for case $case"
    done
    grep '^| [X0-9]' "$page" | grep -Ev '\| [^|]*(`(unit|net)/|Not here: |the seed, below)[^|]* \|$' |
        sed 's/^/neither a test nor a reason: /' || true

    # Only what stands in the source of a test program that is built counts.
    tests=$(grep -o '`[a-z]*/[a-z_]*: [a-z0-9_]*`' "$page" | tr -d '`' | sort -u)
    [ "$(echo "$tests" | wc -l)" -gt 50 ] || echo "$page: hardly any test was found: this check sees nothing"
    echo "$tests" | while IFS=': ' read -r file name; do
        if [ ! -f "tests/$file.c" ]; then
            echo "$page: there is no tests/$file.c"
        elif ! grep -qE "^(Test|STORY|RELAY|TALE)\(([a-z_]+, )?$name[,)]" "tests/$file.c"; then
            echo "$page: there is no $name in tests/$file.c"
        elif ! grep -q "^  '${file#*/}',\$" tests/meson.build; then
            echo "$page: tests/meson.build does not list tests/$file.c"
        fi
    done
)
[ -z "$complaints" ] || {
    echo "$complaints"
    exit 1
}
