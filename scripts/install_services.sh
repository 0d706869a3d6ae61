#!/bin/sh
# Installs the programs that the full test run uses and that are missing: PostgreSQL, Redis, Chromium, a Chinese font,
# and nginx and promtool, which read what is in deploy/.
# Only as root on Debian; anywhere else it says what is missing, and the tests that need it are skipped and named.
set -eu

missing=""

have_postgres() {
    command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

have_browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    return 1
}

have_chinese_font() {
    command -v fc-list >/dev/null 2>&1 && [ -n "$(fc-list :lang=zh family 2>/dev/null | head -n 1)" ]
}

have_postgres || missing="$missing postgresql"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
have_browser || missing="$missing chromium"
have_chinese_font || missing="$missing fontconfig fonts-noto-cjk"

[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1 || ! grep -q '^ID=debian' /etc/os-release; then
    echo "services: missing, tests that need them will be skipped:$missing" >&2
    exit 0
fi

echo "services: installing$missing"
log=$(mktemp)
# RUNLEVEL=1 keeps the packages from starting servers; the tests start private ones.
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    echo "services: apt-get failed; tests that need the missing programs will be skipped:$missing" >&2
fi
rm -f "$log"
