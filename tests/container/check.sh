#!/usr/bin/env bash
# Build the image and run the demo in it: see build.sh and demo.sh.
#
#   tests/container/check.sh [SCRATCH]     as root; SCRATCH takes 6 GB and stays where it is given
#
# Debian's packages buildah, debootstrap and charliecloud-runtime are needed.
set -euo pipefail

here=$(dirname "$0")
scratch=${1:-}
if [ -z "$scratch" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
fi
# Somebody else must be able to get there.
chmod a+x "$scratch"
"$here/build.sh" "$scratch"
"$here/demo.sh" "$scratch"
