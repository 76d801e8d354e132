#!/bin/sh
# The recipe of the image. Dockerfile and singularity/brainchop.def call nothing else, so that
# both make the same /opt/brainchop.
#
#   install.sh system [PACKAGE ...]       Debian's Python, and packages that only a build needs
#   install.sh dependencies cpu|gpu       what the lock file of that variant pins, by hash
#   install.sh app                        brainchop-bids itself, from the folder above this one
#
# Behind a firewall: PIP_INDEX_URL names a mirror of PyPI, and a CA certificate lies in
# /run/secrets/ca (docker build --secret id=ca,src=FILE); neither stays in the image.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=/opt/brainchop

system() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends python3 "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
}

# pip comes from Debian and works from outside, so that the image has none.
pip_install() {
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
    python3 -m pip --python "$venv/bin/python" --disable-pip-version-check install \
        --no-cache-dir --no-input --root-user-action=ignore "$@"
}

# Prints of a lock file what pins the packages named.
pins() {
    lock=$1
    shift
    awk -v names=" $* " '/^[^ #]/ { split($1, part, "=="); keep = index(names, " " part[1] " ") }
        keep && !/^ *#/' "$lock"
}

dependencies() {
    lock="$here/$1.lock"
    test -s "$lock" || { echo "install.sh: no lock file $lock" >&2; exit 2; }
    python3 -m venv --without-pip "$venv"
    # A few packages are published as source alone: built by what is pinned, too, not by what
    # pip would fetch for it.
    pins "$lock" setuptools wheel packaging >/tmp/tools.lock
    pip_install --require-hashes --no-deps --requirement /tmp/tools.lock
    pip_install --require-hashes --no-deps --no-build-isolation --requirement "$lock"
    rm /tmp/tools.lock
    # Headers for compiling against TensorFlow.
    rm -rf "$venv"/lib/python3.*/site-packages/tensorflow/include
}

app() {
    pip_install --no-deps --no-index --no-build-isolation "$here/.."
    "$venv/bin/brainchop-models" verify tissue
}

command=$1
shift
case $command in
    system | dependencies | app) "$command" "$@" ;;
    *) echo "install.sh: unknown command $command" >&2; exit 2 ;;
esac
