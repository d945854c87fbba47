# How all of it is taken away again. Sourced by install.sh.
# shellcheck shell=bash

uninstall() {
    local text kept=("$configuration" "${written[@]}")
    mapfile -t -O "${#kept[@]}" kept < <(find_own_units)
    if is_host && systemd_runs; then retire_units; fi
    # First, for it may be refused; then nothing is gone yet.
    if is_host && [[ -n $purge ]]; then remove_user; fi
    for text in "${texts[@]}"; do rm -f "${text#*:}"; done
    remove_commands
    rm -rf "$program"
    if [[ -n $purge ]]; then
        rm -rf "${kept[@]}"
        say "Removed: the program, its configuration, its state and its log."
    else
        say "Removed: the program. Kept: ${kept[*]}"
    fi
    if is_host && systemd_runs; then systemctl daemon-reload; fi
    drop_empty_folders
}

# What `systemctl edit` made for our units.
find_own_units() {
    [[ ! -d $own_units ]] ||
        find "$own_units" -maxdepth 1 \( -name 'reaper.service*' -o -name 'reaper@*.service*' \) ! -type l
}

retire_units() {
    local unit
    while read -r unit _; do
        # A template is neither running nor enabled; its instances are.
        [[ $unit == *@.service ]] || systemctl disable --quiet --now "$unit"
    done < <(systemctl list-units --all --plain --no-legend "${daemons[@]}" &&
        systemctl list-unit-files --no-legend "${daemons[@]}")
}

# The one that an installation made, and nobody else's.
remove_user() {
    local entry
    entry=$(getent passwd reaper) || return 0
    if [[ $entry != *:"$home":*/nologin ]]; then
        say "Kept: the user reaper, which no installation made (home $(cut -d: -f6 <<<"$entry"), shell ${entry##*:})"
        return
    fi
    userdel reaper || die 1 "the user reaper cannot be removed; the daemons are stopped, and nothing else is done"
}

remove_commands() {
    local link
    for link in "$command" "$command"@*; do
        if is_ours "$link"; then rm -f "$link"; else say "Kept: $link, which is another program's"; fi
    done
}

# Those that an installation made; of the host's own only what no other program is likely to miss.
drop_empty_folders() {
    local folder folders=("$library/systemd/system" "$library"/{systemd,sysusers.d,tmpfiles.d})
    is_host || folders+=("$library" "$prefix"/{usr/local/bin,usr/local,usr,opt,etc/logrotate.d,etc,var/lib,var/log,var} "$prefix")
    for folder in "${folders[@]}"; do
        [[ ! -d $folder ]] || rmdir --ignore-fail-on-non-empty "$folder"
    done
}
