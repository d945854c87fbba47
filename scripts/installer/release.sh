# Builds a release of the program and activates it. Sourced by install.sh.
# shellcheck shell=bash

# The files of the project that a build needs (see [tool.hatch.build] in pyproject.toml).
readonly sources=(reaper pyproject.toml README.md LICENSE config locks systemd docs/runbook.md)

# For a host: an interpreter outside of home directories, because the daemon's unit cannot see those.
find_interpreter() {
    local candidate real
    if ! is_host; then
        find_python
        return
    fi
    candidate=$(PATH=/usr/local/bin:/usr/bin:/bin find_python)
    real=$("$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    [[ ! $real =~ ^/(home|root|tmp|run/user)/ ]] || die 1 "$real: a service cannot run an interpreter in that folder; set PYTHON to another one"
    printf '%s\n' "$candidate"
}

# A digest of sources, interpreter and path: when one of them changes, a new release is built.
digest() {
    {
        printf '%s\n' "$program" "$python"
        "$python" --version
        cd "$root" || exit
        find "${sources[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-12
}

# Prints the installed release if it is up to date and runnable; otherwise the folder of a new release.
find_release() {
    local release
    release="releases/$(digest)"
    if [[ $old == "$release"* ]] && is_runnable "$program/$old"; then
        release=$old
    else
        # A killed installation may have left this folder, and a daemon may run from it: take another name.
        while [[ -e $program/$release ]]; do release+=-again; done
    fi
    printf '%s\n' "$release"
}

# Whether the release can be executed; on a host by the service's user, if it exists. Sets `refusal` to the error text.
is_runnable() { # is_runnable RELEASE
    local -a as=()
    if is_host && id reaper >/dev/null 2>&1; then
        as=(setpriv --reuid=reaper --regid="$(id -g reaper)" --init-groups)
    fi
    refusal=$("${as[@]}" "$1/bin/reaper" --version 2>&1 >/dev/null)
}

# Corrects also the modes of folders that an earlier installation made under another umask.
make_folders() { install -d -m 0755 "$program" "$program/bin" "$program/releases"; }

build() { # build RELEASE
    say "Installing the program into $program ..."
    PYTHON=$python make_venv "$1"
    # A build writes into its source folder, which may belong to another user: build from a copy.
    mkdir "$scratch/sources"
    (cd "$root" && cp -R --parents "${sources[@]}" "$scratch/sources")
    {
        install_locked "$1/bin/python" run/reaper run/celery run/mysql &&
            install_locked "$1/bin/python" dev/build --target "$scratch/backend" &&
            PYTHONPATH=$scratch/backend install_built "$1/bin/python" "$scratch/sources"
    } >"$scratch/pip.log" || die 1 "pip failed: $(<"$scratch/pip.log")"
}

switch_to() { # switch_to RELEASE
    local link="$program/bin/reaper"
    ln -sfn "$1" "$program/current.new"
    mv -T "$program/current.new" "$program/current"
    ln -sfn ../current/bin/reaper "$link"
    mkdir -p "${command%/*}"
    # With --prefix there is no service to run as.
    if is_host && [[ -x $program/bin/reaper-as-service ]]; then link="$program/bin/reaper-as-service"; fi
    ln -sfn "$link" "$command"
}

remove_releases_except() { # remove_releases_except RELEASE
    [[ ! -d $program/releases ]] ||
        find "$program/releases" -mindepth 1 -maxdepth 1 ! -name "${1##*/}" -exec rm -rf {} +
}
