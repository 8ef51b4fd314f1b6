// Shows openapi.json, which lies beside this page, in the playground's colors and with the
// credential that was entered there.
"use strict";

// The viewer has a dark form, for which it wants a class instead of asking the browser.
const dark = matchMedia("(prefers-color-scheme: dark)");
const scheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", scheme);
scheme();

// The credential lies where the playground keeps it: in the tab, until that is closed.
const store = "gatehouse";
const stored = () => {
  try {
    return JSON.parse(sessionStorage.getItem(store)) ?? {};
  } catch {
    return {}; // storage is off, or holds something else
  }
};
const keep = (kind, secret) => {
  try {
    sessionStorage.setItem(store, JSON.stringify({ ...stored(), kind, secret }));
  } catch { /* then it lasts as long as the page */ }
};
const isKey = (scheme) => scheme.get("name") === "X-API-Key";
const isToken = (scheme) => scheme.get("scheme") === "bearer";

// A link within the button that opens an operation could not be reached by keys.
const plainNames = ({ React }) => ({ components: { DeepLink: ({ text }) => React.createElement("span", null, text) } });

const credentials = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (original) => (given) => {
          for (const { schema, value } of Object.values(given)) {
            if (typeof value === "string" && isKey(schema)) keep("key", value);
            if (typeof value === "string" && isToken(schema)) keep("token", value);
          }
          return original(given);
        },
        logout: (original) => (names) => {
          keep("none", "");
          return original(names);
        },
      },
    },
  },
});

const ui = SwaggerUIBundle({
  dom_id: "#api",
  url: new URL("openapi.json", document.baseURI).href,
  deepLinking: true,
  validatorUrl: null, // nothing is sent to anybody else
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  plugins: [credentials, plainNames],
  onComplete() {
    const { kind, secret } = stored();
    const schemes = ui.specSelectors.securityDefinitions();
    if (!secret || !schemes) return;
    for (const [name, scheme] of schemes.entries()) {
      if (kind === "key" ? isKey(scheme) : isToken(scheme)) ui.preauthorizeApiKey(name, secret);
    }
  },
});

// What the viewer leaves out for people who do not see the page, or use no mouse: names of
// parts and fields, and code that can be scrolled by keys.
const label = (node, name) => node.ariaLabel ?? node.setAttribute("aria-label", name);
function mend() {
  for (const [part, name] of [[".information-container", "About the API"], [".scheme-container", "Server and credential"]]) {
    const found = document.querySelector("#api " + part);
    found?.setAttribute("role", "region");
    found?.setAttribute("aria-label", name);
  }
  for (const select of document.querySelectorAll("#api select:not([aria-label])")) {
    if (![...select.labels].some((given) => given.innerText.trim() && !given.contains(select))) label(select, select.closest(".servers") ? "Server" : select.closest(".examples-select") ? "Example" : "Value");
  }
  for (const field of document.querySelectorAll("#api textarea:not([aria-label])")) label(field, "Request body");
  document.querySelector("#api .close-modal:not([aria-label])")?.setAttribute("aria-label", "Close");
  // Their labels are other words than they show.
  for (const button of document.querySelectorAll("#api .modal-btn[aria-label]")) button.removeAttribute("aria-label");
  for (const code of document.querySelectorAll("#api pre:not([tabindex])")) code.tabIndex = 0;
}
new MutationObserver(mend).observe(document.querySelector("#api"), { childList: true, subtree: true });

// A deployment may have no playground.
fetch(".", { headers: { Accept: "text/html, application/json;q=0.5" } }).then((answer) => {
  document.querySelector("#playground").hidden = !answer.headers.get("Content-Type").startsWith("text/html");
  return answer.text(); // to its end, so that the connection can be used again
}).catch(() => {}); // then there is no link
