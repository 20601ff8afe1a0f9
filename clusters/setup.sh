#!/usr/bin/env bash
# Sets up a cluster node: installs the environment that requirements.lock pins, once, and puts `ray` on the shells' PATH.
# If anything fails here, the node's setup ends and `ray up` says so.
set -euo pipefail
cd "$(dirname "$0")/.."
environment="$HOME/blendfold-env"
wanted=$(sha256sum requirements.lock pyproject.toml)

if [ "$(cat "$environment.stamp" 2>/dev/null)" != "$wanted" ]; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "blendfold needs Python 3.11 or newer; $(hostname) has $(python3 --version)" >&2; exit 1; }
  python3 -c 'import ensurepip, venv' 2>/dev/null ||
    { sudo apt-get -qq update && sudo apt-get -qq install -y python3-venv; }
  python3 -m venv --clear "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.lock
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
  echo "$wanted" > "$environment.stamp"
fi

# Insert as the first line of .bashrc: non-interactive shells often skip what follows the usual "not interactive: return".
line='export PATH="$HOME/blendfold-env/bin:$PATH"'
touch ~/.bashrc
grep -qxF "$line" ~/.bashrc || sed -i "1i $line" ~/.bashrc

[ -s ~/.ray/auth_token ] || { echo "$(hostname): no token in ~/.ray/auth_token (docs/security.md)" >&2; exit 1; }
chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token

if command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then
  "$environment/bin/python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU, nvidia-smi does"'
fi
