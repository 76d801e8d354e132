#!/usr/bin/env bash
# Train the packaged model on a machine with PyTorch and no network. Made by pack.sh:
#
#     KIT/retrain.sh OUT [OPTIONS of brainchop-train]
#
# Checkpoints, log and, at the end, the model lie in OUT. Stopped runs (--minutes N, a kill) go on
# where they were when OUT is given again. RECIPE (tissue-gpu.toml) may name another config.
set -euo pipefail
kit=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
python=${PYTHON:-python3}
site=${BRAINCHOP_SITE:-$kit/site}
if [ ! -e "$site/.installed" ]; then
    # No dependencies: PyTorch, NumPy and SciPy are those of the machine.
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$site" \
        "$kit"/wheels/*.whl
    touch "$site/.installed"
fi
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'import torch, numpy, scipy; print("torch", torch.__version__, "CUDA" if
torch.cuda.is_available() else "no CUDA: on the processor", flush=True)'
exec "$python" -m brainchop_bids.cli.train "$kit/${RECIPE:-tissue-gpu.toml}" --backend torch \
    --out "$out" --set "data.label_maps='$kit/label_maps'" "$@"
