# Where the resources of version 1 are now, so that a state of it goes on: its root
# was terraform/ itself, and here that is a module. Without these the first apply
# would make everything again.

moved {
  from = google_artifact_registry_repository.this
  to   = module.gatehouse.module.gatehouse.google_artifact_registry_repository.this
}

moved {
  from = google_artifact_registry_repository_iam_member.build
  to   = module.gatehouse.module.gatehouse.google_artifact_registry_repository_iam_member.build
}

moved {
  from = google_artifact_registry_repository_iam_member.deliver
  to   = module.gatehouse.module.gatehouse.google_artifact_registry_repository_iam_member.deliver
}

moved {
  from = google_billing_budget.this
  to   = module.gatehouse.module.gatehouse.google_billing_budget.this
}

moved {
  from = google_cloud_run_v2_service.function
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service.function
}

moved {
  from = google_cloud_run_v2_service_iam_member.deliver
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service_iam_member.deliver
}

moved {
  from = google_cloud_run_v2_service_iam_member.iap
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service_iam_member.iap
}

moved {
  from = google_cloud_run_v2_service_iam_member.invoker
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service_iam_member.invoker
}

moved {
  from = google_cloud_run_v2_service_iam_member.operator
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service_iam_member.operator
}

moved {
  from = google_cloud_run_v2_service_iam_member.scheduler
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service_iam_member.scheduler
}

moved {
  from = google_cloud_run_v2_service_iam_member.smoke
  to   = module.gatehouse.module.gatehouse.google_cloud_run_v2_service_iam_member.smoke
}

moved {
  from = google_cloud_scheduler_job.health
  to   = module.gatehouse.module.gatehouse.google_cloud_scheduler_job.health
}

moved {
  from = google_cloudbuild_trigger.deliver
  to   = module.gatehouse.module.gatehouse.google_cloudbuild_trigger.deliver
}

moved {
  from = google_cloudbuild_trigger.infrastructure
  to   = module.gatehouse.module.gatehouse.google_cloudbuild_trigger.infrastructure
}

moved {
  from = google_compute_backend_service.invoke
  to   = module.gatehouse.module.gatehouse.google_compute_backend_service.invoke
}

moved {
  from = google_compute_global_address.this
  to   = module.gatehouse.module.gatehouse.google_compute_global_address.this
}

moved {
  from = google_compute_global_forwarding_rule.http
  to   = module.gatehouse.module.gatehouse.google_compute_global_forwarding_rule.http
}

moved {
  from = google_compute_global_forwarding_rule.https
  to   = module.gatehouse.module.gatehouse.google_compute_global_forwarding_rule.https
}

moved {
  from = google_compute_managed_ssl_certificate.this
  to   = module.gatehouse.module.gatehouse.google_compute_managed_ssl_certificate.this
}

moved {
  from = google_compute_region_network_endpoint_group.invoke
  to   = module.gatehouse.module.gatehouse.google_compute_region_network_endpoint_group.invoke
}

moved {
  from = google_compute_security_policy.this
  to   = module.gatehouse.module.gatehouse.google_compute_security_policy.this
}

moved {
  from = google_compute_ssl_policy.this
  to   = module.gatehouse.module.gatehouse.google_compute_ssl_policy.this
}

moved {
  from = google_compute_target_http_proxy.redirect
  to   = module.gatehouse.module.gatehouse.google_compute_target_http_proxy.redirect
}

moved {
  from = google_compute_target_https_proxy.this
  to   = module.gatehouse.module.gatehouse.google_compute_target_https_proxy.this
}

moved {
  from = google_compute_url_map.redirect
  to   = module.gatehouse.module.gatehouse.google_compute_url_map.redirect
}

moved {
  from = google_compute_url_map.this
  to   = module.gatehouse.module.gatehouse.google_compute_url_map.this
}

moved {
  from = google_firebaserules_release.firestore
  to   = module.gatehouse.module.gatehouse.google_firebaserules_release.firestore
}

moved {
  from = google_firebaserules_ruleset.deny
  to   = module.gatehouse.module.gatehouse.google_firebaserules_ruleset.deny
}

moved {
  from = google_firestore_backup_schedule.daily
  to   = module.gatehouse.module.gatehouse.google_firestore_backup_schedule.daily
}

moved {
  from = google_firestore_database.this
  to   = module.gatehouse.module.gatehouse.google_firestore_database.this
}

moved {
  from = google_firestore_field.expires_at
  to   = module.gatehouse.module.gatehouse.google_firestore_field.expires_at
}

moved {
  from = google_firestore_field.unindexed
  to   = module.gatehouse.module.gatehouse.google_firestore_field.unindexed
}

moved {
  from = google_firestore_index.this
  to   = module.gatehouse.module.gatehouse.google_firestore_index.this
}

moved {
  from = google_iap_web_cloud_run_service_iam_member.visitor
  to   = module.gatehouse.module.gatehouse.google_iap_web_cloud_run_service_iam_member.visitor
}

moved {
  from = google_kms_crypto_key_iam_member.agent
  to   = module.gatehouse.module.gatehouse.google_kms_crypto_key_iam_member.agent
}

moved {
  from = google_kms_crypto_key_iam_member.delivery
  to   = module.gatehouse.module.gatehouse.google_kms_crypto_key_iam_member.delivery
}

