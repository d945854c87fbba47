# --uninstall and --purge. Sourced by install.sh.
# shellcheck shell=bash

uninstall() {
    local entry kept=("$configuration" "${data_folders[@]}")
    mapfile -t -O "${#kept[@]}" kept < <(find_unit_overrides)
    if ! is_our_rotation; then
        say "Kept: $rotation, which is another program's"
    elif [[ -e $rotation ]]; then
        # The unchanged shipped file is removed; an edited one is kept.
        if cmp -s "$documents/reaper.logrotate" "$rotation"; then rm "$rotation"; else kept+=("$rotation"); fi
    fi
    if is_host && systemd_runs; then disable_units; fi
    # First, because it may fail: nothing has been removed then.
    if is_host && [[ -n $purge ]]; then remove_user; fi
    for entry in "${files[@]}"; do rm -f "${entry#*:}"; done
    remove_commands
    if is_our_program; then rm -rf "$program"; else say "Kept: $program, which is another program's"; fi
    if [[ -n $purge ]]; then
        remove_all "${kept[@]}" "$prefix/run/reaper"
        say "Removed: the program, its configuration, its state and its log."
    else
        say "Removed: the program. Kept: ${kept[*]}"
    fi
    if is_host && systemd_runs; then systemctl daemon-reload; fi
    remove_empty_folders
}

remove_all() { # remove_all PATH...
    local path
    for path; do
        # A mount point cannot be removed: it is emptied.
        if mountpoint -q "$path"; then find "$path" -mindepth 1 -delete; else rm -rf "$path"; fi
    done
}

# Prints the files and drop-ins that `systemctl edit` made for our units.
find_unit_overrides() {
    local path
    for path in "$override_folder"/reaper{,@*}.service{,.d}; do
        if [[ -d $path ]]; then
            find_foreign_unit "$(basename "$path" .d)" >/dev/null || printf '%s\n' "$path"
        elif [[ -f $path && ! -L $path ]] && is_our_unit "$path"; then
            printf '%s\n' "$path"
        fi
    done
}

disable_units() {
    local unit file
    while read -r unit _; do
        # A template unit is never running or enabled; its instances are.
        [[ $unit != *@.service ]] || continue
        file=$(systemctl show --property=FragmentPath --value "$unit")
        if [[ ! -f $file ]]; then
            # The unit is masked, or its file has been removed.
            if systemctl is-active --quiet "$unit"; then systemctl stop "$unit"; fi
        elif is_our_unit "$file"; then
            systemctl disable --quiet --now "$unit"
        else
            continue
        fi
        if systemctl is-failed --quiet "$unit"; then systemctl reset-failed "$unit"; fi
    done < <({
        systemctl list-units --all --plain --no-legend "${daemons[@]}"
        systemctl list-unit-files --no-legend "${daemons[@]}"
    } | sort -u -k 1,1)
}

# Removes the user only if an installation made it: it has our home and no login shell.
remove_user() {
    local entry
    entry=$(getent passwd reaper) || return 0
    if [[ $entry != *:"$home":*/nologin ]]; then
        say "Kept: the user reaper, which the installation did not create (home $(cut -d: -f6 <<<"$entry"), shell ${entry##*:})"
        return
    fi
    userdel reaper || die 1 "the user reaper cannot be removed; the daemons are stopped, and nothing else is done"
}

remove_commands() {
    local link
    for link in "$command" "$command"@*; do
        if is_our_command "$link"; then rm -f "$link"; else say "Kept: $link, which is another program's"; fi
    done
}

# Removes empty folders that an installation may have made. On a host only those that other programs do not need.
remove_empty_folders() {
    local folder folders=("$library/systemd/system" "$library"/{systemd,sysusers.d,tmpfiles.d})
    is_host || folders+=("$library" "$prefix"/{usr/local/bin,usr/local,usr,opt,etc/logrotate.d,etc,var/lib,var/log,var})
    for folder in "${folders[@]}"; do
        [[ ! -d $folder ]] || rmdir --ignore-fail-on-non-empty "$folder"
    done
}
