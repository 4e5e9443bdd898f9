// Shows openapi.json. Everything is put in as text, nothing as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

// A text in which `names` stand between backticks.
function prose(text) {
  return text.split("`").map((each, index) => (index % 2 ? element("code", { textContent: each }) : each));
}

function nameOf(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

// A schema in one line; types by name are links to where they are described.
function shortly(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["anything"];
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [element("a", { href: `#type-${name}`, textContent: name })];
  }
  const several = schema.anyOf || schema.oneOf;
  if (several) return several.flatMap((each, index) => (index ? [" or ", ...shortly(each)] : shortly(each)));
  if (schema.enum) return [schema.enum.map((each) => JSON.stringify(each)).join(" | ")];
  if (schema.type === "array") return ["list of ", ...shortly(schema.items)];
  if (schema.type === "object" && schema.additionalProperties) return ["map of ", ...shortly(schema.additionalProperties)];
  return [[schema.type, schema.format].flat().filter(Boolean).join(", ")];
}

function table(head, rows) {
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head.map((each) => element("th", { textContent: each })))),
    element(
      "tbody",
      {},
      ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, ...[cell].flat())))),
    ),
  );
}

function body(content) {
  return Object.entries(content || {}).flatMap(([media, { schema }]) => [
    element("p", {}, element("code", { textContent: media }), " ", ...shortly(schema)),
  ]);
}

function operation(path, method, told) {
  const shown = element("details", { className: "operation" });
  shown.dataset.words = `${method} ${path} ${told.summary} ${told.description} ${told.tags}`.toLowerCase();
  shown.append(
    element(
      "summary",
      {},
      element("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
      element("code", { textContent: path }),
      element("span", { className: "about" }, ...prose(told.summary)),
    ),
  );
  if (told.description) shown.append(element("p", {}, ...prose(told.description)));
  if (told.parameters.length) {
    shown.append(
      table(
        ["parameter", "in", "type", "meaning"],
        told.parameters.map((each) => [
          element("code", { textContent: each.required ? `${each.name} *` : each.name }),
          each.in,
          shortly(each.schema),
          prose(each.description),
        ]),
      ),
    );
  }
  if (told.requestBody) shown.append(element("h4", { textContent: "Body" }), ...body(told.requestBody.content));
  shown.append(
    table(
      ["status", "means", "body"],
      Object.entries(told.responses).map(([status, each]) => [
        element("code", { textContent: status }),
        prose(each.description),
        body(each.content),
      ]),
    ),
  );
  return shown;
}

function type(name, schema) {
  const required = new Set(schema.required || []);
  const shown = element("article", { id: `type-${name}` }, element("h3", { textContent: name }));
  if (schema.description) shown.append(element("p", {}, ...prose(schema.description)));
  shown.append(
    table(
      ["field", "type"],
      Object.entries(schema.properties || {}).map(([field, each]) => [
        element("code", { textContent: required.has(field) ? `${field} *` : field }),
        shortly(each),
      ]),
    ),
  );
  return shown;
}

function show(told) {
  document.getElementById("version").textContent = told.info.version;
  document.getElementById("summary").replaceChildren(
    `${told.info.summary} `,
    element("a", { href: "/openapi.json", textContent: "openapi.json" }),
  );
  const groups = new Map();
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const method of METHODS.filter((each) => methods[each])) {
      const [tag] = methods[method].tags;
      groups.set(tag, [...(groups.get(tag) || []), operation(path, method, methods[method])]);
    }
  }
  const main = document.getElementById("operations");
  const nothing = element("p", { textContent: "Nothing matches.", hidden: true });
  for (const [tag, operations] of groups) {
    main.append(element("section", {}, element("h2", { textContent: tag }), ...operations));
  }
  main.append(nothing);
  const schemas = document.getElementById("schemas");
  for (const [name, schema] of Object.entries(told.components.schemas)) schemas.append(type(name, schema));
  document.getElementById("filter").addEventListener("input", ({ target }) => {
    const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const section of main.querySelectorAll("section")) {
      const operations = [...section.querySelectorAll(".operation")];
      for (const each of operations) each.hidden = !words.every((word) => each.dataset.words.includes(word));
      section.hidden = operations.every((each) => each.hidden);
    }
    nothing.hidden = [...main.querySelectorAll("section")].some((each) => !each.hidden);
  });
}

try {
  const answer = await fetch("/openapi.json");
  show(await answer.json());
} catch (error) {
  document.getElementById("summary").textContent = `openapi.json can't be read: ${error.message}`;
}
