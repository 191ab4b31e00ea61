#!/bin/sh
# Makes the virtual environment VENV with this project and the EXTRAS in it, once: a second call with nothing changed does nothing.
# CONSTRAINTS names another file than constraints.txt.
# usage: PYTHON=python3 VENV=.venv TORCH_VERSION=... TORCH_CPU_INDEX=... scripts/install.sh EXTRAS
set -eu
extras=$1
cd "$(dirname "$0")/.."

find_python() {  # the first Python that is new enough
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: forecast needs Python 3.11 or newer, and none was found; install one, or name it: make PYTHON=/path/to/python3" >&2
    return 1
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

stamp=$VENV/.installed-$(printf %s "$extras" | tr , -)
constraints=${CONSTRAINTS:-constraints.txt}
wanted=$(cat pyproject.toml "$constraints" | cksum)
[ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ] || exit 0

if [ ! -x "$VENV/bin/python" ]; then
    python=$(find_python)
    # A machine whose Python already has a torch that sees the GPU keeps that torch.
    shared=
    if has_gpu && "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        shared=--system-site-packages
    fi
    echo "== making $VENV with $("$python" --version)"
    "$python" -m venv $shared "$VENV" || {
        rm -rf "$VENV"
        echo "error: $python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
fi
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

if "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    echo "== keeping the torch that is here: $("$VENV/bin/python" -c 'import torch; print(torch.__version__)')"
elif has_gpu || [ "$(uname -s)" != Linux ]; then
    echo "== installing torch $TORCH_VERSION"
    pip install "torch==$TORCH_VERSION"
else
    echo "== installing torch $TORCH_VERSION for the CPU (no GPU found)"
    pip install --no-deps --retries 1 "torch==$TORCH_VERSION+cpu" 2>/dev/null ||
        pip install --no-deps --retries 1 --extra-index-url "$TORCH_CPU_INDEX" "torch==$TORCH_VERSION+cpu" || {
        echo "error: no CPU build of torch $TORCH_VERSION was found. Name an index that has one: make TORCH_CPU_INDEX=URL," >&2
        echo "       or take the default build, which may bring several GB for a GPU: $VENV/bin/pip install torch==$TORCH_VERSION" >&2
        exit 1
    }
fi

echo "== installing forecast[$extras]"
pip install -c "$constraints" -e ".[$extras]"
printf %s "$wanted" > "$stamp"
