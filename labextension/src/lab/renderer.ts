/**
 * Shows outputs of our MIME type with the view of a run.
 *
 * Each notebook gets a renderer of its own, which knows the notebook's kernel; any other document
 * one that can ask the store only. Both win over the other forms in the same bundle, a widget's
 * included, whether the output is trusted or not: an untrusted one is shown as it was saved.
 */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import type { ISessionContext } from "@jupyterlab/apputils";
import { URLExt } from "@jupyterlab/coreutils";
import { type IRenderMime, IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { ServerConnection } from "@jupyterlab/services";
import type { Widget } from "@lumino/widgets";
import { MIME_TYPE } from "../protocol";
import { API, type Fetch } from "../transports/rest";
import { RenderedRun } from "./rendered-run";

/** What is used of a `NotebookPanel`. */
interface NotebookLike extends Widget {
  content?: { rendermime?: IRenderMimeRegistry };
}

const RANK = -20; // before widgets (-10) and all that is safe

export const rendererPlugin: JupyterFrontEndPlugin<void> = {
  id: "jupyter-flows:renderer",
  description: "Shows the view of a run in the output of the cell that started it.",
  autoStart: true,
  requires: [IRenderMimeRegistry],
  activate: (app: JupyterFrontEnd, rendermime: IRenderMimeRegistry) => {
    const fetch = fetchFromServer(app.serviceManager.serverSettings);
    rendermime.addFactory(factory(null, rendermime, fetch), RANK);
    app.docRegistry.addWidgetExtension("Notebook", {
      createNew(panel, context): void {
        const own = (panel as NotebookLike).content?.rendermime;
        own?.addFactory(factory(context.sessionContext, own, fetch), RANK);
      },
    });
  },
};

function factory(
  session: ISessionContext | null,
  rendermime: IRenderMimeRegistry,
  fetch: Fetch,
): IRenderMime.IRendererFactory {
  return {
    safe: true,
    mimeTypes: [MIME_TYPE],
    defaultRank: RANK,
    createRenderer: () => new RenderedRun({ session, rendermime, fetch }),
  };
}

function fetchFromServer(settings: ServerConnection.ISettings): Fetch {
  const root = URLExt.join(settings.baseUrl, API);
  return (path) => ServerConnection.makeRequest(`${root}/${path}`, {}, settings);
}
