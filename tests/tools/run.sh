#!/bin/bash
# The `sluice` command from outside: what it says, what it refuses, what it moves, and how it ends.
# Usage: run.sh SLUICE, the command as built. Uses free ports of 127.0.0.1 and Unix sockets, nothing else.
set -u

sluice=$(realpath "$1")
folder=$(mktemp -d)
passed=0
failed=0
started=()
cd "$folder" || exit 1
unset "${!SLUICE_@}"

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

equal() { [ "$1" = "$2" ]; }
matches() { [[ $1 =~ $2 ]]; }
one_line() { [ "$(wc -l <"$1")" = 1 ]; }
near() { [ "$1" -ge $(($2 - 2)) ] && [ "$1" -le $(($2 + 2)) ]; }
empty() { [ ! -s "$1" ]; }
is_json() { ! command -v python3 >/dev/null || python3 -c 'import json, sys; [json.loads(l) for l in open(sys.argv[1])]' "$1"; }

# The number that stands behind a name in JSON.
member() { grep -o "\"$2\": [0-9.]*" "$1" | tail -n 1 | sed 's/.*: //'; }

# -- Processes --------------------------------------------------------------------------------------------------

finish() {
    for pid in "${started[@]}"; do
        kill -CONT "$pid" 2>/dev/null
        kill -KILL "$pid" 2>/dev/null
    done
    rm -rf "$folder"
}
trap finish EXIT

# Runs the command to its end. Leaves `status`, and the files `output` and `errors`.
run() {
    timeout 30 "$sluice" "$@" >output 2>errors </dev/null
    status=$?
}

# `await PID` leaves its exit status in `status`; 137 if it had to be killed.
await() {
    timeout 15 tail --pid="$1" -s 0.02 -f /dev/null || kill -KILL "$1"
    wait "$1" 2>/dev/null
    status=$?
}

