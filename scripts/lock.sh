#!/bin/sh
# Writes both lock files afresh from pyproject.toml: for every platform, with hashes, naming no index and no host.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@" >/dev/null
}

# UPGRADE=1 takes the newest versions; otherwise what is locked stays unless pyproject.toml forbids it.
upgrade=${UPGRADE:+--upgrade}

compile $upgrade --all-extras --group build --output-file requirements.lock
compile $upgrade --all-extras --group build --group dev --constraints requirements.lock --output-file requirements-dev.lock

if grep -nE '://|--(extra-)?index-url|--find-links| @ ' requirements.lock requirements-dev.lock; then
    echo "lock: the lines above name a place; locks must work with any index" >&2
    exit 1
fi
echo "lock: $(grep -c '==' requirements.lock) packages to run, $(grep -c '==' requirements-dev.lock) with the tests'"
