// The page's end of the worker: one request at a time in flight each, answered in order.

export class Segmenter {
  #worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
  #waiting = new Map();
  #last = 0;

  constructor() {
    this.#worker.addEventListener("message", ({ data: { id, answer, failure } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (failure === undefined) resolve(answer);
      else reject(new Error(failure));
    });
    this.#worker.addEventListener("error", (event) => {
      const error = new Error(`The page's worker failed: ${event.message || "it could not be loaded"}`);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
  }

  /** Open an artefact: {artefact, backend, threads} to what it is and what runs it. */
  open(wanted) {
    return this.#ask({ kind: "open", ...wanted }, []);
  }

  /** Segment a picture: {pixels, height, width} to that with instances and timings; the pixels travel. */
  segment(picture) {
    return this.#ask({ kind: "segment", ...picture }, [picture.pixels]);
  }

  #ask(message, transferred) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, transferred);
    });
  }
}
