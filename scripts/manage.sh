#!/usr/bin/env bash
# Installs, starts, stops and shows a daemon that runs from this folder. `manage.sh help` lists the commands.
set -euo pipefail

unset CDPATH  # otherwise `cd` may go to another folder and print its path
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

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
  restart        stop, then start
  status         what runs; exit status 3 when something that should run does not
  logs [NAME]    the end of a log: reaper (default) or postgresql; with -f, follow it
  demo           a minute-long demonstration: workers work, crash, hang and finish late
TEXT
}

# --- processes ----------------------------------------------------------------------------------------------

# Prints an identity that no other process with this pid has: pid, start time, and the boot it is counted from.
identity() { # identity PID
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The command's name is in parentheses and may itself contain blanks and parentheses.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != Z ]] || return 1
    printf '%s %s %s\n' "$1" "${fields[19]}" "$(cat /proc/sys/kernel/random/boot_id)"
}

# Sets `pid` to the process of the daemon; fails when the daemon that `start` started has ended.
find_daemon() {
    local recorded
    pid=''
    recorded=$(cat "$pid_file" 2>/dev/null) || return 1
    [[ ${recorded%% *} =~ ^[0-9]+$ && $(identity "${recorded%% *}") == "$recorded" ]] || return 1
    pid=${recorded%% *}
}

drop_stale_pid_file() {
    if [[ -e $pid_file ]]; then
        say "$name: the pid file is stale (process $(cut -d' ' -f1 "$pid_file") is not the daemon); removed"
        rm -f "$pid_file"
    fi
}

wait_for_end() { # wait_for_end SECONDS
    local deadline=$((SECONDS + $1))
    while find_daemon; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# --- configuration ------------------------------------------------------------------------------------------

# Sets `database` (configured or embedded), `http` (host:port, empty when off), `log`, and `token` and `state_dir` (empty
# when not configured).
read_settings() {
    local settings key value
    settings=$(cd "$root" && "$venv_python" scripts/probe.py settings) || return
    database='' http='' token='' state_dir='' log="$root/logs/$name.log"
    while IFS='=' read -r key value; do
        case $key in
        database) database=$value ;;
        http) http=$value ;;
        token_file) token=$value ;;
        state_dir) state_dir=$value ;;
        log_file) [[ -z $value ]] || log=$value ;;
        esac
    done <<<"$settings"
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
        say "$name: already running (pid $pid)"
        return
    fi
    drop_stale_pid_file
    prepare_venv run -e '.[embedded]'
    read_settings || exit
    [[ -z $http ]] || probe free "$http" || exit
    if [[ $database == embedded ]]; then
        REAPER_DATABASE_URL=$(embedded start) || exit
        export REAPER_DATABASE_URL
        say "postgresql: running, private, as no database is configured; the reaper command finds it after"
        say "  export REAPER_DATABASE_URL='$REAPER_DATABASE_URL'"
    fi
    set_default_token_and_state
    launch
    wait_until_live
    say "$name: running (pid $pid)"
}

# Without a token the HTTP API is read-only; without a state directory a persistent halt is lost at a restart.
set_default_token_and_state() {
    if [[ -z $token && -n $http ]]; then
        make_token
        export REAPER_HTTP_TOKEN_FILE="$own_token"
        say "http: changes need the token in $own_token"
    fi
    if [[ -z $state_dir ]]; then export REAPER_STATE_DIR="$own_state"; fi
}

make_token() {
    mkdir -p "${own_token%/*}"
    [[ ! -s $own_token ]] || return 0
    # Written completely or not at all, and readable by the owner only.
    (umask 077 && "$venv_python" -c 'import secrets; print(secrets.token_hex(32))' >"$own_token.new") || exit
    mv "$own_token.new" "$own_token"
}

launch() {
    cd "$root"
    # Output before the log is open goes to the log file too. The daemon does not inherit the lock (descriptor 9).
    REAPER_LOG_FILE=$log setsid "$venv_python" -m reaper run </dev/null >>"$log" 2>&1 9>&- &
    child=$!
    identity "$child" >"$pid_file" || report_failed_start
    disown -h "$child"
}

