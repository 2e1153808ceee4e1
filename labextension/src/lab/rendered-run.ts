/**
 * One output of our MIME type: the view of its run, connected to the notebook's kernel.
 *
 * - An output that is not trusted shows what was saved and sends no request whatsoever.
 * - JupyterLab draws an output again whenever its model changes, our own changes included. The
 *   view is kept then, with its scroll position and tab, unless the run or the trust is another.
 * - What a live view hears is written into the output's metadata, seldom while the run goes on
 *   and once when it has ended, so that a saved notebook shows it. The data never changes, and
 *   metadata that says the same already is not touched: looking at a notebook does not modify it.
 */

import type { ISessionContext } from "@jupyterlab/apputils";
import type { IRenderMime, IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { Kernel } from "@jupyterlab/services";
import { Widget } from "@lumino/widgets";
import { RunModel } from "../model";
import { lineAsJson, MIME_TYPE, readName, readSaved, type Saved } from "../protocol";
import type { RenderOutput } from "../richness";
import type { Transport } from "../transport";
import { absentTransport, controlTransport } from "../transports/control";
import { type Fetch, restTransport } from "../transports/rest";
import { mountRun } from "../view/run";
import { promptKernel } from "./prompt-kernel";

const SAVE_SECONDS = 5;
const SAVED_LINES = 50;

export interface RenderedRunOptions {
  session: ISessionContext | null;
  rendermime: IRenderMimeRegistry;
  fetch: Fetch;
}

interface Shown {
  id: string | null;
  trusted: boolean;
  model: RunModel;
  close(): void;
}

export class RenderedRun extends Widget implements IRenderMime.IRenderer {
  private output: IRenderMime.IMimeModel | null = null;
  private shown: Shown | null = null;

  constructor(private readonly options: RenderedRunOptions) {
    super();
    this.addClass("jf-output-area");
  }

  async renderModel(output: IRenderMime.IMimeModel): Promise<void> {
    this.output = output;
    const saved = readSaved(output.metadata[MIME_TYPE]);
    const id = saved.run?.id ?? null;
    if (this.shown && this.shown.id === id && this.shown.trusted === output.trusted) return;
    this.shown?.close();
    this.shown = this.open(id, readName(output.data[MIME_TYPE]), saved, output.trusted);
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.shown?.close();
    this.shown = null;
    super.dispose();
  }

  private open(id: string | null, name: string, saved: Saved, trusted: boolean): Shown {
    const { session, fetch } = this.options;
    const asks = trusted && id !== null;
    const model = new RunModel({
      name,
      saved,
      live: null,
      store: asks ? restTransport(fetch, id) : null,
      trusted,
    });
    const teardown = new AbortController();
    if (asks && session) followKernel(session, id, model, teardown.signal);
    if (asks) this.keepSaved(model, saved.kernel, teardown.signal);
    const unmount = mountRun(this.node, { model, renderOutput: this.renderOutput });
    return {
      id,
      trusted,
      model,
      close() {
        teardown.abort();
        unmount();
        model.close();
      },
    };
  }

  /** Write what the live view hears into the output's metadata. */
  private keepSaved(model: RunModel, kernel: string | null, signal: AbortSignal): void {
    let timer = 0;
    const save = () => {
      clearTimeout(timer);
      timer = 0;
      const { output } = this;
      if (!output || !model.run || model.status.source !== "kernel") return;
      const { count } = model.lines;
      const lines = model.lines.all().filter((line) => line.number >= count - SAVED_LINES);
      const mine = {
        run: model.run,
        lines: lines.map(lineAsJson),
        kernel: model.run.kernel || kernel,
      };
      // biome-ignore lint/suspicious/noExplicitAny: a record has no index signature, as JSON has
      const metadata: any = { ...output.metadata, [MIME_TYPE]: mine };
      const old = readSaved(output.metadata[MIME_TYPE]);
      if (JSON.stringify(old.run) === JSON.stringify(mine.run)) return;
      output.setData({ metadata });
    };
    model.subscribe(() => {
      if (model.status.source !== "kernel") return;
      if (model.ended) save();
      else timer ||= window.setTimeout(save, SAVE_SECONDS * 1000);
    });
    signal.addEventListener("abort", () => clearTimeout(timer));
  }

  /** Rich outputs of a run look as a cell's do; we are asked for them in trusted notebooks only. */
  private readonly renderOutput: RenderOutput = (output, place) => {
    const { rendermime } = this.options;
    // biome-ignore lint/suspicious/noExplicitAny: it came as JSON
    const { data, metadata } = output as any;
    const model = rendermime.createModel({ data, metadata, trusted: true });
    const type = rendermime.preferredMimeType(data, "any");
    if (!type) {
      place.textContent = "This output has no form that can be shown here.";
      return () => {};
    }
    const renderer = rendermime.createRenderer(type);
    renderer.addClass("jf-rich");
    void renderer.renderModel(model).catch((error) => {
      renderer.node.textContent = String(error);
    });
    place.replaceChildren();
    if (place.isConnected) Widget.attach(renderer, place);
    else place.append(renderer.node);
    return () => renderer.dispose();
  };
}

/** How to ask the session's kernel: not at all, later, or now. `again` is called when to ask anew. */
function live(session: ISessionContext, id: string, again: () => void): Transport | null {
  const kernel = session.session?.kernel;
  if (!kernel) return session.isReady ? null : absentTransport(id);
  const gone = ["dead", "restarting", "autorestarting"].includes(kernel.status);
  if (gone) return null;
  const { connection, over } = promptKernel(kernel);
  void over?.then(again);
  return controlTransport(connection, id);
}

/** Tell the model when the notebook's kernel is another one, restarts, or dies. */
function followKernel(
  session: ISessionContext,
  id: string,
  model: RunModel,
  signal: AbortSignal,
): void {
  const reconnect = () => {
    if (!signal.aborted) model.setLive(live(session, id, reconnect));
  };
  let gone = false;
  const onStatus = (_: unknown, status: Kernel.Status) => {
    const goes = ["dead", "restarting", "autorestarting"].includes(status);
    if (goes === gone || status === "unknown") return;
    gone = goes;
    reconnect();
  };
  reconnect();
  session.kernelChanged.connect(reconnect);
  session.statusChanged.connect(onStatus);
  signal.addEventListener("abort", () => {
    session.kernelChanged.disconnect(reconnect);
    session.statusChanged.disconnect(onStatus);
  });
  void session.ready.then(() => {
    if (!session.session?.kernel) reconnect();
  });
}
