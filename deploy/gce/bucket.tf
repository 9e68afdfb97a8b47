# The store. It is private, has one way to say who may do what (IAM), and keeps nothing that was deleted: tracefarm
# deletes merged blocks all day, and soft delete or versioning would bill each of them for longer.
resource "google_storage_bucket" "store" {
  name                        = var.bucket
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # What `tracefarm lifecycle gcs` prints. scripts/deploy-check compares the two.
  dynamic "lifecycle_rule" {
    for_each = local.lifecycle
    content {
      action {
        type = lifecycle_rule.value.action
      }
      condition {
        age            = lifecycle_rule.value.age
        matches_prefix = lifecycle_rule.value.prefixes
      }
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  lifecycle = [
    { action = "Delete", age = var.keep_for_days + 14, prefixes = ["entries/"] },
    { action = "Delete", age = var.keep_for_days + 15, prefixes = ["spans/"] },
    { action = "AbortIncompleteMultipartUpload", age = 1, prefixes = [] },
  ]
}

# Where workers get the program from. They can only read it: a worker that was taken over could not change what the
# next one runs.
resource "google_storage_bucket" "program" {
  name                        = "${var.bucket}-program"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  versioning {
    enabled = false
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]
}

# Named by its content: a new program is a new object, hence a new template, hence a rolling update.
resource "google_storage_bucket_object" "program" {
  bucket = google_storage_bucket.program.name
  name   = "tracefarm-${filesha256(var.program)}"
  source = var.program

  lifecycle {
    # The machines of the old template need theirs until they are replaced.
    create_before_destroy = true
  }
}

data "google_storage_project_service_account" "storage" {
  count = var.kms_key == null ? 0 : 1
}

# Cloud Storage itself uses the key; neither workers nor collectors need a right on it.
resource "google_kms_crypto_key_iam_member" "storage" {
  count         = var.kms_key == null ? 0 : 1
  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${data.google_storage_project_service_account.storage[0].email_address}"
}
