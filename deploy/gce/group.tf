locals {
  health_port = 8079
  # A group of a region spreads over at most three zones unless told otherwise.
  zones = slice(data.google_compute_zones.here.names, 0, min(3, length(data.google_compute_zones.here.names)))

  environment = <<-EOT
    TRACEFARM_STORE=gs://${google_storage_bucket.store.name}
    TRACEFARM_PEERS=gce
    TRACEFARM_HEALTH=0.0.0.0:${local.health_port}
    TRACEFARM_LOG=json
  EOT

  override = <<-EOT
    [Service]
    Environment=TRACEFARM_MEMORY=${var.memory_gib}GiB
    MemoryMax=${2 * var.memory_gib}G
  EOT
}

data "google_compute_zones" "here" {
  region = var.region
  status = "UP"
}

data "google_compute_image" "debian" {
  family  = "debian-12"
  project = "debian-cloud"
}

resource "google_compute_instance_template" "worker" {
  name_prefix  = "${var.name}-"
  machine_type = var.machine_type

  disk {
    source_image = data.google_compute_image.debian.self_link
    boot         = true
    auto_delete  = true
    disk_type    = "pd-balanced"
    disk_size_gb = 10
  }

  network_interface {
    subnetwork = google_compute_subnetwork.farm.id
    # No access_config: no public address.
  }

  service_account {
    email = google_service_account.worker.email
    # What the roles say already, said once more: a right that somebody adds to the account later does not reach here.
    scopes = ["storage-rw", "compute-ro", "logging-write", "monitoring-write"]
  }

  # start.sh reads these from the metadata server.
  metadata = {
    startup-script         = file("${path.module}/start.sh")
    tracefarm-program      = "${google_storage_bucket.program.name}/${google_storage_bucket_object.program.name}"
    tracefarm-sha256       = filesha256(var.program)
    tracefarm-unit         = file("${path.module}/../systemd/tracefarm.service")
    tracefarm-override     = local.override
    tracefarm-environment  = local.environment
    tracefarm-ops-agent    = file("${path.module}/ops-agent.yaml")
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
  }

  scheduling {
    provisioning_model          = var.spot ? "SPOT" : "STANDARD"
    preemptible                 = var.spot
    automatic_restart           = !var.spot
    on_host_maintenance         = var.spot ? "TERMINATE" : "MIGRATE"
    instance_termination_action = var.spot ? "STOP" : null
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_health_check" "worker" {
  name                = var.name
  check_interval_sec  = 20
  timeout_sec         = 10
  healthy_threshold   = 1
  unhealthy_threshold = 6

  http_health_check {
    port         = local.health_port
    request_path = "/healthz"
  }
}

resource "google_compute_region_instance_group_manager" "farm" {
  name                           = var.name
  region                         = var.region
  base_instance_name             = var.name
  target_size                    = var.size
  distribution_policy_zones      = local.zones
  list_managed_instances_results = "PAGINATED"

  version {
    instance_template = google_compute_instance_template.worker.self_link_unique
  }

  # systemd starts a worker again within seconds; a machine on which that does not help is made anew.
  auto_healing_policies {
    health_check      = google_compute_health_check.worker.id
    initial_delay_sec = 300
  }

  # A new machine first, then an old one goes: the farm never has fewer workers than asked for.
  update_policy {
    type                         = "PROACTIVE"
    minimal_action               = "REPLACE"
    replacement_method           = "SUBSTITUTE"
    max_surge_fixed              = length(local.zones)
    max_unavailable_fixed        = 0
    instance_redistribution_type = "PROACTIVE"
  }

  lifecycle {
    # `gcloud compute instance-groups managed resize` says how many; `terraform apply` does not undo it.
    ignore_changes = [target_size]
  }

  depends_on = [
    google_project_iam_member.worker_peers,
    google_storage_bucket_iam_member.worker_objects,
    google_storage_bucket_iam_member.worker_program,
  ]
}
