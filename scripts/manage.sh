#!/usr/bin/env bash
# Installs, starts, stops and shows a daemon that runs from this folder. `manage.sh help` lists the commands.
set -euo pipefail
# Data, log, token and program are for the user alone who starts the daemon.
umask 077

unset CDPATH  # otherwise `cd` may go to another folder and print its path
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/manager/daemon.sh
source "$root/scripts/manager/daemon.sh"
# shellcheck source=scripts/manager/status.sh
source "$root/scripts/manager/status.sh"

readonly name=worker-reaper
readonly pid_file="$root/logs/$name.pid"
readonly data="$root/.data/postgresql"
readonly own_token="$root/.data/http-token"
readonly own_state="$root/.data/state"
readonly timeout_seconds=30

usage() {
    cat <<TEXT
usage: manage.sh COMMAND

  start          install if needed; start the daemon (and, with no database configured, a private PostgreSQL)
  stop           stop what "start" started, and wait until it has ended
  restart        stop and start the daemon; a private PostgreSQL goes on running
  status         what runs, and how it is; exit status 3 when something that should run does not, or cannot do its work
  logs [NAME]    the end of a log: reaper (default) or postgresql; with -f, follow it
  demo           a minute-long demonstration: workers work, crash, hang and finish late
TEXT
}

# --- configuration ------------------------------------------------------------------------------------------

# Sets `database` (none: none is configured; private: that of the private PostgreSQL is; else configured), `extras` (what
# else its sources need installed), `http` (host:port, empty when off), `page`, `log`, and `token` and `state_dir` (empty
# when not configured).
read_settings() {
    local settings key value
    settings=$(cd "$root" && "$venv_python" scripts/probe.py settings "$data") || return
    clear_settings
    while IFS='=' read -r key value; do use_setting "$key" "$value"; done <<<"$settings"
}

# Sets the same from what the running daemon was started with, which may differ. A daemon that an earlier version
# started has not written it down.
read_settings_of_daemon() {
    local key value
    if (($(wc -l <"$pid_file") < 2)); then
        read_settings || exit
        return
    fi
    clear_settings
    while IFS='=' read -r key value; do use_setting "$key" "$value"; done < <(tail -n +2 "$pid_file")
}

clear_settings() { database='' extras='' http='' page='' token='' state_dir='' log="$root/logs/$name.log"; }

use_setting() { # use_setting KEY VALUE
    case $1 in
    database) database=$2 ;;
    extras) extras=$2 ;;
    http) http=$2 ;;
    page) page=$2 ;;
    token_file) token=$2 ;;
    state_dir) state_dir=$2 ;;
    log_file) [[ -z $2 ]] || log=$2 ;;
    esac
}

probe() { "$venv_python" "$root/scripts/probe.py" "$@"; }

embedded() { (cd "$root" && "$venv_python" -m reaper.dev.postgres "$@" "$data"); }

