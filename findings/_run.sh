# Sourced by every finding: a temporary environment with pinned packages, removed at the end.
# Usage: in_environment PACKAGE==VERSION... < program.py
set -euo pipefail
in_environment() {
    local folder
    folder=$(mktemp -d)
    trap "rm -rf '$folder'" EXIT
    "${PYTHON:-python3}" -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"
    (cd "$folder" && HF_HUB_OFFLINE=1 venv/bin/python -)
}
