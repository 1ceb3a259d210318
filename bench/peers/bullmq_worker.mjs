// BullMQ and sharp: a worker as their manuals show it. node bullmq_worker.mjs MODULES REDIS clone|chained CONCURRENCY OUT
import { createRequire } from "node:module";

const [modules, redis, style, concurrency, out] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Worker } = require("bullmq");
const sharp = require("sharp");

const BOXES = { large: 1920, medium: 800, thumb: 150 };
const INSIDE = { fit: "inside", withoutEnlargement: true };
const JPEG = { quality: 80, chromaSubsampling: "4:2:0", optimiseCoding: false };

// Each variant from the picture, as sharp's manual shows it for several sizes.
async function clone(path, id) {
  const picture = sharp(path).rotate();
  await Promise.all(
    Object.entries(BOXES).map(([name, box]) =>
      picture.clone().resize(box, box, INSIDE).jpeg(JPEG).toFile(`${out}/${id}-${name}.jpg`),
    ),
  );
}

// Each variant from the one before, by hand.
async function chained(path, id) {
  let picture = sharp(path).rotate();
  for (const [name, box] of Object.entries(BOXES)) {
    const { data, info } = await picture.resize(box, box, INSIDE).raw().toBuffer({ resolveWithObject: true });
    const raw = { raw: { width: info.width, height: info.height, channels: info.channels } };
    await sharp(data, raw).jpeg(JPEG).toFile(`${out}/${id}-${name}.jpg`);
    picture = sharp(data, raw);
  }
}

const make = { clone, chained }[style];
const url = new URL(redis);
new Worker("media", (job) => make(job.data.path, job.id), {
  connection: {
    host: url.hostname,
    port: Number(url.port),
    username: url.username,
    password: url.password,
    maxRetriesPerRequest: null,
  },
  concurrency: Number(concurrency),
});
