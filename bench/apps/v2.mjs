// The TypeScript SDK v2 on node:http, both eras, as its own documentation shows it.
//     node v2.mjs PORT TOOLS
import { createServer } from "node:http";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";

const [port, tools] = process.argv.slice(2).map(Number);

function build() {
  const server = new McpServer({ name: "v2", version: "1" });
  for (let number = 0; number < tools; number++) {
    const about = {
      description: "Give the text back, as it came.",
      inputSchema: z.object({ text: z.string() }),
      outputSchema: z.object({ result: z.string() }),
    };
    server.registerTool(number ? `echo_${number}` : "echo", about, async ({ text }) => ({
      content: [{ type: "text", text }],
      structuredContent: { result: text },
    }));
  }
  return server;
}

createServer(toNodeHandler(createMcpHandler(build))).listen(port, "127.0.0.1");