moved {
  from = google_logging_metric.count
  to   = module.gatehouse.module.gatehouse.google_logging_metric.count
}

moved {
  from = google_logging_metric.value
  to   = module.gatehouse.module.gatehouse.google_logging_metric.value
}

moved {
  from = google_logging_project_bucket_config.audit
  to   = module.gatehouse.module.gatehouse.google_logging_project_bucket_config.audit
}

moved {
  from = google_logging_project_exclusion.audit
  to   = module.gatehouse.module.gatehouse.google_logging_project_exclusion.audit
}

moved {
  from = google_logging_project_sink.audit
  to   = module.gatehouse.module.gatehouse.google_logging_project_sink.audit
}

moved {
  from = google_monitoring_alert_policy.this
  to   = module.gatehouse.module.gatehouse.google_monitoring_alert_policy.this
}

moved {
  from = google_monitoring_custom_service.this
  to   = module.gatehouse.module.gatehouse.google_monitoring_custom_service.this
}

moved {
  from = google_monitoring_dashboard.this
  to   = module.gatehouse.module.gatehouse.google_monitoring_dashboard.this
}

moved {
  from = google_monitoring_notification_channel.email
  to   = module.gatehouse.module.gatehouse.google_monitoring_notification_channel.email
}

moved {
  from = google_monitoring_slo.this
  to   = module.gatehouse.module.gatehouse.google_monitoring_slo.this
}

moved {
  from = google_monitoring_uptime_check_config.invoke
  to   = module.gatehouse.module.gatehouse.google_monitoring_uptime_check_config.invoke
}

moved {
  from = google_project_iam_custom_role.plan
  to   = module.gatehouse.module.gatehouse.google_project_iam_custom_role.plan
}

moved {
  from = google_project_iam_member.database
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.database
}

moved {
  from = google_project_iam_member.infrastructure
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.infrastructure
}

moved {
  from = google_project_iam_member.plan
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.plan
}

moved {
  from = google_project_service.this
  to   = module.gatehouse.module.gatehouse.google_project_service.this
}

moved {
  from = google_pubsub_topic.rotation
  to   = module.gatehouse.module.gatehouse.google_pubsub_topic.rotation
}

moved {
  from = google_pubsub_topic_iam_member.rotation
  to   = module.gatehouse.module.gatehouse.google_pubsub_topic_iam_member.rotation
}

moved {
  from = google_secret_manager_secret.this
  to   = module.gatehouse.module.gatehouse.google_secret_manager_secret.this
}

moved {
  from = google_secret_manager_secret_iam_member.function
  to   = module.gatehouse.module.gatehouse.google_secret_manager_secret_iam_member.function
}

moved {
  from = google_secret_manager_secret_iam_member.smoke_key
  to   = module.gatehouse.module.gatehouse.google_secret_manager_secret_iam_member.smoke_key
}

moved {
  from = google_service_account.build
  to   = module.gatehouse.module.gatehouse.google_service_account.build
}

moved {
  from = google_service_account.delivery
  to   = module.gatehouse.module.gatehouse.google_service_account.delivery
}

moved {
  from = google_service_account.function
  to   = module.gatehouse.module.gatehouse.google_service_account.function
}

moved {
  from = google_service_account.scheduler
  to   = module.gatehouse.module.gatehouse.google_service_account.scheduler
}

moved {
  from = google_service_account_iam_member.deliver
  to   = module.gatehouse.module.gatehouse.google_service_account_iam_member.deliver
}

moved {
  from = google_service_account_iam_member.impersonation
  to   = module.gatehouse.module.gatehouse.google_service_account_iam_member.impersonation
}

moved {
  from = google_service_account_iam_member.infrastructure
  to   = module.gatehouse.module.gatehouse.google_service_account_iam_member.infrastructure
}

moved {
  from = google_storage_bucket_iam_member.plan
  to   = module.gatehouse.module.gatehouse.google_storage_bucket_iam_member.plan
}

moved {
  from = google_project_iam_member.build
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.build_log
}

moved {
  from = google_project_iam_member.deliver["roles/logging.logWriter"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.deliver["log"]
}

moved {
  from = google_project_iam_member.deliver["roles/monitoring.viewer"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.deliver["deliver"]
}

moved {
  from = google_project_iam_member.function["invoke:aiplatform.user"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.function["invoke"]
}

moved {
  from = google_project_iam_member.function["invoke:logging.logWriter"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.telemetry["invoke:logging.logWriter"]
}

moved {
  from = google_project_iam_member.function["invoke:monitoring.metricWriter"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.telemetry["invoke:telemetry.metricsWriter"]
}

moved {
  from = google_project_iam_member.function["invoke:cloudtrace.agent"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.telemetry["invoke:telemetry.tracesWriter"]
}

moved {
  from = google_project_iam_member.function["health:aiplatform.user"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.function["health"]
}

moved {
  from = google_project_iam_member.function["health:logging.logWriter"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.telemetry["health:logging.logWriter"]
}

moved {
  from = google_project_iam_member.function["health:monitoring.metricWriter"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.telemetry["health:telemetry.metricsWriter"]
}

moved {
  from = google_project_iam_member.function["health:cloudtrace.agent"]
  to   = module.gatehouse.module.gatehouse.google_project_iam_member.telemetry["health:telemetry.tracesWriter"]
}
