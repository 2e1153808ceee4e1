/**
 * What is told of a run while it is being stopped: in the header what happens next, and below it
 * what holds it. Most code stops at once, so nothing is said before a moment has passed.
 */

import { formatDuration } from "../format";
import type { RunModel } from "../model";
import type { Stopping } from "../protocol";
import { countdown } from "../timing";
import { useLasting, useTicks } from "./hooks";
import { Place, Prose } from "./where";

const PATIENCE_SECONDS = 1.5; // longer than it takes to see what holds a run that is interrupted

/** "Interrupt in 0.6 s": in the header. */
export function Countdown({ model, stopping }: { model: RunModel; stopping: Stopping }) {
  useTicks(model.active && stopping.next !== null, 100);
  const text = model.active ? countdown(stopping, model.now()) : null;
  return text && <span class="jf-dim jf-countdown">{text}</span>;
}

export function StoppingBar({ model, onWhere }: { model: RunModel; onWhere: () => void }) {
  const { run } = model;
  const stopping = run?.state_type === "CANCELLING" || run?.stopping != null;
  const known = run?.stopping ?? null;
  const since = known?.since ?? run?.state_time ?? 0;
  const stuck = known?.stuck ?? null;
  const killed = useLasting(known?.rung === "killed", 1000);
  useTicks(stopping && model.active && stuck === null);
  if (!run || !stopping || model.ended) return null;
  const seconds = model.now() - since;
  if (stuck === null && !killed && (!model.active || seconds < PATIENCE_SECONDS)) return null;
  return (
    <div class="jf-waiting jf-stopping">
      <div class="jf-held">
        {stuck === null ? (
          <p>
            {model.active && `Asked to stop ${formatDuration(Math.floor(seconds))} ago. `}Its code
            goes on.
          </p>
        ) : (
          <>
            <p>
              Held at <Place frame={stuck} />
            </p>
            {stuck.text && <code class="jf-source-line">{stuck.text}</code>}
          </>
        )}
        {known?.hint && (
          <p>
            <Prose text={known.hint} />
          </p>
        )}
        {killed && model.active && (
          <p class="jf-dim">
            Killed, and it still has not stopped. Abandon gives it up: the run ends as cancelled,
            and what its code still does is dropped.
          </p>
        )}
      </div>
      {model.locatable && (
        <button type="button" class="jf-button" onClick={onWhere}>
          Where is it?
        </button>
      )}
    </div>
  );
}
