#!/usr/bin/env bash
# For the tests of containers: on Debian or Ubuntu without a Docker engine, installs podman, which the tests start
# themselves, and debootstrap, for a base image; this needs root. If it can't, it prints the reason, and the tests skip.
set -euo pipefail

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  echo "containers: Docker's engine answers"; exit 0
fi
missing=()
for name in podman runc buildah debootstrap; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$name" >/dev/null || missing+=("$name")
done
if [ ${#missing[@]} = 0 ]; then
  echo "containers: podman and debootstrap are there"
elif [ "$(id -u)" != 0 ]; then
  echo "containers: no Docker engine answers, and only root can install ${missing[*]}: tests of containers are left out"
elif ! command -v apt-get >/dev/null; then
  echo "containers: no Docker engine answers, and there is no apt-get to install ${missing[*]}: tests of containers are left out"
else
  echo "containers: installing ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq "${missing[@]}"; } >/dev/null \
    || echo "containers: apt-get could not install ${missing[*]}, see above: tests of containers are left out"
fi
