# The daemon as a process: its identity and pid file, its start and its end. Sourced by manage.sh.
# shellcheck shell=bash

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
    local recorded=''
    pid=''
    { IFS= read -r recorded <"$pid_file"; } 2>/dev/null || return 1
    [[ ${recorded%% *} =~ ^[0-9]+$ && $(identity "${recorded%% *}") == "$recorded" ]] || return 1
    pid=${recorded%% *}
}

# The first line is the daemon's identity, the others are what it was started with.
write_pid_file() { # write_pid_file PID
    { identity "$1" && printf '%s\n' "http=$http" "page=$page" "log_file=$log" "database=$database"; } >"$pid_file.new" &&
        mv "$pid_file.new" "$pid_file"
}

drop_stale_pid_file() {
    if [[ -e $pid_file ]]; then
        say "$name: the pid file is stale (process $(head -n 1 "$pid_file" | cut -d' ' -f1) is not the daemon); removed"
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

launch() {
    cd "$root"
    # Output before the log is open goes to the log file too. The daemon does not inherit the lock (descriptor 9).
    make_private "$root/logs/$name.log"
    REAPER_LOG_FILE=$log setsid "$venv_python" -m reaper run </dev/null >>"$log" 2>&1 9>&- &
    child=$!
    write_pid_file "$child" || report_failed_start
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
    rm -f "$pid_file" "$pid_file.new"
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
