#!/usr/bin/env bash
# Run the demo in the tree that build.sh made, as locked down as a cluster's node may be: a user
# without an account, a read-only root, no network, no home folder, an empty environment.
#
#   tests/container/demo.sh SCRATCH     as root (to become somebody else), needs ch-run
#
# The results are in SCRATCH/data/derivatives.
set -euo pipefail

scratch=$(realpath "${1:?usage: demo.sh SCRATCH}")
source=$(cd "$(dirname "$0")/../.." && pwd)
user=12345

setting() {
    python3 -c 'if True:
        import json, sys
        with open(sys.argv[1]) as file:
            config = json.load(file)["Docker"]["config"]
        print(*config[sys.argv[2]], sep="\n")' "$scratch/config.json" "$1"
}

inside() {
    unshare --net setpriv --reuid $user --regid $user --clear-groups --inh-caps=-all \
        env -i USER=nobody PATH=/usr/bin:/bin \
        ch-run --no-passwd --private-tmp --unset-env='*' --set-env="$scratch/environment" \
        --cd /tmp --bind "$scratch/data:/mnt" "$scratch/tree" -- "$@"
}

expect_failure() {
    if inside "$@" 2>/dev/null; then
        echo "demo.sh: this should not have worked: $*" >&2
        exit 1
    fi
}

if ! setpriv --reuid $user --regid $user --clear-groups ls "$scratch/tree/" >/dev/null; then
    echo "demo.sh: $scratch must be where others may enter" >&2
    exit 1
fi
setting Env >"$scratch/environment"
mapfile -t entry < <(setting Entrypoint)
rm -rf "$scratch/data"
mkdir -p "$scratch/data"
cp -r "$source/examples/bids" "$scratch/data"
chown -R $user:$user "$scratch/data"

echo '== who and where'
inside sh -c 'id; echo "HOME=${HOME-(unset)}"; cat /proc/net/dev | tail -n +3; env | sort'
expect_failure touch /stray
expect_failure touch /opt/brainchop/stray
expect_failure getent passwd $user
expect_failure python -c 'import socket; socket.create_connection(("192.0.2.1", 80), 1)'

echo '== self-test'
inside "${entry[@]}" --version
inside brainchop-models verify tissue

echo '== demo'
inside "${entry[@]}" /mnt/bids /mnt/derivatives participant -w /tmp/work -v
inside "${entry[@]}" /mnt/bids /mnt/derivatives group
inside env DENO_DIR=/tmp/deno bids-validator-deno /mnt/derivatives --ignoreWarnings
test -s "$scratch/data/derivatives/sub-06/anat/sub-06_seg-tissue_dseg.nii.gz"
test -s "$scratch/data/derivatives/sub-06.html"
grep -q '"Tag": "brainchop-bids:' "$scratch/data/derivatives/dataset_description.json"

stray=$(
    find "$scratch/data" -mindepth 1 -maxdepth 1 ! -name bids ! -name derivatives
    find "$scratch/tree/" -newer "$scratch/environment"
)
if [ -n "$stray" ]; then
    printf 'demo.sh: written beside the results:\n%s\n' "$stray" >&2
    exit 1
fi
echo 'demo.sh: all passed'
