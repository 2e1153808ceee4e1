/**
 * The store, read through the Jupyter server: for runs whose kernel is gone, is another one's, or
 * does not answer. It answers with the same objects as a kernel, and can act on nothing.
 */

import { readShown, readTasks, readTransitions } from "../protocol";
import { type Transport, TransportError } from "../transport";
import { type Content, readLogPage } from "./kernel";

/** Fetch a path below the API's root, such as `runs/<id>`; authenticated by the front end. */
export type Fetch = (path: string) => Promise<Response>;

export const API = "jupyter-flows/api/v1";

export function restTransport(fetch: Fetch, run: string): Transport {
  const root = `runs/${encodeURIComponent(run)}`;

  async function get(path: string): Promise<Content> {
    let response: Response;
    try {
      response = await fetch(root + path);
    } catch {
      throw new TransportError("silent", "The Jupyter server does not answer.");
    }
    if (response.status === 404) {
      throw new TransportError("unknown", "The store does not know this run.");
    }
    const reply = await response.json().catch(() => ({}));
    if (!response.ok || reply?.status === "error") {
      const why = reply?.evalue || reply?.message;
      throw new TransportError(
        "refused",
        typeof why === "string" ? why : `The Jupyter server answered ${response.status}.`,
      );
    }
    return reply;
  }

  async function show() {
    const shown = readShown(await get(""));
    if (!shown) throw new TransportError("unknown", "The store does not know this run.");
    return shown;
  }

  return {
    capability: "read-only",
    show,
    watch: show,
    logs: async (start, stop) => readLogPage(await get(`/logs?start=${start}&stop=${stop}`)),
    tasks: async (start, stop) =>
      readTasks((await get(`/tasks?start=${start}&stop=${stop}`)).tasks),
    outputs: async () => ({ outputs: [], numbers: [] }), // not kept in the store
    transitions: async () => readTransitions((await get("/transitions")).transitions),
    where: async () => {
      throw new TransportError("refused", "Only its kernel can tell where a run is.");
    },
    act: async () => {
      throw new TransportError("refused", "The store can show this run, not act on it.");
    },
    listen: () => () => {},
  };
}
