import express from "express";
import { MediaClient, MemoryCursor } from "media-worker-client";
import multer from "multer";

const { PORT = 3000, REDIS_URL, STORAGE = "var/media" } = process.env; // STORAGE: the storage root of the worker
const media = new MediaClient({ redis: REDIS_URL });
const photos = new Map(); // a table of your database; here what Redis keeps is read again at each start
const browsers = new Set();
const show = (photo, browser) => browser.write(`data: ${JSON.stringify(photo)}\n\n`);
const upload = multer({ dest: `${STORAGE}/uploads/photos`, limits: { fileSize: 10_485_760 }, defParamCharset: "utf8" });

const app = express();
app.use(express.static(`${import.meta.dirname}/public`));
app.use("/variants", express.static(`${STORAGE}/variants`, { immutable: true, maxAge: "1y" }));
app.post("/photos", upload.single("photo"), async ({ file }, response) => {
  if (!file) return response.sendStatus(400);
  const metadata = { filename: file.originalname };
  response.json({ id: await media.announce(`uploads/photos/${file.filename}`, { metadata }) });
});
app.get("/progress", (request, response) => {
  response.set("Content-Type", "text/event-stream").flushHeaders();
  for (const photo of photos.values()) show(photo, response); // a message may be quicker than the page
  browsers.add(response);
  request.on("close", () => browsers.delete(response));
});
media.listen((photo) => {
  photos.set(photo.id, photo);
  for (const browser of browsers) show(photo, browser);
}, { cursor: new MemoryCursor("0") });
app.listen(PORT, () => console.log(`http://localhost:${PORT}`));
