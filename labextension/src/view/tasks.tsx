/** The run's tasks, in the order they were called. */

import { formatClock, formatDuration } from "../format";
import type { RunModel } from "../model";
import type { Task } from "../protocol";
import { isTerminal, stateLabel } from "../states";
import { type KnownTasks, waitsFor } from "../upstream";
import { useTicks } from "./hooks";
import { StateIcon } from "./icons";
import { VirtualList } from "./virtual";

const ROW_HEIGHT = 22;

export function Tasks({ model }: { model: RunModel }) {
  useTicks(model.active, 1000);
  const count = model.run?.task_count ?? 0;
  return (
    <VirtualList
      count={count}
      rowHeight={ROW_HEIGHT}
      onRange={(start, stop) => model.needTasks(start, Math.max(stop, start + 1))}
      row={(index) => {
        const task = model.tasks.get(index);
        return task ? <Row task={task} tasks={model.tasks} now={model.now()} /> : null;
      }}
      label="Tasks"
      role="list"
    />
  );
}

function Row({ task, tasks, now }: { task: Task; tasks: KnownTasks; now: number }) {
  const caller = task.parent === null ? undefined : tasks.get(task.parent)?.name;
  const waits = waitsFor(task, tasks);
  const remark = waits || (task.state_type === "COMPLETED" ? "" : task.state_message);
  const took = task.started === null ? null : (task.ended ?? now) - task.started;
  const time =
    took === null ? "" : isTerminal(task.state_type) ? formatDuration(took) : formatClock(took);
  return (
    <div class="jf-task" role="listitem" data-number={task.number} data-state={task.state_type}>
      <StateIcon type={waits ? "SCHEDULED" : task.state_type} />
      <span class="jf-task-state">{waits ? "Waiting" : stateLabel(task)}</span>
      {caller && (
        <span class="jf-dim jf-task-caller" title={`called in ${caller}`}>
          <span class="jf-cut">{caller}</span> ›
        </span>
      )}
      <span class="jf-cut jf-task-name" title={task.name}>
        {task.name}
      </span>
      <span class="jf-dim jf-cut jf-task-remark" title={remark}>
        {remark}
      </span>
      {task.attempt > 1 && <span class="jf-dim jf-task-attempt">attempt {task.attempt}</span>}
      <span class="jf-task-time">{time}</span>
    </div>
  );
}
