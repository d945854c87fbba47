# Files of other programs under names that this one uses: they are neither replaced nor removed. Sourced by install.sh.
# shellcheck shell=bash

refuse_what_is_anothers() {
    local unit file
    is_our_command "$command" || refuse "$command"
    is_our_program || refuse "$program"
    is_our_rotation || refuse "$rotation"
    for unit in reaper.service reaper@.service; do
        if file=$(find_anothers_unit "$unit"); then refuse "$file"; fi
    done
}

refuse() { die 1 "$1 is another program's; move it away first"; } # refuse FILE

# Whether FILE may be replaced and removed: it does not exist, or it is a link into our program.
is_our_command() { [[ (! -e $1 && ! -L $1) || $(readlink "$1") == "$program"/* ]]; } # is_our_command FILE

is_our_program() { [[ ! -e $program || -d $program/releases ]]; }

# Also an edited one: it is about our log.
is_our_rotation() { [[ ! -e $rotation ]] || grep -qF "$prefix/var/log/reaper/" "$rotation"; }

# Also a copy that `systemctl edit --full` made: it starts our program.
is_our_unit() { grep -qF "$program/bin/reaper" "$1"; } # is_our_unit FILE

# A command of the same name elsewhere in PATH. Fails when there is none.
find_anothers_unit() { # find_anothers_unit NAME
    local file
    for file in "$prefix"/{etc,run,usr/local/lib,usr/lib,lib}/systemd/system/"$1"; do
        if [[ -f $file ]] && ! is_our_unit "$file"; then
            printf '%s\n' "$file"
            return
        fi
    done
    return 1
}
