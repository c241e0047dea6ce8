// The TypeScript SDK v1 behind Express, stateless, as its own documentation shows it.
//     node v1.mjs PORT TOOLS
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";
import { z } from "zod";

const [port, tools] = process.argv.slice(2).map(Number);

function build() {
  const server = new McpServer({ name: "v1", version: "1" });
  for (let number = 0; number < tools; number++) {
    const about = {
      description: "Give the text back, as it came.",
      inputSchema: { text: z.string() },
      outputSchema: { result: z.string() },
    };
    server.registerTool(number ? `echo_${number}` : "echo", about, async ({ text }) => ({
      content: [{ type: "text", text }],
      structuredContent: { result: text },
    }));
  }
  return server;
}

const app = express();
app.use(express.json());
app.post("/mcp", async (request, response) => {
  const server = build();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => {
    transport.close();
    server.close();
  });
  await server.connect(transport);
  await transport.handleRequest(request, response, request.body);
});
app.listen(port, "127.0.0.1");
