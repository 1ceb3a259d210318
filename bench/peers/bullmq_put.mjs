// Puts jobs on the queue: a line with the name of a list of files in, a line out when they are there.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [modules, redis] = process.argv.slice(2);
const { Queue } = createRequire(`${modules}/`)("bullmq");
const { hostname: host, port, username, password } = new URL(redis);
const queue = new Queue("media", { connection: { host, port: Number(port), username, password } });

for await (const line of createInterface({ input: process.stdin })) {
  const files = readFileSync(line.trim(), "utf8").split("\n").filter(Boolean);
  await queue.addBulk(files.map((path) => ({ name: "picture", data: { path } })));
  console.log("put");
}
await queue.close();
