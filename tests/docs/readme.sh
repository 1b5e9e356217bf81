#!/bin/bash
# The program that README.md shows: as it stands there, compiled against an installed library alone, it echoes. So does
# the one of sluice(7), which is only compiled here.
# Usage: readme.sh BUILD_FOLDER SANITIZERS COMPILER...
# Installs into a folder of its own. Listens on one free port of 127.0.0.1.
set -u

build=$(realpath "$1")
sanitizers=$2
shift 2
compiler=("$@")
root=$(realpath "$(dirname "$0")/../..")
folder=$(mktemp -d)
server=
cd "$folder" || exit 1

finish() {
    if [ -n "$server" ]; then
        kill -KILL "$server"
        wait "$server"
    fi 2>/dev/null
    rm -rf "$folder"
}
trap finish EXIT

fail() {
    echo "readme.sh: $1" >&2
    exit 1
}

# -- As it stands there -----------------------------------------------------------------------------------------

sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '1d;$d' >shown.c
lines=$(wc -l <shown.c)
[ "$lines" -ge 10 ] && [ "$lines" -le 25 ] || fail "the program has $lines lines; 25 are promised"
sed -n '/^\.EX$/,/^\.EE$/p' "$root/docs/man/sluice.7" | sed '1d;$d' >manual.c
grep -q 'int main' manual.c || fail "sluice(7) shows no program"
grep -q '"127.0.0.1:7000"' shown.c || fail "the program does not listen on 127.0.0.1:7000"

# -- Against what is installed ----------------------------------------------------------------------------------

meson install -C "$build" --no-rebuild --destdir "$folder/root" >install.log 2>&1 || fail "$(cat install.log)"
pc=$(find root -name sluice.pc)
[ -n "$pc" ] || fail "no sluice.pc was installed"
export PKG_CONFIG_SYSROOT_DIR=$folder/root
export PKG_CONFIG_PATH=$folder/${pc%/*}
libraries=$folder/root$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=libdir sluice)
read -r -a flags < <(pkg-config --cflags --libs sluice)
[ "$sanitizers" = none ] || flags+=("-fsanitize=$sanitizers")

# Usage: compile PROGRAM
compile() {
    "${compiler[@]}" -Wall -Werror "$1.c" "${flags[@]}" -o "$1" || fail "$1.c does not compile"
}

# For a port: somebody else on this machine may have 7000.
compile_for() {
    sed "s/127\.0\.0\.1:7000/127.0.0.1:$1/" shown.c >echo.c
    compile echo
}

compile manual

# -- And talked to ----------------------------------------------------------------------------------------------

can_connect() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Runs it on the port. Fails if it ends, as when somebody else has the port.
start() {
    can_connect "$1" && return 1
    compile_for "$1"
    LD_LIBRARY_PATH=$libraries ./echo &
    server=$!
    for _ in $(seq 500); do
        kill -0 $server 2>/dev/null || { server= && return 1; }
        can_connect "$1" && return 0
        sleep 0.02
    done
    fail "it does not listen"
}

port=7000
until start $port; do
    port=$((port + 1))
    [ $port -lt 7020 ] || fail "it does not run"
done

exec 3<>"/dev/tcp/127.0.0.1/$port" || fail "it does not accept"
echo "hello, stream" >&3
read -r -t 20 answer <&3
[ "$answer" = "hello, stream" ] || fail "its answer is \"$answer\""
exec 3<&-

# More than fits in between: it has to stop reading while it is not read. The half-close is answered by one.
if command -v nc >/dev/null && nc -h 2>&1 | grep -q '^.*-N'; then
    head -c 30000000 /dev/urandom >question
    timeout 60 nc -N 127.0.0.1 "$port" <question >answer || fail "it does not end what the peer has ended"
    cmp question answer || fail "it does not send back what it was sent"
fi
kill -0 $server 2>/dev/null || fail "it has ended by itself"
