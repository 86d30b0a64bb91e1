#!/usr/bin/env bash
# Set up a virtual environment with exactly the locked versions. Usage: scripts/setup.sh [VENV]
# Works on a bare Debian with Python 3.11 and git: missing system packages are installed when we may (root or sudo).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}
stamp="$venv/.ftl-setup"
wanted=$(cat locks/dev.txt locks/torch.txt pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

export PIP_DISABLE_PIP_VERSION_CHECK=1
# Behind a proxy with a certificate of its own, what pip was told holds for uv too.
if [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"; fi
log() { printf '[setup] %s\n' "$*"; }

need_packages=()
command -v g++ >/dev/null || need_packages+=(g++)          # DeepSpeed compiles its CPU ops at first use
"$python" -c 'import ensurepip, venv' 2>/dev/null || need_packages+=(python3-venv)
"$python" - <<'PY' || need_packages+=(python3-dev)
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PY
if [ ${#need_packages[@]} -gt 0 ]; then
  log "installing system packages: ${need_packages[*]}"
  sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends "${need_packages[@]}"
fi

[ -x "$venv/bin/python" ] || { log "creating $venv"; "$python" -m venv "$venv"; }
"$venv/bin/python" -m pip install --quiet "uv>=0.9,<1"
uv() { VIRTUAL_ENV="$PWD/$venv" "$venv/bin/uv" "$@"; }
[[ $venv = /* ]] && uv() { VIRTUAL_ENV="$venv" "$venv/bin/uv" "$@"; }

torch_version=$(sed -n 's/^torch==//p' locks/torch.txt)
install_torch() {
  if command -v nvidia-smi >/dev/null || command -v rocminfo >/dev/null; then
    log "torch $torch_version for this machine's accelerator"
    uv pip install --quiet --torch-backend=auto "torch==$torch_version"
  # A CPU build: PyTorch's own index first, then a wheel that pip is configured to find, then whatever PyPI has.
  elif timeout 120 "$venv/bin/uv" --version >/dev/null && UV_HTTP_TIMEOUT=15 uv pip install --quiet --torch-backend=cpu "torch==$torch_version" 2>/dev/null; then
    log "torch $torch_version, CPU build"
  else
    log "PyTorch's CPU index is out of reach: asking pip for torch $torch_version"
    "$venv/bin/python" -m pip install --quiet "torch==$torch_version"
  fi
}
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$torch_version')" 2>/dev/null; then
  install_torch
fi

log "installing $(grep -c '^[a-z]' locks/dev.txt) locked packages"
# --no-deps: the lock is complete, and nothing may replace the torch chosen above.
uv pip install --quiet --no-deps -r locks/dev.txt
uv pip install --quiet --no-deps -e .
echo "$wanted" > "$stamp"
log "done: $venv"
