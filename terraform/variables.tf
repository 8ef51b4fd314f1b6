# The settings of a deployment. All but the project have defaults for production.

# Where

variable "project_id" {
  description = "The Google Cloud project to deploy into. It may be empty; billing must be on."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is not a project's ID: 6 to 30 lower-case letters, digits and hyphens, beginning with a letter. It is neither the project's name nor its number."
  }
}

variable "prefix" {
  description = "The prefix of all resource names, so that one project can hold several agents. It cannot be changed later without creating everything again. With the default the functions are called invoke and health, and the database is (default)."
  type        = string
  default     = "gatehouse"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*$", var.prefix))
    error_message = "prefix is not lower-case letters and digits, beginning with a letter: a hyphen would let the names of two prefixes meet."
  }
  validation {
    condition     = length(var.prefix) <= 15
    error_message = "prefix is longer than 15 characters: a service account's name has at most 30, and PREFIX-infrastructure is one. Shorten it."
  }
}

variable "region" {
  description = "The region of everything that has one."
  type        = string
  default     = "us-central1"
  nullable    = false

  validation {
    condition     = contains(local.known_regions, var.region)
    error_message = "region is not one that has Cloud Run, Firestore and Cloud Scheduler: set one such as us-central1, europe-west1 or asia-northeast1."
  }
}

variable "firestore_location" {
  description = "The location of the sessions' database: a region, or the multi-region of its continent (nam5, nam7, eur3). It cannot be changed later. Null: the region."
  type        = string
  default     = null

  validation {
    condition = (var.firestore_location == null || var.firestore_location == var.region ||
    contains(lookup(local.multi_regions, split("-", var.region)[0], []), coalesce(var.firestore_location, var.region)))
    error_message = "firestore_location is neither the region itself nor the multi-region of its continent (nam5 or nam7 for us-…, eur3 for europe-…): each turn would cross an ocean twice. Leave it out, or set it to match the region."
  }
}

variable "firestore_database" {
  description = "The name of the Firestore database. Null: (default), or PREFIX-sessions where a prefix is set."
  type        = string
  default     = null

  validation {
    condition     = var.firestore_database == null || var.firestore_database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.firestore_database))
    error_message = "firestore_database is neither (default) nor 4 to 63 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "second_region" {
  description = "A second region for invoke, behind the load balancer. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.second_region == null || contains(local.known_regions, coalesce(var.second_region, "-"))
    error_message = "second_region is not one that has Cloud Run: set one such as us-east1 or europe-west4, or leave it out."
  }
  validation {
    condition     = var.second_region == null || var.second_region != var.region
    error_message = "second_region is the region itself: set another, or leave it out."
  }
  validation {
    condition     = var.second_region == null || var.load_balancer != null
    error_message = "second_region is reached only by the load balancer: set load_balancer too, or leave second_region out."
  }
}

variable "labels" {
  description = "Labels of every resource that supports them, in addition to app=PREFIX."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels hold one that Google Cloud refuses: keys and values are at most 63 lower-case letters, digits, _ and -, and a key begins with a letter."
  }
  validation {
    condition     = !contains(keys(var.labels), "app")
    error_message = "labels hold app, which is the prefix: scripts/deploy knows the services of this deployment by it. Take another key."
  }
}

variable "environment" {
  description = "The deployment's name for its environment. Production's rules apply to every environment."
  type        = string
  default     = "production"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.environment)) && !contains(["development", "test"], var.environment)
    error_message = "environment is not a lower-case word such as production or staging; development and test are for local runs, as they admit what no deployment must."
  }
}

# What

variable "image" {
  description = "The image that both functions run, by its digest: REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:…. It is used when a function is created; afterwards the delivery sets it. A plan does not need it; an apply that creates or changes a function does."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^[^@]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image names no digest, NAME@sha256: and 64 hexadecimal digits: what a tag means changes, so it says nothing about what would run. gcloud artifacts docker images describe NAME:TAG shows the digest."
  }
  validation {
    condition     = var.image == null || can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[^/@:]+/[^/@:]+/[^@:]+(@|:|$)", var.image))
    error_message = "image is not in Artifact Registry, REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:…, the only registry that Cloud Run takes images from without a copy."
  }
  validation {
    condition     = var.image == null || !can(regex("-docker\\.pkg\\.dev/", var.image)) || contains(concat([var.project_id], var.image_projects), try(split("/", var.image)[1], ""))
    error_message = "image is in the registry of a project that is neither project_id nor among image_projects: build it in this project, or name the other in image_projects and let this project's Cloud Run read there."
  }
}

variable "image_projects" {
  description = "Other projects whose registries may hold the image. This project's Cloud Run service agent must have read access there."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for p in var.image_projects : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", p))])
    error_message = "image_projects hold what is not a project's ID: 6 to 30 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "model" {
  description = "The model that answers. Null: the default of internal/models/models.json."
  type        = string
  default     = null

  validation {
    condition     = var.model == null || can(regex("^[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}$", var.model))
    error_message = "model is not a model's name: internal/models/models.json lists those that are known."
  }
}

variable "model_fallbacks" {
  description = "Models that are tried in this order if the first is unavailable or was shut down. Null: the fallback of internal/models/models.json, unless it is the model itself."
  type        = list(string)
  default     = null

  validation {
    condition     = alltrue([for m in coalesce(var.model_fallbacks, []) : can(regex("^[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}$", m)) && m != local.model])
    error_message = "model_fallbacks hold what is not a model's name, or the model itself: list others, or leave it out."
  }
}

variable "models_allowed" {
  description = "Models that a request may name in its member model, beside the one that answers. Each is priced by its own entry in internal/models/models.json."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.models_allowed) <= 16 && length(distinct(var.models_allowed)) == length(var.models_allowed) && alltrue([for m in var.models_allowed : can(regex("^[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}$", m))])
    error_message = "models_allowed hold what is not a model's name, one twice, or more than 16."
  }
}

