/**
 * The view as a widget, for anywidget: where the JupyterLab extension is not installed.
 *
 * Traits: `run_id`, and `snapshot`, which is `{run, lines, kernel, now}`. Where the front end's
 * widget manager shows its kernel, requests go over the control channel and are answered while a
 * cell is busy; else over the widget's comm.
 */

import { RunModel } from "./model";
import { readSaved } from "./protocol";
import { renderPlainly } from "./richness";
import type { CommModel } from "./transports/comm";
import { commTransport } from "./transports/comm";
import { type ControlKernel, controlTransport } from "./transports/control";
import { mountRun } from "./view/run";

interface WidgetModel extends CommModel {
  widget_manager?: { kernel?: ControlKernel | null };
}

function render({ model, el }: { model: WidgetModel; el: HTMLElement }): () => void {
  const teardown = new AbortController();
  const id = String(model.get("run_id"));
  const kernel = model.widget_manager?.kernel;
  const run = new RunModel({
    name: "",
    saved: readSaved(model.get("snapshot")),
    live:
      typeof kernel?.sendControlMessage === "function"
        ? controlTransport(kernel, id)
        : commTransport(model, id, teardown.signal),
    store: null,
    trusted: true, // a front end runs no widget's code otherwise
  });
  const unmount = mountRun(el, { model: run, renderOutput: renderPlainly });
  return () => {
    teardown.abort();
    unmount();
    run.close();
  };
}

export default { render };
