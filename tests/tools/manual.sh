#!/bin/sh
# The manual page tells every verb, and every option in the words of --help, and no others. Usage: manual.sh SLUICE
set -eu
sluice=$(realpath "$1")
page=$(realpath "$(dirname "$0")/../../docs/man/sluice.1")

# The lines that the page should have on a verb's options: each one's name, then its text.
wanted() {
    "$sluice" "$1" --help | awk '
        /^  --/ {
            text = $0; sub(/^  --[^ ]+( [A-Z]+| [a-z]+(\|[a-z]+)+)? +/, "", text)
            name = $1; gsub(/-/, "\\-", name)
            print name; print text "."
        }'
}

# The page's section on a verb, with options without what they take.
section() {
    awk -v verb="$1" '/^\.S[SH]/ { is_in = $2 == verb } is_in' "$page" | sed -E 's/^\.BI? (\S+).*/\1/'
}

verbs=$("$sluice" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
[ -n "$verbs" ] || {
    echo "manual.sh: found no verb in what $sluice --help prints: this test sees nothing" >&2
    exit 1
}
missing=$(for verb in $verbs; do
    wanted "$verb" | while IFS= read -r line; do
        section "$verb" | grep -qxF -e "$line" || echo "sluice.1, $verb: no line \"$line\""
    done
done)

# The reverse: what the page tells, there is.
untrue=$(sed -n 's/^\.SS \([a-z]*\)$/\1/p' "$page" | while read -r verb; do
    echo "$verbs" | grep -qx "$verb" || echo "sluice.1: there is no verb \"$verb\""
    section "$verb" | grep '^\\-\\-' | while IFS= read -r option; do
        wanted "$verb" | grep -qxF -e "$option" || echo "sluice.1, $verb: there is no option \"$option\""
    done
done)
[ -z "$missing$untrue" ] || {
    echo "$missing$untrue"
    exit 1
}
