"""A page that shows people what /openapi.json tells programs; it needs nothing from elsewhere."""

from __future__ import annotations

PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Model Server: REST API</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
summary { cursor: pointer; padding: .3em 0 }
summary b { display: inline-block; min-width: 4em; font-family: monospace }
code, pre, textarea { font-family: ui-monospace, monospace; font-size: 13px }
pre { background: #f4f4f4; padding: .8em; overflow: auto; max-height: 30em }
textarea { width: 100%; height: 6em; box-sizing: border-box }
</style>
</head>
<body>
<h1>REST API</h1>
<p>Made from the models that are served now; <a href="openapi.json">openapi.json</a> says the same
to programs.</p>
<div id="operations">Loading&hellip;</div>
<script>
"use strict";
function element(parent, name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function show(method, path, operation) {
  const details = element(document.getElementById("operations"), "details");
  const summary = element(details, "summary");
  element(summary, "b", method.toUpperCase());
  element(summary, "code", path);
  element(summary, "span", " " + operation.summary + " (" + operation.tags.join(", ") + ")");
  const body = operation.requestBody && operation.requestBody.content["application/json"];
  let input = null;
  if (body) {
    element(details, "h4", "Request");
    element(details, "pre", JSON.stringify(body.schema, null, 2));
    input = element(details, "textarea");
    input.placeholder = "A JSON document";
  }
  const button = element(details, "button", "Send");
  const answer = element(details, "pre", "");
  answer.hidden = true;
  button.onclick = async () => {
    const asked = {method: method.toUpperCase(), body: input && input.value};
    const response = await fetch(path.slice(1), asked);  // below what this page is below
    answer.hidden = false;
    answer.textContent = response.status + "\\n" + await response.text();
  };
}
fetch("openapi.json").then(response => response.json()).then(api => {
  document.getElementById("operations").textContent = "";
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) show(method, path, operation);
});
</script>
</body>
</html>
"""