variable "model_armor" {
  description = "Templates of Model Armor by which Vertex AI screens prompts and answers: projects/PROJECT/locations/LOCATION/templates/TEMPLATE. Needs model_backend vertex. Null: none."
  type = object({
    prompt_template   = optional(string)
    response_template = optional(string)
  })
  default = null

  validation {
    condition     = alltrue([for t in compact(values(coalesce(var.model_armor, {}))) : can(regex("^projects/[^/ ]+/locations/[^/ ]+/templates/[^/ ]+$", t))])
    error_message = "model_armor holds what is not a template's name: set projects/PROJECT/locations/LOCATION/templates/TEMPLATE."
  }

  validation {
    condition     = var.model_armor == null || var.model_backend == "vertex"
    error_message = "model_armor is called by Vertex AI: set model_backend to vertex, or leave it out."
  }
}

variable "thinking_level" {
  description = "How much the model thinks: minimal, low, medium or high; the model must support the level. Null: low for an agent with tools, else the model's lowest."
  type        = string
  default     = null

  validation {
    condition     = contains(["minimal", "low", "medium", "high"], coalesce(var.thinking_level, "low"))
    error_message = "thinking_level is not a level: set minimal, low, medium or high, or leave it out."
  }
}

variable "models_table_from_secret" {
  description = "Whether to read a newer table of models from the secret models-table, which can change without a deployment. Add a version to it first."
  type        = bool
  default     = false
  nullable    = false
}

variable "model_backend" {
  description = "The Gemini backend: vertex (Vertex AI, with the functions' accounts) or gemini (the Gemini API, with the key in the secret gemini-api-key)."
  type        = string
  default     = "vertex"
  nullable    = false

  validation {
    condition     = contains(["vertex", "gemini"], var.model_backend)
    error_message = "model_backend is neither vertex nor gemini."
  }
}

variable "model_url" {
  description = "Another server with the Gemini API, such as a proxy to models of other vendors, https://models.example.com; model_backend must be gemini, and the secret gemini-api-key holds its key. Null: Google's own."
  type        = string
  default     = null

  validation {
    condition     = var.model_url == null || can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$", var.model_url))
    error_message = "model_url is not the https:// address of a server."
  }
  validation {
    condition     = var.model_url == null || var.model_backend == "gemini"
    error_message = "model_url is of a server with the Gemini API: set model_backend to gemini, or leave it out."
  }
}

variable "vertex_location" {
  description = "The location of Vertex AI: global, a multi-region (us or eu), which prompts do not leave, or a region that has the model."
  type        = string
  default     = "global"
  nullable    = false

  validation {
    condition     = contains(["global", "us", "eu"], var.vertex_location) || contains(local.known_regions, var.vertex_location)
    error_message = "vertex_location is neither global, us or eu nor a region such as europe-west4."
  }
}

variable "agent_secrets" {
  description = "The secrets of the agent's tools, by the names of the agent's variables. { RATES_KEY = {} } creates the secret PREFIX-rates-key without a version, which only invoke may read; after you have added one, { RATES_KEY = { version = \"latest\" } } passes its name to the agent in RATES_KEY_SECRET. A number instead of latest pins a version."
  type        = map(object({ version = optional(string) }))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.agent_secrets) : can(regex("^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$", name)) && length(name) <= 64 && !endswith(name, "_SECRET")])
    error_message = "agent_secrets hold a name that is not a variable's: upper-case letters and digits, joined by single underscores, at most 64, without _SECRET at the end, which is added: RATES_KEY."
  }
  validation {
    condition     = alltrue([for s in var.agent_secrets : s.version == null || can(regex("^(latest|[1-9][0-9]*)$", s.version))])
    error_message = "agent_secrets hold a version that is neither latest nor a number: add a version by gcloud secrets versions add, and leave version out until there is one. The secret's value is no part of this."
  }
  validation {
    condition     = !anytrue([for name in flatten([for n in keys(var.agent_secrets) : [n, "${n}_SECRET"]]) : contains(local.reserved_variables, name) || can(regex(local.reserved_pattern, name))])
    error_message = "agent_secrets hold a variable of the service's own or of the platform's (CLOUD_RUN_, FUNCTION_, GOOGLE_, K_, OTEL_): take another name."
  }
}

variable "agent_environment" {
  description = "Environment variables of the agent's tools: { RATES_URL = \"https://rates.example.com\" }. Secrets belong in agent_secrets, because these values are in the state and in the console."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.agent_environment : can(regex("^[A-Z][A-Z0-9_]*$", name)) && length(name) <= 64 && value != null])
    error_message = "agent_environment holds a name that is not a variable's, upper-case letters, digits and underscores, at most 64, or no value."
  }
  validation {
    condition     = !anytrue([for name in keys(var.agent_environment) : contains(local.reserved_variables, name) || can(regex(local.reserved_pattern, name))])
    error_message = "agent_environment holds a variable of the service's own or of the platform's (CLOUD_RUN_, FUNCTION_, GOOGLE_, K_, OTEL_): the service's have variables of the module; for another, take another name."
  }
  validation {
    condition     = length(setintersection(keys(var.agent_environment), flatten([for name in keys(var.agent_secrets) : [name, "${name}_SECRET"]]))) == 0
    error_message = "agent_environment and agent_secrets set one variable twice: leave it out of agent_environment, where it would be in plain."
  }
}

# Who may call

variable "web_access" {
  description = "Who can reach invoke: private (Cloud Run checks every caller with IAM), application (only the service checks callers; for browsers with their own sign-in), iap (Identity-Aware Proxy signs visitors in)."
  type        = string
  default     = "private"
  nullable    = false

  validation {
    condition     = contains(["private", "application", "iap"], var.web_access)
    error_message = "web_access is not private, application or iap."
  }
}

