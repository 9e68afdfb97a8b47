variable "region" {
  description = "Where bucket and workers are; both in one region, so that bytes between them are free"
  type        = string
}

variable "bucket" {
  description = "The name of the bucket to make; names are shared by the whole world"
  type        = string
}

variable "program" {
  description = "The program on this machine, for Linux on x86_64: it is put into a bucket of its own, and a new one rolls out"
  type        = string
}

variable "name" {
  description = "What everything else is called"
  type        = string
  default     = "tracefarm"
}

variable "size" {
  description = "How many workers there are in the beginning; later `aws autoscaling set-desired-capacity` says, and Terraform leaves it alone"
  type        = number
  default     = 1
}

variable "max_size" {
  description = "The most that may be asked for"
  type        = number
  default     = 40
}

variable "instance_type" {
  description = "Of x86_64; two cores and 4 GiB are plenty for the default memory"
  type        = string
  default     = "c7i-flex.large"
}

variable "memory_gib" {
  description = "`--memory`, in GiB; systemd ends a worker that needs more than twice as much"
  type        = number
  default     = 1

  validation {
    condition     = var.memory_gib >= 1 && floor(var.memory_gib) == var.memory_gib
    error_message = "Whole GiB, at least 1."
  }
}

variable "spot" {
  description = "Spot machines: a third of the price or less, taken away with two minutes' notice; a worker loses nothing by it"
  type        = bool
  default     = false
}

variable "subnets" {
  description = "Subnets (subnet-…) for the workers, private ones with a way to the APIs; without any, a network without a way to the internet is made"
  type        = list(string)
  default     = []
}

variable "keep_for_days" {
  description = "The longest `keep_for` that the store has or had; the bucket's own rules come 14 days after it"
  type        = number
  default     = 7
}

variable "kms_key" {
  description = "The ARN of a key of KMS in the same region, for bucket, disks and logs; without one S3's own keys encrypt. Its policy must let the Auto Scaling service role and CloudWatch Logs use it (README.md)"
  type        = string
  default     = null
}

variable "collectors" {
  description = "The ARNs of the roles that may add objects under inbox/, and nothing else"
  type        = list(string)
  default     = []
}

variable "readers" {
  description = "The ARNs of the roles that may read everything (get, search, SQL)"
  type        = list(string)
  default     = []
}

variable "page_readers" {
  description = "The ARNs of the roles that may read site/ alone: the handlers with their summaries and example traces"
  type        = list(string)
  default     = []
}

variable "alarm_topics" {
  description = "The ARNs of the SNS topics that alarms tell; without one they only stand in the console"
  type        = list(string)
  default     = []
}
