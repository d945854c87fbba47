# The previous installation: kept until a new one is finished, and restored when that fails. Sourced by install.sh.
# shellcheck shell=bash

# On disk beside the program, because a killed process cannot restore anything: the next installation does.
remember() {
    local text
    rm -rf "$before.new"
    mkdir -p "$before.new"/{systemd,config}
    [[ -z $old ]] || ln -s "$old" "$before.new/release"
    for text in "${texts[@]}"; do
        [[ ! -e ${text#*:} ]] || cp -a "${text#*:}" "$before.new/${text%%:*}"
    done
    mv -T "$before.new" "$before"
}

# From here on the new installation is complete; the backup is removed.
forget() {
    rm -rf "$before.new"
    [[ ! -e $before ]] || mv -T "$before" "$before.new"
    rm -rf "$before.new"
}

# Restores program and units, and restarts the daemons that had started with the new ones.
undo() {
    local was
    was=$(readlink "$before/release" || true)
    put_texts_back
    if [[ -n $was ]]; then switch_to "$was"; fi
    if is_host && systemd_runs; then
        systemctl daemon-reload
        if ((${#restarted[@]})) && [[ -n $was ]]; then
            # Stopped before the new program is removed; their next start is not waited for.
            systemctl stop "${restarted[@]}" || true
            systemctl start --no-block "${restarted[@]}"
        fi
    fi
    forget
}

put_texts_back() {
    local text kept target
    for text in "${texts[@]}"; do
        kept="$before/${text%%:*}" target=${text#*:}
        if [[ -e $kept ]]; then cp -a "$kept" "$target"; else rm -f "$target"; fi
    done
}

finish_what_was_broken_off() {
    [[ -e $before ]] || return 0
    say "An installation was interrupted; the previous one is restored first."
    if is_host && systemd_runs; then
        mapfile -t restarted < <(in_state active,activating)
    fi
    undo
    # Remembered, because it decides whether a failed start restores the old program.
    if ((${#restarted[@]})); then systemctl start "${restarted[@]}" || true; fi
    restarted=()
}
