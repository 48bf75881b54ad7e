#!/usr/bin/env bash
# Make .venv ready for `demo`, `test` or `docs`: system libraries, then Python packages.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:?usage: scripts/setup.sh demo|test|docs}
case $purpose in
    demo) extras= ;;
    test) extras='[train,evaluate,cluster,docs,dev]' ;;
    docs) extras='[docs]' ;;
    *) echo "setup: '$purpose' is none of demo, test and docs" >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*" >&2; }

has_library() {
    PATH=$PATH:/sbin ldconfig -p 2>/dev/null | grep "$1" >/dev/null || [ -n "$(find /usr/local/lib /opt/homebrew/lib -maxdepth 1 -name "$1*" 2>/dev/null)" ]
}

missing_packages() {
    has_library libportaudio || echo libportaudio2
    command -v ffmpeg >/dev/null || echo ffmpeg
    [ "$purpose" = test ] || return 0
    command -v fluidsynth >/dev/null || echo fluidsynth
    [ -e /usr/share/sounds/sf2/FluidR3_GM.sf2 ] || echo fluid-soundfont-gm
    [ -e /usr/share/sounds/sf2/TimGM6mb.sf2 ] || echo timgm6mb-soundfont
    [ -e /usr/share/sounds/sf3/MuseScore_General.sf3 ] || echo musescore-general-soundfont
    command -v jackd >/dev/null || echo jackd2
    command -v oscdump >/dev/null || echo liblo-tools
    command -v chromium >/dev/null || echo chromium
    command -v pulseaudio >/dev/null || echo pulseaudio pulseaudio-utils libasound2-plugins
    command -v Xvfb >/dev/null || echo xvfb
    command -v xdotool >/dev/null || echo xdotool
    command -v mupdf >/dev/null || echo mupdf
    command -v pd >/dev/null || echo puredata-core
}

apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$@" >&2
}

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3 python3.13 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

make_venv() {
    local python=$1
    "$python" -m venv .venv 2>/dev/null && return
    rm -rf .venv
    local package
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if ! apt_install "$package" || ! "$python" -m venv .venv; then
        say "$python cannot make a virtual environment: install $package (Debian, Ubuntu)"
        exit 1
    fi
}

mapfile -t missing < <(missing_packages | tr ' ' '\n')
if [ ${#missing[@]} -gt 0 ]; then
    say "system packages to install: ${missing[*]}"
    if ! apt_install "${missing[@]}"; then
        say "could not install them: on Debian or Ubuntu run as root: apt install ${missing[*]}"
        [ "$purpose" != test ] || exit 1
        say "going on: a microphone needs libportaudio2, compressed audio needs ffmpeg"
    fi
fi

if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    if [ -z "$python" ]; then
        apt_install python3.11 python3.11-venv || apt_install python3 python3-venv || true
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        say "Python 3.11 or newer is needed: install python3.11 and python3.11-venv, then try again"
        exit 1
    fi
    say "making .venv with $("$python" --version)"
    make_venv "$python"
fi

say "installing Python packages: some minutes the first time"
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".$extras"
