#!/usr/bin/env bash
# The command `reaper` on a host. For root it runs as the service would: as its user, with its configuration, variables
# and secrets. For other users it is the plain program. Called as `reaper@NAME` it is the command of that instance. The
# program replaces this process, so terminal, signals and exit status are the program's.
#
# Secrets belong to root: the program gets copies that only its user can read, on a file system that no other process
# sees and that ends with the program.
set -euo pipefail

readonly program=/opt/reaper/bin/reaper configuration=/etc/reaper copies=/run/reaper
called=${0##*/} user=reaper name=''
[[ $called != *@* ]] || name=${called#*@}
readonly called name unit=reaper${name:+@$name} stem=$configuration/${name:-reaper}

die() { # die MESSAGE...
    printf '%s: %s\n' "$called" "$*" >&2
    exit 1
}

# Variables of the caller; they override those of the service.
keep_own_variables() {
    local variable
    while read -r variable; do
        case $variable in
        PATH | PWD | TERM | TZ | LANG | LC_* | COLUMNS | LINES | NO_COLOR | FORCE_COLOR) ;;
        REAPER_* | CREDENTIALS_DIRECTORY | BASHOPTS | SHELLOPTS) ;;
        *) unset -v "$variable" ;;
        esac
    done < <(compgen -e)
}

# Not with env(1): every user can read a command's arguments, and a variable may contain a password.
offer() { # offer NAME=VALUE: unless it has one
    [[ -v ${1%%=*} ]] || declare -gx -- "$1"
}

# As EnvironmentFile= of systemd.exec(5), but for backslashes.
offer_file() { # offer_file FILE
    local line value number=0
    [[ -e $1 ]] || return 0
    while read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || continue
        [[ $line != *\\* ]] || die "$1:$number: expected no backslash; only systemd knows what it means here"
        value=${line#*=}
        [[ ! $value =~ ^\"(.*)\"$ && ! $value =~ ^\'(.*)\'$ ]] || value=${BASH_REMATCH[1]}
        offer "${line%%=*}=$value"
    done <"$1"
}

# Environment= and User= of the unit and its drop-ins.
offer_what_systemd_knows() {
    local shown variable variables=()
    [[ -d /run/systemd/system ]] || return 0
    shown=$(systemctl show --property=Environment --value "$unit.service")
    # It is quoted for a shell, and only root can have written it.
    eval "variables=($shown)"
    for variable in "${variables[@]}"; do offer "$variable"; done
    shown=$(systemctl show --property=User --value "$unit.service")
    user=${shown:-$user}
}

copy_secrets() { # copy_secrets FOLDER
    local file
    for file in "$1"/*{database_url,broker_url,http_token}; do
        [[ ! -f $file ]] || install -m 0400 -o "$user" "$file" "$copies"
    done
    chown "$user" "$copies"
}

become_the_service() {
    local secrets
    keep_own_variables
    offer_file "$stem.env"
    offer_what_systemd_knows
    offer "REAPER_CONFIG=$stem.toml"
    offer "STATE_DIRECTORY=/var/lib/reaper${name:+-instances/$name}"
    offer "HOME=$(getent passwd "$user" | cut -d: -f6)"
    offer "USER=$user"
    offer "LOGNAME=$user"
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
    become_the_service "$@"
fi
id "$user" >/dev/null 2>&1 || die "there is no user $user; scripts/install.sh makes it"
[[ -z $name || -e $stem.toml ]] || die "$stem.toml: there is no such file, so there is no instance $name"
unshare --mount true 2>/dev/null || die "root may not mount here, and so cannot take the service's place; see $program"
mkdir -p "$copies"
exec unshare --mount --propagation slave "$BASH" "$0" --inside "$@"