variable "auth" {
  description = "The credentials that invoke accepts: iam, oidc, api_key. Null: iam if web_access is private, oidc behind iap; application requires a value."
  type        = list(string)
  default     = null

  validation {
    condition     = var.auth == null || alltrue([for mode in coalesce(var.auth, []) : contains(["iam", "oidc", "api_key"], mode)])
    error_message = "auth holds a mode that no deployment has: list some of iam, oidc and api_key. (none is for local runs.)"
  }
  validation {
    condition     = var.auth == null || length(coalesce(var.auth, [])) == length(distinct(coalesce(var.auth, []))) && length(coalesce(var.auth, [])) > 0
    error_message = "auth is empty or lists a mode twice: list some of iam, oidc and api_key, or leave it out."
  }
  validation {
    condition     = var.web_access == "private" || !contains(coalesce(var.auth, ["oidc"]), "iam")
    error_message = "auth holds iam, which believes what Cloud Run's own check has verified, and with this web_access that check is off or IAP's: set web_access to private, or take iam out of auth."
  }
  validation {
    condition     = var.web_access != "application" || length(setintersection(coalesce(var.auth, []), ["oidc", "api_key"])) > 0
    error_message = "web_access is application, so nobody is checked before the code does: set auth to hold oidc (for browsers) or api_key (for backends)."
  }
  validation {
    condition     = var.web_access != "iap" || tolist(coalesce(var.auth, ["oidc"])) == tolist(["oidc"])
    error_message = "web_access is iap, where IAP's own token is the only credential: leave auth out."
  }
}

variable "oidc_issuers" {
  description = "The issuers whose tokens oidc accepts, each with its audience and other required claims. Firebase: issuer https://securetoken.google.com/PROJECT, audience PROJECT."
  type = list(object({
    issuer   = string
    audience = string
    claims   = optional(map(string), {})
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for i in var.oidc_issuers : can(regex("^https://[^\\s,|?#@]+$", i.issuer))])
    error_message = "oidc_issuers hold an issuer that is not an https address as its tokens name it, such as https://securetoken.google.com/my-project."
  }
  validation {
    condition = alltrue(flatten([
      for i in var.oidc_issuers : concat(
        [can(regex("^[^\\s,|=]+$", i.audience))],
        [for name, value in i.claims : can(regex("^[^\\s,|=]+$", name)) && can(regex("^[^,|]+$", value))],
      )
    ]))
    error_message = "oidc_issuers hold an audience or a claim that is empty or has a comma, a bar or an equals sign: name one audience for each entry; several entries may name one issuer."
  }
  validation {
    condition     = !contains(coalesce(var.auth, []), "oidc") || var.web_access == "iap" || length(var.oidc_issuers) > 0
    error_message = "auth holds oidc: name at least one issuer and its audience in oidc_issuers."
  }
  validation {
    condition     = length(var.oidc_issuers) == 0 || contains(coalesce(var.auth, []), "oidc") && var.web_access != "iap"
    error_message = "oidc_issuers are named, but auth does not hold oidc (or web_access is iap, where only IAP issues tokens): they would be ignored."
  }
}

variable "invokers" {
  description = "Who may call invoke if web_access is private: serviceAccount:…, user:…, group:…, domain:…, principal://… or principalSet://…."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "invokers hold allUsers or allAuthenticatedUsers, which let anybody past the check that the mode iam relies on: for callers without a Google identity set web_access to application, and auth to oidc or api_key."
  }
  validation {
    condition     = alltrue([for m in setsubtract(var.invokers, ["allUsers", "allAuthenticatedUsers"]) : can(regex("^((serviceAccount|user|group):[^\\s@:]+@[^\\s@]+|domain:[^\\s@:]+|principal(Set)?://\\S+)$", m))])
    error_message = "invokers hold what is no member of IAM: write serviceAccount:name@project.iam.gserviceaccount.com, user:…, group:…, domain:…, principal://… or principalSet://…."
  }
  validation {
    condition     = length(var.invokers) == 0 || var.web_access == "private"
    error_message = "invokers pass Cloud Run's own check, which is on for them only where web_access is private: with application issue them a token or key, with iap name them in iap_members."
  }
}

variable "health_invokers" {
  description = "Who may call health in addition to the scheduler: IAM members as in invokers."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for m in var.health_invokers : can(regex("^((serviceAccount|user|group):[^\\s@:]+@[^\\s@]+|domain:[^\\s@:]+|principal(Set)?://\\S+)$", m))])
    error_message = "health_invokers hold what is no member of IAM, or everybody, which health is never open to: write serviceAccount:…, user:…, group:…, domain:…, principal://… or principalSet://…."
  }
}

variable "iap_members" {
  description = "Who may pass IAP if web_access is iap: IAM members as in invokers."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for m in var.iap_members : can(regex("^((serviceAccount|user|group):[^\\s@:]+@[^\\s@]+|domain:[^\\s@:]+|principal(Set)?://\\S+)$", m))])
    error_message = "iap_members hold what is no member of IAM, or everybody: write user:…, group:…, domain:…, serviceAccount:…, principal://… or principalSet://…."
  }
  validation {
    condition     = (length(var.iap_members) > 0) == (var.web_access == "iap")
    error_message = "iap_members and web_access iap belong together: with iap name at least one member who may pass, otherwise none."
  }
}

variable "allowed_origins" {
  description = "The origins whose pages may call, such as https://app.example.com."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for o in var.allowed_origins : !strcontains(o, "*")])
    error_message = "allowed_origins hold a *, which would let every page call with its visitor's credentials: name each origin, such as https://app.example.com."
  }
  validation {
    condition     = alltrue([for o in var.allowed_origins : strcontains(o, "*") || can(regex("^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$", o))])
    error_message = "allowed_origins hold what no browser sends as an https origin: write https://host or https://host:port, in lower case, without a path or a slash at the end."
  }
  validation {
    condition     = length(var.allowed_origins) == 0 || !var.allowed_origins_from_secret
    error_message = "allowed_origins are named here and taken from the secret: leave one of them out."
  }
}

variable "allowed_origins_from_secret" {
  description = "Whether to read the origins from the secret allowed-origins, which can change without a deployment. Add a version to it first."
  type        = bool
  default     = false
  nullable    = false
}

variable "operators" {
  description = "Who sees the details of /health and /metrics, each with its kind: email:ops@example.com@https://issuer, sub:SUBJECT@https://issuer, key:NAME, account:NAME@PROJECT.iam.gserviceaccount.com. Empty: every caller with iam or api_key."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for o in var.operators : can(regex("^((email|sub):[^\\s,]+@https://[^\\s,@]+|key:[^\\s,]+|account:[^\\s,@]+@[^\\s,@]+)$", o))])
    error_message = "operators hold one without its kind, or with a comma or a space: write email:ADDRESS@https://issuer, sub:SUBJECT@https://issuer, key:NAME or account:ADDRESS, each by itself."
  }
}

