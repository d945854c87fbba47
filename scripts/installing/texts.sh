# Copies units, other files and the configuration to their places. Sourced by install.sh.
# shellcheck shell=bash

install_texts() {
    local text
    for text in "${texts[@]}"; do
        place "$root/${text%%:*}" "${text#*:}"
    done
}

# place SOURCE TARGET: a copy with the paths of this prefix. Scripts can be run.
place() {
    local mode=0644
    [[ $1 != *.sh ]] || mode=0755
    mkdir -p "${2%/*}"
    if is_host; then
        install -m "$mode" "$1" "$2"
    else
        # Only whole paths at the beginning of a word: `%S/opt/reaper` or `x/etc/reaper` are other paths.
        sed -E "s#(^|[ :=])(/(opt|etc|var/lib|var/log)/reaper)#\\1${prefix//[#&\\]/\\&}\\2#g" "$1" >"$2"
        chmod "$mode" "$2"
    fi
}

# Below /etc: files that an administrator may edit.
install_configuration() {
    [[ -d $configuration ]] || install -d -m 0750 "$configuration"
    mkdir -p "${rotation%/*}"
    # A file that equals the last shipped version was not edited: replace it.
    if cmp -s "$before/systemd/reaper.logrotate" "$rotation"; then rm "$rotation"; fi
    offer_text "$documents/reaper.toml" "$configuration/reaper.toml" 0640
    offer_text "$documents/reaper.logrotate" "$rotation" 0644
    make_secrets "$configuration"
}

# offer_text FRESH KEPT MODE: copies FRESH to KEPT unless that exists.
offer_text() {
    if [[ ! -e $2 ]]; then
        write_whole "$2" "$3" <"$1"
    elif ! cmp -s "$1" "$2"; then
        say "$2 is kept as it is; the one of this version is $1"
    fi
}

make_secrets() { # make_secrets FOLDER
    # With this token one can halt the daemon and end jobs over HTTP. The log shows the token's name.
    [[ -s $1/http_token ]] ||
        write_whole "$1/http_token" 0600 <<<"admin:$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
    # systemd refuses a unit whose credential file is missing. For an empty one, the daemon reports which file it is.
    [[ -e $1/database_url ]] || write_whole "$1/database_url" 0600 </dev/null
}

# write_whole FILE MODE: writes stdin completely or, on a full disk, not at all. Never readable by other users.
write_whole() {
    if (umask 077 && cat >"$1.new") && chmod "$2" "$1.new" && mv -T "$1.new" "$1"; then return; fi
    rm -f "$1.new"
    die 1 "$1 cannot be written"
}