wait_until_live() {
    local deadline=$((SECONDS + timeout_seconds)) settle_deadline=$((SECONDS + 2))
    while find_daemon; do
        # With HTTP off the daemon cannot be asked: it counts as live if it has not ended after two seconds.
        if [[ -n $http ]] && probe live "$http"; then return; fi
        if [[ -z $http ]] && ((SECONDS > settle_deadline)); then return; fi
        if ((SECONDS >= deadline)); then
            end_daemon
            tail -n 10 "$log" >&2
            die 1 "$name did not answer on http://$http/live within $timeout_seconds seconds; stopped it again"
        fi
        sleep 0.2
    done
    report_failed_start
}

# The daemon ended at once: prints the end of its log, and exits with its exit status.
report_failed_start() {
    local status=0
    wait "$child" || status=$?
    rm -f "$pid_file"
    tail -n 10 "$log" >&2
    ((status != 0)) || status=1
    die "$status" "$name ended at once (exit status $status); the end of its log is above; the log is $log"
}

end_daemon() {
    kill -TERM "$pid" 2>/dev/null || true
    if ! wait_for_end "$timeout_seconds"; then
        say "$name: did not end within $timeout_seconds seconds of SIGTERM; killed"
        kill -KILL "$pid" 2>/dev/null || true
        wait_for_end "$timeout_seconds" || die 1 "$name (pid $pid) does not end"
    fi
    rm -f "$pid_file"
}

stop() {
    if find_daemon; then
        end_daemon
        say "$name: stopped"
    else
        drop_stale_pid_file
        say "$name: not running"
    fi
    venv_python="$root/.venv/bin/python"
    if [[ -x $venv_python ]] && embedded status >/dev/null; then
        embedded stop
        say "postgresql: stopped"
    fi
}

row() { printf '%-14s %8s %10s  %-14s %s\n' "$@"; }

memory_of() { awk '/^VmRSS:/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$1/status" 2>/dev/null || true; }

status() {
    local result=0 state=running last='' server=''
    venv_python="$root/.venv/bin/python"
    row NAME PID MEMORY STATE 'LAST SUCCESSFUL SWEEP'
    if [[ ! -x $venv_python ]]; then
        row "$name" - - 'not installed' -
        return 3
    fi
    read_settings || exit
    if find_daemon; then
        if [[ -n $http ]]; then
            last=$(probe last-sweep "$http") && state=$(probe supervisor "$http") || state='no answer'
        fi
        row "$name" "$pid" "$(memory_of "$pid")" "$state" "${last:--}"
        # A halted daemon runs as intended: not an error.
        [[ $state == running || $state == halted ]] || result=3
    else
        [[ ! -e $pid_file ]] && state=stopped || state=dead
        row "$name" - - "$state" -
        result=3
    fi
    if server=$(embedded status); then
        row postgresql "$server" "$(memory_of "$server")" running -
    elif [[ $database == embedded ]]; then
        row postgresql - - stopped -
        result=3
    fi
    return "$result"
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
    case $log_name in
    reaper | "$name")
        file="$root/logs/$name.log"
        if [[ -x $venv_python ]] && read_settings 2>/dev/null; then file=$log; fi
        ;;
    postgresql | postgres)
        [[ -x $venv_python ]] || die 1 "nothing is installed yet: run manage.sh start"
        file=$(embedded log)
        ;;
    *) die 2 "there is no log '$log_name'; expected one of: reaper, postgresql" ;;
    esac
    [[ -r $file ]] || die 1 "$file: nothing has been logged yet"
    exec tail -n 100 ${follow:+-F} "$file"
}

demo() {
    prepare_venv run -e '.[embedded]'
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
start | stop)
    lock
    "$command"
    ;;
restart)
    lock
    stop
    start
    ;;
status | logs | demo) "$command" "$@" ;;
help | -h | --help) usage ;;
*)
    usage >&2
    die 2 "unknown command '$command'"
    ;;
esac