variable "playground" {
  description = "Whether invoke serves the playground page at /."
  type        = bool
  default     = false
  nullable    = false
}

variable "doors" {
  description = "Protocols beside the service's own. open: those that are served, of those that gate.Register names (mcp, openai, a2a); null for all, empty for none. mcp_tools: whether MCP clients may also call the agent's own tools, without the model. conversation_headers: headers by which a chat completion names its session, such as X-OpenWebUI-Chat-Id. instructions: whether OpenAI's clients may add instructions to the agent's. sign_card: whether A2A's card is signed with the keys in the secret card-keys; add a version to it first. card_keys_url: the https URL of the JWK set with their public halves. gemini_enterprise: the app whose service agent may call invoke by A2A, with the number of its project and its location; the output gemini_enterprise has the command that registers the agent there."
  type = object({
    open                 = optional(list(string))
    mcp_tools            = optional(bool, false)
    conversation_headers = optional(list(string), [])
    instructions         = optional(bool, false)
    sign_card            = optional(bool, false)
    card_keys_url        = optional(string)
    gemini_enterprise = optional(object({
      project_number = string
      app            = string
      location       = optional(string, "global")
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in coalesce(var.doors.open, []) : can(regex("^[a-z0-9]{1,20}$", name)) && name != "none"])
    error_message = "doors.open holds what is not a protocol's name, such as mcp; leave it out for all, and set [] for none."
  }
  validation {
    condition     = alltrue([for name in var.doors.conversation_headers : can(regex("^[Xx]-[A-Za-z0-9-]{1,62}$", name))])
    error_message = "doors.conversation_headers hold what is not the name of a header that begins with X-, such as X-OpenWebUI-Chat-Id."
  }
  validation {
    condition     = var.doors.card_keys_url == null || var.doors.sign_card && can(regex("^https://[^/?#@[:space:]]+(/[^#[:space:]]*)?$", var.doors.card_keys_url))
    error_message = "doors.card_keys_url is no https URL, such as https://keys.example.com/jwks.json, or doors.sign_card is not set."
  }
  validation {
    condition     = var.doors.gemini_enterprise == null || can(regex("^[0-9]+ [a-z0-9][a-z0-9_-]* (global|us|eu)$", join(" ", [try(var.doors.gemini_enterprise.project_number, ""), try(var.doors.gemini_enterprise.app, ""), try(var.doors.gemini_enterprise.location, "")])))
    error_message = "doors.gemini_enterprise has a project_number that is no number, an app that is no app's ID, or a location that is not global, us or eu."
  }
  validation {
    condition     = var.doors.gemini_enterprise == null || var.web_access == "private"
    error_message = "doors.gemini_enterprise is set, but its service agent can be let in only by Cloud Run's own check, which is on where web_access is private."
  }
}

# How much

variable "capacity" {
  description = "The size of an instance of invoke, and the number of instances. With cpu_always_on instances are charged around the clock."
  type = object({
    cpu           = optional(number, 1)
    memory_mib    = optional(number, 512)
    concurrency   = optional(number, 80)
    min_instances = optional(number, 0)
    max_instances = optional(number, 10)
    cpu_always_on = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains([1, 2, 4, 6, 8], var.capacity.cpu)
    error_message = "capacity.cpu is not 1, 2, 4, 6 or 8: Cloud Run has no other, and below 1 an instance takes one request at a time."
  }
  validation {
    condition = !contains([1, 2, 4, 6, 8], var.capacity.cpu) || (
      var.capacity.memory_mib >= lookup(local.memory_of_cpu, tostring(var.capacity.cpu), [0, 0])[0] &&
      var.capacity.memory_mib <= lookup(local.memory_of_cpu, tostring(var.capacity.cpu), [0, 0])[1] &&
    floor(var.capacity.memory_mib) == var.capacity.memory_mib)
    error_message = "capacity.memory_mib and capacity.cpu are refused by Cloud Run together: 1 CPU takes 512 to 4096 MiB, 2 take 512 to 8192, 4 take 2048 to 16384, 6 take 4096 to 24576, 8 take 4096 to 32768."
  }
  validation {
    condition     = var.capacity.concurrency >= 1 && var.capacity.concurrency <= 1000 && floor(var.capacity.concurrency) == var.capacity.concurrency
    error_message = "capacity.concurrency is not a whole number from 1 to 1000, which is what Cloud Run sends to an instance at once: 80 suits a service that waits for a model."
  }
  validation {
    condition     = var.capacity.max_instances >= 1 && var.capacity.max_instances <= 1000 && floor(var.capacity.max_instances) == var.capacity.max_instances
    error_message = "capacity.max_instances is not a whole number from 1 to 1000."
  }
  validation {
    condition     = var.capacity.min_instances >= 0 && var.capacity.min_instances <= var.capacity.max_instances && floor(var.capacity.min_instances) == var.capacity.min_instances
    error_message = "capacity.min_instances is below 0 or over capacity.max_instances: lower the one or raise the other."
  }
}

variable "files" {
  description = "Files in questions and answers. With keep they are kept in a bucket as long as their session, and the model sees them in later turns; without it they serve in their own turn. types: media types, or all of a kind as image/*; empty for no files. read_buckets: buckets of this project that a request may name objects of: every caller can have the agent read every object in them."
  type = object({
    keep         = optional(bool, false)
    types        = optional(list(string), ["image/*", "application/pdf", "audio/*", "text/*"])
    max_bytes    = optional(number, 7340032)
    read_buckets = optional(list(string), [])
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for t in var.files.types : can(regex("^(image|audio|text)/\\*$|^application/pdf$|^(image|audio|text)/[a-z0-9.+-]+$", t))])
    error_message = "files.types hold what the service cannot check: set image/*, application/pdf, audio/*, text/*, or single types of these kinds such as image/png."
  }
  validation {
    condition     = var.files.max_bytes >= 0 && var.files.max_bytes <= 20971520 && floor(var.files.max_bytes) == var.files.max_bytes
    error_message = "files.max_bytes is not a whole number from 0 to 20971520: a request to Cloud Run has at most 32 MiB, and files are a third longer in it."
  }
  validation {
    condition     = alltrue([for b in var.files.read_buckets : can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", b)) && b != "${var.project_id}-${var.prefix}-files"])
    error_message = "files.read_buckets hold what is not a bucket's name, without gs:// and without a path, or the bucket of the sessions' files, in which callers could then read each other's."
  }
}

variable "request_timeout_seconds" {
  description = "The timeout of a whole turn. Cloud Run's timeout is 15 seconds longer."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.request_timeout_seconds >= 1 && var.request_timeout_seconds <= 3585 && floor(var.request_timeout_seconds) == var.request_timeout_seconds
    error_message = "request_timeout_seconds is not a whole number from 1 to 3585: Cloud Run ends a request after 3600, and the answer is stored in the last 15."
  }
}

variable "limits" {
  description = "Limits on one call, one end user (calls_per_minute, daily_tokens), one caller and everybody, across all instances. Tokens are the model's, per UTC day; 0 means no limit. Default of daily_tokens: a tenth of service_daily_tokens, so that no end user can use up everybody's budget."
  type = object({
    calls_per_minute        = optional(number, 60)
    caller_calls_per_minute = optional(number, 600)
    daily_tokens            = optional(number)
    caller_daily_tokens     = optional(number, 0)
    service_daily_tokens    = optional(number, 20000000)
    body_bytes              = optional(number, 131072)
    output_tokens           = optional(number, 4096)
    history_tokens          = optional(number, 32000)
    tool_rounds             = optional(number, 8)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for n in values(var.limits) : coalesce(n, 0) >= 0 && floor(coalesce(n, 0)) == coalesce(n, 0)])
    error_message = "limits hold a number below 0 or with a fraction: set whole numbers."
  }
  validation {
    condition     = var.limits.calls_per_minute >= 1 && var.limits.calls_per_minute <= 1000000 && var.limits.caller_calls_per_minute >= 1 && var.limits.caller_calls_per_minute <= 10000000
    error_message = "limits.calls_per_minute is not from 1 to 1000000, or limits.caller_calls_per_minute not from 1 to 10000000: there is always a limit on calls."
  }
  validation {
    condition     = max(coalesce(var.limits.daily_tokens, 0), var.limits.caller_daily_tokens, var.limits.service_daily_tokens) <= 1000000000000000
    error_message = "limits hold a daily budget of more than 10^15 tokens: set less, or 0 for none."
  }
  validation {
    condition     = var.limits.service_daily_tokens == 0 || max(coalesce(var.limits.daily_tokens, 0), var.limits.caller_daily_tokens) <= var.limits.service_daily_tokens
    error_message = "limits let one end user (daily_tokens) or one caller (caller_daily_tokens) use more in a day than the whole service (service_daily_tokens): lower the one or raise the other."
  }
  validation {
    condition     = var.limits.body_bytes >= 256 && var.limits.body_bytes <= 16777216
    error_message = "limits.body_bytes is not from 256 to 16777216."
  }
  validation {
    condition     = var.limits.output_tokens >= 1 && var.limits.output_tokens <= 65536 && var.limits.history_tokens <= 2000000 && var.limits.tool_rounds <= 64
    error_message = "limits hold what the service refuses: output_tokens are from 1 to 65536, history_tokens at most 2000000, tool_rounds at most 64."
  }
}

variable "breaker" {
  description = "After how many consecutive failures a model is not called, and for how long."
  type = object({
    failures         = optional(number, 5)
    cooldown_seconds = optional(number, 60)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.breaker.failures >= 1 && var.breaker.failures <= 1000 && floor(var.breaker.failures) == var.breaker.failures
    error_message = "breaker.failures is not a whole number from 1 to 1000."
  }
  validation {
    condition     = var.breaker.cooldown_seconds >= 1 && var.breaker.cooldown_seconds <= 3600 && floor(var.breaker.cooldown_seconds) == var.breaker.cooldown_seconds
    error_message = "breaker.cooldown_seconds is not a whole number from 1 to 3600."
  }
}

variable "background" {
  description = "Runs that outlive their request (Prefer: respond-async): how long one may take, how many an owner (caller and end user) may have at once, and how many the queue lets run at once in all. location is the queue's; default: the region, where Cloud Tasks has it. Default of enabled: true, unless web_access is iap."
  type = object({
    enabled             = optional(bool)
    run_timeout_minutes = optional(number, 25)
    runs_per_owner      = optional(number, 10)
    concurrent_runs     = optional(number, 50)
    location            = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = !(coalesce(var.background.enabled, false) && var.web_access == "iap")
    error_message = "background is enabled, and web_access is iap, which asks the queue for a person's sign-in: leave background.enabled out, or choose another web_access."
  }
  validation {
    condition     = var.background.run_timeout_minutes >= 1 && var.background.run_timeout_minutes <= 29 && floor(var.background.run_timeout_minutes) == var.background.run_timeout_minutes
    error_message = "background.run_timeout_minutes is not a whole number from 1 to 29: Cloud Tasks waits half an hour for a run."
  }
  validation {
    condition = (var.background.runs_per_owner >= 1 && var.background.runs_per_owner <= 10000 && floor(var.background.runs_per_owner) == var.background.runs_per_owner &&
    var.background.concurrent_runs >= 1 && var.background.concurrent_runs <= 5000 && floor(var.background.concurrent_runs) == var.background.concurrent_runs)
    error_message = "background.runs_per_owner is not a whole number from 1 to 10000, or background.concurrent_runs not from 1 to 5000."
  }
  validation {
    condition     = var.background.location == null || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.background.location))
    error_message = "background.location is not a region: gcloud tasks locations list shows those of Cloud Tasks."
  }
}

variable "webhook_hosts" {
  description = "The hosts that a run's webhook may be on, each as hooks.example.com or hooks.example.com:8443. Webhooks are signed with the secrets in webhook-secrets; add a version to it first. Empty: no webhooks."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for h in var.webhook_hosts : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]([a-z0-9-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$", h)) && !can(regex("\\.(internal|localhost)(:|$)", h))])
    error_message = "webhook_hosts hold what is not the name of a public host in lower case, without https:// and a path: write hooks.example.com, or hooks.example.com:8443."
  }
  validation {
    condition     = length(var.webhook_hosts) == 0 || coalesce(var.background.enabled, var.web_access != "iap")
    error_message = "webhook_hosts need the queue, which background has off: enable it, or leave webhook_hosts out."
  }
}

variable "schedules" {
  description = "Runs by the clock, by name: when (cron, in time_zone), what to ask, for which end user (null: for the schedules' own account), and which webhook to report to."
  type = map(object({
    cron      = string
    query     = string
    time_zone = optional(string, "Etc/UTC")
    end_user  = optional(string)
    webhook   = optional(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.schedules) : can(regex("^[a-z][a-z0-9-]{0,62}$", name))])
    error_message = "schedules hold a name that is not up to 63 lower-case letters, digits and hyphens, beginning with a letter."
  }
  validation {
    condition     = alltrue([for s in values(var.schedules) : can(regex("^\\S+( +\\S+){4}$", s.cron))])
    error_message = "schedules hold a cron that is not five fields: \"0 7 * * 1-5\" is 7:00 on working days."
  }
  validation {
    condition     = alltrue([for s in values(var.schedules) : length(trimspace(s.query)) >= 1 && length(s.query) <= 10000])
    error_message = "schedules hold a query that is empty or longer than 10000 characters."
  }
  validation {
    condition     = alltrue([for s in values(var.schedules) : s.end_user == null || can(regex("^[ -~]{1,128}$", s.end_user))])
    error_message = "schedules hold an end_user that is not 1 to 128 printable ASCII characters."
  }
  validation {
    condition     = alltrue([for s in values(var.schedules) : s.webhook == null || contains(var.webhook_hosts, try(regex("^https://([^/?#@]+)", s.webhook)[0], ""))])
    error_message = "schedules hold a webhook that is not an https URL on one of webhook_hosts."
  }
  validation {
    condition     = length(var.schedules) == 0 || var.web_access != "iap"
    error_message = "schedules call without a person's sign-in, which web_access iap asks for: leave them out, or choose another web_access."
  }
}

variable "approval_ttl_hours" {
  description = "How long a tool call that a person must agree to can be approved."
  type        = number
  default     = 72
  nullable    = false

  validation {
    condition     = var.approval_ttl_hours >= 1 && var.approval_ttl_hours <= 8760 && floor(var.approval_ttl_hours) == var.approval_ttl_hours
    error_message = "approval_ttl_hours is not a whole number from 1 to 8760 (a year)."
  }
}

variable "session_ttl_hours" {
  description = "How long a session is kept after its last turn."
  type        = number
  default     = 720
  nullable    = false

  validation {
    condition     = var.session_ttl_hours >= 1 && var.session_ttl_hours <= 87600 && floor(var.session_ttl_hours) == var.session_ttl_hours
    error_message = "session_ttl_hours is not a whole number from 1 to 87600 (ten years)."
  }
}

# Retention and notifications

variable "deletion_protection" {
  description = "Whether the functions, the database and the secrets refuse to be deleted, by Terraform too."
  type        = bool
  default     = true
  nullable    = false
}

variable "backup_retention_days" {
  description = "How long the daily backups of the database are kept."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 98 && floor(var.backup_retention_days) == var.backup_retention_days
    error_message = "backup_retention_days is not a whole number from 1 to 98: Firestore keeps a backup for at most 14 weeks."
  }
}

variable "audit_log" {
  description = "How long the audit log is kept; whether its bucket is locked, which cannot be undone and prevents a shorter retention; whether it has names of callers instead of hashes."
  type = object({
    retention_days = optional(number, 400)
    locked         = optional(bool, false)
    names          = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.audit_log.retention_days >= 1 && var.audit_log.retention_days <= 3650 && floor(var.audit_log.retention_days) == var.audit_log.retention_days
    error_message = "audit_log.retention_days is not a whole number from 1 to 3650."
  }
}

variable "secret_rotation_days" {
  description = "After how many days an alert reports that a secret in use is due for a new version."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.secret_rotation_days >= 1 && var.secret_rotation_days <= 3650 && floor(var.secret_rotation_days) == var.secret_rotation_days
    error_message = "secret_rotation_days is not a whole number from 1 to 3650."
  }
}

variable "log_level" {
  description = "The minimum severity of log lines: debug, info, warn, error. Above info, successful requests have no line, and metrics of tokens and latency have no data."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.log_level)
    error_message = "log_level is not debug, info, warn or error."
  }
}

