# The monthly budget, if a billing account is set. It only warns;
# limits.service_daily_tokens limits the spending on the model.

resource "google_billing_budget" "this" {
  count = var.billing_account != null ? 1 : 0

  billing_account = var.billing_account
  display_name    = "${local.title} in ${var.project_id}"

  budget_filter {
    projects        = ["projects/${local.project_number}"]
    calendar_period = "MONTH"
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget) # in the account's currency
    }
  }

  threshold_rules {
    threshold_percent = 0.5
  }
  threshold_rules {
    threshold_percent = 0.9
  }
  threshold_rules {
    threshold_percent = 1
  }
  threshold_rules {
    threshold_percent = 1
    spend_basis       = "FORECASTED_SPEND"
  }

  dynamic "all_updates_rule" {
    for_each = length(local.notification_channels) > 0 ? [1] : []
    content {
      # The API accepts at most five.
      monitoring_notification_channels = slice(local.notification_channels, 0, min(5, length(local.notification_channels)))
    }
  }

  depends_on = [google_project_service.this]
}
