#!/bin/sh
# Prints the first Python on this machine that is new enough (3.11), preferring an explicit $PYTHON.
set -eu

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates="python3.11 python3.12 python3.13 python3 python"
fi

for candidate in $candidates; do
    if "$candidate" -c "$new_enough" >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done

{
    echo "Huoji needs Python 3.11 or newer. Looked for: $candidates"
    for candidate in $candidates; do
        found=$("$candidate" --version 2>&1) && echo "  $candidate is $found" || true
    done
    echo "Install one (Debian: apt install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3"
} >&2
exit 1
