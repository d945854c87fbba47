# Finds files of other programs under the names that we use. They are never replaced or removed. Sourced by install.sh.
# shellcheck shell=bash

refuse_conflicts() {
    local unit file
    is_our_command "$command" || refuse "$command"
    is_our_program || refuse "$program"
    is_our_rotation || refuse "$rotation"
    for unit in reaper.service reaper@.service; do
        if file=$(find_foreign_unit "$unit"); then refuse "$file"; fi
    done
}

refuse() { die 1 "$1 is another program's; move it away first"; } # refuse FILE

# Whether FILE may be replaced and removed: it does not exist, or links into our program.
is_our_command() { [[ (! -e $1 && ! -L $1) || $(readlink "$1") == "$program"/* ]]; } # is_our_command FILE

is_our_program() { [[ ! -e $program || -d $program/releases ]]; }

# An edited rotation file is still ours: it names our log folder.
is_our_rotation() { [[ ! -e $rotation ]] || grep -qF "$prefix/var/log/reaper/" "$rotation"; }

# A copy made by `systemctl edit --full` is ours too: it starts our program.
is_our_unit() { grep -qF "$program/bin/reaper" "$1"; } # is_our_unit FILE

# Prints a unit file of this name that is not ours: it would override ours, or ours would override it. Fails if there is
# none.
find_foreign_unit() { # find_foreign_unit NAME
    local file
    for file in "$prefix"/{etc,run,usr/local/lib,usr/lib,lib}/systemd/system/"$1"; do
        if [[ -f $file ]] && ! is_our_unit "$file"; then
            printf '%s\n' "$file"
            return
        fi
    done
    return 1
}
