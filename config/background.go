package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"example.com/gatehouse/internal/loopback"
)

// maxRunTimeout leaves a minute of the half hour that Cloud Tasks waits for an answer
// (https://cloud.google.com/tasks/docs/reference/rpc/google.cloud.tasks.v2#task).
const maxRunTimeout = 29 * time.Minute

// Patterns of what is rarely set, without the most bytes: they are compiled only for a value.
const (
	queueName      = `^projects/[^/\s]+/locations/[a-z0-9-]+/queues/[A-Za-z0-9-]+$`
	serviceAccount = `^[a-z0-9-]+@[a-z0-9.:-]+\.gserviceaccount\.com$`
	headerName     = `^[Xx]-[A-Za-z0-9-]+$`
	bucketName     = `^[a-z0-9][a-z0-9._-]+[a-z0-9]$` // https://cloud.google.com/storage/docs/buckets#naming
	hostName       = `^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?$`
)

// matches reports whether text has the form of pattern, which is one of the constants
// above.
func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// background reads what runs that outlive their request need.
//
// Queue and account are one setting in two variables: a queue without an account would
// deliver tasks that nobody can verify, and an account without a queue is a mistake in the
// name. The service's address is needed by both, tasks and schedules, as the audience of
// their tokens. Webhooks need a secret, or receivers could not distinguish them from forgeries.
func (r *reader) background(c *Config, hosts string) {
	for variable, account := range map[string]string{"TASKS_ACCOUNT": c.TasksAccount, "SCHEDULES_ACCOUNT": c.SchedulesAccount} {
		if account != "" && !matches(serviceAccount, account) {
			r.problem(variable, "%s is not a service account's address, NAME@PROJECT.iam.gserviceaccount.com", shape(account))
		}
	}
	switch {
	case c.TasksQueue == "" && c.TasksAccount != "":
		r.problem("TASKS_QUEUE", "is not set, and TASKS_ACCOUNT is; set the queue whose tasks come as that account, or unset both")
	case c.TasksQueue == "":
	case !matches(queueName, c.TasksQueue):
		r.problem("TASKS_QUEUE", "%s is not a queue's name; set projects/PROJECT/locations/LOCATION/queues/QUEUE", shape(c.TasksQueue))
	case c.TasksAccount == "":
		r.problem("TASKS_ACCOUNT", "is not set, and TASKS_QUEUE is; set the service account whose tokens come with the tasks")
	}
	switch {
	case c.ServiceURL == "":
		if c.Service == "" && (c.TasksQueue != "" || c.SchedulesAccount != "") {
			r.problem("SERVICE_URL", "is not set, and outside of Cloud Run there is no metadata server to ask; set the address that tasks and schedules call, https://host")
		}
	case !isServiceURL(c.ServiceURL, !c.Production()):
		r.problem("SERVICE_URL", "is not https://host or https://host:port, without a path or a slash at the end")
	}
	c.WebhookHosts = list(hosts)
	for i, host := range c.WebhookHosts {
		if !isWebhookHost(host, !c.Production()) {
			r.problem("WEBHOOK_HOSTS", "entry %d is not the name of a public host in lower case, hooks.example.com, or with its port, hooks.example.com:8443", i+1)
		}
	}
	if len(c.WebhookHosts) > 0 && c.WebhookSecrets == "" {
		r.problem("WEBHOOK_SECRETS_SECRET", "is not set, and WEBHOOK_HOSTS is; name the secret that webhooks are signed with (go run ./cmd/key -webhook NAME makes one)")
	}
}

// isServiceURL reports whether text is the origin of an https server, or, where plain is
// set, of an http one on loopback. It is compared with the tokens' audience as it is, so a
// path, a slash at the end or a user's name would fail every delivery.
func isServiceURL(text string, plain bool) bool {
	u, err := url.Parse(text)
	return err == nil && u.Hostname() != "" && text == u.Scheme+"://"+u.Host &&
		(u.Scheme == "https" || plain && u.Scheme == "http" && loopback.Host(u.Hostname()))
}

// isWebhookHost reports whether text is a host's name, alone or with a port. An address is
// none, but for one on loopback where inner is set, for local runs. Names that only mean
// something inside a network are refused, such as metadata.google.internal: whoever sets a
// run's webhook must not reach what only the service can. Package egress checks the address
// that a name has at each connection; this catches the mistake at the start.
func isWebhookHost(text string, inner bool) bool {
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return false
		}
		host = h
	}
	if loopback.Host(host) {
		return inner
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	return len(host) <= 253 && matches(hostName, host) && !strings.HasSuffix(host, ".internal") && !strings.HasSuffix(host, ".localhost")
}
