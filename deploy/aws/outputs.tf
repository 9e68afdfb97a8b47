output "store" {
  description = "For --store, and for TRACEFARM_STORE"
  value       = "s3://${aws_s3_bucket.store.id}"
}

output "resize" {
  description = "How to have another number of workers"
  value       = "aws autoscaling set-desired-capacity --region ${var.region} --auto-scaling-group-name ${aws_autoscaling_group.farm.name} --desired-capacity 40"
}

output "worker" {
  description = "The role of the workers"
  value       = aws_iam_role.worker.arn
}