variable "log_content" {
  description = "Whether prompts and answers are logged. They are the users' own text."
  type        = bool
  default     = false
  nullable    = false
}

variable "trace_sample_ratio" {
  description = "The fraction of requests that are traced if the caller has not decided: 0 to 1."
  type        = number
  default     = 0.1
  nullable    = false

  validation {
    condition     = var.trace_sample_ratio >= 0 && var.trace_sample_ratio <= 1
    error_message = "trace_sample_ratio is not a number from 0 to 1."
  }
}

variable "otel" {
  description = "Other standard OpenTelemetry variables, for both functions: { OTEL_TRACES_EXPORTER = \"otlp\", OTEL_EXPORTER_OTLP_ENDPOINT = \"https://collector.example.com\" } sends traces to a collector instead of Google Cloud, { OTEL_METRICS_EXPORTER = \"none\" } sends no metrics."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.otel : can(regex("^OTEL_[A-Z0-9_]+$", name)) && value != ""])
    error_message = "otel holds a name that is not one of OpenTelemetry's, OTEL_…, or an empty value: everything else has a variable of its own."
  }
  validation {
    condition     = !anytrue([for name in keys(var.otel) : endswith(name, "_HEADERS") || startswith(name, "OTEL_TRACES_SAMPLER")])
    error_message = "otel holds headers, which are credentials and would lie in the state in plain (let a collector beside the functions add them), or the sampler, which trace_sample_ratio sets."
  }
}

