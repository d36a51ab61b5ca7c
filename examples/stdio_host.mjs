// Route from Node: start `archroute serve --stdio` and ask it over its pipes. Needs no packages.
//
//   node examples/stdio_host.mjs "my test fails with an IndexError" "how do I call the Slack API?"

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

/** An error from archroute; `type` is its class, such as ConversationError or QueueFullError. */
export class ArchRouteError extends Error {
  constructor({ code, message, data }) {
    super(message);
    Object.assign(this, { code, ...data });
  }
}

/** A router in a child process. Requests may overlap; each promise has its own answer. */
export class ArchRoute {
  #child;
  #pending = new Map();
  #nextId = 1;
  #ended;
  #over;

  /** @param {string[]} options of `archroute serve`, such as ["--config", "routes.yaml", "--model", "arch-router"] */
  constructor(options = [], command = "archroute") {
    this.#child = spawn(command, ["serve", "--stdio", ...options], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#onReply(JSON.parse(line)));
    // The end of the child is reported below; a failed write need not be an error of its own.
    this.#child.stdin.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      const end = (why, status) => {
        this.#over = new Error(`archroute ended (${why}); see its stderr`);
        for (const { reject } of this.#pending.values()) reject(this.#over);
        this.#pending.clear();
        resolve(status);
      };
      this.#child.once("error", (error) => end(error.message, null));
      this.#child.once("close", (status, signal) => end(signal ?? `exit status ${status}`, status));
    });
  }

  /** Route a text, or a list of {role, content} messages. Parameters: routes, scores, key, deadline, signal. */
  route(messages, { signal, ...params } = {}) {
    return this.request("route", { messages, ...params }, signal);
  }

  /** Evaluate ahead of time the text that the user has typed so far; with {whole: true}, after a pause, decide on it. */
  warm(messages, params = {}) {
    return this.request("warm", { messages, ...params });
  }

  /** Call any method of docs/stdio.md. An AbortSignal cancels it. */
  request(method, params = {}, signal = undefined) {
    if (this.#over) return Promise.reject(this.#over);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#send({ id, method, params });
      signal?.addEventListener("abort", () => this.#send({ method: "cancel", params: { id } }), { once: true });
      if (signal?.aborted) this.#send({ method: "cancel", params: { id } });
    });
  }

  /** End the child once it has answered every request; resolves to its exit status. */
  close() {
    this.#child.stdin.end();
    return this.#ended;
  }

  #send(message) {
    this.#child.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
  }

  #onReply({ id, result, error }) {
    const { resolve, reject } = this.#pending.get(id) ?? {};
    this.#pending.delete(id);
    if (error) reject?.(new ArchRouteError(error));
    else resolve?.(result);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const router = new ArchRoute();
  const asked = process.argv.slice(2).map((message) => router.route(message));
  for (const { route, model, confidence } of await Promise.all(asked)) console.log(`${route} -> ${model} (${confidence.toFixed(2)})`);
  await router.close();
}
