#!/usr/bin/env bash
# Runs this checkout's last commit on another release of Debian: in a root filesystem of its own, in a fresh clone, with
# that release's Python, and with nothing else of this host but its kernel and pip's cache. Needs root.
#   scripts/on_debian.sh [--release trixie] [COMMAND]
# The command is for bash, in the clone. Without one: the README's first command with a small configuration, and the tests
# of serving, preprocessing and measurement. The filesystem is kept for a month in ~/.cache/wide-deep-deployment.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
toolkit=tests/deployment_toolkit
checks=("$toolkit"/{cpp_host,deploying,triton_server,triton_inference_runner,triton_performance_runner,test_python_host.py}
  tests/widedeep/{data,features,preprocessing} tests/test_ensemble.py tests/test_run_performance_on_triton.py
  tests/scripts/test_install.py tests/runner/page)

fail() { echo "error: $*" >&2; exit 1; }

# On a host that can't: a line and success, but a failure in continuous integration, where nothing is left out unseen.
leave_out() {
  if [ "${CI:-}" = true ]; then fail "Debian's $release was not tried: $*"; fi
  echo "Debian's $release is NOT TRIED: $*"
  exit 0
}

# The mirror that apt uses on this host; on another distribution debootstrap's own choice.
debian_mirror() {
  apt-get indextargets --no-release-info --format '$(REPO_URI)' 2>/dev/null | grep -m 1 '/debian/*$' || true
}

make_filesystem() {
  local new=$home.new mirror
  mirror=$(debian_mirror)
  echo "making a root filesystem of Debian's $release in $home (two minutes)"
  rm -rf --one-file-system "$cache/$release-"*
  debootstrap --variant=minbase "$release" "$new" ${mirror:+"$mirror"} >"$cache/debootstrap.log" 2>&1 \
    || fail "debootstrap can't make it: $(tail -n 1 "$cache/debootstrap.log") (the whole text: $cache/debootstrap.log)"
  apt-config dump 2>/dev/null | grep '^Acquire::https\?::' >"$new/etc/apt/apt.conf.d/90host" || true
  cp -L /etc/resolv.conf "$new/etc/"
  DEBIAN_FRONTEND=noninteractive chroot "$new" bash -c "apt-get update -qq && apt-get install --yes -qq \
      --no-install-recommends ca-certificates git g++ python3 python3-venv >/dev/null \
    && apt-get install --yes -qq libpython\$(python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])') >/dev/null" \
    >>"$cache/debootstrap.log" 2>&1 || fail "apt-get can't install Python in it: see $cache/debootstrap.log"
  mv "$new" "$home"
}

release=trixie
if [ "${1:-}" = --release ]; then release=${2:?"--release needs a name, such as trixie"} && shift 2; fi
command=${*:-"./runner/start_CPU.sh --config-path tests/small_run.yaml && scripts/test.sh ${checks[*]}"}
[ "$(id -u)" = 0 ] || leave_out "only root can make a root filesystem"
PATH=$PATH:/usr/sbin:/sbin
if ! command -v debootstrap >/dev/null; then
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq debootstrap; } >/dev/null 2>&1 \
    || leave_out "debootstrap is missing and apt-get can't install it"
fi
unshare --mount --pid --fork true 2>/dev/null || leave_out "this host lets root make no namespaces"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/wide-deep-deployment
home=$cache/$release-$(date +%Y-%m)
mkdir -p "$cache" "${XDG_CACHE_HOME:-$HOME/.cache}/pip"
exec 8>"$cache/$release.lock"
flock 8 # another call with the same filesystem
[ -d "$home" ] || make_filesystem

# What the host trusts, for hosts behind a proxy of their own.
certificates=$(python3 -c 'import ssl; print(ssl.get_default_verify_paths().cafile or "")' 2>/dev/null || true)
certificates=${PIP_CERT:-${certificates:-/etc/ssl/certs/ca-certificates.crt}}
[ ! -f "$certificates" ] || cp "$certificates" "$home/usr/local/share/host-certificates.crt"
rm -rf --one-file-system "$home/root/clone"
cp -L /etc/resolv.conf /etc/hosts "$home/etc/"
git -c safe.directory='*' clone --quiet --no-hardlinks "$root" "$home/root/clone"
mkdir -p "$home/root/.cache/pip"

echo "on Debian's $release ($(chroot "$home" python3 --version)): $command"
# The namespaces take mounts and processes with them, whatever ends this script. Their first process is a shell that stays
# (hence no exec), and reaps what ends as an orphan.
unshare --mount --pid --fork --kill-child bash -euc '
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
  mount -t tmpfs -o mode=1777 shm "$1/dev/shm"
  mount -t tmpfs -o mode=1777 tmp "$1/tmp"
  mount --bind "$2" "$1/root/.cache/pip"
  certificates=/usr/local/share/host-certificates.crt
  env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${CI:+CI="$CI"} \
    PIP_CERT=$certificates SSL_CERT_FILE=$certificates chroot "$1" bash -euc "cd /root/clone && $3" || exit $?
' bash "$home" "${XDG_CACHE_HOME:-$HOME/.cache}/pip" "$command" 8>&-
