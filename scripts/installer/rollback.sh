# Saves the previous installation, and restores it when the new one fails. Sourced by install.sh.
# shellcheck shell=bash

# Saved on disk beside the program, because this process may be killed: the next run then rolls back.
save_previous() {
    local entry
    rm -rf "$before.new"
    mkdir -p "$before.new"/{systemd,config}
    [[ -z $old ]] || ln -s "$old" "$before.new/release"
    for entry in "${files[@]}"; do
        [[ ! -e ${entry#*:} ]] || cp -a "${entry#*:}" "$before.new/${entry%%:*}"
    done
    mv -T "$before.new" "$before"
}

# The installation is complete: the saved copy is not needed any more.
discard_saved() {
    rm -rf "$before.new"
    [[ ! -e $before ]] || mv -T "$before" "$before.new"
    rm -rf "$before.new"
}

# Restores program and units, and restarts the daemons that were restarted with the new ones.
roll_back() {
    local previous
    previous=$(readlink "$before/release" || true)
    restore_files
    if [[ -n $previous ]]; then switch_to "$previous"; fi
    if is_host && systemd_runs; then
        systemctl daemon-reload
        if ((${#restarted[@]})) && [[ -n $previous ]]; then
            # They must stop before the new program is removed. The script does not wait until they have started again.
            systemctl stop "${restarted[@]}" || true
            systemctl start --no-block "${restarted[@]}"
        fi
    fi
    discard_saved
}

restore_files() {
    local entry saved target
    for entry in "${files[@]}"; do
        saved="$before/${entry%%:*}" target=${entry#*:}
        if [[ -e $saved ]]; then cp -a "$saved" "$target"; else rm -f "$target"; fi
    done
}

roll_back_interrupted() {
    [[ -e $before ]] || return 0
    say "An installation was interrupted; the previous one is restored first."
    if is_host && systemd_runs; then
        mapfile -t restarted < <(units_in_state active,activating)
    fi
    roll_back
    # They must run before the upgrade: only daemons that ran before cause a rollback.
    if ((${#restarted[@]})); then systemctl start "${restarted[@]}" || true; fi
    restarted=()
}
