# A network without a way to the internet, if `subnets` names no other: workers have no public address, and there is
# neither a gateway nor a NAT. S3 is reached by a gateway endpoint (free), the two other APIs by interface endpoints.
locals {
  own   = length(var.subnets) == 0
  zones = local.own ? slice(data.aws_availability_zones.here.names, 0, min(3, length(data.aws_availability_zones.here.names))) : []
  apis  = local.own ? toset(["autoscaling", "logs"]) : toset([])

  subnets = local.own ? aws_subnet.farm[*].id : var.subnets
  vpc     = local.own ? aws_vpc.farm[0].id : data.aws_subnet.given[0].vpc_id
}

data "aws_availability_zones" "here" {
  state = "available"
}

data "aws_subnet" "given" {
  count = local.own ? 0 : 1
  id    = var.subnets[0]
}

resource "aws_vpc" "farm" {
  count                = local.own ? 1 : 0
  cidr_block           = "10.79.0.0/20"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# The group that comes with a network lets nobody in or out.
resource "aws_default_security_group" "nobody" {
  count  = local.own ? 1 : 0
  vpc_id = aws_vpc.farm[0].id
}

resource "aws_subnet" "farm" {
  count                   = length(local.zones)
  vpc_id                  = aws_vpc.farm[0].id
  availability_zone       = local.zones[count.index]
  cidr_block              = cidrsubnet(aws_vpc.farm[0].cidr_block, 4, count.index)
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-${local.zones[count.index]}" }
}

resource "aws_route_table" "farm" {
  count  = local.own ? 1 : 0
  vpc_id = aws_vpc.farm[0].id
  tags   = { Name = var.name }
}

resource "aws_route_table_association" "farm" {
  count          = length(local.zones)
  subnet_id      = aws_subnet.farm[count.index].id
  route_table_id = aws_route_table.farm[0].id
}

resource "aws_vpc_endpoint" "s3" {
  count             = local.own ? 1 : 0
  vpc_id            = aws_vpc.farm[0].id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.farm[0].id]
}

resource "aws_vpc_endpoint" "api" {
  for_each            = local.apis
  vpc_id              = aws_vpc.farm[0].id
  service_name        = "com.amazonaws.${var.region}.${each.value}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = aws_subnet.farm[*].id
  security_group_ids  = [aws_security_group.api[0].id]
}

resource "aws_security_group" "api" {
  count       = local.own ? 1 : 0
  name        = "${var.name}-api"
  description = "The interface endpoints, for workers"
  vpc_id      = local.vpc
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  count                        = local.own ? 1 : 0
  security_group_id            = aws_security_group.api[0].id
  description                  = "Workers"
  referenced_security_group_id = aws_security_group.worker.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

# Nobody reaches a worker: it asks, and is not asked. (Health and metrics are for the machine itself.)
resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "Workers: nothing in, HTTPS out"
  vpc_id      = local.vpc
}

resource "aws_vpc_security_group_egress_rule" "worker" {
  security_group_id = aws_security_group.worker.id
  description       = "The APIs, wherever their addresses are"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
