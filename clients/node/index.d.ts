/** An upload's variant: a file below the storage root, or an object of the bucket. */
export interface Variant {
  name: string;
  /** Its key in the storage, such as `variants/ab/cd/….jpg`. */
  key: string;
  /** Where it is served, as the HTTP server tells it, or a worker that has a `MEDIA_HTTP_URL`. */
  url: string | null;
  width: number;
  height: number;
  bytes: number;
}

/** An original as it was read: the size is that of the upright picture. */
export interface Original {
  width: number;
  height: number;
  format: string;
  bytes: number;
  /** The commonest colour, as `#rrggbb`. */
  color: string | null;
  sha256?: string;
}

export type State = "queued" | "processing" | "ready" | "failed" | "deleting" | "deleted" | "unknown";
export type Metadata = Record<string, unknown>;

export interface Upload {
  id: string;
  /** Its original's key. Null: it was never known. */
  source: string | null;
  /** Rises with each message of an upload. 0: none is kept, or it was told by HTTP. */
  seq: number;
  state: State;
  recipe: string | null;
  /** What the app has said of it. */
  metadata: Metadata;
  attempts: number;
  /** Why it has failed: `code` for programs, `message` for people. */
  error: { code: string; message: string } | null;
  /** Of a deletion: what became of the original. */
  original: Original | "kept" | "trashed" | "missing" | null;
  /** What to show while it loads, in base64. */
  thumbhash: string | null;
  blurhash: string | null;
  /** The smallest first. */
  variants: Variant[];
  /** Ready for an `<img srcset>`; empty where there are no variants. */
  srcset: string;
  /** All that was sent, as it was; it is left out of `JSON.stringify`. */
  readonly raw: Readonly<Record<string, unknown>>;
}

export interface Message extends Upload {
  /** `upload.status`: an upload that was asked for, as it was pending, is unknown: announce it again. */
  type: "upload.started" | "upload.ready" | "upload.failed" | "upload.deleted" | "upload.status";
  /** ISO 8601, in UTC. */
  time: string | null;
  /** Its ID in the stream of messages. Null: it has come by HTTP. */
  entryId: string | null;
  /** Of a refused event: its ID in the stream. The message then says nothing about the upload with this id. */
  entry: string | null;
  /** The upload whose place this one has taken. */
  replaces: string | null;
  /** The upload that has taken the place of this deleted one. */
  replacedBy: string | null;
  /** Of `upload.started`: how many uploads of its owner still wait. */
  waiting: number | null;
}

/** What an upload may be. */
export interface Limits {
  max_bytes: number;
  max_pixels: number;
  formats: string[];
  recipes: { name: string; variants: { name: string; box: number }[] }[];
}

export interface EventOptions {
  /** W3C, of the app's trace. */
  traceparent?: string;
}

export interface AnnounceOptions extends EventOptions {
  /** A UUID; by default `uploadId(source)`. */
  id?: string;
  /** By default `default`. */
  recipe?: string;
  /** At most 4 KiB as JSON; each message about the upload has it. */
  metadata?: Metadata;
  /** Whose the upload is: owners take turns. */
  owner?: string;
}

export interface DeleteOptions extends EventOptions {
  /** Whether the original goes to the trash, too; the worker's `MEDIA_DELETE_ORIGINALS` must allow it. */
  original?: boolean;
}

/** An event as it stands on the stream. */
export type UploadEvent =
  | ({ source: string; replaces?: string } & AnnounceOptions)
  | ({ delete: string; original?: boolean } & EventOptions)
  | { status: string };

/** A Redis of ioredis, version 5 or 6. */
export interface RedisOfIoredis {
  options: object;
  xadd(...args: any[]): Promise<any>;
  get(key: any): Promise<any>;
  duplicate(override?: any): any;
}

/** Keeps how far a listener has read. */
export interface Cursor {
  /** The ID of the last entry that was dealt with; null begins with the oldest, `$` with the next. */
  load(): string | null | Promise<string | null>;
  /** It was dealt with up to this one. */
  save(entryId: string): unknown;
}

