#!/usr/bin/env bash
# For the tests of containers: on a Debian or Ubuntu with no Docker engine, root gets podman, which the tests then run
# for themselves, and debootstrap, for a base image. Where that can't be, it says why; the tests then skip with the reason.
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
