#!/usr/bin/env bash
# Runs once, at the first boot of a worker's machine, as root (user data; group.tf puts the variables in front of it).
# It fetches the program with the machine's own role, checks it, and starts it. What fails is tried again until it
# goes; nothing is half installed.
set -euo pipefail

# Puts the base64 text $2 into the file $1, whole or not at all.
put() { mkdir -p "$(dirname "$1")" && base64 --decode <<<"$2" >"$1.new" && mv "$1.new" "$1"; }

program() {
    local path=/usr/local/bin/tracefarm
    aws s3 cp --only-show-errors --region "$AWS_REGION" "$PROGRAM" "$path.new" &&
        echo "$PROGRAM_SHA256  $path.new" | sha256sum --check --quiet &&
        chmod 755 "$path.new" &&
        mv "$path.new" "$path"
}

# Each step only after the one before: `set -e` does not count in what is asked for its outcome.
install_worker() {
    put /etc/systemd/system/tracefarm.service "$UNIT" &&
        put /etc/systemd/system/tracefarm.service.d/override.conf "$OVERRIDE" &&
        put /etc/tracefarm/environment "$ENVIRONMENT" &&
        program &&
        systemctl daemon-reload &&
        systemctl enable tracefarm.service &&
        systemctl restart --no-block tracefarm.service
}

# The agent that carries the log, from Amazon Linux's own repository (which is in S3). The worker does not wait for it.
install_agent() {
    local agent=/opt/aws/amazon-cloudwatch-agent config=/etc/tracefarm/cloudwatch-agent.json
    dnf install --assumeyes --quiet amazon-cloudwatch-agent logrotate &&
        put "$config" "$LOG_AGENT" &&
        put /etc/logrotate.d/tracefarm "$LOG_ROTATION" &&
        "$agent/bin/amazon-cloudwatch-agent-ctl" -a fetch-config -m ec2 -s -c "file:$config"
}

until install_worker; do
    echo "start.sh: the worker could not be installed; again in 15 s" >&2
    sleep 15
done
for _ in 1 2 3 4 5; do
    if install_agent; then exit; fi
    echo "start.sh: the CloudWatch agent could not be installed: the log stays in /var/log/tracefarm.log; again in 60 s" >&2
    sleep 60
done
exit 1
