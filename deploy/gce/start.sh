#!/usr/bin/env bash
# Runs at every boot of a worker's machine, as root (the startup script of the instance template). It takes what the
# template says from the metadata server, fetches the program with the machine's own identity, checks it, and starts
# it. What fails is tried again until it goes; nothing is half installed.
set -euo pipefail

metadata=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance

ask() { curl --silent --show-error --fail --retry 10 --retry-all-errors --max-time 10 --header 'Metadata-Flavor: Google' "$metadata/$1"; }

# Puts the attribute $2 of the template into the file $1, whole or not at all.
put() { mkdir -p "$(dirname "$1")" && ask "attributes/$2" >"$1.new" && mv "$1.new" "$1"; }

# The program, if it is not the one that is here already.
program() {
    local path=/usr/local/bin/tracefarm sha256 token object
    sha256=$(ask attributes/tracefarm-sha256) || return
    if echo "$sha256  $path" | sha256sum --check --status 2>/dev/null; then return; fi
    object=$(ask attributes/tracefarm-program) || return
    token=$(ask service-accounts/default/token | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])') || return
    # The token goes in by a file descriptor: arguments can be read by every process.
    curl --silent --show-error --fail --retry 10 --retry-all-errors --max-time 300 --output "$path.new" \
        --header @<(echo "Authorization: Bearer $token") "${TRACEFARM_STORAGE:-https://storage.googleapis.com}/$object" &&
        echo "$sha256  $path.new" | sha256sum --check --quiet &&
        chmod 755 "$path.new" &&
        mv "$path.new" "$path"
}

# Each step only after the one before: `set -e` does not count in what is asked for its outcome.
install_worker() {
    put /etc/systemd/system/tracefarm.service tracefarm-unit &&
        put /etc/systemd/system/tracefarm.service.d/memory.conf tracefarm-override &&
        put /etc/tracefarm/environment tracefarm-environment &&
        program &&
        systemctl daemon-reload &&
        systemctl enable tracefarm.service &&
        systemctl restart --no-block tracefarm.service
}

# The agent that carries logs and metrics. The worker does not wait for it.
install_agent() {
    local script
    put /etc/google-cloud-ops-agent/config.yaml tracefarm-ops-agent || return
    if ! systemctl cat google-cloud-ops-agent.service >/dev/null 2>&1; then
        script=$(mktemp) &&
            curl --silent --show-error --fail --retry 5 --retry-all-errors --max-time 60 --output "$script" \
                https://dl.google.com/cloudagents/add-google-cloud-ops-agent-repo.sh &&
            bash "$script" --also-install --version='2.*.*' || return
    fi
    systemctl restart google-cloud-ops-agent.service
}

until install_worker; do
    echo "start.sh: the worker could not be installed; again in 15 s" >&2
    sleep 15
done
for _ in 1 2 3 4 5; do
    if install_agent; then exit; fi
    echo "start.sh: the Ops Agent could not be installed: logs stay in the journal; again in 60 s" >&2
    sleep 60
done
exit 1
