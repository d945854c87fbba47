# Functions shared by the scripts in this folder. Source it with `root` set to the project's directory.
# shellcheck shell=bash

: "${root:?}"

die() { # die STATUS MESSAGE...
    local status=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$status"
}

say() { printf '%s\n' "$*"; }

# Prints the first interpreter that is new enough. If $PYTHON is set, only that one is tried.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die 1 "no Python 3.11 or newer found${PYTHON:+ (PYTHON=$PYTHON)}"
}

make_venv() { # make_venv FOLDER
    local python
    python=$(find_python)
    # Debian's python3 lacks ensurepip, which a virtual environment needs.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3-venv || die 1 "$python cannot make virtual environments: install python3-venv"
    fi
    "$python" -m venv --clear "$1" || die 1 "cannot make $1 with $python"
}

# install_locked PYTHON LOCK... [PIP-OPTION...]: installs the packages of these locks (run/celery is locks/run/celery.txt).
# Only files whose hash a lock has are used, and only wheels: to build an sdist would run code that no lock has.
install_locked() {
    local python=$1 word
    local -a words=()
    shift
    for word; do
        if [[ $word == run/* || $word == dev/* ]]; then words+=(-r "$root/locks/$word.txt"); else words+=("$word"); fi
    done
    "$python" -m pip install --quiet --require-hashes --no-deps --only-binary :all: "${words[@]}" 2>&1
}

# install_built PYTHON PIP-ARGUMENT...: installs the program itself. What it needs and what builds it are there already.
install_built() {
    local python=$1
    shift
    "$python" -m pip install --quiet --no-deps --no-index --no-build-isolation "$@" 2>&1
}

# Identifies what .venv was made for. It is installed again when pyproject.toml, a lock or the folder changes.
venv_stamp() { { printf '%s\n' "$root" && cat "$root/pyproject.toml" "$root"/locks/*/*.txt; } | sha256sum; }

# need_to_write FILE: exits unless the file can be written; the message names the owner. Makes the folder if needed.
need_to_write() {
    local owned=$1
    mkdir -p "${1%/*}" 2>/dev/null || true
    { : >>"$1"; } 2>/dev/null && return
    while [[ ! -e $owned ]]; do owned=${owned%/*}; done
    die 1 "$1 cannot be written by $(id -un): $owned belongs to $(stat -c %U "$owned")"
}

# is_hidden PATH: whether a folder above it keeps the current user from seeing whether it exists.
is_hidden() {
    local above=$1
    while [[ ! -e $above && ! -L $above ]]; do above=${above%/*}; done
    if [[ $above == "$1" ]]; then return 1; fi
    [[ -d $above && ! -x $above ]]
}

# require_readable PATH...: exits when one of them may exist and cannot be read; the message names the owner.
require_readable() {
    local path owned
    for path; do
        if ! is_hidden "$path" && [[ ! -e $path && ! -L $path || -r $path ]]; then continue; fi
        owned=$path
        while [[ ! -e $owned && $owned != / ]]; do owned=${owned%/*}; done
        die 1 "no permission: $(id -un) cannot read $path ($owned belongs to $(stat -c %U "$owned"))"
    done
}

# prepare_venv PURPOSE LOCK...: makes .venv and installs into it what these locks hold, and the program from this folder.
# Does nothing when it is up to date.
prepare_venv() {
    local purpose=$1 stamp output
    shift
    stamp=$(venv_stamp)
    venv_python="$root/.venv/bin/python"
    if [[ -x $venv_python && $(cat "$root/.venv/made-for-$purpose" 2>/dev/null) == "$stamp" ]]; then
        return
    fi
    need_to_write "$root/logs/venv.lock"
    exec 8>"$root/logs/venv.lock"
    flock -w 600 8 || die 1 "another process has been installing into .venv for ten minutes"
    # A virtual environment contains its own path, so after a move it is made again.
    if ! grep -qsxF "$root" "$root/.venv/made-in" || ! "$venv_python" -m pip --version >/dev/null 2>&1; then
        say "Making the virtual environment .venv ..."
        make_venv "$root/.venv"
        printf '%s\n' "$root" >"$root/.venv/made-in"
    fi
    say "Installing the program and what it needs into .venv, with pip ..."
    # dev/build has a newer pip, which installs the rest.
    output=$(install_locked "$venv_python" dev/build && install_locked "$venv_python" "$@" &&
        install_built "$venv_python" -e "$root") || die 1 "pip failed: $output"
    printf '%s\n' "$stamp" >"$root/.venv/made-for-$purpose"
    exec 8>&-
}

# install_packages PACKAGE...: installs with apt-get, without starting services. Fails without root or apt-get.
install_packages() {
    local policy=/usr/sbin/policy-rc.d created='' status=0
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
    say "Installing on this machine, with apt-get: $* ..."
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && created=yes
    fi
    {
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" ||
            { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }
    } >"$root/logs/apt.log" 2>&1 8>&- || status=1
    [[ -z $created ]] || rm -f "$policy"
    return "$status"
}
