#!/bin/bash
# What `sluice` says when the world does not let it: permissions, limits, a kernel that refuses io_uring, and peers that
# die, reset or do not read. What it says of bad arguments is in run.sh.
# Usage: refusals.sh SLUICE DENY, the command and the helper as built. Binds 127.0.0.1 and Unix sockets, nothing else.
# With TEST_SYSCTL=1 it also switches io_uring off for the whole machine, for some seconds, and on again.
set -u

sluice=$(realpath "$1")
deny=$(realpath "$2")
folder=$(mktemp -d)
passed=0
failed=0
started=()
cd "$folder" || exit 1
chmod 755 .
unset "${!SLUICE_@}"
disabled=/proc/sys/kernel/io_uring_disabled
disabled_before=$(cat $disabled 2>/dev/null)

# -- Counting ---------------------------------------------------------------------------------------------------

# The outcome of one claim: `claim NAME COMMAND...` passes if the command succeeds.
claim() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name: $*"
        if [ -s errors ]; then sed 's/^/    stderr: /' errors; fi
    fi
}

leave_out() { echo "left out: $*"; }

equal() { [ "$1" = "$2" ]; }
matches() { [[ $1 =~ $2 ]]; }
one_line() { [ "$(wc -l <"$1")" = 1 ]; }
empty() { [ ! -s "$1" ]; }

# -- Processes --------------------------------------------------------------------------------------------------

