# What was there before: kept until an installation is finished, and put back when it is not. Sourced by install.sh.
# shellcheck shell=bash

# Beside the program, for it has to outlast this process: whoever is killed has no last word.
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

# From here on there is no way back, and none is needed.
forget() {
    rm -rf "$before.new"
    [[ ! -e $before ]] || mv -T "$before" "$before.new"
    rm -rf "$before.new"
}

# Program and units as they were, and the daemons that have met the new ones with them.
undo() {
    local was
    was=$(readlink "$before/release" || true)
    put_texts_back
    if [[ -n $was ]]; then switch_to "$was"; fi
    if is_host && systemd_runs; then
        systemctl daemon-reload
        if ((${#restarted[@]})) && [[ -n $was ]]; then
            # Stopped before the new program is removed; that they come up again nobody waits for.
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
    say "An installation was broken off; what was there before it is put back first."
    if is_host && systemd_runs; then
        mapfile -t restarted < <(in_state active,activating)
    fi
    undo
    # Whether they run decides what becomes of a program that does not come up.
    if ((${#restarted[@]})); then systemctl start "${restarted[@]}" || true; fi
    restarted=()
}