/** Keeps the newest `seq` of each upload, so that repeated and stale messages are dropped. */
export interface SeqStore {
  get(subject: string): number | undefined | null | Promise<number | undefined | null>;
  set(subject: string, seq: number): unknown;
}

export type Handler = (message: Message) => unknown;

export interface ListenOptions {
  /** The consumer group of your app: its processes share the messages. */
  group?: string;
  /** The name of this process in its group, the same after a restart; by default a new one. */
  consumer?: string;
  /** Without a group: where it is kept how far was read; by default it begins with the next message. */
  cursor?: Cursor;
  /** The ids that your app waits for: asked for where messages were lost. */
  pending?: () => Iterable<string> | Promise<Iterable<string>>;
  /** Ends it: `listen()` resolves once the handler has returned. */
  signal?: AbortSignal;
  seqs?: SeqStore;
  /** Told of each error, with the message if a handler rejects; by default it is printed. */
  onError?: (error: Error, message: Message | null) => void;
  /** Ms after which a consumer that does not answer is dead, and another takes over; 30,000. */
  claimAfter?: number;
  /** Ms before a message is tried again that the handler rejects: doubling from the first (1,000) to the most (60,000). */
  retry?: { first?: number; most?: number };
  /** Ms that a read waits for messages; 5,000. */
  block?: number;
}

export interface StatusOptions {
  /** Ms; 5,000. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface MediaClientOptions {
  /** `redis://`, `rediss://`, `unix://`, or a Redis of ioredis; by default `redis://127.0.0.1:6379/0`. */
  redis?: string | RedisOfIoredis;
  /** By default `media:uploads`. */
  stream?: string;
  /** By default `media:events`. */
  events?: string;
  /** Ms that a verb waits for a Redis that is away, before it rejects with a MediaTimeout; 5,000. */
  timeout?: number;
}

/** Announces uploads on one stream, and listens on the other to what becomes of them. */
export class MediaClient {
  constructor(options?: MediaClientOptions);
  /** Tell the worker that an original is in the storage; resolves to the upload's id. */
  announce(source: string, options?: AnnounceOptions): Promise<string>;
  /** Announce an original that takes the place of another upload once it is ready; resolves to the new one's id. */
  replace(oldId: string, source: string, options?: AnnounceOptions): Promise<string>;
  /** Have an upload and its variants deleted. */
  delete(id: string, options?: DeleteOptions): Promise<void>;
  /** Put an event on the stream as it is; resolves to its ID there. */
  send(event: UploadEvent): Promise<string>;
  /** An upload as a worker knows it; null: there is none. Rejects: MediaTimeout. */
  status(id: string, options?: StatusOptions): Promise<Upload | null>;
  /** What an upload may be. Rejects: MediaError, where no worker has told it. */
  limits(): Promise<Limits>;
  /** Call the handler with each message, one after the other, until the signal. */
  listen(handler: Handler, options?: ListenOptions): Promise<void>;
  /** End all that listens, and the connections that the client has made. */
  close(): Promise<void>;
}

export interface OutboxOptions {
  /** The events that your app waits for an answer to; a source is the event of that source. */
  pending: () => Iterable<UploadEvent | string> | AsyncIterable<UploadEvent | string> | Promise<Iterable<UploadEvent | string>>;
  /** Ms between two rounds; 60,000. The more often an event was sent, the more seldom it is, 16 times that at most. */
  every?: number;
  /** What a round failed with, and what no worker would take: that is passed over. Both are logged by default. */
  onError?: (error: Error) => void;
}

/** Sends again what has no answer. */
export class Outbox {
  constructor(client: Pick<MediaClient, "announce" | "send">, options: OutboxOptions);
  start(): this;
  stop(): Promise<void>;
  /** One round; resolves to the number of events that were sent. */
  send(): Promise<number>;
}

export interface HttpClientOptions {
  /** The server's `MEDIA_HTTP_SECRET`: with it tokens are signed here, for any owner. */
  secret?: string | null;
  /** Ms that an answer may take, beside what a call waits by itself, and the server's longest `Retry-After`; 60,000. */
  timeout?: number;
  /** How often a request is tried, where another try may help; 5. */
  tries?: number;
}

