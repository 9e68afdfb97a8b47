# A network without a way to the internet: workers have no public address, and there is no NAT. Cloud Storage, the
# Compute API, logs, metrics and Google's packages are reached by Private Google Access.
resource "google_compute_network" "farm" {
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "farm" {
  name                     = var.name
  network                  = google_compute_network.farm.id
  ip_cidr_range            = "10.79.0.0/20"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_15_MIN"
    flow_sampling        = 0.1
  }
}

# Google's health checkers, and nobody else (https://cloud.google.com/load-balancing/docs/health-check-concepts#ip-ranges).
resource "google_compute_firewall" "health" {
  name          = "${var.name}-health"
  network       = google_compute_network.farm.id
  direction     = "INGRESS"
  source_ranges = ["35.191.0.0/16", "130.211.0.0/22"]

  target_service_accounts = [google_service_account.worker.email]

  allow {
    protocol = "tcp"
    ports    = [local.health_port]
  }
}

resource "google_compute_firewall" "ssh" {
  count         = var.ssh_by_iap ? 1 : 0
  name          = "${var.name}-ssh-by-iap"
  network       = google_compute_network.farm.id
  direction     = "INGRESS"
  source_ranges = ["35.235.240.0/20"]

  target_service_accounts = [google_service_account.worker.email]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
