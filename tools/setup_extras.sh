#!/bin/sh
# Installs what some tests need, when the machine lets it: Chromium, strace, axe-core and azurite. Never fails the set-up:
# a test that lacks its part skips and says so.
if ! command -v chromium-headless-shell >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        for browser in chromium-headless-shell chromium; do
            command -v chromium >/dev/null 2>&1 && [ "$browser" = chromium ] && break
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$browser" >/dev/null && break
        done || echo "Chromium was not installed: browser tests will skip" >&2
    elif ! command -v chromium >/dev/null 2>&1 && ! command -v chromium-browser >/dev/null 2>&1; then
        echo "Chromium is not here and this user may not install it: browser tests will skip" >&2
    fi
fi
if ! command -v strace >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace \
            >/dev/null || echo "strace was not installed: the tests of the order on disk will skip" >&2
    else
        echo "strace is not here and this user may not install it: the tests of the order on disk will skip" >&2
    fi
fi
if command -v npm >/dev/null 2>&1; then
    npm install --silent --no-audit --no-fund --no-save || echo "axe-core and azurite were not installed: their tests will skip" >&2
else
    echo "npm is not here: accessibility and Azure tests will skip" >&2
fi
exit 0
