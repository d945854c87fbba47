# manage.sh status: a row for each process, and what the daemon says of its sources. Sourced by manage.sh.
# shellcheck shell=bash

row() { printf '%-14s %8s %10s  %-14s %s\n' "$@"; }

memory_of() { awk '/^VmRSS:/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$1/status" 2>/dev/null || true; }

status() {
    local result=0
    require_readable "$root/.venv/bin/python" "$pid_file"
    venv_python="$root/.venv/bin/python"
    row NAME PID MEMORY STATE 'LAST SUCCESSFUL SWEEP'
    if [[ ! -x $venv_python ]]; then
        row "$name" - - 'not installed' -
        return 3
    fi
    read_settings || exit
    details=()
    daemon_status || result=3
    postgresql_status || result=3
    [[ -z $page ]] || [[ -z $pid ]] || say "page: $page"
    ((${#details[@]} == 0)) || printf '%s\n' "${details[@]}"
    return "$result"
}

# Prints the daemon's row, and sets `details`. Fails unless the daemon runs and can do its work; a halted one can.
daemon_status() {
    local answer=() result=0
    if ! find_daemon; then
        [[ ! -e $pid_file ]] && answer=(stopped) || answer=(dead)
        row "$name" - - "${answer[0]}" -
        return 1
    fi
    read_settings_of_daemon
    if [[ -n $http ]]; then
        # The exit status comes last, as a line of its own.
        mapfile -t answer < <(probe status "$http" && echo 0 || echo $?)
        result=${answer[-1]}
        unset 'answer[-1]'
        ((result != 1)) || answer=('no answer' -)
    else
        # Without HTTP the daemon cannot be asked.
        answer=(running -)
    fi
    row "$name" "$pid" "$(memory_of "$pid")" "${answer[0]}" "${answer[1]}"
    details=("${answer[@]:2}")
    return "$result"
}

# Prints the row of the private PostgreSQL where there is one. Fails when the daemon uses it and it does not run.
postgresql_status() {
    local server result=0
    if is_hidden "$data/data"; then
        row postgresql - - 'no permission' -
        if uses_postgresql; then return 1; fi
        return 0
    fi
    server=$(embedded status) || result=$?
    if ((result == 0)); then
        row postgresql "$server" "$(memory_of "$server")" running -
    elif uses_postgresql; then
        row postgresql - - stopped -
        return 1
    fi
}