variable "slo" {
  description = "The service-level objectives over 28 days: the fraction of requests without a server error, and the fraction answered within latency_seconds."
  type = object({
    availability    = optional(number, 0.995)
    latency         = optional(number, 0.95)
    latency_seconds = optional(number, 10)
  })
  default  = {}
  nullable = false

  validation {
    condition     = min(var.slo.availability, var.slo.latency) >= 0.5 && max(var.slo.availability, var.slo.latency) <= 0.9999
    error_message = "slo.availability or slo.latency is not from 0.5 to 0.9999: it is a share, 0.995 for 99.5 %, and nothing holds 1."
  }
  validation {
    condition     = var.slo.latency_seconds > 0 && var.slo.latency_seconds <= var.request_timeout_seconds
    error_message = "slo.latency_seconds is not above 0 and at most request_timeout_seconds, after which nothing is answered."
  }
}

variable "alert_emails" {
  description = "The addresses that alerts are sent to."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for a in var.alert_emails : can(regex("^[^\\s@]+@[^\\s@]+\\.[^\\s@]+$", a))])
    error_message = "alert_emails hold what is no e-mail address."
  }
}

variable "notification_channels" {
  description = "Notification channels of Cloud Monitoring that alerts go to, too: projects/PROJECT/notificationChannels/NUMBER."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for c in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", c))])
    error_message = "notification_channels hold what is no channel's name, projects/PROJECT/notificationChannels/NUMBER: gcloud beta monitoring channels list shows them."
  }
}

