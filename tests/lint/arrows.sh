#!/bin/sh
# Who may include whom, and how files begin. Every breach is one line: file, line, what is wrong.
set -eu
cd "$(dirname "$0")/../.."
. tests/lint/files.sh
breaches=0

# Lines of the form file:line:text on standard input are breaches of the rule given.
breach() {
    while IFS= read -r line; do
        printf '%s   <- %s\n' "$line" "$1"
        breaches=$((breaches + 1))
    done
}

# Includes in a folder whose target does not match the pattern.
includes_besides() {
    folder=$1
    allowed=$2
    c_files "$folder" | xargs -r grep -nHE '^[[:space:]]*#[[:space:]]*include' |
        grep -vE "include[[:space:]]+$allowed" || true
}

# Angle brackets are for the system's headers and our public ones; inside, paths start at the root.
system='<(sluice/[a-z_]+\.h|[^/>]+|(arpa|asm|linux|net|netinet|openssl|sys)/[^/>]+)>'
foreign='<([^/>]+|(arpa|asm|linux|net|netinet|openssl|sys)/[^/>]+)>'
without_liburing='<(sluice/[a-z_]+\.h|[^/>]+|(arpa|asm|linux|net|netinet|openssl|sys)/[^/>]+)>'

breaches_file=$(mktemp)
trap 'rm -f "$breaches_file"' EXIT
{
    includes_besides include "$system" | breach 'public headers include public ones and the system'"'"'s'
    includes_besides tools "($system|\"tools/)" | breach 'tools/ sees include/sluice and itself'
    includes_besides perf "($system|<event2/[a-z_]+\.h>|\"perf/|\"tools/(clock|histogram|json|units)\.h\")" |
        breach 'perf/ sees include/sluice, itself, what is compared, and how tools measure and report'
    includes_besides uring "($foreign|\"uring/)" | breach 'uring/ knows nothing of streams'
    includes_besides engine "($without_liburing|\"engine/|\"uring/(ring|buffers|probe)\.h\")" |
        breach 'engine/ sees the kernel through uring/ring.h, buffers.h and probe.h only'
    includes_besides engine/layers "($without_liburing|\"engine/)" | breach 'layers see streams only'
    c_files engine/layers | xargs -r grep -nHE '"engine/(socket_stream|fd_stream|operation|lease)\.h"|\<ring_[a-z_]+' |
        breach 'layers name no transport and no ring'
    c_files | while IFS= read -r file; do
        head -n 1 "$file" | grep -q '^/\*' || echo "$file:1:$(head -n 1 "$file")"
    done | breach 'a file says first what it is, in a comment'
} >"$breaches_file"

cat "$breaches_file"
[ ! -s "$breaches_file" ]
