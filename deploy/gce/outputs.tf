output "store" {
  description = "For --store, and for TRACEFARM_STORE"
  value       = "gs://${google_storage_bucket.store.name}"
}

output "resize" {
  description = "How to have another number of workers"
  value       = "gcloud compute instance-groups managed resize ${google_compute_region_instance_group_manager.farm.name} --project ${var.project} --region ${var.region} --size 40"
}

output "worker" {
  description = "The service account of the workers"
  value       = google_service_account.worker.email
}
