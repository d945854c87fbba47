#!/usr/bin/env bash
# Installs the daemon on this host as a systemd service, or takes it away again. `install.sh --help` says how.
#
# The program is built aside and switched to in one step: a running daemon never meets half of a new one, and an
# installation that fails leaves the old one as it was. Nothing that a person may have edited is overwritten.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

usage() {
    cat <<TEXT
usage: install.sh [--prefix DIR] [--uninstall [--purge]]

  (no option)    install, or upgrade what is installed; daemons that run are restarted
  --prefix DIR   everything below DIR instead of below /, and every path says so. No user is made, and systemd is
                 told nothing: to look at, to run by hand, or to put into an image that has DIR at the same place
  --uninstall    stop the daemons and remove the program; configuration, secrets, state and log stay
  --purge        with --uninstall: remove these too, and the user

  /opt/reaper, /usr/local/bin/reaper        the program in a virtual environment of its own, and its command
  /usr/local/lib/systemd/system             reaper.service, reaper@.service; beside it sysusers.d and tmpfiles.d
  /etc/logrotate.d/reaper                   for a log_file below /var/log/reaper
  /etc/reaper                               reaper.toml; the secrets database_url and http_token
  /var/lib/reaper, /var/log/reaper          what the daemon writes
TEXT
}

# --- where things are -----------------------------------------------------------------------------------------

set_places() {
    program="$prefix/opt/reaper"
    command="$prefix/usr/local/bin/reaper"
    library="$prefix/usr/local/lib"
    configuration="$prefix/etc/reaper"
    written=("$prefix/var/lib/reaper" "$prefix/var/log/reaper")
    # A file of systemd/, and where it goes.
    texts=(
        "reaper.service:$library/systemd/system/reaper.service"
        "reaper@.service:$library/systemd/system/reaper@.service"
        "reaper.sysusers:$library/sysusers.d/reaper.conf"
        "reaper.tmpfiles:$library/tmpfiles.d/reaper.conf"
        "reaper.logrotate:$prefix/etc/logrotate.d/reaper"
    )
}

# This is about the host itself, and not about a folder of it.
is_host() { [[ -z $prefix ]]; }

