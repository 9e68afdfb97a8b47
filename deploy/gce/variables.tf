variable "project" {
  description = "The Google Cloud project, which has billing and may be an empty one"
  type        = string
}

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

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,24}$", var.name))
    error_message = "A name has at most 25 small letters, digits and hyphens, and begins with a letter."
  }
}

variable "size" {
  description = "How many workers there are in the beginning; later `gcloud … resize` says, and Terraform leaves it alone"
  type        = number
  default     = 1
}

variable "machine_type" {
  description = "Of x86_64; two cores and 4 GiB are plenty for the default memory"
  type        = string
  default     = "e2-standard-2"
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
  description = "Spot machines: a third of the price or less, taken away with 30 s notice; a worker loses nothing by it"
  type        = bool
  default     = false
}

variable "keep_for_days" {
  description = "The longest `keep_for` that the store has or had; the bucket's own rules come 14 days after it"
  type        = number
  default     = 7
}

variable "kms_key" {
  description = "A key of Cloud KMS in the same region (projects/…/locations/…/keyRings/…/cryptoKeys/…) for both buckets; without one Google's own keys encrypt"
  type        = string
  default     = null
}

variable "collectors" {
  description = "Who may add objects under inbox/, and nothing else: serviceAccount:…"
  type        = list(string)
  default     = []
}

variable "readers" {
  description = "Who may read everything (get, search, SQL): user:…, group:…, serviceAccount:…"
  type        = list(string)
  default     = []
}

variable "page_readers" {
  description = "Who may read site/ alone: the handlers with their summaries and example traces"
  type        = list(string)
  default     = []
}

variable "notification_channels" {
  description = "Whom alerts tell (projects/…/notificationChannels/…); without one they only stand in the console"
  type        = list(string)
  default     = []
}

variable "ssh_by_iap" {
  description = "Open port 22 to Identity-Aware Proxy, for those who may use it"
  type        = bool
  default     = false
}