# Starts a server. Leaves `server`, its pid, `address`, where it listens, and `totals`, the file it writes on.
serve() {
    totals=totals.$RANDOM
    mkfifo lines
    "$sluice" serve "$@" >lines 2>errors &
    server=$!
    started+=("$server")
    exec 3<lines
    rm lines
    read -r -t 10 address <&3
    address=${address#listening on }
    address=${address#\{\"listening\": \"}
    address=${address%\"\}}
    cat <&3 >"$totals" &
    reader=$!
    exec 3<&-
}

# Interrupts the server and waits for it. Leaves `status`.
interrupt_server() {
    kill "${1:--INT}" "$server"
    await "$server"
    wait "$reader"
}

# -- Help and version -------------------------------------------------------------------------------------------

for verb in '' bench cat doctor load serve tune; do
    # shellcheck disable=SC2086 # no verb is no word
    run $verb --help
    claim "help of '$verb' is no failure" equal $status 0
    claim "help of '$verb' is on stdout" matches "$(head -n 1 output)" "^Usage: sluice"
    claim "help of '$verb' is not on stderr" empty errors
done
for verb in bench cat doctor load serve tune; do
    run $verb --help
    claim "help of $verb has an example" grep -q '^Example:' output
done
run load 127.0.0.1:1 --rate abc --help
claim "help comes before complaints" equal $status 0
run --version
claim "the version is told" matches "$(cat output)" '^sluice [0-9]+\.[0-9]+\.[0-9]+$'

# -- What is refused --------------------------------------------------------------------------------------------

# `refused PATTERN ARGUMENTS...`: exit status 2, nothing on stdout, and one line on stderr that matches.
refused() {
    local pattern=$1
    shift
    run "$@"
    claim "refused: $*" equal $status 2
    claim "refused without output: $*" empty output
    claim "refused in one line: $*" one_line errors
    claim "refused with the reason: $*" matches "$(cat errors)" "$pattern"
}

refused '^sluice: no verb given; .*bench.*serve'
refused '^sluice: "frobnicate" is not a verb; .*bench.*serve' frobnicate
refused '^sluice load: ADDRESS is missing' load
refused '^sluice load: ADDRESS: .*nonsense' load nonsense
refused '^sluice load: ADDRESS: .*99999' load 127.0.0.1:99999
refused '^sluice load: --rate: "abc" is not a number from 1 to 100000000$' load 127.0.0.1:1 --rate abc
refused '^sluice load: --rate: "0" is not a number from 1' load 127.0.0.1:1 --rate=0
refused '^sluice load: --rate: the value is missing; it is a number' load 127.0.0.1:1 --rate
refused '^sluice load: --connections: "-1" is not a number' load 127.0.0.1:1 --connections -1
refused '^sluice load: --connections: "99999999999999999999" is not' load 127.0.0.1:1 --connections 99999999999999999999
refused '^sluice load: --size: "17M" is not a size from 1 to 16M' load 127.0.0.1:1 --size 17M
refused '^sluice load: --depth: "" is not a number' load 127.0.0.1:1 --depth=
refused '^sluice load: --duration: "10" is not a time from 1ms .*us, ms, s' load 127.0.0.1:1 --duration 10
refused '^sluice load: --server-pid: "0" is not a number from 1 to 4194304$' load 127.0.0.1:1 --server-pid 0
refused '^sluice load: --server-pid: "4194304" is not a process that runs here$' load 127.0.0.1:1 --server-pid 4194304
refused '^sluice load: --frob is not an option' load 127.0.0.1:1 --frob=3
refused '^sluice load: --json: "yes" is one value too many' load 127.0.0.1:1 --json=yes
refused '^sluice load: "more" is one word too many' load 127.0.0.1:1 more
refused '^sluice cat: -x is not an option' cat -x
refused '^sluice bench: --unix: .*--tcp' bench --tcp --unix
refused '^sluice serve: --threads: "257" is not a number from 1 to 256' serve 127.0.0.1:0 --threads 257
refused '^sluice serve: --threads: "2" is too many for chat' serve chat 127.0.0.1:0 --threads 2
refused '^sluice serve: SERVICE: "fax" is not one of echo, sink, source, chat' serve fax 127.0.0.1:0
refused '^sluice tune: --for: "speed" is not one of throughput, latency, tail, cpu$' tune --for speed
refused '^sluice tune: --plot: "gains.png" is not a name that ends in .svg or .html$' tune --plot gains.png
refused '^sluice tune: --rounds: "0" is not a number from 1 to 1000$' tune --rounds 0
refused '^sluice tune: --duration: "61s" is not a time from 1ms to 60s' tune --duration 61s
refused '^sluice tune: --: the command is missing' tune --
refused '^sluice tune: --unix: .*command' tune --unix -- true
refused '^sluice tune: "more" is one word too many' tune more
refused '^sluice load: --rate: "a.b" is not a number' load 127.0.0.1:1 --rate $'a\nb'
for verb in bench 'cat 127.0.0.1:1' doctor 'load 127.0.0.1:1' 'serve 127.0.0.1:0' tune; do
    # shellcheck disable=SC2086 # a verb and its operand
    SLUICE_RING_ENTRIES=three refused 'SLUICE_RING_ENTRIES.*three' $verb
    # shellcheck disable=SC2086
    SLUICE_FROB=1 refused 'SLUICE_FROB' $verb
done

# -- What the world does not let us do --------------------------------------------------------------------------

# `fails PATTERN ARGUMENTS...`: exit status 1 and one line on stderr that matches.
fails() {
    local pattern=$1
    shift
    run "$@"
    claim "fails: $*" equal $status 1
    claim "fails in one line: $*" one_line errors
    claim "fails with the reason: $*" matches "$(cat errors)" "$pattern"
}

fails 'sluice cat: unix:/nowhere/at/all: No such file' cat unix:/nowhere/at/all
fails 'sluice load: unix:@sluice-nobody: Connection refused' load unix:@sluice-nobody
fails 'sluice serve: unix:/nowhere/at/all: No such file' serve unix:/nowhere/at/all
serve 127.0.0.1:0
fails "sluice serve: $address: Address already in use" serve "$address"
fails "sluice cat: $address: Address already in use" cat --listen "$address"
timeout 10 "$sluice" cat "$address" 2>errors <&-
claim "a standard input that is not open is a failure" equal $? 1
claim "and a line says so" matches "$(cat errors)" '^sluice cat: standard input: Bad file descriptor$'
echo hello | timeout 10 "$sluice" cat "$address" 2>errors >&-
claim "a standard output that is not open is a failure" equal $? 1
claim "and a line says so, too" matches "$(cat errors)" '^sluice cat: standard output: Bad file descriptor$'
interrupt_server
fails "sluice cat: $address: Connection refused" cat "$address"
timeout 10 "$sluice" doctor >/dev/full 2>errors
claim "results that cannot be written are a failure" equal $? 1
claim "and a line says so" matches "$(cat errors)" '^sluice: standard output: No space left'

# -- Echo over each kind of address -----------------------------------------------------------------------------

head -c 3000000 /dev/urandom >bytes
addresses=(127.0.0.1:0 "unix:$folder/socket" "unix:@sluice-test-$$")
if grep -qs ' lo$' /proc/net/if_inet6; then addresses+=('[::1]:0'); fi
for wanted in "${addresses[@]}"; do
    serve echo "$wanted" --json
    claim "$wanted: serves" matches "$address" '^(127\.0\.0\.1:[1-9]|\[::1\]:[1-9]|unix:)'
    run load "$address" --connections 4 --depth 3 --size 1000 --warmup 50ms --duration 200ms --json
    claim "$wanted: load ends well" equal $status 0
    claim "$wanted: load prints JSON" is_json output
    claim "$wanted: load loses no connection" equal "$(member output errors)" 0
    claim "$wanted: load gets every answer" equal "$(member output unanswered)" 0
    claim "$wanted: load counts messages" test "$(member output messages)" -gt 0
    timeout 20 "$sluice" cat "$address" <bytes >output 2>errors
    claim "$wanted: cat ends well" equal $? 0
    claim "$wanted: cat brings every byte back" cmp bytes output
    interrupt_server
    claim "$wanted: serve ends well" equal $status 0
    claim "$wanted: serve prints JSON" is_json "$totals"
    claim "$wanted: serve counts connections" equal "$(member "$totals" connections)" 5
    claim "$wanted: serve counts bytes" test "$(member "$totals" bytes_received)" -ge 3000000
    claim "$wanted: serve sent what it received" equal "$(member "$totals" bytes_sent)" "$(member "$totals" bytes_received)"
done
claim "the path of a Unix socket is gone" test ! -e socket

serve 127.0.0.1:0 --threads 2
run load "$address" --connections 16 --rate 2000 --warmup 0 --duration 300ms --json
claim "open loop against two threads" equal $status 0
expected=$(($(member output measured_ns) * 2000 / 1000000000))
claim "open loop sends what the schedule says" near "$(member output count)" "$expected"
# A load that is held up itself must not hide it: what it sends late was due all the same, and counts from then.
"$sluice" load "$address" --rate 10000 --warmup 0 --duration 1s --json >output 2>errors &
load=$!
started+=("$load")
sleep 0.6
kill -STOP "$load"
sleep 0.7
kill -CONT "$load"
await "$load"
claim "open loop: late is late" test "$(member output p90)" -gt 200000000
claim "open loop: late is sent" equal "$(member output unanswered)" 0
expected=$(($(member output measured_ns) / 100000))
claim "open loop: late shifts nothing" near "$(member output count)" "$expected"
run load "$address" --server-pid "$server" --connections 4 --warmup 50ms --duration 300ms --json
claim "the server's CPU time can be asked for" equal $status 0
claim "the server's CPU time is told" test "$(member output server_cpu_ns)" -gt 0
spent=$(($(member output server_cpu_ns) / $(member output messages)))
claim "and so is that of a message" near "$(member output server_cpu_ns_per_message | sed 's/\..*//')" "$spent"
run load "$address" --server-pid $$ --warmup 0 --duration 200ms
claim "the CPU time of who does nothing is next to nothing" grep -qE '^CPU of server .* [01] % of a CPU$' output
run load "$address" --warmup 0 --duration 50ms
claim "the server's CPU time is told to who asks" test "$(grep -c '^CPU of server' output)" = 0
run load "$address" --size 1M --depth 4 --warmup 0 --duration 300ms
claim "messages larger than every buffer" equal $status 0
# A percentile with fewer than ten values above it is not told.
claim "too few for a percentile" grep -q '99.99 % *-$' output
interrupt_server -TERM
claim "SIGTERM ends as well" equal $status 0
claim "with the totals" grep -q '^connections   24$' "$totals"

# Below the limit two received buffers fit, and a third is refused before the high mark is reached; or not even one.
export SLUICE_SEND_HIGH_MARK=40K SLUICE_SEND_LIMIT=40K
for SLUICE_RECEIVE_BUFFER_SIZE in 16K 64K; do
    export SLUICE_RECEIVE_BUFFER_SIZE
    serve echo "unix:@sluice-test-$$" --json
    timeout 20 "$sluice" cat "$address" <bytes >output 2>errors
    claim "refused views of $SLUICE_RECEIVE_BUFFER_SIZE are sent later" equal $? 0
    claim "refused views of $SLUICE_RECEIVE_BUFFER_SIZE are not lost" cmp bytes output
    interrupt_server
done
unset SLUICE_SEND_HIGH_MARK SLUICE_SEND_LIMIT SLUICE_RECEIVE_BUFFER_SIZE

# Nobody reads what comes back, so soon nobody may read what goes out: neither cat nor serve.
serve echo "unix:@sluice-test-$$" --json
mkfifo unread
"$sluice" cat "$address" </dev/zero >unread 2>errors &
cat=$!
started+=("$cat")
exec 6<unread
rm unread
sleep 0.5
interrupt_server
exec 6<&-
await "$cat"
claim "who is not read from stops reading" test "$(member "$totals" bytes_received)" -lt 4000000

# -- The other services -----------------------------------------------------------------------------------------

serve sink "unix:@sluice-sink-$$" --json
timeout 20 "$sluice" cat "$address" <bytes >output 2>errors
claim "sink: cat ends well" equal $? 0
claim "sink: nothing comes back" empty output
run load "$address" --warmup 0 --duration 50ms --json
claim "sink: no answer is a failure of load" equal $status 1
claim "sink: which it says" matches "$(cat errors)" "^sluice load: $address: 1 messages got no answer$"
claim "sink: and there is no maximum" grep -q '"max": null' output
interrupt_server
claim "sink: counts" equal "$(member "$totals" bytes_received)" 3000064

serve source 127.0.0.1:0
for copy in one two; do
    timeout 20 "$sluice" cat "$address" </dev/null 2>errors | head -c 2000000 >$copy
done
claim "source: sends" equal "$(wc -c <one)" 2000000
claim "source: sends the same to all" cmp one two
run load "$address" --warmup 0 --duration 1s
claim "source: what was not sent is a data error" equal $status 1
claim "source: which load says" matches "$(tail -n 1 errors)" "^sluice load: $address: connection 0: data error"
interrupt_server
claim "source: ends well" equal $status 0

# Starts two members and waits until they hear each other. What is written to 4 the first one says; what is written to
# 5 the second one says, and hears on 6. Leaves `first` and `second`, their pids.
start_members() {
    mkfifo input.first input.second heard.second
    "$sluice" cat "$address" <input.first >heard.first 2>errors &
    first=$!
    exec 4>input.first
    "$sluice" cat "$address" <input.second >heard.second 2>errors 4>&- &
    second=$!
    exec 5>input.second 6<heard.second
    started+=("$first" "$second")
    rm input.first input.second heard.second
    for _ in $(seq 100); do
        echo hello >&4
        if read -r -t 0.1 line <&6; then break; fi
    done
}

serve chat "unix:@sluice-chat-$$" --json
start_members
claim "chat: others hear" equal "$line" hello
exec 4>&-
await "$first"
claim "chat: who leaves ends well" equal $status 0
claim "chat: nobody hears itself" empty heard.first
exec 5>&- 6<&-
await "$second"
claim "chat: so does the last" equal $status 0
interrupt_server
claim "chat: drops nobody who reads" equal "$(member "$totals" dropped)" 0

export SLUICE_SEND_LIMIT=256K
serve chat "unix:@sluice-chat-$$" --json
unset SLUICE_SEND_LIMIT
start_members
kill -STOP "$first"
timeout 10 cat bytes >&5
exec 5>&- 6<&-
await "$second"
claim "chat: a speaker need not wait for slow readers" equal $status 0
interrupt_server
claim "chat: and they are dropped" equal "$(member "$totals" dropped)" 1
kill -CONT "$first"
exec 4>&-
await "$first"

# Starts a cat to an echo server, and leaves when it has brought back what was written to 4, on 6. Leaves `cat`, its pid.
open_cat() {
    mkfifo input heard
    "$sluice" cat "$address" <input >heard 2>errors &
    cat=$!
    started+=("$cat")
    exec 4>input 6<heard
    rm input heard
    echo hello >&4
    read -r -t 10 line <&6
    claim "cat: brings back a line at once" equal "$line" hello
}

# -- Ctrl-C -----------------------------------------------------------------------------------------------------

serve 127.0.0.1:0
"$sluice" load "$address" --warmup 0 --duration 60s >output 2>errors &
load=$!
started+=("$load")
sleep 1
kill -INT "$load"
await "$load"
claim "load: Ctrl-C ends well" equal $status 0
claim "load: with a summary" grep -q '^answers  *[1-9]' output
claim "load: and no complaint" empty errors
timeout 20 "$sluice" cat "localhost:${address##*:}" <bytes >output 2>errors
claim "cat: a name will do" cmp bytes output
open_cat
kill -INT "$cat"
await "$cat"
exec 4>&- 6<&-
claim "cat: Ctrl-C leaves it unfinished" equal $status 1
open_cat
interrupt_server
claim "serve: Ctrl-C ends well" equal $status 0
claim "serve: with a summary" grep -q '^connections   4$' "$totals"
await "$cat"
exec 4>&- 6<&-
claim "cat: a reset is a failure" equal $status 1
claim "cat: which it says" matches "$(cat errors)" "^sluice cat: $address: Connection reset by peer$"
serve sink 127.0.0.1:0
"$sluice" load "$address" --duration 60s >output 2>errors &
load=$!
started+=("$load")
sleep 0.3
kill -INT "$load" # from here on it waits for an answer that will not come
sleep 0.2
kill -INT "$load"
await "$load"
claim "load: a second Ctrl-C ends it at once" equal $status 130
interrupt_server

# -- cat and others ---------------------------------------------------------------------------------------------

# Starts `sluice cat --listen` with `bytes` as its input. Leaves `cat`, its pid, and `port`.
listen() {
    mkfifo lines
    "$sluice" cat --listen 127.0.0.1:0 <bytes >received 2>lines &
    cat=$!
    started+=("$cat")
    exec 3<lines
    rm lines
    read -r -t 10 address <&3
    port=${address##*:}
}

head -c 2000000 /dev/urandom >other
listen
timeout 20 "$sluice" cat "127.0.0.1:$port" <other >output 2>errors
claim "cat to cat: ends well" equal $? 0
await "$cat"
claim "cat to cat: so does the other" equal $status 0
claim "cat to cat: one way" cmp other received
claim "cat to cat: the other way" cmp bytes output

if command -v nc >/dev/null; then
    listen
    timeout 20 nc -N 127.0.0.1 "$port" <other >output
    await "$cat"
    claim "cat and nc: ends well" equal $status 0
    claim "cat and nc: cat to nc" cmp bytes output
    claim "cat and nc: nc to cat" cmp other received
fi

if command -v socat >/dev/null; then
    # It answers only when it has seen our end, so our end must not be the end of its answer.
    timeout 20 socat "UNIX-LISTEN:$folder/answer" 'SYSTEM:cat >received; cat bytes' 2>/dev/null &
    socat=$!
    started+=("$socat")
    until [ -S answer ]; do sleep 0.02; done
    timeout 20 "$sluice" cat "unix:$folder/answer" <other >output 2>errors
    claim "cat and socat: our end comes first" equal $? 0
    claim "cat and socat: cat to socat" cmp other received
    claim "cat and socat: socat to cat" cmp bytes output
    await "$socat"

    # It changes every byte.
    printf '%s\n' 'LC_ALL=C tr "\000-\377" "\001-\377\000"' >change
    timeout 20 socat "UNIX-LISTEN:$folder/wrong" 'EXEC:sh change' 2>/dev/null &
    socat=$!
    started+=("$socat")
    until [ -S wrong ]; do sleep 0.02; done
    fails "^sluice load: unix:$folder/wrong: connection 0: data error: byte 0 came back as 0x.., not 0x..$" \
        load "unix:$folder/wrong" --size 64K --warmup 0 --duration 10s
    await "$socat"

    # It ends while our input is still open.
    mkfifo input
    exec 4<>input
    timeout 20 socat -u OPEN:bytes "UNIX-LISTEN:$folder/push" 2>/dev/null &
    socat=$!
    started+=("$socat")
    until [ -S push ]; do sleep 0.02; done
    timeout 20 "$sluice" cat "unix:$folder/push" <input >output 2>errors
    claim "cat and socat: its end comes first" equal $? 0
    claim "cat and socat: everything before it is printed" cmp bytes output
    exec 4>&-
    await "$socat"
fi

serve 127.0.0.1:0
head -c 30000000 /dev/zero | timeout 20 "$sluice" cat "$address" 2>errors | (sleep 1 && cat) | cksum >sums
head -c 30000000 /dev/zero | cksum >expected
claim "cat: a slow reader of stdout loses nothing" cmp sums expected
timeout 20 "$sluice" cat "$address" </dev/zero 2>errors | head -c 100000 >output
claim "cat: a closed stdout is a failure" equal "${PIPESTATUS[0]}" 1
claim "cat: which it says" matches "$(cat errors)" '^sluice cat: standard output: Broken pipe$'
timeout 20 "$sluice" cat "$address" <"$folder" >output 2>errors
claim "cat: a folder is no input" equal $? 1
claim "cat: which it says" matches "$(cat errors)" '^sluice cat: standard input: '
interrupt_server

# -- doctor and bench -------------------------------------------------------------------------------------------

run doctor
claim "doctor: io_uring works here" equal $status 0
claim "doctor: tells the kernel" grep -q "^kernel .*$(uname -r)" output
claim "doctor: tells whether there are probes" grep -qE '^probes +(built in|not built in)' output
claim "doctor: lists settings" grep -q '^SLUICE_RING_ENTRIES *256 *default' output
SLUICE_DISABLE=zero_copy SLUICE_RING_ENTRIES=64 run doctor
claim "doctor: tells what is switched off" grep -q '^zero_copy *switched off by SLUICE_DISABLE$' output
claim "doctor: tells what the environment says" grep -q '^SLUICE_RING_ENTRIES *64 *environment' output
run doctor --json
claim "doctor: prints JSON" is_json output
(ulimit -n 256 && timeout 10 "$sluice" doctor) >output 2>errors
claim "doctor: warns of few descriptors" grep -q '^warning: .* 256 descriptors.*ulimit -n' output

for transport in --tcp --unix; do
    run bench $transport --connections 4 --warmup 50ms --duration 200ms
    claim "bench $transport" equal $status 0
    claim "bench $transport: tells the server's share" grep -q '^CPU of server  *[0-9].* a message' output
    run bench $transport --rate 1000 --warmup 50ms --duration 200ms --json
    claim "bench $transport, open loop" equal $status 0
    claim "bench $transport prints JSON" is_json output
    claim "bench $transport: gets every answer" equal "$(member output unanswered)" 0
done

# -- tune -------------------------------------------------------------------------------------------------------

is_xml() { ! command -v python3 >/dev/null || python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$1"; }
is_environment() { ! grep -qvE '^(#.*|SLUICE_[A-Z_]+=[A-Za-z0-9_,]+)$' "$1"; }
tried() { grep -qE "^# +[-+][0-9.]+ % .*[0-9] (messages/s|us|ns)  SLUICE_$1(  \(won\))?$" output; }

# One round of trials too short to tell anything: what it finds is chance, how it tells it is not.
export SLUICE_RING_ENTRIES=128 SLUICE_COMPLETION_ENTRIES=512
run tune --connections 4 --duration 20ms --rounds 1 --plot gains.svg
unset SLUICE_RING_ENTRIES SLUICE_COMPLETION_ENTRIES
claim "tune ends well" equal $status 0
claim "tune: no complaint" empty errors
claim "tune: an environment file" is_environment output
claim "tune: tells the default" grep -qE '^# the default: [0-9]+ messages/s ' output
for setting in RECEIVE_BUFFER_SIZE=32K BUSY_POLL=50us SEND_HIGH_MARK=1M RING_ENTRIES=256 DISABLE=inline_send; do
    claim "tune: tries $setting" tried $setting
done
claim "tune: the default is not tried against itself" test "$(grep -c 'SLUICE_RECEIVE_BUFFER_SIZE=64K' output)" = 0
claim "tune: what cannot be set is skipped, with the reason" grep -qE \
    '^# +not measured  SLUICE_RING_ENTRIES=1024: SLUICE_COMPLETION_ENTRIES=512: must be at least SLUICE_RING_ENTRIES' output
claim "tune: so is what makes no difference here" grep -qE '^# +not measured  SLUICE_ZERO_COPY_MINIMUM=8K: no view' output
claim "tune: what the environment says stays" grep -qE '^SLUICE_COMPLETION_ENTRIES=512$' output
claim "tune: the plot is SVG" grep -q '^<svg ' gains.svg
claim "tune: the plot is XML" is_xml gains.svg
claim "tune: the plot shows every setting" test "$(grep -c 'class="name" .*>SLUICE_' gains.svg)" = 12
# shellcheck disable=SC2046 # a setting a word
env $(grep -v '^#' output) "$sluice" doctor >settings 2>errors
claim "tune: what it prints can be set" equal $? 0
claim "tune: and is in force then" grep -qE '^SLUICE_COMPLETION_ENTRIES *512 *environment' settings

run tune --unix --size 4K --depth 4 --for cpu --connections 1 --duration 20ms --rounds 1 --json --plot gains.html
claim "tune over Unix sockets ends well" equal $status 0
claim "tune prints JSON" is_json output
claim "tune: JSON tells what was asked" grep -q '"for": "cpu", "unit": "ns", "transport": "unix"' output
claim "tune: the plot is a page" grep -q '^<!doctype html>' gains.html
fails_to_start() { grep -q "^sluice tune: $1" errors && [ $status = 1 ] && [ ! -s output ]; }
run tune --plot nowhere/gains.svg
claim "tune: a plot that cannot be written is told at once" fails_to_start 'nowhere/gains.svg: No such file'
run tune --for tail --connections 1 --duration 1ms --rounds 1
claim "tune: too few messages are told" fails_to_start 'too few messages in that time; give it longer (--duration)'

# A server of somebody else's, which refuses a setting that the others allow.
cat >server <<END
if [ "\${SLUICE_BUSY_POLL-}" = 50us ]; then exit 1; fi
echo "\${SLUICE_SEND_HIGH_MARK-unset}" >>marks
exec "$sluice" serve 127.0.0.1:0
END
run tune --connections 1 --duration 20ms --rounds 1 -- sh server
claim "tune of a command ends well" equal $status 0
# Once, or once more each time that chance makes it win.
claim "tune of a command: sets what it tries" grep -q '^1M$' marks
claim "tune of a command: sets nothing else" test "$(grep -c '^unset$' marks)" -gt 30
claim "tune of a command: what it refuses is skipped" \
    grep -qE '^# +not measured  SLUICE_BUSY_POLL=50us: sh: it cannot be run, or ended before it said' output
run tune -- ./nowhere
claim "tune: a command that is none is told" fails_to_start '\./nowhere: it cannot be run, or ended before'
run tune -- echo hello
claim "tune: a command that is no server is told" fails_to_start 'echo: the first line that it prints is not "listening'

"$sluice" tune --connections 4 --duration 30ms --rounds 1000 >output 2>errors &
tune=$!
started+=("$tune")
# Each trial has a thread of its own. When so many have come, some are over, and were measured.
trials=
while [ -e "/proc/$tune/task" ] && [ "$(wc -w <<<"$trials")" -lt 6 ]; do
    trials=$(printf '%s\n' $trials $(ls "/proc/$tune/task" 2>/dev/null) | sort -u)
    sleep 0.01
done
kill -INT "$tune"
await "$tune"
claim "tune: Ctrl-C ends well" equal $status 0
claim "tune: with what was found so far" grep -q '^# Interrupted: this is what was found so far.$' output
claim "tune: which is an environment file, too" is_environment output
claim "tune: and has no complaint" empty errors

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
