// Shows openapi.json, which lies beside this page.
"use strict";

SwaggerUIBundle({
  dom_id: "#api",
  url: new URL("openapi.json", document.baseURI).href,
  deepLinking: true,
  validatorUrl: null, // nothing is sent to anybody else
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
});
