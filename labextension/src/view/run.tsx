/**
 * The view of one run: one header line, one progress line, then tabs.
 *
 * It is calm. It opens itself only for what needs a person, and folds to its header when the run
 * ends well, unless somebody is reading in it. A tab that would be empty is absent. Whatever a run
 * or a log says is drawn as text.
 */

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { RunModel } from "../model";
import { notice } from "../notice";
import type { Run } from "../protocol";
import type { RenderOutput } from "../richness";
import { isTerminal, runLabel } from "../states";
import { About } from "./about";
import { Ansi } from "./ansi";
import { Details } from "./details";
import { Header } from "./header";
import { useKeptFocus, useModel, usePrevious } from "./hooks";
import { CloseIcon } from "./icons";
import { INITIAL_LOG_SETTINGS, Logs, LogTools } from "./logs";
import { Outputs } from "./outputs";
import { ProgressLine } from "./progress";
import { StoppingBar } from "./stopping";
import { type Tab, Tabs } from "./tabs";
import { Tasks } from "./tasks";
import { WaitingBar } from "./waiting";
import { Where, WhereTools } from "./where";

interface Props {
  model: RunModel;
  renderOutput: RenderOutput;
}

/** Draw the view of a run into an element, until the returned function is called. */
export function mountRun(element: HTMLElement, props: Props): () => void {
  render(<RunView {...props} />, element);
  return () => render(null, element);
}

function RunView({ model, renderOutput }: Props) {
  useModel(model);
  const { run, status } = model;
  const [prefix] = useState(() => `jf-${Math.random().toString(36).slice(2, 10)}`);
  const root = useRef<HTMLDivElement>(null);
  const [folding, setFolding] = useState<boolean | null>(null); // as somebody chose
  const [chosen, setChosen] = useState<string | null>(null); // the tab that somebody chose
  const [locating, setLocating] = useState(false); // somebody asked where it is
  const [reading, setReading] = useState(false); // somebody used what is below the header
  const [logSettings, setLogSettings] = useState(INITIAL_LOG_SETTINGS);
  useVisibility(root, model);
  const focus = useKeptFocus((inPanel) =>
    root.current?.querySelector<HTMLElement>(inPanel ? ".jf-tab[tabindex='0']" : ".jf-toggle"),
  );

  const note = notice(run, status, model.options.trusted, model.kernelAlive);
  const endedWell = run?.state_type === "COMPLETED";
  const open = folding === null ? !endedWell || reading : !folding;
  const tabs = tabsOf(model, locating);
  const wanted = chosen ?? (hasTraceback(run) ? "error" : "logs");
  const tab = tabs.find((one) => one.id === wanted)?.id ?? tabs[0]?.id ?? "details";

  function choose(id: string) {
    setChosen(id);
    if (id === "where") setLocating(true);
  }

  function showWhere() {
    choose("where");
    setFolding(false);
    void model.look();
  }

  return (
    <div
      ref={root}
      class="jf-run"
      role="group"
      aria-label={`Run ${model.name}`}
      data-run-id={run?.id ?? ""}
      data-state={run?.state_type ?? ""}
      data-source={status.source}
      onFocusIn={(event) => {
        keepKeys(event);
        focus.onFocusIn(event);
      }}
      onFocusOut={focus.onFocusOut}
    >
      <Announcer model={model} />
      <Header model={model} notice={note} open={open} onToggle={() => setFolding(open)} />
      {open && run && <About run={run} />}
      <WaitingBar model={model} />
      <StoppingBar model={model} onWhere={showWhere} />
      {model.problem && (
        <div class="jf-problem" role="alert">
          <span>{model.problem}</span>
          <button
            type="button"
            class="jf-tool"
            aria-label="Dismiss"
            onClick={() => model.dismissProblem()}
          >
            <CloseIcon />
          </button>
        </div>
      )}
      {open && (
        <>
          {note && <div class="jf-note">{note.text}</div>}
          {run && <ProgressLine run={run} />}
          <div
            onPointerDown={() => setReading(true)}
            onKeyDown={() => setReading(true)}
            onWheel={() => setReading(true)}
          >
            <Tabs tabs={tabs} chosen={tab} prefix={prefix} onChoose={choose}>
              {tab === "logs" && (
                <LogTools model={model} settings={logSettings} onSettings={setLogSettings} />
              )}
              {tab === "where" && <WhereTools model={model} />}
            </Tabs>
            <div
              id={`${prefix}-panel`}
              class={`jf-panel jf-panel-${tab}`}
              role="tabpanel"
              aria-labelledby={`${prefix}-tab-${tab}`}
            >
              {tab === "error" && <Traceback model={model} />}
              {tab === "logs" && <Logs model={model} settings={logSettings} />}
              {tab === "tasks" && <Tasks model={model} />}
              {tab === "output" && <Outputs model={model} render={renderOutput} />}
              {tab === "details" && <Details model={model} onWhere={showWhere} />}
              {tab === "where" && <Where model={model} />}
            </div>
          </div>
        </>
      )}
    </div>
  );
}

