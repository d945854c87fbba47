# Removes the installation. Sourced by install.sh.
# shellcheck shell=bash

uninstall() {
    local text kept=("$configuration" "${written[@]}")
    mapfile -t -O "${#kept[@]}" kept < <(find_own_units)
    if ! is_our_rotation; then
        say "Kept: $rotation, which is another program's"
    elif [[ -e $rotation ]]; then
        # An unchanged one is useless without the program; an edited one belongs to the administrator.
        if cmp -s "$documents/reaper.logrotate" "$rotation"; then rm "$rotation"; else kept+=("$rotation"); fi
    fi
    if is_host && systemd_runs; then retire_units; fi
    # First, because it may be refused: then nothing has been removed yet.
    if is_host && [[ -n $purge ]]; then remove_user; fi
    for text in "${texts[@]}"; do rm -f "${text#*:}"; done
    remove_commands
    if is_our_program; then rm -rf "$program"; else say "Kept: $program, which is another program's"; fi
    if [[ -n $purge ]]; then
        remove_all "${kept[@]}"
        say "Removed: the program, its configuration, its state and its log."
    else
        say "Removed: the program. Kept: ${kept[*]}"
    fi
    if is_host && systemd_runs; then systemctl daemon-reload; fi
    drop_empty_folders
}

remove_all() { # remove_all PATH...
    local path
    for path; do
        # A mounted folder is emptied; the mount itself belongs to the host.
        if mountpoint -q "$path"; then find "$path" -mindepth 1 -delete; else rm -rf "$path"; fi
    done
}

# Drop-ins that `systemctl edit` created for our units.
find_own_units() {
    local path
    for path in "$own_units"/reaper{,@*}.service{,.d}; do
        if [[ -d $path ]]; then
            find_anothers_unit "$(basename "$path" .d)" >/dev/null || printf '%s\n' "$path"
        elif [[ -f $path && ! -L $path ]] && is_our_unit "$path"; then
            printf '%s\n' "$path"
        fi
    done
}

retire_units() {
    local unit file
    while read -r unit _; do
        # A template itself is neither running nor enabled; its instances are.
        [[ $unit != *@.service ]] || continue
        file=$(systemctl show --property=FragmentPath --value "$unit")
        if [[ ! -f $file ]]; then
            # Masked, or its file is gone already.
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

# Only a user that an installation created.
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

# Folders that an installation created; of folders that the host shares, only empty ones that no other program needs.
drop_empty_folders() {
    local folder folders=("$library/systemd/system" "$library"/{systemd,sysusers.d,tmpfiles.d})
    is_host || folders+=("$library" "$prefix"/{usr/local/bin,usr/local,usr,opt,etc/logrotate.d,etc,var/lib,var/log,var})
    for folder in "${folders[@]}"; do
        [[ ! -d $folder ]] || rmdir --ignore-fail-on-non-empty "$folder"
    done
}
