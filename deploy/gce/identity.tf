# What a worker may do: objects of its own bucket, its own program, the list of its group, logs and metrics.
resource "google_service_account" "worker" {
  account_id   = var.name
  display_name = "Workers of tracefarm"
}

# Neither buckets nor their IAM, ACLs, retention or lifecycle: objects, and uploads in parts.
resource "google_project_iam_custom_role" "worker_objects" {
  role_id     = "${replace(var.name, "-", "_")}_objects"
  title       = "tracefarm: objects"
  description = "Read, list, write and delete objects"
  permissions = [
    "storage.multipartUploads.abort",
    "storage.multipartUploads.create",
    "storage.multipartUploads.list",
    "storage.multipartUploads.listParts",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
  ]
}

resource "google_storage_bucket_iam_member" "worker_objects" {
  bucket = google_storage_bucket.store.name
  role   = google_project_iam_custom_role.worker_objects.id
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_program" {
  bucket = google_storage_bucket.program.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member
}

# `--peers gce` lists the instances of the group. Compute Engine knows no right on a single group: this one reads
# groups of the project, and changes none.
resource "google_project_iam_custom_role" "worker_peers" {
  role_id     = "${replace(var.name, "-", "_")}_peers"
  title       = "tracefarm: peers"
  description = "List the instances of managed instance groups"
  permissions = [
    "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagers.list",
    "compute.instanceGroups.get",
    "compute.instanceGroups.list",
  ]
}

resource "google_project_iam_member" "worker_peers" {
  project = var.project
  role    = google_project_iam_custom_role.worker_peers.id
  member  = google_service_account.worker.member
}

# The Ops Agent beside the worker writes its logs and metrics.
resource "google_project_iam_member" "worker_telemetry" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])
  project  = var.project
  role     = each.value
  member   = google_service_account.worker.member
}

# Collectors add objects to the inbox: they cannot read, list, overwrite or delete.
resource "google_storage_bucket_iam_member" "collectors" {
  for_each = toset(var.collectors)
  bucket   = google_storage_bucket.store.name
  role     = "roles/storage.objectCreator"
  member   = each.value

  condition {
    title      = "inbox"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.bucket}/objects/inbox/\")"
  }
}

resource "google_storage_bucket_iam_member" "readers" {
  for_each = toset(var.readers)
  bucket   = google_storage_bucket.store.name
  role     = "roles/storage.objectViewer"
  member   = each.value
}

# Not listing: that is a right on the bucket, and would show every name.
resource "google_project_iam_custom_role" "page_reader" {
  role_id     = "${replace(var.name, "-", "_")}_page_reader"
  title       = "tracefarm: read objects by name"
  description = "Get objects, without listing them"
  permissions = ["storage.objects.get"]
}

resource "google_storage_bucket_iam_member" "page_readers" {
  for_each = toset(var.page_readers)
  bucket   = google_storage_bucket.store.name
  role     = google_project_iam_custom_role.page_reader.id
  member   = each.value

  condition {
    title      = "site"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.bucket}/objects/site/\")"
  }
}
