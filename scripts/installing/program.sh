# Builds the program and activates it. Sourced by install.sh.
# shellcheck shell=bash

# What a build takes from the project's folder (see [tool.hatch.build] in pyproject.toml).
readonly sources=(reaper pyproject.toml README.md LICENSE config systemd docs/runbook.md)

# On a host, the host's own interpreter: the unit cannot see home directories, so none that is installed there.
find_interpreter() {
    local found real
    if ! is_host; then
        find_python
        return
    fi
    found=$(PATH=/usr/local/bin:/usr/bin:/bin find_python)
    real=$("$found" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    [[ ! $real =~ ^/(home|root|tmp|run/user)/ ]] || die 1 "$real: a service cannot run a program there; set PYTHON"
    printf '%s\n' "$found"
}

# A digest of everything that the program is made of, including interpreter and path.
digest() {
    {
        printf '%s\n' "$program" "$python"
        "$python" --version
        cd "$root" || exit
        find "${sources[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-12
}

# The installed release if it is the same program and can be run; otherwise the path of a new one.
find_release() {
    local release
    release="releases/$(digest)"
    if [[ $old == "$release"* ]] && can_be_run "$program/$old"; then
        release=$old
    else
        # A killed installation may have left files there that a daemon still runs from.
        while [[ -e $program/$release ]]; do release+=-again; done
    fi
    printf '%s\n' "$release"
}

# Checked as the user that runs it: on a host the service's user, if it exists. Sets `refusal`.
can_be_run() { # can_be_run RELEASE
    local -a as=()
    if is_host && id reaper >/dev/null 2>&1; then
        as=(setpriv --reuid=reaper --regid="$(id -g reaper)" --init-groups)
    fi
    refusal=$("${as[@]}" "$1/bin/reaper" --version 2>&1 >/dev/null)
}

# Also releases that an earlier installation created under another umask.
make_folders() { install -d -m 0755 "$program" "$program/bin" "$program/releases"; }

build() { # build RELEASE
    say "Installing the program into $program ..."
    PYTHON=$python make_venv "$1"
    # A build writes beside its sources, which may belong to another user: build in a copy.
    mkdir "$scratch/sources"
    (cd "$root" && cp -R --parents "${sources[@]}" "$scratch/sources")
    "$1/bin/python" -m pip install --quiet "$scratch/sources[celery,mysql]" >"$scratch/pip.log" 2>&1 ||
        die 1 "pip failed: $(<"$scratch/pip.log")"
}

switch_to() { # switch_to RELEASE
    local link="$program/bin/reaper"
    ln -sfn "$1" "$program/current.new"
    mv -T "$program/current.new" "$program/current"
    ln -sfn ../current/bin/reaper "$link"
    mkdir -p "${command%/*}"
    # With --prefix there is no other program's service to replace.
    if is_host && [[ -x $program/bin/reaper-as-service ]]; then link="$program/bin/reaper-as-service"; fi
    ln -sfn "$link" "$command"
}

drop_releases_but() { # drop_releases_but RELEASE
    [[ ! -d $program/releases ]] ||
        find "$program/releases" -mindepth 1 -maxdepth 1 ! -name "${1##*/}" -exec rm -rf {} +
}
