# Units, other texts and the configuration: how they get to their places. Sourced by install.sh.
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
        # Only whole paths that begin a word: `%S/opt/reaper` or `x/etc/reaper` would be something else.
        sed -E "s#(^|[ :=])(/(opt|etc|var/lib|var/log)/reaper)#\\1${prefix//[#&\\]/\\&}\\2#g" "$1" >"$2"
        chmod "$mode" "$2"
    fi
}

# The texts that are about to be replaced: an old program wants its own units back.
remember_texts() {
    local text
    mkdir -p "$scratch"/{systemd,config}
    for text in "${texts[@]}"; do
        [[ ! -e ${text#*:} ]] || cp -a "${text#*:}" "$scratch/${text%%:*}"
    done
}

put_texts_back() {
    local text kept target
    for text in "${texts[@]}"; do
        kept="$scratch/${text%%:*}" target=${text#*:}
        if [[ -e $kept ]]; then cp -a "$kept" "$target"; else rm -f "$target"; fi
    done
}

install_configuration() {
    local fresh="$documents/reaper.toml" kept="$configuration/reaper.toml"
    mkdir -p "$configuration"
    if [[ ! -e $kept ]]; then
        install -m 0640 "$fresh" "$kept"
    elif ! cmp -s "$fresh" "$kept"; then
        say "$kept is kept as it is; the one of this version is $fresh"
    fi
    make_secrets "$configuration"
}

make_secrets() { # make_secrets FOLDER
    # Whoever has this token may halt the daemon and end jobs over HTTP. Its name stands in the log.
    [[ -e $1/http_token ]] ||
        keep_secret "$1/http_token" "admin:$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"$'\n'
    # systemd refuses a unit whose credential has no file; an empty one the daemon calls by its name.
    [[ -e $1/database_url ]] || keep_secret "$1/database_url" ''
}

# keep_secret FILE TEXT: nobody else can read it, from its first moment on.
keep_secret() { (umask 077 && printf '%s' "$2" >"$1"); }
