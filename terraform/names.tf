# What things are called. With the default prefix the names are those that a
# project with one agent has; with another each name begins with it, so that one
# project holds several. A prefix has no hyphen, so two of them never meet in a
# name: what stands before the first hyphen is the prefix.

locals {
  unprefixed = var.prefix == "gatehouse"
  title      = local.unprefixed ? "Gatehouse" : "Gatehouse ${var.prefix}"
  labels     = merge({ app = var.prefix }, var.labels)

  service_names      = { for function in ["invoke", "health"] : function => local.unprefixed ? function : "${var.prefix}-${function}" }
  firestore_database = coalesce(var.firestore_database, local.unprefixed ? "(default)" : "${var.prefix}-sessions")
}
