#!/usr/bin/env bash
# The command `reaper` on a host. For root it runs the program as the service runs it: with the service's user,
# configuration, variables and secrets. For other users it runs the program unchanged. Called as `reaper@NAME` it uses
# that instance. The program replaces this process, so terminal, signals and exit status are those of the program.
#
# The secret files stay root's. The program gets copies that only its user can read, on a private in-memory file system
# that no other process sees and that vanishes with the program.
set -euo pipefail

readonly program=/opt/reaper/bin/reaper configuration=/etc/reaper copies=/run/reaper
called=${0##*/} user=reaper name=''
[[ $called != *@* ]] || name=${called#*@}
readonly called name unit=reaper${name:+@$name} stem=$configuration/${name:-reaper}

die() { # die MESSAGE...
    printf '%s: %s\n' "$called" "$*" >&2
    exit 1
}

# Keeps terminal settings and REAPER_ variables of the caller, which override those of the service; unsets all others.
clear_environment() {
    local variable
    while read -r variable; do
        case $variable in
        PATH | PWD | TERM | TZ | LANG | LC_* | COLUMNS | LINES | NO_COLOR | FORCE_COLOR) ;;
        REAPER_* | CREDENTIALS_DIRECTORY | BASHOPTS | SHELLOPTS) ;;
        *) unset -v "$variable" ;;
        esac
    done < <(compgen -e)
}

# Not with env(1): all users can read the arguments of a command, and a variable may hold a password.
set_default() { # set_default NAME=VALUE: export it unless it is set
    [[ -v ${1%%=*} ]] || declare -gx -- "$1"
}

# Reads a file in the format of EnvironmentFile= in systemd.exec(5), without support for backslashes.
load_environment_file() { # load_environment_file FILE
    local line value number=0
    [[ -e $1 ]] || return 0
    while read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || continue
        [[ $line != *\\* ]] || die "$1:$number: expected no backslash; only systemd knows what it means here"
        value=${line#*=}
        [[ ! $value =~ ^\"(.*)\"$ && ! $value =~ ^\'(.*)\'$ ]] || value=${BASH_REMATCH[1]}
        set_default "${line%%=*}=$value"
    done <"$1"
}

# Reads Environment= and User= of the unit and its drop-ins.
load_unit_settings() {
    local value variable variables=()
    [[ -d /run/systemd/system ]] || return 0
    value=$(systemctl show --property=Environment --value "$unit.service")
    # systemctl quotes the value for a shell, and only root can write unit files: eval is safe.
    eval "variables=($value)"
    for variable in "${variables[@]}"; do set_default "$variable"; done
    value=$(systemctl show --property=User --value "$unit.service")
    user=${value:-$user}
}

copy_secrets() { # copy_secrets FOLDER
    local file
    for file in "$1"/*{database_url,broker_url,http_token}; do
        [[ ! -f $file ]] || install -m 0400 -o "$user" "$file" "$copies"
    done
    chown "$user" "$copies"
}

exec_as_service() {
    local secrets
    clear_environment
    load_environment_file "$stem.env"
    load_unit_settings
    set_default "REAPER_CONFIG=$stem.toml"
    set_default "STATE_DIRECTORY=/var/lib/reaper${name:+-instances/$name}"
    set_default "HOME=$(getent passwd "$user" | cut -d: -f6)"
    set_default "USER=$user"
    set_default "LOGNAME=$user"
    secrets=${CREDENTIALS_DIRECTORY:-$configuration${name:+/$name}}
    mount -t ramfs -o mode=0700 reaper "$copies"
    copy_secrets "$secrets"
    export CREDENTIALS_DIRECTORY=$copies
    umask 077
    exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --no-new-privs "$program" "$@"
}

if [[ $EUID -ne 0 ]]; then exec "$program" "$@"; fi
if [[ ${1:-} == --inside ]]; then
    shift
    exec_as_service "$@"
fi
id "$user" >/dev/null 2>&1 || die "there is no user $user; run scripts/install.sh, which makes it"
[[ -z $name || -e $stem.toml ]] || die "$stem.toml: there is no such file, so there is no instance $name"
unshare --mount true 2>/dev/null || die "root may not mount here, so the command cannot run as the service; run $program itself"
# Whatever root's umask is. Only the mount point: the copies are on a file system that is mounted over it.
install -d -m 0700 -o root -g root "$copies"
exec unshare --mount --propagation slave "$BASH" "$0" --inside "$@"
