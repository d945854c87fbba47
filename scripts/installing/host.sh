# The user of the service, and restarts of running daemons. Sourced by install.sh.
# shellcheck shell=bash

readonly home=/var/lib/reaper
readonly daemons=(reaper.service 'reaper@*.service')

systemd_runs() { [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null; }

# A user that can log in is a person's, who could then read the service's secrets.
refuse_a_persons_user() {
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

in_state() { # in_state STATE: the daemons' units in it
    systemctl list-units --state="$1" --plain --no-legend "${daemons[@]}" | cut -d ' ' -f 1
}

# Daemons that were running must start with the new program; otherwise the old program is restored.
restart_daemons() {
    local running starting unit
    mapfile -t running < <(in_state active)
    # A daemon that waits for its database or was failing before gets the new program, but cannot cause a return to the old.
    mapfile -t starting < <(in_state activating)
    restarted=("${running[@]}" "${starting[@]}")
    if ((${#running[@]})) && ! unit=$(first_that_stays_down "${running[@]}"); then
        give_back_to "${running[@]}"
    fi
    if ((${#starting[@]})) && ! unit=$(first_that_stays_down "${starting[@]}"); then
        forget
        die 1 "$unit did not run before, and does not come up with the new program either; journalctl -u $unit says why"
    fi
}

# Restores and restarts the old program, if it still exists. Ends the installation.
give_back_to() { # give_back_to UNIT...
    local why="journalctl -u $unit says why"
    if [[ -z $old ]]; then
        forget
        die 1 "$unit does not come up; $why"
    fi
    restarted=()
    undo
    first_that_stays_down "$@" >/dev/null ||
        die 1 "$unit does not come up, neither with what was installed now nor with what was there before; $why"
    drop_releases_but "$old"
    die 1 "$unit did not come up with what was installed now ($why); what was there before is back, and runs"
}

# Restarts all units. Fails with the name of the first that does not start.
first_that_stays_down() { # first_that_stays_down UNIT...
    local unit
    # The caller prints the reason.
    systemctl restart "$@" 2>/dev/null && return
    for unit; do
        [[ $(systemctl show --property=ActiveState --value "$unit") == active ]] || break
    done
    printf '%s\n' "$unit"
    return 1
}
