locals {
  environment = <<-EOT
    TRACEFARM_STORE=s3://${aws_s3_bucket.store.id}
    TRACEFARM_PEERS=aws
    TRACEFARM_HEALTH=127.0.0.1:8079
    TRACEFARM_LOG=json
    AWS_REGION=${var.region}
  EOT

  override = <<-EOT
    [Service]
    Environment=TRACEFARM_MEMORY=${var.memory_gib}GiB
    MemoryMax=${2 * var.memory_gib}G
    # The CloudWatch agent reads files.
    StandardError=append:/var/log/tracefarm.log
  EOT

  log_rotation = <<-EOT
    /var/log/tracefarm.log {
        daily
        maxsize 100M
        rotate 2
        compress
        missingok
        copytruncate
    }
  EOT

  # start.sh with what it is to install in front of it. base64, so that no text can end another.
  user_data = <<-EOT
    #!/usr/bin/env bash
    export AWS_REGION=${var.region}
    export PROGRAM=s3://${aws_s3_bucket.program.id}/${aws_s3_object.program.key}
    export PROGRAM_SHA256=${filesha256(var.program)}
    export UNIT=${base64encode(file("${path.module}/../systemd/tracefarm.service"))}
    export OVERRIDE=${base64encode(local.override)}
    export ENVIRONMENT=${base64encode(local.environment)}
    export LOG_AGENT=${base64encode(local.log_agent)}
    export LOG_ROTATION=${base64encode(local.log_rotation)}
    ${file("${path.module}/start.sh")}
  EOT

  log_agent = templatefile("${path.module}/cloudwatch-agent.json", { group = aws_cloudwatch_log_group.worker.name })
}

# Amazon Linux: its machines know AWS's agents and need no other repository.
data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_launch_template" "worker" {
  name_prefix            = "${var.name}-"
  image_id               = data.aws_ssm_parameter.image.insecure_value
  instance_type          = var.instance_type
  user_data              = base64gzip(local.user_data)
  update_default_version = true
  ebs_optimized          = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.worker.arn
  }

  # IMDSv2 alone, and not through a container.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    associate_public_ip_address = false
    security_groups             = [aws_security_group.worker.id]
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 10
      volume_type           = "gp3"
      encrypted             = true
      kms_key_id            = var.kms_key
      delete_on_termination = true
    }
  }

  dynamic "instance_market_options" {
    for_each = var.spot ? [1] : []
    content {
      market_type = "spot"
    }
  }

  monitoring {
    enabled = true
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = var.name, Application = var.name }
  }
}

resource "aws_autoscaling_group" "farm" {
  name                = var.name
  min_size            = 0
  max_size            = var.max_size
  desired_capacity    = var.size
  vpc_zone_identifier = local.subnets

  # EC2's own checks: the machine and its network. What is between them and a worker is systemd's (README.md, Health).
  health_check_type         = "EC2"
  health_check_grace_period = 120
  capacity_rebalance        = var.spot
  enabled_metrics           = ["GroupInServiceInstances"]

  launch_template {
    id      = aws_launch_template.worker.id
    version = aws_launch_template.worker.latest_version
  }

  # A new machine first, then an old one goes: the farm never has fewer workers than asked for.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 110
      instance_warmup        = 60
    }
  }

  tag {
    key                 = "Application"
    value               = var.name
    propagate_at_launch = true
  }

  lifecycle {
    # `aws autoscaling set-desired-capacity` says how many; `terraform apply` does not undo it.
    ignore_changes = [desired_capacity]
  }

  depends_on = [aws_iam_role_policy.worker, aws_vpc_endpoint.s3, aws_vpc_endpoint.api]
}
