#!/usr/bin/env bash
# Pack all that retraining needs into one folder, for a machine with PyTorch and no network:
#
#     recipes/pack.sh KIT LABEL_MAPS [PYTHON_VERSION]
#
# Copy KIT there and run KIT/retrain.sh. That machine must have PyTorch, NumPy and SciPy for the
# Python version named here (3.12).
set -euo pipefail
kit=$1 maps=$2 version=${3:-3.12}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
mkdir -p "$kit/wheels" "$kit/label_maps"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$kit/wheels" "$here/.."
"$python" -m pip download --quiet --no-deps --dest "$kit/wheels" --only-binary=:all: \
    --python-version "$version" --implementation cp --platform any \
    --platform manylinux2014_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_28_x86_64 \
    keras namex optree h5py ml_dtypes absl-py nibabel importlib_resources typing_extensions \
    tensorboardX protobuf packaging tomli tomli-w threadpoolctl rich markdown-it-py mdurl pygments \
    jinja2 markupsafe pillow
cp "$maps"/*.nii.gz "$kit/label_maps/"
cp "$here"/*.toml "$here/retrain.sh" "$kit/"
echo "$kit: $(du -sh "$kit" | cut -f1); copy it and run retrain.sh in it"