variable "run_book_url" {
  description = "The address of docs/run-book.md in a browser, for the alerts' links. Each alert contains the text of its page anyway. Null: no link."
  type        = string
  default     = null

  validation {
    condition     = var.run_book_url == null || can(regex("^https://[^\\s#]+$", var.run_book_url))
    error_message = "run_book_url is not an https address without a #: the alerts add their own."
  }
}

variable "billing_account" {
  description = "The billing account that a budget is set on, XXXXXX-XXXXXX-XXXXXX. Null: no budget."
  type        = string
  default     = null

  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account is not of the form XXXXXX-XXXXXX-XXXXXX: gcloud billing accounts list shows it."
  }
}

variable "monthly_budget" {
  description = "The project's monthly budget, in whole units of the billing account's currency."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "monthly_budget is not a whole number from 1 on."
  }
}

# What is off by default

variable "vpc" {
  description = "The network through which the functions reach private addresses (or, with all_traffic, everything), by Direct VPC egress. Null: none."
  type = object({
    network     = string
    subnetwork  = string
    tags        = optional(list(string), [])
    all_traffic = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.vpc == null || can(regex("^\\S+$", var.vpc.network)) && can(regex("^\\S+$", var.vpc.subnetwork))
    error_message = "vpc names no network or no subnetwork: name both; the subnetwork must be in the region, with a /26 free."
  }
  validation {
    condition     = var.vpc == null || var.second_region == null
    error_message = "vpc names the subnetwork of one region, and there is a second_region: leave one of them out."
  }
}

variable "load_balancer" {
  description = "An external load balancer with Cloud Armor before invoke, on a domain whose DNS points at the output load_balancer_ip. Null: none; invoke has Cloud Run's URL."
  type = object({
    domain                 = string
    requests_per_minute_ip = optional(number, 600)
  })
  default = null

  validation {
    condition     = var.load_balancer == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.load_balancer.domain))
    error_message = "load_balancer.domain is not a domain such as agent.example.com, without https:// and in lower case."
  }
  validation {
    condition     = var.load_balancer == null || try(var.load_balancer.requests_per_minute_ip >= 10 && var.load_balancer.requests_per_minute_ip <= 1000000, false)
    error_message = "load_balancer.requests_per_minute_ip is not from 10 to 1000000."
  }
}

variable "kms_key" {
  description = "A key of Cloud KMS in the region, projects/P/locations/REGION/keyRings/R/cryptoKeys/K, that encrypts the database, the secrets, the images and the instances (not the logs). Null: Google's keys. It cannot be changed for the database later."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key is not a key's name, projects/P/locations/REGION/keyRings/R/cryptoKeys/K (without a version)."
  }
  validation {
    condition     = var.kms_key == null || try(split("/", var.kms_key)[3] == var.region, true) && local.firestore_location == var.region && var.second_region == null
    error_message = "kms_key is in one region, and everything that it encrypts must be there: take a key of the region, and leave firestore_location and second_region out."
  }
}

