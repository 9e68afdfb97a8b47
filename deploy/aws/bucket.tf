# The store. It is private, speaks TLS only, has no ACLs, and keeps nothing that was deleted: tracefarm deletes merged
# blocks all day, and versioning would bill each of them for longer.
resource "aws_s3_bucket" "store" {
  bucket        = var.bucket
  force_destroy = false

  lifecycle {
    prevent_destroy = true
  }
}

# Where workers get the program from. They can only read it: a worker that was taken over could not change what the
# next one runs.
resource "aws_s3_bucket" "program" {
  bucket        = "${var.bucket}-program"
  force_destroy = true
}

locals {
  buckets = {
    store   = aws_s3_bucket.store
    program = aws_s3_bucket.program
  }
}

resource "aws_s3_bucket_public_access_block" "private" {
  for_each                = local.buckets
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "no_acls" {
  for_each = local.buckets
  bucket   = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# A bucket key: one call of KMS for many objects, not one for each.
resource "aws_s3_bucket_server_side_encryption_configuration" "keys" {
  for_each = local.buckets
  bucket   = each.value.id

  rule {
    bucket_key_enabled = var.kms_key != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key
    }
  }
}

resource "aws_s3_bucket_versioning" "off" {
  for_each = local.buckets
  bucket   = each.value.id

  versioning_configuration {
    status = "Disabled"
  }
}

# What `tracefarm lifecycle s3` prints. scripts/deploy-check compares the two.
locals {
  lifecycle = [
    { id = "tracefarm-entries", prefix = "entries/", days = var.keep_for_days + 14 },
    { id = "tracefarm-spans", prefix = "spans/", days = var.keep_for_days + 15 },
  ]
  unfinished_uploads = { id = "tracefarm-uploads", prefix = "", days = 1 }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  # Not the default, which would keep objects of less than 128 KB where they are: it is about transitions, of which
  # there are none, and this says so.
  transition_default_minimum_object_size = "varies_by_storage_class"

  dynamic "rule" {
    for_each = local.lifecycle
    content {
      id     = rule.value.id
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      expiration {
        days = rule.value.days
      }
    }
  }

  rule {
    id     = local.unfinished_uploads.id
    status = "Enabled"

    filter {
      prefix = local.unfinished_uploads.prefix
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = local.unfinished_uploads.days
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "program" {
  bucket = aws_s3_bucket.program.id

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

# Named by its content: a new program is a new object, hence a new version of the template, hence an instance refresh.
resource "aws_s3_object" "program" {
  bucket = aws_s3_bucket.program.id
  key    = "tracefarm-${filesha256(var.program)}"
  source = var.program

  depends_on = [aws_s3_bucket_server_side_encryption_configuration.keys]

  lifecycle {
    # The machines of the old template need theirs until they are replaced.
    create_before_destroy = true
  }
}

data "aws_iam_policy_document" "bucket" {
  for_each = local.buckets

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Collectors add objects to the inbox: they cannot read, list or delete.
  dynamic "statement" {
    for_each = each.key == "store" && length(var.collectors) > 0 ? [var.collectors] : []
    content {
      sid       = "Collectors"
      actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
      resources = ["${each.value.arn}/inbox/*"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "store" && length(var.readers) > 0 ? [var.readers] : []
    content {
      sid       = "Readers"
      actions   = ["s3:GetObject", "s3:ListBucket"]
      resources = [each.value.arn, "${each.value.arn}/*"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "store" && length(var.page_readers) > 0 ? [var.page_readers] : []
    content {
      sid       = "PageReaders"
      actions   = ["s3:GetObject"]
      resources = ["${each.value.arn}/site/*"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

resource "aws_s3_bucket_policy" "buckets" {
  for_each = local.buckets
  bucket   = each.value.id
  policy   = data.aws_iam_policy_document.bucket[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.private]
}
