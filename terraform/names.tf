# Resource names. With the default prefix they are those of a project with one agent;
# with another one each name starts with it, so that one project can hold several
# agents. A prefix contains no hyphen, so the text before a name's first hyphen is the
# prefix, and two prefixes never lead to the same name.

locals {
  unprefixed = var.prefix == "gatehouse"
  title      = local.unprefixed ? "Gatehouse" : "Gatehouse ${var.prefix}"
  labels     = merge({ app = var.prefix }, var.labels)

  service_names      = { for function in ["invoke", "health"] : function => local.unprefixed ? function : "${var.prefix}-${function}" }
  firestore_database = coalesce(var.firestore_database, local.unprefixed ? "(default)" : "${var.prefix}-sessions")
}