systemd_runs() { [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null; }

# --- install --------------------------------------------------------------------------------------------------

install_all() {
    local release
    python=$(find_interpreter)
    release="releases/$(digest)"
    if [[ $(readlink "$program/current") == "$release" && -x $program/current/bin/reaper ]]; then
        say "The program in $program is up to date."
    else
        build "$program/$release"
        switch_to "$release"
    fi
    install_texts
    install_configuration
    if is_host; then prepare_host; fi
    find "$program/releases" -mindepth 1 -maxdepth 1 ! -path "$program/$release" -exec rm -rf {} +
    say_what_is_next
}

# The host's own where this is about the host: the daemon's unit sees no home directory, and no interpreter in one.
find_interpreter() {
    local found real
    if ! is_host; then
        find_python
        return
    fi
    found=$(PATH=/usr/local/bin:/usr/bin:/bin find_python)
    real=$("$found" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    [[ ! $real =~ ^/(home|root|tmp|run/user)/ ]] || die 1 "$real: a service cannot run what lies there; set PYTHON"
    printf '%s\n' "$found"
}

# Of all that the program is made of: another interpreter or place makes another one.
digest() {
    {
        printf '%s\n' "$program" "$python"
        "$python" --version
        cd "$root"
        find reaper -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
        sha256sum pyproject.toml README.md LICENSE
    } | sha256sum | cut -c 1-12
}

build() { # build VENV
    local output sources
    say "Installing the program into $program ..."
    mkdir -p "$program/bin" "$program/releases"
    PYTHON=$python make_venv "$1"
    # A build writes beside its sources, and these may be somebody else's.
    sources=$(mktemp -d)
    (cd "$root" && cp -R reaper pyproject.toml README.md LICENSE "$sources")
    output=$("$1/bin/python" -m pip install --quiet "${sources}[celery,mysql]" 2>&1) || {
        rm -rf "$sources" "$1"
        die 1 "pip failed: $output"
    }
    rm -rf "$sources"
}

switch_to() { # switch_to RELEASE
    ln -sfn "$1" "$program/current.new"
    mv -T "$program/current.new" "$program/current"
    ln -sfn ../current/bin/reaper "$program/bin/reaper"
    mkdir -p "${command%/*}"
    ln -sfn "$program/bin/reaper" "$command"
}

install_texts() {
    local text
    for text in "${texts[@]}"; do
        place "$root/systemd/${text%%:*}" "${text#*:}" 0644
    done
    place "$root/systemd/README.md" "$program/share/doc/reaper/README.md" 0644
    place "$root/config/reaper.toml" "$program/share/doc/reaper/reaper.toml" 0644
}

# place SOURCE TARGET MODE: a copy with the paths of this prefix.
place() {
    mkdir -p "${2%/*}"
    if is_host; then
        install -m "$3" "$1" "$2"
    else
        # Only whole paths that begin a word: `%S/opt/reaper` or `x/etc/reaper` would be something else.
        sed -E "s#(^|[ :=])(/(opt|etc|var/lib|var/log)/reaper)#\\1${prefix//[#&\\]/\\&}\\2#g" "$1" >"$2"
        chmod "$3" "$2"
    fi
}

install_configuration() {
    local fresh="$program/share/doc/reaper/reaper.toml" kept="$configuration/reaper.toml"
    mkdir -p "$configuration"
    if [[ ! -e $kept ]]; then
        install -m 0640 "$fresh" "$kept"
    elif ! cmp -s "$fresh" "$kept"; then
        say "$kept is kept as it is; the one of this version is $fresh"
    fi
    # Whoever has this token may halt the daemon and end jobs over HTTP. Its name stands in the log.
    [[ -e $configuration/http_token ]] ||
        keep_secret "$configuration/http_token" "admin:$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"$'\n'
    # systemd refuses a unit whose credential has no file; an empty one the daemon calls by its name.
    [[ -e $configuration/database_url ]] || keep_secret "$configuration/database_url" ''
}

# keep_secret FILE TEXT: nobody else can read it, from its first moment on.
keep_secret() { (umask 077 && printf '%s' "$2" >"$1"); }

prepare_host() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$library/sysusers.d/reaper.conf"
        systemd-tmpfiles --create "$library/tmpfiles.d/reaper.conf"
    fi
    if systemd_runs; then
        systemctl daemon-reload
        systemctl try-restart reaper.service 'reaper@*.service' ||
            say "A daemon did not come up with the new program; systemctl status reaper 'reaper@*' says why."
    fi
}

say_what_is_next() {
    local environment="CREDENTIALS_DIRECTORY=$configuration"
    is_host || environment="REAPER_CONFIG=$configuration/reaper.toml $environment"
    say "Installed. Next:"
    [[ -s $configuration/database_url ]] ||
        say "  cat >$configuration/database_url      # postgresql://USER:PASSWORD@HOST/DATABASE, Enter, Ctrl-D"
    say "  $environment $command check"
    if is_host; then
        say "  systemctl enable --now reaper"
        say "  systemctl status reaper"
    else
        say "  $environment $command run"
    fi
}

# --- uninstall ------------------------------------------------------------------------------------------------

uninstall() {
    local text
    if is_host && systemd_runs; then retire_units; fi
    for text in "${texts[@]}"; do rm -f "${text#*:}"; done
    rm -f "$command"
    rm -rf "$program"
    if is_host && systemd_runs; then systemctl daemon-reload; fi
    if [[ -n $purge ]]; then
        rm -rf "$configuration" "${written[@]}"
        if is_host && id reaper >/dev/null 2>&1; then userdel reaper; fi
        say "Removed: the program, its configuration, its state and its log."
    else
        say "Removed: the program. Kept: $configuration ${written[*]}"
    fi
    drop_empty_folders
}

retire_units() {
    local unit
    while read -r unit _; do
        # A template is neither running nor enabled; its instances are.
        [[ $unit == *@.service ]] || systemctl disable --quiet --now "$unit"
    done < <(systemctl list-units --all --plain --no-legend 'reaper.service' 'reaper@*.service' &&
        systemctl list-unit-files --no-legend 'reaper.service' 'reaper@*.service')
}

# Those that an installation made; of the host's own only what no other program is likely to miss.
drop_empty_folders() {
    local folder folders=("$library/systemd/system" "$library"/{systemd,sysusers.d,tmpfiles.d})
    is_host || folders+=("$library" "$prefix"/{usr/local/bin,usr/local,usr,opt,etc/logrotate.d,etc,var/lib,var/log,var} "$prefix")
    for folder in "${folders[@]}"; do
        [[ ! -d $folder ]] || rmdir --ignore-fail-on-non-empty "$folder"
    done
}

# --- what was asked for ---------------------------------------------------------------------------------------

prefix='' task=install_all purge=''
while (($#)); do
    case $1 in
    --prefix)
        [[ -n ${2:-} ]] || die 2 "--prefix: expected a directory"
        prefix=$2
        shift
        ;;
    --prefix=?*) prefix=${1#*=} ;;
    --uninstall) task=uninstall ;;
    --purge) purge=yes ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        die 2 "unknown option '$1'"
        ;;
    esac
    shift
done
[[ -z $purge || $task == uninstall ]] || die 2 "--purge: only together with --uninstall"
# An absolute path without a / at its end; that of / is empty.
prefix=$(realpath -m "${prefix:-/}")
prefix=${prefix%/}
is_host && [[ $EUID -ne 0 ]] && die 1 "only root can do this; or say --prefix DIR"
[[ $prefix =~ ^[A-Za-z0-9/._+-]*$ ]] || die 2 "--prefix: '$prefix' has characters that unit files take for something else"
set_places
"$task"
