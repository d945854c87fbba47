# The service's user and the running daemons of this host. Sourced by install.sh.
# shellcheck shell=bash

readonly home=/var/lib/reaper
readonly daemons=(reaper.service 'reaper@*.service')

systemd_runs() { [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null; }

# A user with a login shell belongs to a person, who could then read the service's secrets.
refuse_login_user() {
    local entry
    entry=$(getent passwd reaper) || return 0
    [[ $entry =~ /(nologin|false)$ ]] ||
        die 1 "the user reaper can log in (shell ${entry##*:}), so it belongs to a person; the service needs this user for itself"
}

prepare_host() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$library/sysusers.d/reaper.conf"
        systemd-tmpfiles --create "$library/tmpfiles.d/reaper.conf"
    fi
    if systemd_runs; then systemctl daemon-reload; fi
}

units_in_state() { # units_in_state STATE: prints the daemons' units in that state
    systemctl list-units --state="$1" --plain --no-legend "${daemons[@]}" | cut -d ' ' -f 1
}

# Restarts the daemons with the new program. Daemons that ran before must start; otherwise the old program is restored.
restart_daemons() {
    local running starting unit
    mapfile -t running < <(units_in_state active)
    # Daemons that were still starting or failing before get the new program too, but cannot cause a rollback.
    mapfile -t starting < <(units_in_state activating)
    restarted=("${running[@]}" "${starting[@]}")
    if ((${#running[@]})) && ! unit=$(restart_units "${running[@]}"); then
        roll_back_daemons "${running[@]}"
    fi
    if ((${#starting[@]})) && ! unit=$(restart_units "${starting[@]}"); then
        discard_saved
        die 1 "$unit did not run before, and does not start with the new program either; see journalctl -u $unit"
    fi
}

# Restores the old program, if there is one, restarts the units with it, and exits with status 1.
roll_back_daemons() { # roll_back_daemons UNIT...
    local reason="see journalctl -u $unit"
    if [[ -z $old ]]; then
        discard_saved
        die 1 "$unit does not start; $reason"
    fi
    restarted=()
    roll_back
    restart_units "$@" >/dev/null ||
        die 1 "$unit does not start, neither with the new program nor with the old one; $reason"
    remove_releases_except "$old"
    die 1 "$unit did not start with the new program ($reason); the old one is restored and runs"
}

# Restarts all units. If one does not start: prints the name of the first such unit and fails.
restart_units() { # restart_units UNIT...
    local unit
    # Its error output is dropped, because the caller reports the failing unit.
    systemctl restart "$@" 2>/dev/null && return
    for unit; do
        [[ $(systemctl show --property=ActiveState --value "$unit") == active ]] || break
    done
    printf '%s\n' "$unit"
    return 1
}
