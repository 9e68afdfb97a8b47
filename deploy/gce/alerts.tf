# An ERROR record means that a person must look.
resource "google_monitoring_alert_policy" "errors" {
  display_name          = "${var.name}: a worker wrote an error"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels

  conditions {
    display_name = "ERROR of tracefarm"
    condition_matched_log {
      filter = "resource.type=\"gce_instance\" AND severity>=ERROR AND jsonPayload.serviceContext.service=\"tracefarm\""
    }
  }

  # A mistake in a setting fails on every worker at once: one message an hour is enough.
  alert_strategy {
    auto_close = "604800s"
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The record says which object, which stage, what happened and what to do. `tracefarm status` tells what waits, `tracefarm check` whether the store is sound."
  }
}

# Nobody works: the metrics of no worker arrive.
resource "google_monitoring_alert_policy" "nobody" {
  display_name          = "${var.name}: no worker is alive"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.notification_channels

  conditions {
    display_name = "No worker answers"
    condition_prometheus_query_language {
      query               = "absent(up{job=\"tracefarm\"} == 1)"
      duration            = "900s"
      evaluation_interval = "60s"
    }
  }

  alert_strategy {
    auto_close = "604800s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Nothing is lost while the inbox is there and `keep_for` and 14 days have not passed. Look at the group's instances and their serial console."
  }
}

# They work, and do not keep up.
resource "google_monitoring_alert_policy" "backlog" {
  display_name          = "${var.name}: the inbox is not kept up with"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels

  conditions {
    display_name = "The oldest object of the inbox waits for an hour"
    condition_prometheus_query_language {
      query               = "max(tracefarm_backlog_age_seconds) > 3600"
      duration            = "900s"
      evaluation_interval = "60s"
    }
  }

  alert_strategy {
    auto_close = "604800s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "More workers make it shorter: `gcloud compute instance-groups managed resize`."
  }
}
