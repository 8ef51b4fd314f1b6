package terraform_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/terraformtest"
)

// By the type of a resource: what it is named by within a project. A resource that
// is named by nothing of ours has none.
var namedBy = map[string]string{
	"google_artifact_registry_repository":          "repository_id",
	"google_cloud_run_v2_service":                  "name",
	"google_cloud_scheduler_job":                   "name",
	"google_cloud_tasks_queue":                     "name",
	"google_cloudbuild_trigger":                    "name",
	"google_compute_backend_service":               "name",
	"google_compute_global_address":                "name",
	"google_compute_global_forwarding_rule":        "name",
	"google_compute_managed_ssl_certificate":       "name",
	"google_compute_region_network_endpoint_group": "name",
	"google_compute_security_policy":               "name",
	"google_compute_ssl_policy":                    "name",
	"google_compute_target_http_proxy":             "name",
	"google_compute_target_https_proxy":            "name",
	"google_compute_url_map":                       "name",
	"google_firebaserules_release":                 "name",
	"google_firestore_database":                    "name",
	"google_logging_metric":                        "name",
	"google_logging_project_bucket_config":         "bucket_id",
	"google_logging_project_exclusion":             "name",
	"google_logging_project_sink":                  "name",
	"google_monitoring_alert_policy":               "display_name",
	"google_monitoring_custom_service":             "service_id",
	"google_monitoring_notification_channel":       "display_name",
	"google_monitoring_uptime_check_config":        "display_name",
	"google_project_iam_custom_role":               "role_id",
	"google_pubsub_subscription":                   "name",
	"google_pubsub_topic":                          "name",
	"google_secret_manager_secret":                 "secret_id",
	"google_service_account":                       "account_id",
}

// Types without a name of ours, or whose name lies below one that is checked.
var unnamed = []string{
	"_iam_member", "google_billing_budget", "google_firebaserules_ruleset", "google_firestore_backup_schedule", "google_firestore_field",
	"google_firestore_index", "google_monitoring_dashboard", "google_monitoring_slo", "google_project_service", "terraform_data",
}

// names returns what a deployment is called: kinds and names of its resources.
func names(t *testing.T, changes []terraformtest.Change) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range changes {
		attribute, ok := namedBy[c.Type]
		if !ok {
			if !slices.ContainsFunc(unnamed, func(u string) bool { return strings.HasSuffix(c.Type, u) }) {
				t.Errorf("%s: this test does not know what names a %s", c.Address, c.Type)
			}
			continue
		}
		name := text(c.Change.After[attribute])
		if name == "" {
			t.Errorf("%s: no %s in the plan", c.Address, attribute)
		}
		// Two services may have a name in two regions.
		key := fmt.Sprintf("%s %s %s", c.Type, text(c.Change.After["location"]), name)
		if other, ok := all[key]; ok {
			t.Errorf("%s and %s are both called %s", other, c.Address, name)
		}
		all[key] = c.Address
	}
	return all
}

func TestTwoPrefixesMeetInNoName(t *testing.T) {
	usual, other := names(t, plans(t)["the usual prefix"]), names(t, plans(t)["another prefix"])
	if len(usual) < 60 {
		t.Fatalf("only %d names", len(usual))
	}
	for name, address := range other {
		if meets, ok := usual[name]; ok {
			t.Errorf("with either prefix there is %s: %s, %s", name, address, meets)
		}
	}
	// Cloud Run's and Firestore's names are those that they had before there were
	// prefixes.
	for _, name := range []string{
		"google_cloud_run_v2_service us-central1 invoke", "google_cloud_run_v2_service us-central1 health",
		"google_firestore_database  (default)", "google_service_account  gatehouse-infrastructure",
		"google_secret_manager_secret  gatehouse-api-keys",
	} {
		if usual[name] == "" {
			t.Errorf("the usual prefix has no %s", name)
		}
	}
}

// A service account's name has at most 30 characters, a role's 64, and so on: the
// longest prefix must pass.
func TestTheLongestPrefixFits(t *testing.T) {
	longest := map[string]int{"google_service_account": 30, "google_secret_manager_secret": 255, "google_cloud_run_v2_service": 49, "google_project_iam_custom_role": 64}
	const grown = 15 - len("other")
	for _, c := range plans(t)["another prefix"] {
		if most, ok := longest[c.Type]; ok {
			if name := text(c.Change.After[namedBy[c.Type]]); len(name)+grown > most {
				t.Errorf("%s: %s would be longer than %d with a prefix of 15", c.Address, name, most)
			}
		}
	}
}