export interface HttpUploadOptions {
  contentType?: string;
  /** Shown to people: it is in the metadata, as `filename`. */
  filename?: string;
  recipe?: string;
  metadata?: Metadata;
  /** Whose the upload is; takes the `secret`. */
  owner?: string;
  /** Of another try of your own; by default a new one for each call, which tries again by itself. */
  idempotencyKey?: string;
  /** Seconds to wait for the variants, at most 30. */
  wait?: number;
  signal?: AbortSignal;
}

export interface Gap {
  type: "gap";
  from: number;
  to: number;
}

/** `media serve`, with a key or a token. */
export class HttpMediaClient {
  constructor(url: string | URL, key?: string | null, options?: HttpClientOptions);
  /** Upload bytes, or the file of that path, or of a `file:` URL. */
  upload(picture: string | URL | Uint8Array | ArrayBuffer | Blob, options?: HttpUploadOptions): Promise<Upload>;
  /** An upload; null: there is none, or it was deleted. */
  status(id: string, options?: { wait?: number; signal?: AbortSignal }): Promise<Upload | null>;
  delete(id: string, options?: { original?: boolean; signal?: AbortSignal }): Promise<void>;
  /** A token with which a browser uploads. */
  token(options?: {
    maxBytes?: number;
    /** Seconds; 600. */
    expiresIn?: number;
    recipe?: string;
    metadata?: Metadata;
    count?: number;
    /** Whose the uploads are; takes the `secret`. */
    owner?: string;
    signal?: AbortSignal;
  }): Promise<{ token: string; expires: string; url: string }>;
  limits(options?: { signal?: AbortSignal }): Promise<Limits>;
  /** Messages as they come, from the one after `since` on; without it from now on. */
  events(options?: { since?: number; id?: string; signal?: AbortSignal }): AsyncGenerator<Message | Gap, void, void>;
}

/** The verbs of MediaClient for an app's tests: no Redis, no worker, each picture is ready at once. */
export class FakeMedia {
  /** With `root` the variants are files below that folder. */
  constructor(options?: { root?: string | null });
  readonly sent: UploadEvent[];
  /** Have uploads of this source, or with this id, fail; with `null` no more. */
  fail(sourceOrId: string, code?: string | null, message?: string): void;
  /** Give each message that waits to each handler; resolves to those messages. */
  deliver(): Promise<Message[]>;
  announce(source: string, options?: AnnounceOptions): Promise<string>;
  replace(oldId: string, source: string, options?: AnnounceOptions): Promise<string>;
  delete(id: string, options?: DeleteOptions): Promise<void>;
  send(event: UploadEvent): Promise<string>;
  status(id: string, options?: StatusOptions): Promise<Upload | null>;
  limits(): Promise<Limits>;
  listen(handler: Handler, options?: ListenOptions): Promise<void>;
  close(): Promise<void>;
}

/** What a worker or its HTTP server refuses. */
export class MediaError extends Error {
  constructor(code: string, message: string, status?: number | null, options?: { cause?: unknown });
  readonly code: string;
  /** Of HTTP; null: there was no answer. */
  readonly status: number | null;
}

/** No answer came in time. */
export class MediaTimeout extends MediaError {
  constructor(message: string, options?: { cause?: unknown });
}

/** Keeps how far was read until the process ends; begins at `start`, by default with the next message. */
export class MemoryCursor implements Cursor {
  constructor(start?: string);
  load(): Promise<string | null>;
  save(entryId: string): Promise<void>;
}

/** Keeps how far was read in a file; without the file it begins with the oldest message that is kept. */
export class FileCursor implements Cursor {
  constructor(path: string);
  load(): Promise<string | null>;
  save(entryId: string): Promise<void>;
}

/** Keeps the newest `seq` of so many uploads (100,000) until the process ends. */
export class MemorySeqs implements SeqStore {
  constructor(most?: number);
  get(subject: string): Promise<number | undefined>;
  set(subject: string, seq: number): Promise<void>;
}

/** The id of an upload whose event names none. */
export function uploadId(source: string): string;
