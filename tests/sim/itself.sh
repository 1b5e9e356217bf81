#!/bin/sh
# The simulator keeps its own promises: the same seed gives the same run, byte for byte, also in another build; a replay is
# the run that failed; and what it does not know it refuses. Usage: itself.sh SIMULATOR FAST_SIMULATOR
set -eu
simulator=$1
fast=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "itself.sh: $1" >&2
    exit 1
}

# The last line tells how fast it was.
trace() {
    "$1" --seed "$2" --count 20 --trace | sed '$d' >"$3"
    [ "$(wc -l <"$3")" -gt 1000 ] || fail "the trace of seed $2 is short: this check sees nothing"
}

for seed in 1 1000 1000000; do
    trace "$simulator" $seed "$folder/once"
    trace "$simulator" $seed "$folder/again"
    trace "$fast" $seed "$folder/fast"
    cmp "$folder/once" "$folder/again" || fail "seed $seed gives two different runs"
    cmp "$folder/once" "$folder/fast" || fail "seed $seed gives another run in another build"
done
trace "$simulator" 2 "$folder/other"
if cmp -s "$folder/once" "$folder/other"; then
    fail 'two seeds give the same run'
fi

# Each promise that is broken on purpose is told, with the command that replays it; the shorter story fails as well.
for promise in opcode flag byte order drain leak; do
    status=0
    "$fast" --seed 1 --count 100 --break $promise >"$folder/out" 2>&1 || status=$?
    [ $status -eq 1 ] || fail "a broken promise ($promise) is not noticed"
    replay=$(sed -n 's/^replay with: sluice-sim //p' "$folder/out")
    [ -n "$replay" ] || fail "a broken promise ($promise) is told without the command that replays it"
    # shellcheck disable=SC2086 # words of a command
    if "$fast" $replay --break $promise >/dev/null 2>&1; then
        fail "the replay of a broken promise ($promise) does not fail"
    fi
done
