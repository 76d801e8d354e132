#!/usr/bin/env bash
# Build the Dockerfile on a machine without a Docker engine and without a Docker registry.
#
#   tests/container/build.sh SCRATCH [VARIANT]     as root, needs buildah and debootstrap
#
# The base is a tree that debootstrap makes, imported under the name of the image that the
# Dockerfile names. The image's files end up in SCRATCH/tree, its settings in SCRATCH/config.json.
# PIP_INDEX_URL and SSL_CERT_FILE say where PyPI is and whose certificates to trust, where that is
# not as usual.
set -euo pipefail

scratch=$(realpath -m "${1:?usage: build.sh SCRATCH [VARIANT]}")
variant=${2:-cpu}
source=$(cd "$(dirname "$0")/../.." && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
name=brainchop-bids:$variant
base=$(sed -n 's/^ARG BASE=//p' "$source/Dockerfile")
suite=${base##*:}
suite=${suite%-slim}

buildah() {
    command buildah --storage-driver vfs --root "$scratch/storage" --runroot "$scratch/runroot" "$@"
}

import_base() {
    if buildah inspect --type image "$base" >/dev/null 2>&1; then return; fi
    echo "== $base: a debootstrap tree of $suite"
    if [ ! -e "$scratch/base/etc/debian_version" ]; then
        debootstrap --variant=minbase "$suite" "$scratch/base" "$mirror" >"$scratch/debootstrap.log"
    fi
    # As Debian's own slim images do.
    rm -rf "$scratch"/base/var/{cache/apt,lib/apt/lists,log}/* \
        "$scratch"/base/usr/share/{doc,man,locale,info}/*
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$scratch/base" / >/dev/null
    buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$container"
    buildah commit --quiet --rm "$container" "$base" >/dev/null
}

build() {
    echo "== $name"
    # What an earlier build left takes gigabytes.
    buildah rm --all >/dev/null
    buildah rmi --force "$name" >/dev/null 2>&1 || true
    local arguments=(--build-arg "VARIANT=$variant")
    if [ -n "${PIP_INDEX_URL:-}" ]; then
        arguments+=(--build-arg "PIP_INDEX_URL=$PIP_INDEX_URL")
    fi
    arguments+=(--secret "id=ca,src=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}")
    buildah build --isolation chroot --pull=never --format docker "${arguments[@]}" \
        --tag "$name" "$source"
}

unpack() {
    # The tree stays mounted: a copy would take as much space again.
    local container
    container=$(buildah from --pull=never "$name")
    ln -sfn "$(buildah mount "$container")" "$scratch/tree"
    # Others must be able to get there, too.
    chmod a+x "$scratch"/storage{,/vfs,/vfs/dir}
    buildah inspect --type image "$name" >"$scratch/config.json"
}

megabytes() {
    du --summarize --apparent-size --block-size=1000000 "$@" | sort --reverse --numeric-sort
}

tell_sizes() {
    echo "== $(megabytes "$scratch/tree/" | cut -f1) MB in all, of which"
    cd "$scratch/tree"
    megabytes usr opt/brainchop/bin opt/brainchop/lib/python3.*/site-packages/* | sed -n 1,12p
}

mkdir -p "$scratch"
import_base
build
unpack
tell_sizes
