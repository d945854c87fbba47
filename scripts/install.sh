#!/usr/bin/env bash
# Installs the daemon on this host as a systemd service, or removes it. See `install.sh --help`.
#
# The new program is built in a folder of its own and activated in one step, so a running daemon never sees half of it.
# An installation that fails restores the old program. One that was killed is rolled back by the next run. Files that
# an administrator may have edited are never overwritten.
set -euo pipefail
# The service's user must be able to read all of it, whatever root's umask is. Secrets get a mode of their own.
umask 022

unset CDPATH  # otherwise `cd` may go to another folder and print its path
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/installer/conflicts.sh
source "$root/scripts/installer/conflicts.sh"
# shellcheck source=scripts/installer/release.sh
source "$root/scripts/installer/release.sh"
# shellcheck source=scripts/installer/rollback.sh
source "$root/scripts/installer/rollback.sh"
# shellcheck source=scripts/installer/files.sh
source "$root/scripts/installer/files.sh"
# shellcheck source=scripts/installer/host.sh
source "$root/scripts/installer/host.sh"
# shellcheck source=scripts/installer/instance.sh
source "$root/scripts/installer/instance.sh"
# shellcheck source=scripts/installer/uninstall.sh
source "$root/scripts/installer/uninstall.sh"

usage() {
    cat <<TEXT
usage: install.sh [--prefix DIR] [--uninstall [--purge]]
       install.sh --instance NAME

  (no option)      install, or upgrade what is installed; running daemons are restarted. If one does not start with
                   the new program, all get the old one back
  --prefix DIR     install below DIR instead of /, with all paths adapted. Makes no user and does not call systemd.
                   Use it to look at the files, to run by hand, or for an image that has DIR at the same path
  --instance NAME  prepare another reaper beside the plain one: its configuration, its secrets, and the command
                   reaper@NAME. Existing files are not changed
  --uninstall      stop the daemons and remove the program; configuration, secrets, state and log stay
  --purge          with --uninstall: remove these too, with the drop-ins of the units and the user that the installer made

  /opt/reaper, /usr/local/bin/reaper        the program in its own virtual environment, and its command. For root it
                                            runs as the service does, with its configuration and secrets
  /usr/local/lib/systemd/system             reaper.service, reaper@.service; beside it sysusers.d and tmpfiles.d
  /etc/logrotate.d/reaper                   for a log_file below /var/log/reaper
  /etc/reaper                               reaper.toml; the secrets database_url and http_token
  /var/lib/reaper, /var/log/reaper          what the daemon writes; instances' state is in /var/lib/reaper-instances
TEXT
}

# --- paths ----------------------------------------------------------------------------------------------------

set_paths() {
    program="$prefix/opt/reaper"
    documents="$program/share/doc/reaper"
    command="$prefix/usr/local/bin/reaper"
    library="$prefix/usr/local/lib"
    configuration="$prefix/etc/reaper"
    override_folder="$prefix/etc/systemd/system"
    rotation="$prefix/etc/logrotate.d/reaper"
    before="$program/before"
    data_folders=("$prefix/var/lib/reaper" "$prefix/var/lib/reaper-instances" "$prefix/var/log/reaper")
    # SOURCE:TARGET, the source relative to the project.
    files=(
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

# Whether the installation is for this host, not below --prefix.
is_host() { [[ -z $prefix ]]; }

# --- install --------------------------------------------------------------------------------------------------

install_all() {
    refuse_conflicts
    if is_host; then refuse_login_user; fi
    python=$(find_interpreter)
    make_folders
    roll_back_interrupted
    old=$(readlink "$program/current" || true)
    new=$(find_release)
    if [[ $new == "$old" ]]; then
        say "The program in $program is up to date."
    else
        build "$program/$new"
    fi
    save_previous
    install_files
    install_configuration
    if is_host; then prepare_host; fi
    is_runnable "$program/$new" || die 1 "the service's user cannot run $program/$new/bin/reaper: $refusal"
    switch_to "$new"
    if is_host && systemd_runs; then restart_daemons; fi
    discard_saved
    remove_releases_except "$new"
    print_next_steps
}

# Runs at every exit: an unfinished installation is rolled back.
clean_up() {
    trap '' HUP INT TERM
    if [[ -e $before && -n $new ]]; then roll_back; fi
    [[ -z $new || $new == "$(readlink "$program/current")" ]] || rm -rf "${program:?}/$new"
    rm -rf "$scratch"
}

print_next_steps() {
    local environment="REAPER_CONFIG=$configuration/reaper.toml CREDENTIALS_DIRECTORY=$configuration "
    if is_host; then environment=''; fi
    say "Installed. Next:"
    print_url_hint "$configuration/database_url"
    say "  $environment$command check"
    if is_host; then
        say "  systemctl enable --now reaper"
        say "  systemctl status reaper"
    else
        say "  $environment$command run"
    fi
}

print_url_hint() { # print_url_hint FILE
    [[ -s $1 ]] || say "  cat >$1      # postgresql://USER:PASSWORD@HOST/DATABASE, Enter, Ctrl-D"
}

# --- command line ---------------------------------------------------------------------------------------------

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
[[ -z $instance || ($task == make_instance && -z $prefix) ]] || die 2 "--instance: cannot be combined with another option"
[[ -z $instance ]] || check_name
# An absolute path without a trailing /; empty for / itself.
prefix=$(realpath -m "${prefix:-/}")
prefix=${prefix%/}
is_host && [[ $EUID -ne 0 ]] && die 1 "only root can install on this host; use sudo, or --prefix DIR"
[[ $prefix =~ ^[A-Za-z0-9/._+-]*$ ]] || die 2 "--prefix: '$prefix' has characters with a special meaning in unit files"
set_paths
if [[ $task == uninstall ]] && ! is_host && [[ ! -e $program && ! -e $configuration ]]; then
    say "Nothing is installed below $prefix."
    exit
fi
# One installation at a time. The lock is on a folder that an uninstallation keeps.
mkdir -p "$prefix/opt"
exec 9<"$prefix/opt"
flock -w 600 9 || die 1 "another installation has held the lock on $prefix/opt for ten minutes"
old='' new='' restarted=() scratch=$(mktemp -d)
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"$task"
