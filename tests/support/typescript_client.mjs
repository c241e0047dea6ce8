// Lists everything of a server and asks for everything, with a client in TypeScript; prints what the client refuses.
// Arguments: the folder of the client's package, 1 or 2, the folder of a package with ajv-formats, the address, the key,
// and a file with what to ask for.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, major, validators, address, key, file] = process.argv.slice(2);
const { tools: calls, prompts, resources, completions } = JSON.parse(readFileSync(file, "utf8"));
const require = createRequire(pathToFileURL(`${folder}/package.json`));
const { fullFormats } = createRequire(pathToFileURL(`${validators}/package.json`))("ajv-formats/dist/formats");
const name = major === "1" ? "@modelcontextprotocol/sdk" : "@modelcontextprotocol/client";
const { Client } = require(major === "1" ? `${name}/client/index.js` : name);
const { StreamableHTTPClientTransport } = require(major === "1" ? `${name}/client/streamableHttp.js` : name);

const refused = {};
const listed = {};
const answers = {};
const headers = { Authorization: `Bearer ${key}` };
const transport = new StreamableHTTPClientTransport(new URL(address), { requestInit: { headers } });
const client = new Client({ name: "corpus", version: "1" }, major === "1" ? {} : JSON.parse(process.env.OPTIONS ?? "{}"));
const attempt = async (what, action, answered) => {
  try {
    return await action();
  } catch (error) {
    // A number is the server's own answer; what the client finds fault with has none.
    if (answered !== undefined && typeof error.code === "number") answered(error.code);
    else refused[what] = String(error.message).slice(0, 300);
    return undefined;
  }
};
// What the specification gives a format, wherever it stands in a listing or an answer.
const FORMATS = { uri: "uri", src: "uri", uriTemplate: "uri-template", blob: "byte", data: "byte", lastModified: "date-time" };
const check = (what, value) => {
  for (const [field, inner] of Object.entries(value ?? {})) {
    if (typeof inner === "object") check(what, inner);
    const format = typeof inner === "string" ? fullFormats[FORMATS[field]] : undefined;
    const fits = format?.validate ?? format;
    if (fits !== undefined && !(fits instanceof RegExp ? fits.test(inner) : fits(inner))) {
      refused[`${field} of ${what}`] = inner.slice(0, 300);
    }
  }
};
// A few at a time: quicker than one by one, and below every limit of a server.
const each = async (entries, action) => {
  const rest = [...entries];
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (let next = rest.shift(); next !== undefined; next = rest.shift()) await action(next);
    }),
  );
};
const ask = async (what, action, shown) => {
  const answer = await attempt(what, action, (code) => (answers[what] = code));
  if (answer === undefined) return;
  answers[what] = shown(answer);
  check(what, answers[what]);
};

await client.connect(transport);
const tools = await attempt("tools/list", () => client.listTools());
listed.tools = tools?.tools.map((tool) => tool.name) ?? [];
for (const tool of tools?.tools ?? []) {
  const schemas = JSON.stringify([tool.inputSchema, tool.outputSchema ?? {}]);
  for (const [, pattern] of schemas.matchAll(/"pattern":("(?:[^"\\]|\\.)*")/g)) {
    await attempt(`pattern of ${tool.name}`, () => new RegExp(JSON.parse(pattern), "u"));
  }
}
await each(Object.entries(calls), async ([tool, given]) => {
  const result = await attempt(tool, () => client.callTool({ name: tool, arguments: given }));
  if (result !== undefined) listed[tool] = result.isError === true ? "failed" : "ok";
});
listed.prompts = (await attempt("prompts/list", () => client.listPrompts()))?.prompts;
listed.resources = (await attempt("resources/list", () => client.listResources()))?.resources;
const templates = await attempt("resources/templates/list", () => client.listResourceTemplates());
listed.templates = templates?.resourceTemplates;
check("listing", [listed.prompts, listed.resources, listed.templates]);
await each(Object.entries(prompts), ([prompt, given]) =>
  ask(`prompt ${prompt}`, () => client.getPrompt({ name: prompt, arguments: given }), (got) => got.messages),
);
await each(resources, (uri) => ask(`resource ${uri}`, () => client.readResource({ uri }), (got) => got.contents));
await each(Object.entries(completions), ([what, params]) =>
  ask(`completion ${what}`, () => client.complete(params), (got) => got.completion),
);
console.log(JSON.stringify({ refused, listed, answers }));
await client.close();