variable "delivery" {
  description = "The repository whose pushes to branch are delivered by cloudbuild.yaml: projects/P/locations/L/connections/C/repositories/R, connected to Cloud Build before. var_file is the file in it that holds this deployment's variables, this one too; null: environments/PROJECT.tfvars. smoke_key_secret is a secret of the project, made before, whose latest version is an API key: the delivery's smoke test calls invoke by it where Cloud Run's check is off. evaluation is about the commit's cases: model answers them, by Vertex AI, and judge judges the answers (null: the offline stand-in, and nobody); report_bucket, a bucket made before, keeps the reports. Null: no triggers and no accounts for them."
  type = object({
    repository       = string
    branch           = optional(string, "^main$")
    var_file         = optional(string)
    smoke_key_secret = optional(string)
    evaluation = optional(object({
      model         = optional(string)
      judge         = optional(string)
      report_bucket = optional(string)
    }), {})
  })
  default = null

  validation {
    condition     = var.delivery == null || can(regex("^projects/[^/]+/locations/[^/]+/connections/[^/]+/repositories/[^/]+$", var.delivery.repository))
    error_message = "delivery.repository is not a repository connected to Cloud Build, projects/P/locations/L/connections/C/repositories/R: gcloud builds repositories list shows it."
  }
  validation {
    condition     = var.delivery == null || try(startswith(var.delivery.branch, "^") && endswith(var.delivery.branch, "$"), false)
    error_message = "delivery.branch is not a whole branch's name as a regular expression, ^main$: without ^ and $ every branch that contains the word would be delivered."
  }
  validation {
    condition     = var.delivery == null || can(regex("^\\^?[A-Za-z0-9._/-]+\\$?$", var.delivery.branch))
    error_message = "delivery.branch is more than one branch, and the weekly comparison of models needs to know which: name one, ^main$."
  }
  validation {
    condition     = try(var.delivery.var_file, null) == null || can(regex("^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*\\.tfvars$", var.delivery.var_file))
    error_message = "delivery.var_file is not the path of a .tfvars file in the repository, from its root, such as environments/my-project.tfvars."
  }
  validation {
    condition     = try(var.delivery.smoke_key_secret, null) == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.delivery.smoke_key_secret))
    error_message = "delivery.smoke_key_secret is not a secret's name within the project, such as gatehouse-smoke-key: neither projects/… nor a key itself."
  }
  validation {
    condition     = try(var.delivery.smoke_key_secret, null) == null || var.web_access == "application" && contains(coalesce(var.auth, []), "api_key")
    error_message = "delivery.smoke_key_secret holds an API key, which opens invoke only where web_access is application and auth holds api_key: see to both, or leave it out, and the smoke test calls by IAM."
  }
  validation {
    condition     = try(var.delivery.evaluation.model, null) == null || var.model_backend == "vertex"
    error_message = "delivery.evaluation.model is asked by Vertex AI: set model_backend to vertex, or leave it out, and the offline stand-in answers."
  }
  validation {
    condition     = alltrue([for m in compact([try(var.delivery.evaluation.model, null), try(var.delivery.evaluation.judge, null)]) : can(regex("^[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}$", m))])
    error_message = "delivery.evaluation holds what is not a model's name in model or judge, such as gemini-3.5-flash-lite."
  }
  validation {
    condition     = try(var.delivery.evaluation.judge, null) == null || try(var.delivery.evaluation.model, null) != null
    error_message = "delivery.evaluation.judge judges what delivery.evaluation.model answers: set both, or neither."
  }
  validation {
    condition     = try(var.delivery.evaluation.report_bucket, null) == null || can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.delivery.evaluation.report_bucket))
    error_message = "delivery.evaluation.report_bucket is not a bucket's name: neither gs:// nor a folder in it."
  }
  validation {
    condition     = var.delivery == null || var.web_access != "application" || try(var.delivery.smoke_key_secret, null) != null
    error_message = "delivery cannot call a new revision before it takes traffic: web_access is application, so let auth hold api_key and name a secret with a key in delivery.smoke_key_secret."
  }
  validation {
    condition     = var.delivery == null || var.web_access != "iap"
    error_message = "delivery cannot call a new revision before it takes traffic, since web_access is iap, which asks for a person's sign-in: leave delivery out, and deploy by scripts/deploy."
  }
  validation {
    condition     = var.delivery == null || var.second_region == null
    error_message = "delivery moves the traffic of one region, and second_region would be left behind: leave one of them out."
  }
}

locals {
  # Regions that have Cloud Run, Firestore and Cloud Scheduler.
  known_regions = [
    "africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3", "asia-south1",
    "asia-southeast1", "asia-southeast2", "australia-southeast1", "australia-southeast2", "europe-central2", "europe-north1",
    "europe-southwest1", "europe-west1", "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8",
    "europe-west9", "me-central1", "me-west1", "northamerica-northeast1", "northamerica-northeast2", "southamerica-east1",
    "southamerica-west1", "us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4",
  ]
  # Variables that the service or its runtime reads. A test compares the list with the
  # code.
  reserved_pattern = "^(CLOUD_RUN|FUNCTION|GOOGLE|K|OTEL|X_GOOGLE)_"
  reserved_variables = [
    "ALLOWED_ORIGINS", "ALLOWED_ORIGINS_SECRET", "ALLOW_INSTRUCTIONS", "API_KEYS", "API_KEYS_SECRET", "APPROVAL_TTL", "AUDIT_LOG", "AUDIT_NAMES", "AUTH",
    "BREAKER_COOLDOWN", "BREAKER_FAILURES", "CALLER_DAILY_TOKEN_LIMIT", "CALLER_RATE_LIMIT_PER_MINUTE",
    "CARD_KEYS", "CARD_KEYS_SECRET", "CARD_KEYS_URL", "CARD_URL",
    "CONVERSATION_HEADERS",
    "DAILY_TOKEN_LIMIT", "DOORS", "ENVIRONMENT", "FILES_BUCKET", "FILE_BUCKETS", "FILE_TYPES", "FIRESTORE_DATABASE",
    "FIRESTORE_EMULATOR_HOST", "GEMINI_API_KEY", "GEMINI_API_KEY_SECRET", "GOMEMLIMIT", "HISTORY_TOKENS",
    "IAM_ENFORCED", "LOGGING_ENDPOINT", "LOG_CONTENT", "LOG_LEVEL", "MAX_BACKGROUND_RUNS", "MAX_BODY_BYTES",
    "MAX_CONCURRENT", "MAX_FILE_BYTES", "MAX_INSTANCES", "MAX_OUTPUT_TOKENS", "MAX_TOOL_ROUNDS", "MCP_TOOLS", "MODEL",
    "MODELS_ALLOWED", "MODELS_TABLE_SECRET", "MODEL_ARMOR_PROMPT_TEMPLATE", "MODEL_ARMOR_RESPONSE_TEMPLATE",
    "MODEL_FALLBACKS", "OIDC_AUDIENCES", "OIDC_ISSUERS", "OPERATORS", "PLAYGROUND", "PORT", "RATE_LIMIT_PER_MINUTE",
    "REQUEST_TIMEOUT", "RUN_TIMEOUT", "SCHEDULES_ACCOUNT", "SECRET_MANAGER_ENDPOINT", "SERVICE_DAILY_TOKEN_LIMIT",
    "SERVICE_URL", "SESSION_STORE", "SESSION_TTL", "STORAGE_EMULATOR_HOST", "TASKS_ACCOUNT", "TASKS_ENDPOINT",
    "TASKS_QUEUE", "TELEMETRY_ENDPOINT", "THINKING_LEVEL", "WEBHOOK_HOSTS", "WEBHOOK_SECRETS_SECRET",
  ]

  multi_regions      = { us = ["nam5", "nam7"], northamerica = ["nam5", "nam7"], europe = ["eur3"] }
  firestore_location = coalesce(var.firestore_location, var.region)

  # The least and the most memory, in MiB, that Cloud Run allows for a number of CPUs.
  memory_of_cpu = { "1" = [512, 4096], "2" = [512, 8192], "4" = [2048, 16384], "6" = [4096, 24576], "8" = [4096, 32768] }
}