finish() {
    if [ -w $disabled ] && [ "$(cat $disabled)" != "$disabled_before" ]; then echo "$disabled_before" >$disabled; fi
    for pid in "${started[@]}"; do
        kill -CONT "$pid" 2>/dev/null
        kill -KILL "$pid" 2>/dev/null
    done
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# `await PID` leaves its exit status in `status`; 137 if it had to be killed.
await() {
    {
        timeout 20 tail --pid="$1" -s 0.02 -f /dev/null || kill -KILL "$1"
        wait "$1"
        status=$?
    } 2>/dev/null # bash tells of everybody who was killed
}

# Starts a server. Leaves `server`, its pid, `address`, where it listens, and `totals`, the file it writes on.
serve() {
    totals=totals.$RANDOM
    mkfifo lines
    "$sluice" serve "$@" >lines 2>server.errors &
    server=$!
    started+=("$server")
    exec 3<lines
    rm lines
    read -r -t 10 address <&3
    address=${address#listening on }
    cat <&3 >"$totals" &
    reader=$!
    exec 3<&-
}

interrupt_server() {
    kill -INT "$server"
    await "$server"
    wait "$reader"
}

# Starts a load that goes on until something happens. Leaves `load`, its pid, when it measures.
start_load() {
    "$sluice" load "$address" --connections 8 --warmup 0 --duration 60s "$@" >output 2>errors &
    load=$!
    started+=("$load")
}

# Waits until the server has that many connections, by asking the kernel.
await_connections() {
    local port=${address##*:}

    for _ in $(seq 500); do
        if [ "$(grep -ci "^ *[0-9]*: 0100007F:$(printf %04X "$port") [0-9A-F:]* 01 " /proc/net/tcp)" -ge "$1" ]; then
            return
        fi
        sleep 0.01
    done
}

# `fails PATTERN COMMAND...`: exit status 1, nothing on stdout, and one line on stderr that matches.
fails() {
    local pattern=$1
    shift
    timeout 30 "$@" >output 2>errors </dev/null
    status=$?
    claim "fails: $*" equal $status 1
    claim "fails without output: $*" empty output
    claim "fails in one line: $*" one_line errors
    claim "fails with the reason: $*" matches "$(cat errors)" "$pattern"
}

# The user who may do nothing in particular. Without root, that is who we are.
nobody=()
if [ "$(id -u)" = 0 ]; then nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups); fi
can_be_nobody=false
if "${nobody[@]}" test -x "$sluice" && "${nobody[@]}" "$sluice" --version >output 2>errors; then can_be_nobody=true; fi

# -- Permission -------------------------------------------------------------------------------------------------

if $can_be_nobody; then
    if [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -gt 1 ]; then
        fails '^sluice serve: 127\.0\.0\.1:1: Permission denied$' "${nobody[@]}" "$sluice" serve 127.0.0.1:1
        fails '^sluice cat: 127\.0\.0\.1:1: Permission denied$' "${nobody[@]}" "$sluice" cat --listen 127.0.0.1:1
    else
        leave_out "low ports: here everybody may listen on them"
    fi
    mkdir closed
    serve "unix:$folder/closed/socket"
    chmod 500 closed
    fails "^sluice serve: unix:$folder/closed/other: Permission denied$" \
        "${nobody[@]}" "$sluice" serve "unix:$folder/closed/other"
    chmod 000 closed
    fails "^sluice cat: unix:$folder/closed/socket: Permission denied$" \
        "${nobody[@]}" "$sluice" cat "unix:$folder/closed/socket"
    fails "^sluice load: unix:$folder/closed/socket: .*Permission denied" \
        "${nobody[@]}" "$sluice" load "unix:$folder/closed/socket"
    chmod 700 closed
    interrupt_server
else
    leave_out "permissions: no other user may run $sluice"
fi

# -- What cannot be reached -------------------------------------------------------------------------------------

if unshare --net true 2>/dev/null; then
    # A network of its own, in which there is nothing but this process.
    fails '^sluice cat: 192\.0\.2\.1:9: Network is unreachable$' unshare --net "$sluice" cat 192.0.2.1:9
    fails '^sluice load: 192\.0\.2\.1:9: .*Network is unreachable$' unshare --net "$sluice" load 192.0.2.1:9
else
    leave_out "unreachable networks: no network of our own"
fi
fails '^sluice serve: 192\.0\.2\.1:0: Cannot assign requested address$' "$sluice" serve 192.0.2.1:0
touch file
fails "^sluice cat: unix:$folder/file: Connection refused$" "$sluice" cat "unix:$folder/file"
fails "^sluice serve: unix:$folder/file: Address already in use$" "$sluice" serve "unix:$folder/file"
claim "a file that is no socket stays" test -f file

# -- Limits -----------------------------------------------------------------------------------------------------

fails '^sluice serve: .*no more descriptors \(RLIMIT_NOFILE = 12\): raise it \(ulimit -n' \
    bash -c 'ulimit -n 12; exec "$0" serve --threads 8 127.0.0.1:0' "$sluice"
serve 127.0.0.1:0
timeout 30 bash -c 'ulimit -n 20; exec "$0" load "$1" --connections 50 --duration 100ms' "$sluice" "$address" \
    >output 2>errors </dev/null
claim "more connections than descriptors is a failure" equal $? 1
claim "which it says in one line" one_line errors
claim "with the reason" matches "$(cat errors)" "^sluice load: $address: .*no more descriptors: raise the limit \(ulimit -n\)"
interrupt_server
claim "and the server does not mind" equal $status 0

for verb in 'cat unix:@nobody' 'serve 127.0.0.1:0' 'load 127.0.0.1:1' bench tune; do
    # shellcheck disable=SC2086 # each verb with its address
    fails '^sluice [a-z]+: .*SLUICE_THREAD_CPU.*a CPU that is online' env SLUICE_THREAD_CPU=1023 "$sluice" $verb
done

# -- io_uring refused, told apart -------------------------------------------------------------------------------

# `refused_by PATTERN COMMAND...` for each verb that needs a ring.
refused_by() {
    local pattern=$1
    shift
    fails "^sluice cat: $pattern" "$@" "$sluice" cat unix:@nobody
    fails "^sluice serve: $pattern" "$@" "$sluice" serve 127.0.0.1:0
    fails "^sluice load: $pattern" "$@" "$sluice" load 127.0.0.1:1
    fails "^sluice bench: $pattern" "$@" "$sluice" bench
    fails "^sluice tune: $pattern" "$@" "$sluice" tune
    timeout 30 "$@" "$sluice" doctor >output 2>errors </dev/null
    claim "doctor fails as well: $*" equal $? 1
    claim "doctor says so: $*" grep -qE "$pattern" output errors
}

if "$deny" EPERM true 2>errors; then
    refused_by 'a seccomp filter forbids io_uring.*allow io_uring_setup' "$deny" EPERM
    refused_by 'io_uring is hidden from this process, most likely by its seccomp filter' "$deny" ENOSYS
    if $can_be_nobody; then
        # Newer kernels lock no memory for rings: the filter says what an older one would.
        refused_by '.*RLIMIT_MEMLOCK = 0 KiB.*ulimit -l' \
            "${nobody[@]}" bash -c 'ulimit -l 0; exec "$@"' without-memory "$deny" ENOMEM
    fi
else
    leave_out "seccomp: no filter may be installed here"
fi
if $can_be_nobody; then
    # Truly without memory to lock: it works, or says why not.
    "${nobody[@]}" bash -c 'ulimit -l 0; exec "$0" bench --connections 1 --warmup 0 --duration 50ms' "$sluice" \
        >output 2>errors </dev/null
    status=$?
    claim "no memory to lock: works or fails" matches $status '^[01]$'
    if [ $status = 1 ]; then
        claim "no memory to lock: one line" one_line errors
        claim "no memory to lock: the reason" grep -q 'RLIMIT_MEMLOCK = 0 KiB' errors
    else
        claim "no memory to lock: no complaint" empty errors
    fi
fi
# For everybody on this machine, so only if that was asked for.
if [ -n "${TEST_SYSCTL-}" ] && [ -w $disabled ] && [ "$disabled_before" = 0 ]; then
    echo 2 >$disabled
    refused_by 'io_uring is switched off on this system \(kernel.io_uring_disabled = 2\).*sysctl kernel.io_uring_disabled=0'
    echo 1 >$disabled
    if $can_be_nobody; then
        refused_by 'io_uring is for administrators and one group here \(kernel.io_uring_disabled = 1' "${nobody[@]}"
    fi
    echo "$disabled_before" >$disabled
else
    leave_out "sysctl: needs TEST_SYSCTL=1, as it concerns everybody on this machine; and the right to write it"
fi

# -- curl -------------------------------------------------------------------------------------------------------

if command -v curl >/dev/null; then
    serve 127.0.0.1:0
    mkfifo input heard
    timeout 20 curl --silent --no-buffer "telnet://$address" <input >heard 2>errors &
    curl=$!
    started+=("$curl")
    exec 4>input 6<heard
    rm input heard
    echo hello >&4
    read -r -t 10 line <&6
    claim "curl: brings back a line" equal "$line" hello
    exec 4>&-
    interrupt_server
    claim "curl: serve ends well" equal $status 0
    await "$curl"
    exec 6<&-
    claim "curl: and so it does not have to be killed" test $status -ne 124
else
    leave_out "curl: it is not installed"
fi

# -- Who dies ---------------------------------------------------------------------------------------------------

# At any moment after the connections stand.
serve 127.0.0.1:0
for _ in 1 2 3 4 5; do
    start_load --depth 8 --size 10000
    await_connections 8
    sleep 0.0$((RANDOM % 9))
    kill -KILL "$load"
    await "$load"
    echo hello | timeout 20 "$sluice" cat "$address" >output 2>errors
    claim "the server outlives its clients" equal "$(cat output)" hello
done
interrupt_server
claim "a server whose clients were killed ends well" equal $status 0
claim "and has nothing to complain of" empty server.errors

for _ in 1 2 3 4 5; do
    serve 127.0.0.1:0
    start_load --depth 8 --size 10000
    await_connections 8
    sleep 0.0$((RANDOM % 9))
    kill -KILL "$server"
    await "$load"
    claim "a load whose server was killed is a failure" equal $status 1
    claim "it says so in one line" one_line errors
    claim "with the reason" matches "$(cat errors)" \
        "^sluice load: $address: .*(Connection reset by peer|ended by the server|Broken pipe|Connection refused)"
    await "$server"
    wait "$reader"
done

# Ending with unread bytes is a reset.
serve sink 127.0.0.1:0
timeout 20 "$sluice" cat "$address" </dev/zero >output 2>errors &
cat=$!
started+=("$cat")
await_connections 1
kill -KILL "$server"
await "$cat"
claim "cat: a reset in the middle is a failure" equal $status 1
claim "cat: in one line" one_line errors
claim "cat: with the reason" matches "$(cat errors)" "^sluice cat: $address: (Connection reset by peer|Broken pipe)$"
wait "$reader"

# -- Who never reads --------------------------------------------------------------------------------------------

# A server that stands still: its kernel accepts and stores what it can, nobody reads.
serve 127.0.0.1:0
kill -STOP "$server"
SLUICE_LINGER=300ms timeout 30 "$sluice" load "$address" --connections 2 --depth 64 --size 1M --warmup 0 \
    --duration 300ms >output 2>errors
claim "load: who is not answered ends" equal $? 1
claim "load: in one line" one_line errors
claim "load: with the number" matches "$(cat errors)" "^sluice load: $address: [0-9]* messages got no answer$"
kill -CONT "$server"
interrupt_server
claim "serve: goes on afterwards" equal $status 0

serve 127.0.0.1:0
kill -STOP "$server"
head -c 50000000 /dev/zero >bytes
SLUICE_IDLE_TIMEOUT=500ms timeout 30 "$sluice" cat "$address" <bytes >output 2>errors
claim "cat: to a peer that never reads ends" equal $? 1
claim "cat: in one line" one_line errors
claim "cat: with the reason" matches "$(cat errors)" "^sluice cat: $address: Connection timed out$"
kill -CONT "$server"
interrupt_server

# A client that never reads: the server goes on serving others, and ends when it is told to.
serve source 127.0.0.1:0
mkfifo input
"$sluice" cat "$address" <input >output 2>errors &
cat=$!
started+=("$cat")
exec 4>input
rm input
await_connections 1
kill -STOP "$cat"
timeout 20 "$sluice" cat "$address" </dev/null 2>errors | head -c 100000 >others
claim "serve: others are served" equal "$(wc -c <others)" 100000
interrupt_server
claim "serve: does not wait for who never reads" equal $status 0
kill -CONT "$cat"
exec 4>&-
await "$cat"
claim "cat: which is a failure for it" equal $status 1

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
