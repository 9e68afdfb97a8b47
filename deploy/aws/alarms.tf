resource "aws_cloudwatch_log_group" "worker" {
  name              = "/${var.name}/worker"
  retention_in_days = 30
  kms_key_id        = var.kms_key
}

# An ERROR record means that a person must look.
resource "aws_cloudwatch_log_metric_filter" "errors" {
  name           = "${var.name}-errors"
  log_group_name = aws_cloudwatch_log_group.worker.name
  pattern        = "{ $.severity = \"ERROR\" && $.serviceContext.service = \"tracefarm\" }"

  metric_transformation {
    namespace     = var.name
    name          = "Errors"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-errors"
  alarm_description   = "A worker wrote an ERROR record into the log group ${aws_cloudwatch_log_group.worker.name}"
  namespace           = var.name
  metric_name         = aws_cloudwatch_log_metric_filter.errors.metric_transformation[0].name
  statistic           = "Sum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "nobody" {
  alarm_name          = "${var.name}-nobody"
  alarm_description   = "No machine of the group ${aws_autoscaling_group.farm.name} is in service: the inbox grows"
  namespace           = "AWS/AutoScaling"
  metric_name         = "GroupInServiceInstances"
  dimensions          = { AutoScalingGroupName = aws_autoscaling_group.farm.name }
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
}
