#!/usr/bin/env bash
# For the tests of a report's page: on Debian or Ubuntu without a Chromium, installs it (300 MB), which needs root. If it
# can't, it prints the reason, and the tests skip.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" != 0 ]; then
  echo "browser: no Chromium, and only root can install it: tests in a browser are left out"
elif ! command -v apt-get >/dev/null; then
  echo "browser: no Chromium, and no apt-get to install it: tests in a browser are left out"
else
  echo "browser: installing chromium"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
      chromium fonts-dejavu-core; } >/dev/null \
    || echo "browser: apt-get could not install chromium, see above: tests in a browser are left out"
fi