# Relative paths are relative to the caller's directory, but the daemon runs in another one.
make_absolute() { # make_absolute VARIABLE...
    local variable
    for variable; do
        # Only existing paths, and the state directory, which the daemon creates.
        if [[ -n ${!variable:-} && ${!variable} != /* ]] && [[ -e ${!variable} || $variable == REAPER_STATE_DIR ]]; then
            export "$variable=$PWD/${!variable}"
        fi
    done
}

# --- commands -----------------------------------------------------------------------------------------------

start() {
    if find_daemon; then
        venv_python="$root/.venv/bin/python"
        read_settings_of_daemon
        if uses_postgresql && ! embedded status >/dev/null; then start_postgresql; fi
        say "$name: already running (pid $pid)"
        return
    fi
    drop_stale_pid_file
    prepare_venv run run/reaper run/embedded
    read_settings || exit
    if [[ -n $extras ]]; then
        IFS=, read -ra wanted <<<"$extras"
        prepare_venv "run-$extras" run/reaper run/embedded "${wanted[@]/#/run/}"
    fi
    [[ -z $http ]] || probe free "$http" || exit
    if uses_postgresql; then start_postgresql; fi
    set_default_token_and_state
    launch
    wait_until_live
    say "$name: running (pid $pid)"
    if [[ -n $page ]]; then say "page: $page"; fi
}

# Whether the daemon uses the private PostgreSQL of this folder: no other database is configured, or this one is.
uses_postgresql() { [[ $database == none || $database == private ]]; }

# Starts the private PostgreSQL if it does not run, and makes it the daemon's database if none is configured.
start_postgresql() {
    local url
    # It says what it makes on this machine before it does so.
    url=$(embedded start) || exit
    if [[ $database == private ]]; then
        say "postgresql: running, private"
        return
    fi
    export REAPER_DATABASE_URL=$url
    say "postgresql: running, private, as no database is configured; the reaper command finds it after"
    say "  export REAPER_DATABASE_URL='$url'"
}

# Without a token the HTTP API is read-only; without a state directory a persistent halt is lost at a restart.
set_default_token_and_state() {
    make_private "$root/.data"
    if [[ -z $token && -n $http ]]; then
        say "http: changes need the token in $own_token"
        make_token
        export REAPER_HTTP_TOKEN_FILE="$own_token"
    fi
    if [[ -z $state_dir ]]; then
        export REAPER_STATE_DIR="$own_state"
        say "state: kept in $own_state; commands see a halt after"
        say "  export REAPER_STATE_DIR='$own_state'"
    fi
}

# An earlier version made these under the umask of the caller.
make_private() { # make_private PATH
    if [[ -O $1 ]]; then chmod go-rw "$1"; fi
}

make_token() {
    mkdir -p "${own_token%/*}"
    [[ ! -s $own_token ]] || return 0
    # Written completely or not at all.
    "$venv_python" -c 'import secrets; print(secrets.token_hex(32))' >"$own_token.new" || exit
    mv "$own_token.new" "$own_token"
}

stop() {
    stop_daemon
    venv_python="$root/.venv/bin/python"
    if [[ -x $venv_python ]] && embedded status >/dev/null; then
        embedded stop
        say "postgresql: stopped"
    fi
}

stop_daemon() {
    if find_daemon; then
        end_daemon
        say "$name: stopped"
    else
        drop_stale_pid_file
        say "$name: not running"
    fi
}

restart() {
    stop_daemon
    start
}

logs() {
    local log_name=reaper follow='' argument file
    for argument; do
        case $argument in
        -f | --follow) follow=yes ;;
        *) log_name=$argument ;;
        esac
    done
    venv_python="$root/.venv/bin/python"
    require_readable "$venv_python" "$pid_file"
    case $log_name in
    reaper | "$name")
        file="$root/logs/$name.log"
        if [[ -x $venv_python ]] && read_settings 2>/dev/null; then
            if find_daemon; then read_settings_of_daemon; fi
            file=$log
        fi
        ;;
    postgresql | postgres)
        [[ -x $venv_python ]] || die 1 "nothing is installed yet: run manage.sh start"
        file=$(embedded log)
        ;;
    *) die 2 "there is no log '$log_name'; expected one of: reaper, postgresql" ;;
    esac
    require_readable "$file"
    [[ -e $file ]] || die 1 "$file: nothing has been logged yet"
    exec tail -n 100 ${follow:+-F} "$file"
}

demo() {
    prepare_venv run run/reaper run/embedded
    exec 9>&-
    exec "$venv_python" -m reaper demo "$@"
}

# Only one start or stop at a time.
lock() {
    need_to_write "$root/logs/manage.lock"
    exec 9>"$root/logs/manage.lock"
    flock -w 120 9 || die 1 "another manage.sh has been busy for two minutes"
}

command=${1:-help}
shift $(($# > 0))
make_absolute REAPER_CONFIG REAPER_DATABASE_URL_FILE REAPER_BROKER_URL_FILE REAPER_HTTP_TOKEN_FILE REAPER_STATE_DIR
case $command in
start | stop | restart)
    lock
    "$command"
    ;;
status | logs | demo) "$command" "$@" ;;
help | -h | --help) usage ;;
*)
    usage >&2
    die 2 "unknown command '$command'"
    ;;
esac
