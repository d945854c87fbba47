#!/usr/bin/env bash
# Installs the daemon on this host as a systemd service, or removes it. See `install.sh --help`.
#
# The program is built in a folder of its own and activated in one step. So a running daemon never loads half of a new
# version, and a failed installation leaves the old one unchanged. After a kill, the next installation restores the old
# one. Files that an administrator may have edited are never overwritten.
set -euo pipefail
# The service's user must be able to read all of it, whatever root's umask is. Secrets get another mode.
umask 022

unset CDPATH  # or `cd` may go, and speak, elsewhere
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/installing/others.sh
source "$root/scripts/installing/others.sh"
# shellcheck source=scripts/installing/program.sh
source "$root/scripts/installing/program.sh"
# shellcheck source=scripts/installing/undoing.sh
source "$root/scripts/installing/undoing.sh"
# shellcheck source=scripts/installing/texts.sh
source "$root/scripts/installing/texts.sh"
# shellcheck source=scripts/installing/host.sh
source "$root/scripts/installing/host.sh"
# shellcheck source=scripts/installing/instance.sh
source "$root/scripts/installing/instance.sh"
# shellcheck source=scripts/installing/removal.sh
source "$root/scripts/installing/removal.sh"

usage() {
    cat <<TEXT
usage: install.sh [--prefix DIR] [--uninstall [--purge]]
       install.sh --instance NAME

  (no option)      install, or upgrade what is installed; daemons that run are restarted. One that does not come up
                   with the new program gets the old one back
  --prefix DIR     everything below DIR instead of below /, and every path says so. No user is made, and systemd is
                   told nothing: to look at, to run by hand, or to put into an image that has DIR at the same place
  --instance NAME  prepare another reaper beside the plain one: its configuration, its secrets, and the command
                   reaper@NAME. What is there stays as it is
  --uninstall      stop the daemons and remove the program; configuration, secrets, state and log stay
  --purge          with --uninstall: remove these too, with the units' drop-ins, and the user that was made

  /opt/reaper, /usr/local/bin/reaper        the program in a virtual environment of its own, and its command: for root
                                            it runs as the service would, with its configuration and secrets
  /usr/local/lib/systemd/system             reaper.service, reaper@.service; beside it sysusers.d and tmpfiles.d
  /etc/logrotate.d/reaper                   for a log_file below /var/log/reaper
  /etc/reaper                               reaper.toml; the secrets database_url and http_token
  /var/lib/reaper, /var/log/reaper          what the daemon writes; instances' state is in /var/lib/reaper-instances
TEXT
}

# --- where things are -----------------------------------------------------------------------------------------

set_places() {
    program="$prefix/opt/reaper"
    documents="$program/share/doc/reaper"
    command="$prefix/usr/local/bin/reaper"
    library="$prefix/usr/local/lib"
    configuration="$prefix/etc/reaper"
    own_units="$prefix/etc/systemd/system"
    rotation="$prefix/etc/logrotate.d/reaper"
    before="$program/before"
    written=("$prefix/var/lib/reaper" "$prefix/var/lib/reaper-instances" "$prefix/var/log/reaper")
    # A file of the project, and where it goes.
    texts=(
        "systemd/reaper.service:$library/systemd/system/reaper.service"
        "systemd/reaper@.service:$library/systemd/system/reaper@.service"
        "systemd/reaper.sysusers:$library/sysusers.d/reaper.conf"
        "systemd/reaper.tmpfiles:$library/tmpfiles.d/reaper.conf"
        "systemd/reaper.logrotate:$documents/reaper.logrotate"
        "systemd/reaper-as-service.sh:$program/bin/reaper-as-service"
        "systemd/README.md:$documents/README.md"
        "config/reaper.toml:$documents/reaper.toml"
    )
}

# Whether this is about the host itself, and not about a folder with --prefix.
is_host() { [[ -z $prefix ]]; }

# --- install --------------------------------------------------------------------------------------------------

install_all() {
    refuse_what_is_anothers
    if is_host; then refuse_a_persons_user; fi
    python=$(find_interpreter)
    make_folders
    finish_what_was_broken_off
    old=$(readlink "$program/current" || true)
    new=$(find_release)
    if [[ $new == "$old" ]]; then
        say "The program in $program is up to date."
    else
        build "$program/$new"
    fi
    remember
    install_texts
    install_configuration
    if is_host; then prepare_host; fi
    can_be_run "$program/$new" || die 1 "the service's user cannot run $program/$new/bin/reaper: $refusal"
    switch_to "$new"
    if is_host && systemd_runs; then restart_daemons; fi
    forget
    drop_releases_but "$new"
    say_what_is_next
}

# Whatever ends the script: an unfinished installation is undone.
clean_up() {
    trap '' HUP INT TERM
    if [[ -e $before && -n $new ]]; then undo; fi
    [[ -z $new || $new == "$(readlink "$program/current")" ]] || rm -rf "${program:?}/$new"
    rm -rf "$scratch"
}

say_what_is_next() {
    local environment="REAPER_CONFIG=$configuration/reaper.toml CREDENTIALS_DIRECTORY=$configuration "
    if is_host; then environment=''; fi
    say "Installed. Next:"
    say_how_to_fill "$configuration/database_url"
    say "  $environment$command check"
    if is_host; then
        say "  systemctl enable --now reaper"
        say "  systemctl status reaper"
    else
        say "  $environment$command run"
    fi
}

say_how_to_fill() { # say_how_to_fill FILE
    [[ -s $1 ]] || say "  cat >$1      # postgresql://USER:PASSWORD@HOST/DATABASE, Enter, Ctrl-D"
}

# --- what was asked for ---------------------------------------------------------------------------------------

prefix='' task=install_all purge='' instance=''
while (($#)); do
    case $1 in
    --prefix)
        [[ -n ${2:-} ]] || die 2 "--prefix: expected a directory"
        prefix=$2
        shift
        ;;
    --prefix=?*) prefix=${1#*=} ;;
    --instance)
        [[ -n ${2:-} ]] || die 2 "--instance: expected a name"
        task=make_instance instance=$2
        shift
        ;;
    --instance=?*) task=make_instance instance=${1#*=} ;;
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
[[ -z $instance || ($task == make_instance && -z $prefix) ]] || die 2 "--instance: goes with no other option"
[[ -z $instance ]] || check_name
# An absolute path without a / at its end; that of / is empty.
prefix=$(realpath -m "${prefix:-/}")
prefix=${prefix%/}
is_host && [[ $EUID -ne 0 ]] && die 1 "only root can do this; or say --prefix DIR"
[[ $prefix =~ ^[A-Za-z0-9/._+-]*$ ]] || die 2 "--prefix: '$prefix' has characters that unit files take for something else"
set_places
if [[ $task == uninstall ]] && ! is_host && [[ ! -e $program && ! -e $configuration ]]; then
    say "Nothing is installed below $prefix."
    exit
fi
# One installation at a time. The lock file is outside of what an uninstallation removes.
mkdir -p "$prefix/opt"
exec 9<"$prefix/opt"
flock -w 600 9 || die 1 "another installation has been at work in $prefix/opt for ten minutes"
old='' new='' restarted=() scratch=$(mktemp -d)
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"$task"