/**
 * Keep JupyterLab's shortcuts away from what has the focus by keyboard: its arrows, Enter and
 * letters would go to the notebook. After a click they stay the notebook's, as in any output.
 */
function keepKeys(event: FocusEvent): void {
  const { target } = event;
  if (!(target instanceof HTMLElement)) return;
  if (target.matches(":focus-visible")) target.dataset.lmSuppressShortcuts = "true";
  else delete target.dataset.lmSuppressShortcuts;
}

/** Whether the error says more than the header does: what it came from. */
function hasTraceback(run: Run | null): boolean {
  return run?.error?.traceback.trim().includes("\n") ?? false;
}

/** @param locating whether somebody asked where the run is: what was seen then stays */
function tabsOf(model: RunModel, locating: boolean): Tab[] {
  const { run } = model;
  const tabs: Tab[] = [];
  if (run?.error) tabs.push({ id: "error", label: "Error" });
  const lines = run?.log_count ?? 0;
  if (lines || run?.live.length) tabs.push({ id: "logs", label: "Logs", count: lines });
  if (run?.task_count && (model.status.transport || model.tasks.size)) {
    tabs.push({ id: "tasks", label: "Tasks", count: run.task_count });
  }
  if (run?.output_count && (model.status.source === "kernel" || model.outputs.size)) {
    tabs.push({ id: "output", label: "Output", count: run.output_count });
  }
  tabs.push({ id: "details", label: "Details" });
  if (locating && (model.locatable || model.where.at !== null)) {
    tabs.push({ id: "where", label: "Where is it?" });
  }
  return tabs;
}

function Traceback({ model }: { model: RunModel }) {
  const error = model.run?.error;
  if (!error) return null;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
    <pre class="jf-traceback" tabIndex={0} aria-label="Traceback">
      <Ansi text={error.traceback || `${error.type}: ${error.message}`} />
    </pre>
  );
}

/** The state in words, with what it waits for, what holds it, or why it ended so. */
function announced(run: Run): string {
  const { stuck, rung } = run.stopping ?? { stuck: null, rung: "asked" };
  const label = runLabel(run);
  const bad = isTerminal(run.state_type) && run.state_type !== "COMPLETED";
  const parts = [
    bad && run.state_message.startsWith(label) ? "" : label, // the reason says it
    bad ? run.state_message : "",
    run.waiting?.number != null || run.state_type === "SCHEDULED" ? (run.waiting?.text ?? "") : "",
    rung === "asked" ? "" : rung,
    stuck ? `Held at ${stuck.file}, line ${stuck.line}.` : "",
  ];
  return parts.filter(Boolean).join(". ");
}

/** Tells a screen reader of a change of state, and nobody of the state at first. */
function Announcer({ model }: { model: RunModel }) {
  const label = model.run ? announced(model.run) : "";
  const before = usePrevious(label);
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (before && before !== label) setSaid(`${model.name}: ${label}`);
  }, [before, label, model]);
  return (
    <div class="jf-hidden" role="status" aria-live="polite">
      {said}
    </div>
  );
}

/** Tells the model whether the view can be seen. */
function useVisibility(root: { current: HTMLElement | null }, model: RunModel): void {
  useEffect(() => {
    const element = root.current;
    if (!element || typeof IntersectionObserver === "undefined") return;
    const observer = new IntersectionObserver((entries) =>
      model.setVisible(entries.at(-1)?.isIntersecting ?? true),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [root, model]);
}
