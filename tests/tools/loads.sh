#!/bin/bash
# The loads of perf/ from outside: what they count, what they refuse, and that they notice what is wrong with a peer.
# Usage: loads.sh SLUICE FOLDER, the command, whose services stand for peers, and where the loads are, as built. Uses free
# ports of 127.0.0.1 and Unix sockets, nothing else.
set -u

sluice=$(realpath "$1")
loads=$(realpath "$2")
folder=$(mktemp -d)
failed=0
started=()
cd "$folder" || exit 1
unset "${!SLUICE_@}"

finish() {
    for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    rm -rf "$folder"
}
trap finish EXIT

# The outcome of one claim: `claim NAME COMMAND...` passes if the command succeeds.
claim() {
    local name=$1
    shift
    "$@" && return
    failed=$((failed + 1))
    echo "FAILED: $name: $*"
    sed 's/^/    /' output errors
}

equal() { [ "$1" = "$2" ]; }
matches() { [[ $1 =~ $2 ]]; }
empty() { [ ! -s "$1" ]; }
one_line() { [ "$(wc -l <"$1")" = 1 ]; }
member() { grep -o "\"$1\": [0-9.]*" output | head -n 1 | sed 's/.*: //'; }

# `wait_until PID COMMAND...`: until it succeeds, or the process has ended.
wait_until() { while kill -0 "$1" 2>/dev/null && ! "${@:2}"; do sleep 0.05; done; }

# Starts a service. Leaves `server`, its pid, and `address`, where it listens.
serve() {
    "$sluice" serve "$@" >lines 2>&1 &
    server=$!
    started+=("$server")
    wait_until "$server" grep -q '^listening on ' lines
    address=$(sed -n 's/^listening on //p' lines)
}

stop() {
    kill -KILL "$server" 2>/dev/null
    wait "$server" 2>/dev/null
}

run() {
    timeout 30 "$loads/$1" "${@:2}" >output 2>errors </dev/null
    status=$?
}

# `counts LOAD ARGUMENTS...`: a run that succeeds and has something to tell.
counts() {
    run "$1" --duration 200ms --warmup 50ms --server-pid "$server" "${@:2}"
    claim "succeeds: $*" equal $status 0
    claim "says nothing else: $*" empty errors
    claim "prints one object: $*" one_line output
    claim "counts bytes: $*" test "$(member bytes)" -gt 0
    claim "tells the server's CPU time: $*" test "$(member server_cpu_ns)" -gt 0
}

# `fails STATUS PATTERN LOAD ARGUMENTS...`: no output, and one line that matches.
fails() {
    run "${@:3}"
    claim "fails: ${*:3}" equal $status "$1"
    claim "fails without output: ${*:3}" empty output
    claim "fails in one line: ${*:3}" one_line errors
    claim "fails with the reason: ${*:3}" matches "$(cat errors)" "$2"
}

# -- What is refused --------------------------------------------------------------------------------------------

fails 2 '^load_churn: --size "2M": allowed is a size from 1 to 1M' load_churn --size 2M 127.0.0.1:1
fails 2 '^load_churn: --warmup "3": allowed is a time from 0' load_churn --warmup 3 127.0.0.1:1
fails 2 '^load_churn: --server-pid "4194304": allowed is a process' load_churn --server-pid 4194304 127.0.0.1:1
fails 2 '^load_churn: address "localhost:1": allowed is 127' load_churn localhost:1
fails 2 '^load_churn: option "--window": allowed is' load_churn --window 3 127.0.0.1:1
fails 2 '^load_churn: --size "": allowed is a value' load_churn --size
fails 2 '^load_fanout: --size "4": allowed is at least 8' load_fanout --size 4 127.0.0.1:1
fails 2 '^load_fanout: --window times --size "4M": allowed' load_fanout --window 4096 --size 1K 127.0.0.1:1
fails 2 '^load_stream: mode "out": allowed is one of drain, fill, through' load_stream out 127.0.0.1:1
fails 2 '^load_stream: --upstream with mode "through"' load_stream through 127.0.0.1:1
fails 1 '^load_stream: 127.0.0.1:1: Connection refused' load_stream drain 127.0.0.1:1

# -- What is counted --------------------------------------------------------------------------------------------

for wanted in 127.0.0.1:0 "unix:$folder/socket"; do
    serve echo "$wanted"
    counts load_churn --connections 8 "$address"
    claim "churn: a message is a life" equal "$(member bytes)" $(($(member messages) * 64))
    counts load_churn --connections 2 --size 1M "$address"
    run load_idle --connections 600 --size 64 "$address"
    claim "idle: says when all are there" equal "$(cat output)" ready
    claim "idle: ends well" equal $status 0
    fails 1 "the publisher was sent its own message" load_fanout --connections 2 "$address"
    stop
    rm -f socket

    serve chat "$wanted"
    counts load_fanout --connections 50 "$address"
    counts load_fanout --connections 3 --size 1000 --window 100 --slow 2 "$address"
    stop
    rm -f socket

    serve source "$wanted"
    counts load_stream --connections 3 drain "$address"
    stop
    rm -f socket

    serve sink "$wanted"
    counts load_stream --connections 3 fill "$address"
    counts load_stream --size 1M fill "$address"
    fails 1 "nothing came or went" load_churn --warmup 0 --duration 100ms "$address"
    stop
    rm -f socket
done

# -- Through ----------------------------------------------------------------------------------------------------

# Starts a forwarder from one Unix socket to another, with a filter between them if one is given.
forward() {
    rm -f in
    if [ $# = 0 ]; then
        socat UNIX-LISTEN:in,fork UNIX-CONNECT:out 2>/dev/null &
    else
        socat UNIX-LISTEN:in SYSTEM:"$1 | socat -u - UNIX-CONNECT\:out" 2>/dev/null &
    fi
    server=$!
    started+=("$server")
    wait_until "$server" test -S in
}

if command -v socat >/dev/null; then
    through=(load_stream --duration 200ms --warmup 50ms --upstream "unix:$folder/out" through "unix:$folder/in")
    forward
    run "${through[@]}" --connections 3
    claim "options come first" equal $status 2
    run "${through[0]}" --connections 3 "${through[@]:1}"
    claim "through: every byte and every end comes out" equal $status 0
    claim "through: counts" test "$(member bytes)" -gt 0
    stop
    forward "tail -c +2"
    fails 1 "what came out is not what went in, behind byte 0" "${through[@]}"
    stop
    forward "head -c 1000000"
    fails 1 "the peer has ended a connection|Connection reset|Broken pipe" "${through[@]}"
    stop
fi

# -- A peer that goes away --------------------------------------------------------------------------------------

serve echo "unix:$folder/socket"
mkfifo hold
timeout 30 "$loads/load_idle" --connections 20 --size 1 "unix:$folder/socket" <hold >output 2>errors &
idle=$!
started+=("$idle")
exec 4>hold
wait_until "$idle" grep -q ready output
stop
while grep -qF "$folder/socket" /proc/net/unix; do # the kernel lets go of a ring's sockets some time after its process
    sleep 0.05
done
exec 4>&-
wait "$idle"
claim "idle: a peer that ends connections is a failure" equal $? 1
claim "idle: which it counts" matches "$(cat errors)" "the peer has ended 20 connections$"

[ $failed = 0 ] || echo "$failed failed"
[ $failed = 0 ]
