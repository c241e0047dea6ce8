// Lists everything of a server and calls every tool, with a client in TypeScript; prints what the client refuses.
// Arguments: the folder of the client's package, 1 or 2, the address, the key, and the calls as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, major, address, key, calls] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/package.json`));
const name = major === "1" ? "@modelcontextprotocol/sdk" : "@modelcontextprotocol/client";
const { Client } = require(major === "1" ? `${name}/client/index.js` : name);
const { StreamableHTTPClientTransport } = require(major === "1" ? `${name}/client/streamableHttp.js` : name);

const refused = {};
const listed = {};
const headers = { Authorization: `Bearer ${key}` };
const transport = new StreamableHTTPClientTransport(new URL(address), { requestInit: { headers } });
const client = new Client({ name: "corpus", version: "1" }, major === "1" ? {} : JSON.parse(process.env.OPTIONS ?? "{}"));
const attempt = async (what, action) => {
  try {
    return await action();
  } catch (error) {
    refused[what] = String(error.message).slice(0, 300);
    return undefined;
  }
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
for (const [tool, given] of Object.entries(JSON.parse(calls))) {
  const result = await attempt(tool, () => client.callTool({ name: tool, arguments: given }));
  if (result !== undefined) listed[tool] = result.isError === true ? "failed" : "ok";
}
const prompts = await attempt("prompts/list", () => client.listPrompts());
for (const prompt of prompts?.prompts ?? []) {
  const given = Object.fromEntries((prompt.arguments ?? []).filter((one) => one.required).map((one) => [one.name, "1"]));
  const got = await attempt(`prompt ${prompt.name}`, () => client.getPrompt({ name: prompt.name, arguments: given }));
  listed[`prompt ${prompt.name}`] = got?.messages.length;
}
const resources = await attempt("resources/list", () => client.listResources());
for (const { uri } of resources?.resources ?? []) {
  const got = await attempt(`resource ${uri}`, () => client.readResource({ uri }));
  listed[`resource ${uri}`] = got?.contents.length;
}
await attempt("resources/templates/list", () => client.listResourceTemplates());
console.log(JSON.stringify({ refused, listed }));
await client.close();
