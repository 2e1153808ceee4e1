/** The progress line: the outermost bar at work, and the innermost in it. */

import { formatCount, formatDuration, formatRate } from "../format";
import type { Progress, Run } from "../protocol";
import { shownBars, timeLeft } from "../timing";

export function ProgressLine({ run }: { run: Run }) {
  const bars = shownBars(run.progress);
  if (!bars.length) return null;
  return (
    <div class="jf-progress">
      {bars.map((bar, depth) => (
        <Bar key={depth === 0 ? "outer" : "inner"} bar={bar} going={run.state_type === "RUNNING"} />
      ))}
    </div>
  );
}

function Bar({ bar, going }: { bar: Progress; going: boolean }) {
  const { label, done, total } = bar;
  const fraction = total ? Math.min(1, Math.max(0, done / total)) : null;
  const left = going ? timeLeft(bar) : null;
  const facts = [total === null ? formatCount(done) : `${formatCount(done)}/${formatCount(total)}`];
  if (bar.rate && (going || bar.ended !== null)) facts.push(formatRate(bar.rate));
  if (left !== null) facts.push(`${formatDuration(Math.ceil(left))} left`);
  return (
    <div class="jf-bar">
      {label && (
        <span class="jf-bar-label" title={label}>
          {label}
        </span>
      )}
      <div
        class={`jf-track ${fraction === null && going && bar.ended === null ? "jf-endless" : ""}`}
        role="progressbar"
        aria-label={label || "progress"}
        aria-valuemin={0}
        aria-valuemax={total ?? undefined}
        aria-valuenow={total === null ? undefined : done}
        aria-valuetext={facts.join(", ")}
      >
        <div class="jf-fill" style={{ width: `${(fraction ?? 0) * 100}%` }} />
      </div>
      <span class="jf-bar-facts">{facts.join(" · ")}</span>
    </div>
  );
}
