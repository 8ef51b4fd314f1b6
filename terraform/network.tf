# The load balancer with Cloud Armor, disabled by default. (Direct VPC egress is an
# attribute of the functions.)

resource "google_compute_global_address" "this" {
  count = local.balanced

  project = var.project_id
  labels  = local.labels
  name    = var.prefix

  depends_on = [google_project_service.this]
}

resource "google_compute_region_network_endpoint_group" "invoke" {
  for_each = var.load_balancer != null ? local.regions : []

  project               = var.project_id
  name                  = "${var.prefix}-invoke"
  region                = each.value
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloud_run_v2_service.function[each.value == var.region ? "invoke" : "invoke-${each.value}"].name
  }

  depends_on = [google_project_service.this]
}

# Limits the requests of one address before an instance is started for them. The service
# limits callers. The predefined rules for SQL and scripts are not used, because a
# question may contain either.
resource "google_compute_security_policy" "this" {
  count = local.balanced

  project = var.project_id
  name    = var.prefix

  rule {
    action   = "throttle"
    priority = 1000

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.load_balancer.requests_per_minute_ip
        interval_sec = 60
      }
    }
  }

  rule {
    action   = "allow"
    priority = 2147483647

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  adaptive_protection_config {
    layer_7_ddos_defense_config {
      enable = true
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_compute_backend_service" "invoke" {
  count = local.balanced

  project               = var.project_id
  name                  = "${var.prefix}-invoke"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.this[0].id

  dynamic "backend" {
    for_each = google_compute_region_network_endpoint_group.invoke
    content {
      group = backend.value.id
    }
  }

  log_config {
    enable      = true
    sample_rate = 0.1 # the service logs every request itself
  }
}

resource "google_compute_url_map" "this" {
  count = local.balanced

  project         = var.project_id
  name            = var.prefix
  default_service = google_compute_backend_service.invoke[0].id
}

resource "google_compute_managed_ssl_certificate" "this" {
  count = local.balanced

  project = var.project_id
  name    = "${var.prefix}-${substr(sha256(var.load_balancer.domain), 0, 8)}"

  managed {
    domains = [var.load_balancer.domain]
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.this]
}

resource "google_compute_ssl_policy" "this" {
  count = local.balanced

  project         = var.project_id
  name            = var.prefix
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.this]
}

resource "google_compute_target_https_proxy" "this" {
  count = local.balanced

  project          = var.project_id
  name             = var.prefix
  url_map          = google_compute_url_map.this[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.this[0].id]
  ssl_policy       = google_compute_ssl_policy.this[0].id
}

resource "google_compute_global_forwarding_rule" "https" {
  count = local.balanced

  project               = var.project_id
  labels                = local.labels
  name                  = "${var.prefix}-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.this[0].id
}

resource "google_compute_url_map" "redirect" {
  count = local.balanced

  project = var.project_id
  name    = "${var.prefix}-redirect"

  default_url_redirect {
    https_redirect = true
    strip_query    = false
    # The API's default, which the provider does not know.
    redirect_response_code = "MOVED_PERMANENTLY_DEFAULT"
  }

  depends_on = [google_project_service.this]
}

resource "google_compute_target_http_proxy" "redirect" {
  count = local.balanced

  project = var.project_id
  name    = "${var.prefix}-redirect"
  url_map = google_compute_url_map.redirect[0].id
}

resource "google_compute_global_forwarding_rule" "http" {
  count = local.balanced

  project               = var.project_id
  labels                = local.labels
  name                  = "${var.prefix}-http"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.redirect[0].id
}

locals {
  balanced = var.load_balancer != null ? 1 : 0
}
